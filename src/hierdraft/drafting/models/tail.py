"""A text in a drafter's engine that follows the target's: what it has scored it does not score again."""

from __future__ import annotations

import numpy as np

from hierdraft.drafting.models.following import CHUNK
from hierdraft.protocols import Engine, EngineSequence, Part, Scored, Step
from hierdraft.tree import DraftTree, Int32

_NOTHING = DraftTree.empty()


class Tail:
    """One text. It is read when it is first asked about.

    reading   seconds of the last forward, if that read a text that is not read again
    """

    def __init__(self, engine: Engine, namespace: str | None) -> None:
        """Nothing of it is held yet; texts of one namespace may share what they begin with, None: with no other."""
        self._engine, self._namespace = engine, namespace
        self._sequence: EngineSequence | None = None
        self._tree = _NOTHING
        self.reading = 0.0

    def part(self, tokens: Int32, tree: DraftTree) -> Part:
        """What is to be scored for a tree below `tokens` int32[L], of which earlier parts have had the beginning.

        Of the tree before, the nodes are kept that the text has gone through since. The last token is always scored:
        its row is the tree's first.
        """
        if self._sequence is None:
            self._sequence = self._engine.open(tokens[:-1], reuse=self._namespace)
        sequence = self._sequence
        if sequence.length >= len(tokens):  # an interrupted step was taken back
            sequence.rewind(len(tokens) - 1)
        else:
            sequence.commit(self._came(tokens[sequence.length : -1]))
        while len(tokens) - sequence.length > CHUNK:
            piece = np.array(tokens[sequence.length : sequence.length + CHUNK])
            self._engine.forward([Part(sequence, piece, _NOTHING, 0)])
        self._tree = tree
        return Part(sequence, np.array(tokens[sequence.length :]), tree)

    def saw(self, step: Step) -> None:
        """What became of a step of the target: it needs to know nothing more than the tokens."""

    def knows(self, tokens: Int32) -> bool:
        """Whether a text is not too long for the model, which has all of its ids: it may have fewer than the target."""
        return len(tokens) <= self._engine.max_length and int(tokens.max()) < self._engine.vocab_size

    def heard(self, scored: Scored) -> None:
        """What the engine said of its last part."""

    def unread(self, tokens: Int32) -> int:
        """How many tokens of a text, but for the last, have not been read as text or as a part of the last tree."""
        if self._sequence is None:
            return len(tokens) - 1
        return max(0, len(tokens) - 1 - self._sequence.length - len(self._tree))

    def further(self, tree: DraftTree) -> Part:
        """What is to be scored of a tree that goes on from the one before, whose nodes are its first."""
        if self._sequence is None:
            raise ValueError("a tree goes on only after a part")
        self._tree = tree
        return Part(self._sequence, np.empty(0, dtype=np.int32), tree, 0)

    def rewind(self, length: int) -> None:
        """The text is another one after its first `length` tokens."""
        if self._sequence is not None and self._sequence.length > length:
            self._sequence.rewind(length)

    def _came(self, tokens: Int32) -> list[int]:
        """The nodes of the last tree that these tokens go through."""
        path, node = list[int](), -1
        for token in tokens.tolist():
            below = [child for child in self._tree.children(node) if self._tree.tokens[child] == token]
            if not below:
                break
            node = below[0]
            path.append(node)
        return path

    def close(self) -> None:
        """Let go of the text."""
        if self._sequence is not None:
            self._sequence.close()
