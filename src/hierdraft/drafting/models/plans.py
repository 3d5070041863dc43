"""How much a model drafts: the tree's shape is chosen before anything is drawn, from costs and from what was accepted.

A place in a plan is known by the ranks on the way to it: the first child of the root, the second child of that one. Its
worth is the chance that it is accepted, the product of what children of such depths and ranks were worth lately. Taken
best first, the places are for every size the tree with the most accepted tokens (Sequoia, Chen et al., arXiv
2402.12374, with worths that are learned while decoding). Of all sizes and depths that one is best which has the most
expected tokens per second, the drafter's own forwards included.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

DEPTHS, RANKS = 16, 8
"""Depths and ranks that are told apart; what is beyond counts with the last."""

_FIRST = (0.6, 0.15, 0.08, 0.05, 0.03, 0.02, 0.02, 0.01)
_PRIOR, _TRUST, _MEMORY = 6.0, 2.0, 0.99
_TRIED_DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
_SOON, _RARELY = 4, 128

Cost = Callable[[int], float]
"""Seconds of a forward by its rows; 0.0 where that is not known."""


class Acceptance:
    """How often children of a depth and rank were accepted, where their parent was; older steps count less."""

    def __init__(self) -> None:
        """What small models of the same family bring at first."""
        self._tried, self._right, self._promised = (np.zeros((DEPTHS, RANKS)) for _ in range(3))
        self._chances: list[list[float]] | None = None
        self._corrections: list[list[float]] | None = None

    def chances(self) -> list[list[float]]:
        """[DEPTHS][RANKS]: chance that a child is accepted; of a depth that is seldom reached, that of all depths.

        No rank is better than the one before it, so that best first is in the order of siblings.
        """
        if self._chances is None:
            every = (self._right.sum(axis=0) + _PRIOR * np.array(_FIRST)) / (self._tried.sum(axis=0) + _PRIOR)
            found = (self._right + _PRIOR * every) / (self._tried + _PRIOR)
            self._chances = np.minimum.accumulate(found, axis=1).tolist()
        return self._chances

    def corrected(self, depth: int, promised: Sequence[float]) -> list[float]:
        """The drafter's own probabilities of siblings at a depth, from 1, best first, as they came out to be lately.

        Each is scaled by accepted over promised of its depth and rank; together they are at most 1.
        """
        if self._corrections is None:
            every = (self._right.sum(axis=0) + 1.0) / (self._promised.sum(axis=0) + 1.0)
            self._corrections = ((self._right + _TRUST * every) / (self._promised + _TRUST)).tolist()
        scales = self._corrections[min(depth, DEPTHS) - 1]
        found = [own * scales[min(rank, RANKS - 1)] for rank, own in enumerate(promised)]
        return [own / max(1.0, sum(found)) for own in found]

    def observe(self, depth: int, promised: Sequence[float], hit: int | None) -> None:
        """What became of the children of an accepted node, the last committed token included.

        depth     theirs, from 1
        promised  the drafter's own probability of each
        hit       the rank of the one that was accepted, None: none was
        """
        at = min(depth, DEPTHS) - 1
        for counts in (self._tried, self._right, self._promised):
            counts[at] *= _MEMORY
        self._tried[at, : len(promised)] += 1.0
        self._promised[at, : len(promised)] += promised[:RANKS]
        if hit is not None:
            self._right[at, min(hit, RANKS - 1)] += 1.0
        self._chances = self._corrections = None


@dataclass(frozen=True)
class Shape:
    """What a plan may be.

    width    most children at each depth, the last one for all that are deeper
    depth    most levels
    chain    only first children have children: an engine that scores one row after another
    """

    width: tuple[int, ...]
    depth: int
    chain: bool = False


@dataclass
class Plan:
    """A tree's shape. Nodes are in the order of their worth, parents before their children, siblings by rank.

    parents   of each node, -1 for a child of the root
    depths    of each node, from 1
    worth     chance that each is accepted
    rate      expected tokens per second of this request, 0.0 where costs are not known
    """

    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    worth: list[float] = field(default_factory=list)
    rate: float = 0.0

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def depth(self) -> int:
        """How many levels it has."""
        return max(self.depths, default=0)

    def below(self) -> dict[int, list[int]]:
        """Every node that has children, and the root -1, with its children in order."""
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            found.setdefault(parent, []).append(node)
        return found

    def expanded(self) -> list[int]:
        """How many nodes of each level have children: rows of the drafter's forwards after its first."""
        counts = [0] * (self.depth + 1)
        for parent in {parent for parent in self.parents if parent >= 0}:
            counts[self.depths[parent]] += 1
        return counts[1:]

    def part(self, size: int, depth: int, rate: float) -> Plan:
        """The first `size` nodes of those that are at most `depth` deep."""
        kept = [node for node, own in enumerate(self.depths) if own <= depth][:size]
        place = {-1: -1} | {node: new for new, node in enumerate(kept)}
        return Plan(
            [place[self.parents[node]] for node in kept],
            [self.depths[node] for node in kept],
            [self.worth[node] for node in kept],
            rate,
        )


