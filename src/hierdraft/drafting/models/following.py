"""A text in a drafter's engine that follows what is committed: what it has scored it does not score again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np

from hierdraft.protocols import Engine, EngineSequence, Part, Scored, Scores, Step
from hierdraft.tree import DraftTree, Int32

CHUNK = 2048
"""Most tokens of prompts that are read in a forward."""

_NOTHING = DraftTree.empty()

Rows = Generator[Part, list[Scores], list[Scores]]
"""Asks for forwards, is sent the rows of each, and returns the last ones."""


class Text(Protocol):
    """One text of a drafter, and the tree that it drafts below it.

    levels   of a tree that it says in the call that reads the text, a row for each; None: one, and others are asked for
    """

    levels: int | None

    def saw(self, step: Step) -> None:
        """What became of a step of the target."""

    def knows(self, tokens: Int32) -> bool:
        """Whether it can read this text int32[L]."""

    def unread(self, tokens: Int32) -> int:
        """How many tokens of a text, but for the last, have not been read."""

    def room(self, tokens: Int32) -> int:
        """How deep below a text it can draft."""

    def read(self, tokens: Int32, several: int) -> Rows:
        """Read what was not read, a forward at a time that `several` texts share; the row of the last token."""

    def further(self, tree: DraftTree) -> Part:
        """What is to be scored of a tree that goes on from the one before, whose nodes are its first."""

    def heard(self, scored: Scored) -> None:
        """What the engine said of its last part."""

    def settle(self, path: Sequence[int], length: int) -> None:
        """The tree that was drafted below `length` tokens is over; of what was scored these nodes have come."""

    def close(self) -> None:
        """Let go of the text."""


class ModelText:
    """See `Text`; of a whole model, which keeps what it has scored of a tree where that is accepted."""

    def __init__(self, engine: Engine, namespace: str) -> None:
        """Nothing is asked of the engine before something is read."""
        self._engine, self._namespace = engine, namespace
        self._sequence: EngineSequence | None = None
        self._held = 0  # tokens of the text that the sequence holds
        self.levels: int | None = None
        self._readable = True

    def saw(self, step: Step) -> None:
        """See `Text`: it needs to know nothing more than the tokens."""

    def knows(self, tokens: Int32) -> bool:
        """Whether the drafter has all ids of the text: it may have fewer than the target."""
        if self._readable and len(tokens) > self._held:
            self._readable = int(tokens[self._held :].max()) < self._engine.vocab_size
        return self._readable

    def unread(self, tokens: Int32) -> int:
        """See `Text`."""
        return max(0, len(tokens) - 1 - self._held)

    def room(self, tokens: Int32) -> int:
        """See `Text`."""
        return self._engine.max_length - len(tokens) + 1

    def read(self, tokens: Int32, several: int) -> Rows:
        """See `Text`."""
        if self._sequence is None:
            self._sequence = self._engine.open(tokens[:-1], reuse=self._namespace)
            self._held = self._sequence.length
        sequence, most = self._sequence, max(1, CHUNK // several)
        self._held = min(self._held, len(tokens) - 1)
        if sequence.length > self._held:
            sequence.rewind(self._held)
        while True:
            left = len(tokens) - sequence.length
            given = np.array(tokens[sequence.length :][:most])
            rows = yield Part(sequence, given, _NOTHING, int(left <= most))
            self._held = sequence.length
            if left <= most:
                return rows

    def further(self, tree: DraftTree) -> Part:
        """See `Text`; where the engine goes on with no trees, the last node of a chain is its text's next token."""
        if self._sequence is None:
            raise ValueError("a tree goes on only after a text")
        if not self._engine.offers.extends:
            return Part(self._sequence, tree.tokens[-1:].copy(), _NOTHING, 1)
        return Part(self._sequence, np.empty(0, dtype=np.int32), tree, 0)

    def heard(self, scored: Scored) -> None:
        """See `Text`."""

    def settle(self, path: Sequence[int], length: int) -> None:
        """See `Text`."""
        if self._sequence is None:
            return
        if self._engine.offers.extends:
            self._sequence.commit(path)
        else:
            self._sequence.rewind(min(self._sequence.length, length + len(path)))
        self._held = self._sequence.length

    def close(self) -> None:
        """See `Text`."""
        if self._sequence is not None:
            self._sequence.close()
