"""Keeping the output inside a grammar: what may be chosen at a row, and what is worth drafting.

The rule decides: a token that the grammar does not allow after a row's own prefix cannot be chosen there, so an
accepted path never leaves it. Everything else only saves work: drafted tokens that could not be accepted are not
scored, and tokens that the grammar forces are drafted where no database had them.
"""

from __future__ import annotations

import numpy as np

from hierdraft.errors import UsageError
from hierdraft.levels import GRAMMAR
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.contracts import Constraint
from hierdraft.verify.rules import Scores

_FORCED = 0.95
"""Chance given to forced text: it must come, but the target may cut it into other tokens."""


class Follower:
    """Moves one request's constraint to where it is asked about: back to where two texts part, then forward."""

    def __init__(self, constraint: Constraint, prompt_length: int) -> None:
        """The grammar begins after the prompt."""
        self.machine = constraint
        self._prompt_length = prompt_length
        self._read = np.empty(0, dtype=np.int32)
        """Of which the first `_length` tokens are what the machine has read."""
        self._length = 0

    def moved(self, prefix: Int32) -> bool:
        """Read `prefix` int32[L], prompt and output; False where the grammar does not allow it."""
        output = prefix[self._prompt_length :]
        same = self._in_common(output)
        if same < self._length:
            self.machine.rewind(self._length - same)
            self._length = same
        if len(output) > len(self._read):
            self._read = np.concatenate([self._read[:same], np.empty(2 * len(output) - same, dtype=np.int32)])
        for token in output[same:].tolist():
            if not self.machine.advance(token):
                return False
            self._read[self._length] = token
            self._length += 1
        return True

    def _in_common(self, output: Int32) -> int:
        """How many tokens begin both what was read and this: compared at once, since it is asked for every row."""
        most = min(self._length, len(output))
        differs = self._read[:most] != output[:most]
        return int(differs.argmax()) if differs.any() else most

    def rule(self, prefix: Int32, scores: Scores) -> Scores:
        """Only tokens that keep the output inside the grammar; none after a prefix that has left it."""
        if self.moved(prefix):
            self.machine.ban(scores)
        else:
            scores[:] = -np.inf
        return scores

    def inside(self, tree: DraftTree, tokens: Int32, nodes: int, depth: int) -> DraftTree:
        """The part of `tree` that the grammar allows, and what it forces, likeliest first.

        tokens  int32[L] prompt and everything committed
        nodes, depth  bounds of the result

        A tree that was drawn from a law stays as it is: what is verified must not depend on what was drawn.
        """
        if tree.drawn or tree.probe.any() or not self.moved(tokens):
            return tree
        found = _Growing(tree)
        self._visit(found, -1, -1, 1.0, depth)
        return found.sorted(nodes)

    def _visit(self, found: _Growing, node: int, copy: int, prob: float, depth: int) -> None:
        """Copy what is allowed below `node` (whose copy is `copy`), and add what is forced there."""
        if depth == 0:
            return
        below: dict[int, int] = {}
        for child in found.tree.children(node):
            below.setdefault(int(found.tree.tokens[child]), child)
        forced = self.machine.forced()[:depth]
        for token, child in below.items():
            if self._advances(token):
                chance = max(float(found.tree.prob[child]), _FORCED * prob if forced[:1] == [token] else 0.0)
                place = found.add(token, copy, chance, int(found.tree.level[child]))
                self._visit(found, child, place, chance, depth - 1)
                self.machine.rewind(1)
        if forced and forced[0] not in below:
            read = 0
            for token in forced:
                if not self._advances(token):
                    break
                read += 1
                prob *= _FORCED
                copy = found.add(token, copy, prob, GRAMMAR)
            self.machine.rewind(read)

    def _advances(self, token: int) -> bool:
        """Read a drafted token, if it may come next and that can be told."""
        try:
            return self.machine.advance(token)
        except UsageError:
            return False


class _Growing:
    """A tree in the making, copied from another."""

    def __init__(self, tree: DraftTree) -> None:
        self.tree = tree
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._prob: list[float] = []
        self._level: list[int] = []

    def add(self, token: int, parent: int, prob: float, level: int) -> int:
        """A node below `parent`; its number."""
        self._tokens.append(token)
        self._parents.append(parent)
        self._prob.append(min(prob, self._prob[parent]) if parent >= 0 else prob)
        self._level.append(level)
        return len(self._tokens) - 1

    def sorted(self, nodes: int) -> DraftTree:
        """At most `nodes` nodes, the likeliest first; parents were added before their children and stay so."""
        grown = DraftTree.build(self._tokens, self._parents, prob=self._prob, level=self._level)
        return grown.likeliest(nodes)
