"""A small exact target over token ids, for tests, fuzzing and demonstrations without weights.

It behaves like a transformer with a cache: the logits of a row depend only on what the cache holds for its prefix,
so a wrong mask, position, gather or rewind changes the text. With `memory=m` they depend on the last `m` tokens and
on nothing else, which makes text that repeats itself; with `memory=None` on the whole prefix.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.sequences import LayeredSequence, check_parts, known_rows
from hierdraft.protocols import Offers, Part, Scored
from hierdraft.tree import Int32

_TABLE = 4096
_PRIME = (1 << 61) - 1
_KEPT, _BLOCK = 4, 4


@dataclass(slots=True)
class _Row:
    """A place in a cache: its token, and what each layer that it went through has made of it and what is before it.

    state, recent   of the first layer: what was hashed up to here, and the last tokens
    hidden          of every layer so far, from the token itself on
    """

    token: int
    state: int = 0
    recent: tuple[int, ...] = ()
    hidden: list[int] = field(default_factory=list)


class ToySequence(LayeredSequence):
    """The rows of one text, and after them those that were scored and not committed."""

    def __init__(self, engine: ToyEngine, rows: list[_Row], namespace: str | None = "default") -> None:
        """One that holds `rows` already."""
        super().__init__(engine)
        self._namespace = namespace
        self.rows = list(rows)
        self.length = len(rows)
        self._toy = engine

    def written(self) -> list[int]:
        """How many rows after the text each layer has had."""
        new = self.rows[self.length :]
        return [sum(len(row.hidden) > layer for row in new) for layer in range(1, self._toy.offers.layers + 1)]

    def drop_rows(self) -> None:
        """Those rows do not count any more."""
        del self.rows[self.length :]

    def hold(self, part: Part) -> None:
        """All rows of the part are written: its tokens are held, its tree can be committed or go on."""
        self.length += len(part.tokens)
        self.tree, self.begun = part.tree, None

    def commit(self, path: Sequence[int]) -> None:
        """Gather the accepted nodes' rows after the text; drop the rest."""
        self.check_commit(path)
        kept = [self.rows[self.length + node] for node in path]
        self.drop()
        self.rows += kept
        self.length = len(self.rows)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        super().rewind(length)
        self.drop()

    def close(self) -> None:
        """Leave the text to others that begin alike."""
        if not self.closed:
            self._toy.keep(self.rows[: self.length], self._namespace)
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
        layers: int = 1,
    ) -> None:
        """`memory`: how many tokens back the next one depends on, at least one for each layer; None: all of them."""
        self.vocab_size = vocab_size
        self.offers = Offers(layers=layers, extends=True, partial=True)
        self.exact = True
        self.eos_ids = tuple(eos_ids)
        self.max_length = max_length
        self.fingerprint = f"toy-{seed}-{vocab_size}-{memory}-{layers}"
        self._memory = memory
        self._window = max(1, (memory or 1) - layers + 1)
        self._logits = np.random.default_rng(seed).standard_normal((_TABLE, vocab_size))
        self._salt = seed * 2 + 1
        self._kept: defaultdict[str, deque[list[_Row]]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._seen: dict[int, float] = {}

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> ToySequence:
        """One that holds as many of `ids` as one of the namespace's last few texts began with, in blocks of tokens."""
        rows: list[_Row] = []
        for kept in () if reuse is None else self._kept[reuse]:
            same = sum(1 for _ in takewhile(lambda pair: pair[0].token == pair[1], zip(kept, ids, strict=False)))
            if same - same % _BLOCK > len(rows):
                rows = kept[: same - same % _BLOCK]
        return ToySequence(self, rows, reuse)

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Each part's rows in turn; logits float64[rows, V], hidden states int64[rows, 1]."""
        check_parts(self, parts)
        return [self._scored(part) for part in parts]

    def _scored(self, part: Part) -> Scored:
        sequence: ToySequence = part.sequence  # type: ignore[assignment]
        if len(part.tokens) or sequence.begun is not None:
            sequence.drop()
        new = self._run(part, 0, self.offers.layers, known_rows(part))
        sequence.hold(part)
        wanted = new[len(part.tokens) - part.rows :]
        logits = self._logits[[row.hidden[-1] % _TABLE for row in wanted]]
        return Scored(logits, hidden={layer: _states(new, layer) for layer in part.hidden})

    def forward_layers(
        self, part: Part, first: int, last: int, hidden: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """See `Layered`; int64[T, 1]."""
        check_parts(self, [part])
        sequence: ToySequence = part.sequence  # type: ignore[assignment]
        done = sequence.rows_done(part, first, last, None if hidden is None else len(hidden))
        new = self._run(part, first, last, done, hidden)
        sequence.begun = part
        if last == self.offers.layers:
            sequence.hold(part)
        return _states(new, last)

    def head(self, hidden: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Layered`; float64[T, V]."""
        logits: NDArray[np.float64] = self._logits[hidden[:, 0] % _TABLE]
        return logits

    def _run(self, part: Part, first: int, last: int, done: int, hidden: NDArray[np.int64] | None = None) -> list[_Row]:
        """Take the part's rows from number `done` on through these layers; return them."""
        sequence: ToySequence = part.sequence  # type: ignore[assignment]
        rows, start = sequence.rows, sequence.length
        ids = [*part.tokens.tolist(), *part.tree.tokens.tolist()]
        below = start + len(part.tokens) - 1
        above = [*range(start - 1, below), *(below + 1 + parent for parent in part.tree.parents.tolist())]
        for number in range(done, len(ids)):
            if first == 0:
                rows.append(_Row(ids[number]))
            row = rows[start + number]
            if hidden is not None:
                row.hidden[first] = int(hidden[number - done, 0])
            self._through(row, rows[above[number]] if above[number] >= 0 else None, first, last)
        return rows[start + done : start + len(ids)]

    def _through(self, row: _Row, above: _Row | None, first: int, last: int) -> None:
        """Take one row through layers, below another: the first reads a window, each after it one place further."""
        if first == 0:
            row.recent = (*above.recent, row.token)[-self._window :] if above is not None else (row.token,)
            row.state = self._extend(above.state if above is not None else 0, row.token)
            seen = row.state if self._memory is None else reduce(self._extend, row.recent, self._salt)
            row.hidden = [row.token, seen]
        for layer in range(max(1, first), last):
            row.hidden.append(self._extend(above.hidden[layer] if above is not None else 0, row.hidden[layer]))

    def _extend(self, state: int, token: int) -> int:
        return (state * 1_000_003 + token + self._salt) % _PRIME

    def keep(self, rows: list[_Row], namespace: str | None) -> None:
        """A text is over: the namespace's next ones may begin like it."""
        if namespace is not None:
            self._kept[namespace].append(rows)

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


def _states(rows: Sequence[_Row], layer: int) -> NDArray[np.int64]:
    return np.array([[row.hidden[layer]] for row in rows], dtype=np.int64)
