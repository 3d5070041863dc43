"""What the sequences of all engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Part
from hierdraft.tree import DraftTree, Int32

if TYPE_CHECKING:
    from hierdraft.protocols import Engine


class OneSequence(ABC):
    """A sequence that can be scored by itself. An engine's own adds what it holds."""

    def __init__(self, engine: Engine) -> None:
        """An empty one."""
        self.owner = engine
        self.length = 0
        self.closed = False

    @abstractmethod
    def commit(self, path: Sequence[int]) -> None:
        """See `EngineSequence`."""

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> Array:
        """Continue the text with `ids`; logits[rows, V] of the last `rows` of them."""
        tokens = np.asarray(ids, dtype=np.int32)
        return self.owner.forward([Part(self, tokens, DraftTree.empty(), rows)])[0].logits

    def forward(self, last: int, tree: DraftTree) -> Array:
        """Continue the text with `last`, and score every node below it; logits[1+n, V]."""
        return self.owner.forward([Part(self, np.array([last], dtype=np.int32), tree)])[0].logits

    def rewind(self, length: int) -> None:
        """See `EngineSequence`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        self.length = length

    def close(self) -> None:
        """See `EngineSequence`."""
        self.closed = True


def check_parts(engine: Engine, parts: Sequence[Part]) -> None:
    """What holds of every forward.

    Raises UsageError for a sequence that is closed, another engine's or in two parts, ValueError for a malformed part.
    """
    seen: set[int] = set()
    for part in parts:
        sequence = part.sequence
        if not isinstance(sequence, OneSequence) or sequence.owner is not engine:
            raise UsageError("This sequence belongs to another engine.")
        if sequence.closed:
            raise UsageError("This sequence is closed: open another.")
        if id(sequence) in seen:
            raise UsageError("A sequence can be in one part of a forward only.")
        seen.add(id(sequence))
        if not min(1, len(part.tree)) <= part.rows <= len(part.tokens) or len(part.tokens) == 0:
            raise ValueError(
                f"{part.rows} rows cannot be scored of {len(part.tokens)} tokens and {len(part.tree)} nodes"
            )
