"""A small exact target over token ids, for tests, fuzzing and demonstrations without weights.

It behaves like a transformer with a cache: the logits of a row depend only on what the cache holds for its prefix,
so a wrong mask, position, gather or rewind changes the text. With `memory=m` they depend on the last `m` tokens and
on nothing else, which makes text that repeats itself; with `memory=None` on the whole prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import DraftTree, Int32

_TABLE = 4096
_PRIME = (1 << 61) - 1


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
        self.exact = True
        self.eos_ids = tuple(eos_ids)
        self.max_length = max_length
        self.fingerprint = f"toy-{seed}-{vocab_size}-{memory}"
        self._memory = memory
        self._logits = np.random.default_rng(seed).standard_normal((_TABLE, vocab_size))
        self._salt = seed * 2 + 1
        self._tokens: list[int] = []
        self._states: list[int] = []
        self._length = 0
        self._seen: dict[int, float] = {}

    def _extend(self, state: int, token: int) -> int:
        return (state * 1_000_003 + token + self._salt) % _PRIME

    def _row(self, position: int, before: Sequence[int]) -> int:
        """Index into the table for the cache row at `position`, whose earlier path tokens are `before`."""
        if self._memory is None:
            return self._states[position] % _TABLE
        state = self._salt
        for token in [*before, self._tokens[position]][-self._memory :]:
            state = self._extend(state, token)
        return state % _TABLE

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> NDArray[np.float64]:
        """Start over with the prompt; float64[rows, V]."""
        self._tokens = [int(token) for token in ids]
        self._states = []
        state = 0
        for token in self._tokens:
            state = self._extend(state, token)
            self._states.append(state)
        self._length = len(self._tokens)
        window = self._memory or 1
        places = range(self._length - rows, self._length)
        return self._logits[[self._row(p, self._tokens[max(0, p - window) : p]) for p in places]]

    def forward(self, last: int, tree: DraftTree) -> NDArray[np.float64]:
        """Write row 0 and the nodes after the cache, and read each row's logits along its own path."""
        del self._tokens[self._length :], self._states[self._length :]
        base = self._length
        self._tokens += [last, *tree.tokens.tolist()]
        self._states.append(self._extend(self._states[-1], last))
        window = (self._memory or 1) - 1
        before = [self._tokens[max(0, base - window) : base]]
        index = [self._row(base, before[0])]
        for node, parent in enumerate(tree.parents.tolist()):
            row = base + 1 + node
            self._states.append(self._extend(self._states[base + 1 + parent], self._tokens[row]))
            before.append([*before[parent + 1], self._tokens[base + 1 + parent]][-window:] if window else [])
            index.append(self._row(row, before[node + 1]))
        return self._logits[index]

    def commit(self, path: Sequence[int]) -> None:
        """Gather row 0 and the accepted nodes' rows after the cache; drop the rest."""
        rows = [self._length, *(self._length + 1 + node for node in path)]
        self._tokens[self._length :] = [self._tokens[row] for row in rows]
        self._states[self._length :] = [self._states[row] for row in rows]
        self._length += len(rows)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        del self._tokens[length:], self._states[length:]
        self._length = length

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

    def cost(self, rows: int) -> float:
        """The mean time of forwards with as many rows; 0.0 before the first."""
        return self._seen.get(rows, 0.0)

    def record(self, rows: int, seconds: float) -> None:
        """Keep a running mean per number of rows."""
        self._seen[rows] = 0.9 * self._seen.get(rows, seconds) + 0.1 * seconds
