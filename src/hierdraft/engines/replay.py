"""A target that repeats recorded output: exact acceptance without a model.

What such a run reports about acceptance is what the recorded model would have accepted, since its greedy choice at
every position on the accepted path is known. It says nothing about time, and has no runner-up tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import UsageError
from hierdraft.protocols import Array
from hierdraft.tree import DraftTree, Int32

_UNKNOWN = -1


class ReplayEngine:
    """Satisfies `Engine`; its logits int32[rows] are the choices themselves, -1 where the record does not say."""

    eos_ids: tuple[int, ...] = ()
    max_length = 2**31 - 1
    fingerprint = "replay"
    exact = True

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._output: Int32 = np.empty(0, dtype=np.int32)
        self._at = 0

    def play(self, output: Sequence[int] | Int32) -> None:
        """The next request's output. Raises UsageError if it is empty or has ids outside the vocabulary."""
        ids = np.asarray(output, dtype=np.int32)
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= self.vocab_size:
            raise UsageError(f"A record's output must hold ids below {self.vocab_size}, at least one.")
        self._output = ids

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> Array:
        """Start the record at its first token."""
        self._at = 0
        return np.append(np.asarray(ids, dtype=np.int32)[len(ids) - rows + 1 :], self._output[:1])

    def forward(self, last: int, tree: DraftTree) -> Array:  # noqa: ARG002
        """What the record says after each node that agrees with it."""
        choices = np.full(1 + len(tree), _UNKNOWN, dtype=np.int32)
        depths = [0, *tree.depths().tolist()]
        choices[0] = self._after(0)
        for row, (token, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True), start=1):
            if choices[parent + 1] == token:
                choices[row] = self._after(depths[row])
        return choices

    def _after(self, depth: int) -> int:
        place = self._at + 1 + depth
        return int(self._output[place]) if place < len(self._output) else _UNKNOWN

    def commit(self, path: Sequence[int]) -> None:
        """Continue after the accepted tokens."""
        self._at += len(path) + 1

    def rewind(self, length: int) -> None:
        """Records are only played forwards."""
        raise UsageError(f"A record cannot be rewound to {length}.")

    def choices(self, logits: Array) -> Int32:
        """The logits, which are choices."""
        return np.array(logits, dtype=np.int32)

    def values(self, logits: Array, row: int) -> NDArray[Any]:  # noqa: ARG002
        """Not known from a record."""
        raise UsageError("Recorded output has no probabilities: it can only be followed greedily.")

    def top_ids(self, logits: Array, k: int) -> Int32:  # noqa: ARG002
        """Not known from a record."""
        raise UsageError(f"Recorded output has no {k} runner-up tokens: this method cannot be replayed.")

    def cost(self, rows: int) -> float:  # noqa: ARG002
        """Unknown."""
        return 0.0

    def record(self, rows: int, seconds: float) -> None:
        """Nothing to learn."""
