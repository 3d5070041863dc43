"""A text in a head's engine: what the target thought at each token goes in beside the token that came next.

Of a draft the target has thought nothing yet: beside a drafted token goes what came out of the head at the one before
it. So nothing that was scored as a draft is kept when it is accepted: it is read again, with the target's own thoughts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.models.following import CHUNK, Rows
from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Block, Engine, EngineSequence, Part, Reads, Scored, Scores, Step
from hierdraft.tree import DraftTree, Int32

_KEPT = 64
"""Tokens that were read and may have to be read again, if an interrupted step is taken back."""

_NOTHING = DraftTree.empty()


def numbers(states: Array) -> NDArray[np.float32]:
    """float32 of an array in the computer's own memory, wherever it lies."""
    if isinstance(states, np.ndarray):
        return states.astype(np.float32, copy=False)
    found: NDArray[np.float32] = states.float().cpu().numpy()
    return found


class HeadText:
    """One text; the first of its tokens is not in it, since nothing was thought before it.

    levels    of a tree that the head says in the call that reads the text; None: one, and others are asked for
    reading   seconds of the last forward, if that read a text that is not read again
    """

    def __init__(self, engine: Engine, reads: Reads) -> None:
        """Nothing of it is known yet."""
        self._engine, self._reads = engine, reads
        self.levels = None if reads.block is None else 1 + reads.block.size
        self._out = engine.offers.layers
        self._sequence: EngineSequence | None = None
        self._thoughts: list[NDArray[np.float32]] = []
        self._first = self._known = 0  # of which tokens these are: from `_first` on, `_known` in all
        self._states: NDArray[np.float32] | None = None  # of the last token, then of every node
        self.reading = 0.0

    @property
    def held(self) -> int:
        """How many tokens have been read, the first one not among them."""
        return 0 if self._sequence is None else self._sequence.length

    def saw(self, step: Step) -> None:
        """What the target thought in a step; called for each, the prefill's first."""
        pieces = [*zip(*(step.hidden[layer] for layer in self._reads.layers), strict=True)]
        if not step.prefill:
            rows = [0, *(1 + node for node in step.path)]
            pieces = [tuple(state[rows] for state in piece) for piece in pieces]
        for piece in pieces:
            fused = self._reads.fuse(piece)
            self._thoughts.append(fused)
            self._known += len(fused)

    def knows(self, tokens: Int32) -> bool:
        """Whether it was told what the target thought at all of these tokens but the last, and has ids for them."""
        self._shorten(len(tokens) - 1)
        if not self._first < self._known == len(tokens) - 1 <= self._engine.max_length:
            return False
        return int(tokens[min(self.held, len(tokens) - 1) :].max()) < self._engine.vocab_size

    def _shorten(self, count: int) -> None:
        """Know only the first `count` tokens: the text is another one after them."""
        if self._known <= count:
            return
        self._known = max(count, self._first)
        self._thoughts = [np.concatenate(self._thoughts)[: self._known - self._first]]

    def unread(self, tokens: Int32) -> int:
        """How many tokens of a text, but for the last, have not been read."""
        return max(0, len(tokens) - 2 - self.held)

    def room(self, tokens: Int32) -> int:
        """How deep below a text it can draft."""
        return max(0, self._engine.max_length - len(tokens) + 2)

    def part(self, tokens: Int32, tree: DraftTree = _NOTHING) -> Part:
        """What is to be scored of a text int32[L]: what it has not read, and the row of the last token.

        Raises UsageError for a tree below it, and for a text that it does not know.
        """
        if len(tree):
            raise UsageError("A head scores a tree level by level, from its first.")
        sequence, (*earlier, last) = self._pieces(tokens, CHUNK)
        for begin, end in earlier:
            self._engine.forward([self._next(sequence, tokens, begin, end)])
        return self._next(sequence, tokens, *last)

    def read(self, tokens: Int32, several: int) -> Rows:
        """Read what was not read, a forward at a time that `several` texts share; the row of the last token."""
        rows: list[Scores] = []
        sequence, pieces = self._pieces(tokens, max(1, CHUNK // several))
        for begin, end in pieces:
            rows = yield self._next(sequence, tokens, begin, end)
        return rows

    def _pieces(self, tokens: Int32, most: int) -> tuple[EngineSequence, list[tuple[int, int]]]:
        """Of the tokens but the first those that are read next, the last one at least."""
        if not self.knows(tokens):
            raise UsageError("The target's hidden states are not known at all tokens of this text.")
        count = len(tokens) - 1
        if self._sequence is None:
            self._sequence = self._engine.open(reuse=None)
        if self.held >= count:
            self._sequence.rewind(count - 1)
        return self._sequence, [*pairwise([*range(self.held, count, most), count])]

    def _next(self, sequence: EngineSequence, tokens: Int32, begin: int, end: int) -> Part:
        thoughts = np.concatenate(self._thoughts)
        features = np.ascontiguousarray(thoughts[begin - self._first : end - self._first])
        kept = max(self._first, end - _KEPT)
        self._thoughts, self._first = [thoughts[kept - self._first :]], kept
        self._states = None
        given = np.array(tokens[begin + 1 : end + 1])
        if self._reads.block is None or end < len(tokens) - 1:
            return Part(sequence, given, _NOTHING, 1, (self._out,), features)
        return self._with_block(self._reads.block, sequence, given, features)

    def _with_block(
        self, block: Block, sequence: EngineSequence, tokens: Int32, features: NDArray[np.float32]
    ) -> Part:  # fmt: skip
        """The end of a text, and as much of a block below it as there is room for."""
        size = min(block.size, self._engine.max_length - sequence.length - len(tokens))
        ids = np.repeat(tokens[-1:], block.size) if block.ids is None else block.ids
        beside = np.repeat(features[-1:], block.size, axis=0) if block.features is None else block.features
        chain = DraftTree.build(ids[:size].tolist(), [*range(-1, size - 1)])
        return Part(sequence, tokens, chain, 1, (), np.concatenate([features, beside[:size]]), block.among)

    def further(self, tree: DraftTree) -> Part:
        """What is to be scored of a tree that goes on from the one before, whose nodes are its first; each new node is
        below one of these, or below the text. Raises UsageError where one is not.
        """
        states, sequence = self._states, self._sequence
        above = 1 + tree.parents[0 if states is None else len(states) - 1 :]
        if states is None or sequence is None or (len(above) and int(above.max()) >= len(states)):
            raise UsageError("A head scores a tree level by level, after the text that it is below.")
        return Part(sequence, np.empty(0, dtype=np.int32), tree, 0, (self._out,), states[above])

    def heard(self, scored: Scored) -> None:
        """What the head said of its last part."""
        if self.levels is not None:
            return
        states = numbers(scored.hidden[self._out])
        self._states = states[-1:] if self._states is None else np.concatenate([self._states, states])

    def settle(self, path: Sequence[int], length: int) -> None:  # noqa: ARG002
        """See `Text`: nothing of a tree is kept."""
        if self._sequence is not None:
            self._sequence.commit([])
        self._states = None

    def close(self) -> None:
        """Let go of the text."""
        self._thoughts = []
        if self._sequence is not None:
            self._sequence.close()