def largest(shape: Shape, nodes: int, chances: list[list[float]]) -> Plan:
    """The best `nodes` places that a shape has, fewer where it has no more."""
    plan = Plan()
    if nodes < 1 or shape.depth < 1:
        return plan
    heap = [(-chances[0][0], 0, -1, 1, 0, 1.0)]
    pushed = 1
    while heap and len(plan) < nodes:
        negative, _, parent, depth, rank, above = heapq.heappop(heap)
        node = len(plan)
        plan.parents.append(parent)
        plan.depths.append(depth)
        plan.worth.append(-negative)
        if rank + 1 < shape.width[min(depth, len(shape.width)) - 1]:
            chance = chances[min(depth, DEPTHS) - 1][min(rank + 1, RANKS - 1)]
            heapq.heappush(heap, (-above * chance, pushed, parent, depth, rank + 1, above))
        if depth < shape.depth and (rank == 0 or not shape.chain):
            heapq.heappush(
                heap, (negative * chances[min(depth + 1, DEPTHS) - 1][0], pushed + 1, node, depth + 1, 0, -negative)
            )
        pushed += 2
    return plan


def best(whole: Plan, target: Cost, drafter: Cost, begin: float, *, several: int = 1, least: int = 0) -> Plan:
    """Of a plan's beginnings, and of those cut to some depth, the one with the most expected tokens per second.

    target    the target's forward with so many rows of this request
    drafter   the drafter's for the next level
    begin     seconds of its first forward, which reads what it has not seen yet
    several   how many requests draft alike in these forwards
    least     nodes that it must have, 0 or 1: with 1, what is best where plain decoding is better
    """
    sizes = range(1, len(whole) + 2)
    seconds = np.maximum.accumulate([target(1 + several * (size - 1)) for size in sizes])
    if seconds[0] <= 0.0:
        return whole
    found = (several / float(seconds[0]), 0, 0) if least == 0 else (0.0, 0, 0)
    known: dict[int, float] = {}

    def price(rows: int) -> float:
        if rows not in known:
            known[rows] = drafter(several * rows)
        return known[rows]

    for depth in sorted({min(depth, whole.depth) for depth in _TRIED_DEPTHS}):
        found = max(found, _best_size(whole, depth, seconds.tolist(), price, begin, several))
    rate, size, depth = found
    return whole.part(size, depth, rate / several)


def _best_size(
    whole: Plan, depth: int, seconds: list[float], price: Cost, begin: float, several: int
) -> tuple[float, int, int]:
    """(tokens per second, nodes, depth) of the best beginning of the nodes that are at most `depth` deep."""
    rows, drafting, expected, size = [0] * (depth + 1), begin, 1.0, 0
    parents: set[int] = set()
    found = (0.0, 0, 0)
    for parent, own, worth in zip(whole.parents, whole.depths, whole.worth, strict=True):
        if own > depth:
            continue
        if parent >= 0 and parent not in parents:  # one row more in the forward that scores its level
            parents.add(parent)
            level = own - 1
            drafting += price(rows[level] + 1) - (price(rows[level]) if rows[level] else 0.0)
            rows[level] += 1
        size, expected = size + 1, expected + worth
        found = max(found, (several * expected / (seconds[size] + drafting), size, depth))
    return found


class Trials:
    """When to look again whether drafting pays: soon after it began not to, then ever more rarely."""

    def __init__(self) -> None:
        """It pays."""
        self._left, self._patience = 0, _SOON

    def waits(self) -> bool:
        """Whether this step goes without a look, and without drafts."""
        self._left -= self._left > 0
        return self._left > 0

    def decided(self, *, pays: bool) -> None:
        """What a look has shown."""
        if pays:
            self._patience = _SOON
        else:
            self._left, self._patience = self._patience, min(_RARELY, 2 * self._patience)
