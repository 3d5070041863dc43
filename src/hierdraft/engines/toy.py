"""A small exact target over token ids, for tests, fuzzing and demonstrations without weights.

It behaves like a transformer with a cache: the logits of a row depend only on what the cache holds for its prefix,
so a wrong mask, position, gather or rewind changes the text. With `memory=m` they depend on the last `m` tokens and
on nothing else, which makes text that repeats itself; with `memory=None` on the whole prefix.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import reduce
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.sequences import OneSequence, check_parts
from hierdraft.errors import UsageError
from hierdraft.protocols import Offers, Part, Scored
from hierdraft.tree import Int32

_TABLE = 4096
_PRIME = (1 << 61) - 1
_KEPT, _BLOCK = 4, 4


class _Row(NamedTuple):
    """A place in a cache: its token, what was hashed up to it, and the last tokens of its path."""

    token: int
    state: int
    recent: tuple[int, ...]


class ToySequence(OneSequence):
    """The rows of one text, and after them those of the tree that was scored last."""

    def __init__(self, engine: ToyEngine, rows: list[_Row]) -> None:
        """One that holds `rows` already."""
        super().__init__(engine)
        self.rows = list(rows)
        self.length = len(rows)
        self._toy = engine

    def commit(self, path: Sequence[int]) -> None:
        """Gather the accepted nodes' rows after the text; drop the rest."""
        self.rows[self.length :] = [self.rows[self.length + node] for node in path]
        self.length = len(self.rows)

    def close(self) -> None:
        """Leave the text to others that begin alike."""
        if not self.closed:
            self._toy.keep(self.rows[: self.length])
        super().close()


class ToyEngine:
    """An `Engine` whose every number is exact: float64 logits looked up in a seeded random table."""

    def __init__(
        self,
        seed: int = 0,
        vocab_size: int = 32,
        memory: int | None = 3,
        max_length: int = 1 << 30,
        eos_ids: Sequence[int] = (),
    ) -> None:
        """`memory`: how many tokens back the next one depends on, None for all of them."""
        self.vocab_size = vocab_size
        self.offers = Offers()
        self.exact = True
        self.eos_ids = tuple(eos_ids)
        self.max_length = max_length
        self.fingerprint = f"toy-{seed}-{vocab_size}-{memory}"
        self._memory = memory
        self._logits = np.random.default_rng(seed).standard_normal((_TABLE, vocab_size))
        self._salt = seed * 2 + 1
        self._kept: deque[list[_Row]] = deque(maxlen=_KEPT)
        self._seen: dict[int, float] = {}

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: bool = True) -> ToySequence:
        """A sequence that holds as many of `ids` as one of the last few texts began with, in blocks of tokens."""
        rows: list[_Row] = []
        for kept in self._kept if reuse else ():
            same = sum(1 for _ in takewhile(lambda pair: pair[0].token == pair[1], zip(kept, ids, strict=False)))
            if same - same % _BLOCK > len(rows):
                rows = kept[: same - same % _BLOCK]
        return ToySequence(self, rows)

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Each part's rows in turn; float64[rows, V]."""
        check_parts(self, parts)
        return [Scored(self._logits[self._score(part)]) for part in parts]

    def _score(self, part: Part) -> list[int]:
        """Write the part's rows after the text, and say where in the table the logits of each are."""
        sequence = part.sequence
        if not isinstance(sequence, ToySequence):
            raise UsageError("This sequence belongs to another engine.")
        rows = sequence.rows
        del rows[sequence.length :]
        for token in part.tokens.tolist():
            rows.append(self._row(rows[-1] if rows else None, token))
        sequence.length = len(rows)
        last = sequence.length - 1
        for token, parent in zip(part.tree.tokens.tolist(), part.tree.parents.tolist(), strict=True):
            rows.append(self._row(rows[last + 1 + parent], token))
        return [self._place(row) for row in rows[sequence.length - part.rows :]]

    def _row(self, above: _Row | None, token: int) -> _Row:
        window = self._memory or 1
        recent = (*above.recent, token)[-window:] if above is not None else (token,)
        return _Row(token, self._extend(above.state if above is not None else 0, token), recent)

    def _extend(self, state: int, token: int) -> int:
        return (state * 1_000_003 + token + self._salt) % _PRIME

    def _place(self, row: _Row) -> int:
        if self._memory is None:
            return row.state % _TABLE
        return reduce(self._extend, row.recent, self._salt) % _TABLE

    def keep(self, rows: list[_Row]) -> None:
        """A text is over: the next ones may begin like it."""
        self._kept.append(rows)

    def choices(self, logits: NDArray[np.float64]) -> Int32:
        """The highest logit per row, the lowest id among equals."""
        best: NDArray[np.intp] = logits.argmax(axis=1)
        return best.astype(np.int32)

    def values(self, logits: NDArray[np.float64], row: int) -> NDArray[np.float64]:
        """A copy of one row."""
        found: NDArray[np.float64] = logits[row].copy()
        return found

    def top_ids(self, logits: NDArray[np.float64], k: int) -> Int32:
        """The k highest ids per row."""
        order: NDArray[np.intp] = np.argsort(-logits, axis=1, kind="stable")
        return order[:, :k].astype(np.int32)

    def cost(self, rows: int, plain: int = 1) -> float:  # noqa: ARG002
        """The mean time of forwards with as many rows; 0.0 before the first."""
        return self._seen.get(rows, 0.0)

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:  # noqa: ARG002
        """Keep a running mean per number of rows."""
        self._seen[rows] = 0.9 * self._seen.get(rows, seconds) + 0.1 * seconds
