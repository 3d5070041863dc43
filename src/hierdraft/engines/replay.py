"""A target that repeats recorded output: exact acceptance without a model.

What such a run reports about acceptance is what the recorded model would have accepted, since its greedy choice at
every position on the accepted path is known. It says nothing about time, and has no runner-up tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.sequences import OneSequence, check_parts
from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Offers, Part, Scored
from hierdraft.tree import Int32

_UNKNOWN = -1


class ReplaySequence(OneSequence):
    """A record that is played; `prompt`: how long its prompt is, 0 while that is read."""

    def __init__(self, engine: ReplayEngine, output: Int32) -> None:
        super().__init__(engine)
        self.prompt = 0
        self._output = output

    def after(self, depth: int) -> int:
        """What comes `depth` tokens after the text's next one; -1 beyond the record's end."""
        place = self.length - self.prompt + depth
        return int(self._output[place]) if place < len(self._output) else _UNKNOWN

    def commit(self, path: Sequence[int]) -> None:
        """Continue after the accepted tokens."""
        self.length += len(path)

    def rewind(self, length: int) -> None:
        """Records are only played forwards."""
        raise UsageError(f"A record cannot be rewound to {length}.")


class ReplayEngine:
    """Satisfies `Engine`; its logits int32[rows] are the choices themselves, -1 where the record does not say."""

    eos_ids: tuple[int, ...] = ()
    max_length = 2**31 - 1
    fingerprint = "replay"
    offers = Offers(scores=False)
    exact = True

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._outputs: deque[Int32] = deque([np.empty(0, dtype=np.int32)])

    def play(self, *outputs: Sequence[int] | Int32) -> None:
        """What the next requests say, in the order in which they begin; the last one as often as asked for.

        Raises UsageError for one that is empty or has ids outside the vocabulary.
        """
        ids = [np.asarray(output, dtype=np.int32) for output in outputs]
        if any(len(one) == 0 or one.min() < 0 or one.max() >= self.vocab_size for one in ids):
            raise UsageError(f"A record's output must hold ids below {self.vocab_size}, at least one.")
        self._outputs = deque(ids)

    def output(self) -> Int32:
        """What the request says that begins now."""
        return self._outputs.popleft() if len(self._outputs) > 1 else self._outputs[0]

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> ReplaySequence:  # noqa: ARG002
        """A text whose answer was put on; the first part with a scored row ends its prompt."""
        return ReplaySequence(self, self.output())

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """What each record says after each node that agrees with it."""
        check_parts(self, parts)
        return [Scored(self._score(part)) for part in parts]

    def _score(self, part: Part) -> Int32:
        sequence, tree = part.sequence, part.tree
        if not isinstance(sequence, ReplaySequence):
            raise UsageError("This sequence belongs to another engine.")
        sequence.length += len(part.tokens)
        if part.rows == 0:
            return np.empty(0, dtype=np.int32)
        if sequence.prompt == 0:
            sequence.prompt = sequence.length
        choices = np.full(part.rows + len(tree), _UNKNOWN, dtype=np.int32)
        first = part.rows - 1
        choices[:first] = part.tokens[len(part.tokens) - first :]
        choices[first] = sequence.after(0)
        for node, (token, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)):
            if choices[first + 1 + parent] == token:
                choices[first + 1 + node] = sequence.after(int(tree.depths()[node]))
        return choices

    def choices(self, logits: Array) -> Int32:
        """The logits, which are choices."""
        return np.array(logits, dtype=np.int32)

    def values(self, logits: Array, row: int) -> NDArray[Any]:  # noqa: ARG002
        """Not known from a record."""
        raise UsageError("Recorded output has no probabilities: it can only be followed greedily.")

    def top_ids(self, logits: Array, k: int) -> Int32:  # noqa: ARG002
        """Not known from a record."""
        raise UsageError(f"Recorded output has no {k} runner-up tokens: this method cannot be replayed.")

    def cost(self, rows: int, plain: int = 1) -> float:  # noqa: ARG002
        """Unknown."""
        return 0.0

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Nothing to learn."""
