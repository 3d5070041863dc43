"""What the budget law learns about a drafter that does not say it itself: what its drafts, its probes and asking it are
worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hierdraft.levels import GRAMMAR, WINDOW
from hierdraft.tree import DraftTree

_DEPTHS, _RANKS = 16, 4
_FIRST, _OTHER = 0.6, 0.2
_DEPTH_PRIOR, _DEPTH_MEMORY = 4.0, 0.995
_FOUND, _FOUND_PRIOR = 0.3, 32.0
_MEMORY, _PACE = 0.998, 0.05
_WAIT, _LONGEST_WAIT, _TRIAL = 256, 8192, 24
_HOPE, _RATE, _TOLERATED = 0.1, 0.03, 0.015
_SOON, _RARELY = 4, 64


class DepthWorth:
    """Probabilities for drafts of a method that gives none: how often tokens of that depth and rank were right before.

    The rank is a node's place among its siblings. All probabilities 1 means that none are given, but for tokens that a
    grammar forces.
    """

    def __init__(self) -> None:
        """What some steps put right."""
        first = np.full((_DEPTHS, _RANKS), _OTHER)
        first[:, 0] = _FIRST
        self._tried = np.full((_DEPTHS, _RANKS), _DEPTH_PRIOR)
        self._right = first * _DEPTH_PRIOR

    def prob(self, tree: DraftTree) -> NDArray[np.float32]:
        """float32[n]: path probabilities of a tree without probe nodes, its own where it has some."""
        if not _is_unknown(tree):
            return tree.prob
        found = np.empty(len(tree), dtype=np.float32)
        for node, (parent, cell) in enumerate(zip(tree.parents.tolist(), _cells(tree), strict=True)):
            above = 1.0 if parent < 0 else float(found[parent])
            forced = tree.level[node] == GRAMMAR
            found[node] = above * (1.0 if forced else float(self._right[cell] / self._tried[cell]))
        return found

    def observe(self, tree: DraftTree, path: Sequence[int]) -> None:
        """Learn which of the nodes that could have been accepted were."""
        drafts = tree.only(~tree.probe)
        if not _is_unknown(drafts):
            return
        self._tried *= _DEPTH_MEMORY
        self._right *= _DEPTH_MEMORY
        renumbered = (np.cumsum(~tree.probe) - 1)[list(path)].tolist()
        reached = {-1, *renumbered}
        for node, (parent, cell) in enumerate(zip(drafts.parents.tolist(), _cells(drafts), strict=True)):
            if parent in reached and drafts.level[node] != GRAMMAR:
                self._tried[cell] += 1.0
                self._right[cell] += node in reached


def _is_unknown(tree: DraftTree) -> bool:
    return len(tree) > 0 and bool(tree.prob.min() >= 1.0) and bool((tree.level != GRAMMAR).any())


def _cells(tree: DraftTree) -> list[tuple[int, int]]:
    """(depth, rank) of every node, from 0."""
    siblings: dict[int, int] = {}
    found = []
    for parent, depth in zip(tree.parents.tolist(), tree.depths().tolist(), strict=True):
        rank = siblings[parent] = siblings.get(parent, -1) + 1
        found.append((min(depth, _DEPTHS) - 1, min(rank, _RANKS - 1)))
    return found


class WindowWorth:
    """Whether probe nodes pay: tokens accepted because of them, for each step that scored some, against their rows.

    It begins with what published windows find at best, so that where their rows are dear no step is spent on finding
    out, and where they are cheap they are tried. A window that does not pay is tried again later, ever more rarely, and
    long enough each time to be filled.
    """

    def __init__(self) -> None:
        """Nothing was scored yet."""
        self._found = self._scored = 0.0
        self._pace = 1.5
        self._wait, self._patience, self._trial = 0, _WAIT, 0

    def allowed(self, wanted: int, nodes: float, cost: Callable[[int], float]) -> int:
        """`wanted` where that many probes beside `nodes` nodes are worth what they cost, else 0; asked once a step.

        While costs are unknown, `wanted`.
        """
        rows = 1 + round(nodes)
        before = cost(rows)
        if wanted == 0 or before <= 0.0:
            return wanted
        price = (cost(rows + wanted) - before) / before * self._pace  # in tokens
        if not price < _FOUND:
            return 0
        if self._wait:
            self._wait -= 1
            return 0
        gain = (self._found + _FOUND_PRIOR * _FOUND) / (self._scored + _FOUND_PRIOR)
        if gain > price or self._trial:
            self._trial = max(0, self._trial - 1)
            return wanted
        self._wait, self._trial = self._patience, _TRIAL
        self._patience = min(_LONGEST_WAIT, 2 * self._patience)
        return 0

    def observe(self, tree: DraftTree, path: Sequence[int]) -> None:
        """Count what the probes of earlier steps have brought."""
        if tree.probe.any():
            self._scored = _MEMORY * self._scored + 1.0
            self._found *= _MEMORY
        self._found += int((tree.level[list(path)] == WINDOW).sum())
        self._pace += _PACE * (1 + len(path) - self._pace)


class Resting:
    """Whether to ask a drafter at all: not while asking it lately cost more than it brought, but for rare looks.

    A gain is tokens per second over those of plain decoding, less 1, as it came out: what was promised was chosen
    because it looked good. A loss that is hardly one is tolerated: a drafter that costs next to nothing may find
    something later. Bad steps lose the time of drafting, which is little, and good ones gain much, so one good step in
    many keeps a cheap drafter awake.
    """

    def __init__(self) -> None:
        """With some hope."""
        self._gain = _HOPE
        self._left, self._patience = 0, _SOON

    def rests(self) -> bool:
        """Whether this step goes without; told once a step."""
        if self._gain >= -_TOLERATED or self._left == 0:
            return False
        self._left -= 1
        return True

    def observe(self, accepted: int, slowdown: float) -> None:
        """A step is over. If the drafter was asked, it took `slowdown` times a plain one's time; else that is 0."""
        if slowdown <= 0.0:
            return
        self._gain += _RATE * ((1 + accepted) / slowdown - 1.0 - self._gain)
        if self._gain >= -_TOLERATED:
            self._patience = max(_SOON, self._patience // 2)
        else:
            self._left, self._patience = self._patience, min(_RARELY, 2 * self._patience)
