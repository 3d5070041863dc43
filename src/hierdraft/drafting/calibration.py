"""The chance that a candidate is accepted, learned while running.

Every candidate falls into a cell: (level, length of the matching suffix, how often the continuation was met there,
its share of all continuations there, whether it is the newest). A cell counts how often its candidates were the
target's choice at a position on the target's own path, and how often not; the ratio is the probability. Cells start
from a prior that is worth `weight` observations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS
from hierdraft.tree import LEVELS

COUNTS = 5
SHARES = 6
CELLS = len(LEVELS) * ORDERS * COUNTS * SHARES * 2


@njit(cache=True, nogil=True)
def count_bucket(count: int) -> int:
    """0..4 for a continuation met 1, 2, 3-4, 5-8, or more times."""
    if count <= 2:
        return count - 1
    if count <= 4:
        return 2
    return 3 if count <= 8 else 4


@njit(cache=True, nogil=True)
def share_bucket(count: int, total: int) -> int:
    """0..5 for a share below 1/8, 1/4, 1/2, 3/4, below 1, and exactly 1."""
    if count == total:
        return 5
    eighths = 8 * count
    if eighths < total:
        return 0
    if eighths < 2 * total:
        return 1
    if eighths < 4 * total:
        return 2
    return 3 if eighths < 6 * total else 4


@njit(cache=True, nogil=True)
def cell_of(level: int, order: int, count: int, total: int, newest: bool) -> int:
    """Index of the cell of a candidate met `count` times among `total` occurrences of an `order`-token suffix."""
    cell = level * ORDERS + order - 1
    cell = cell * COUNTS + count_bucket(count)
    cell = cell * SHARES + share_bucket(count, total)
    return 2 * cell + (1 if newest else 0)


@njit(cache=True, nogil=True)
def teach(
    tokens: Any,
    parents: Any,
    cells: Any,
    on_path: Any,
    choices: Any,
    accepted: Any,
    tried: Any,
    probability: Any,
) -> None:
    """Count every node whose parent lies on the target's path; `on_path` bool[rows], `choices` int32[rows]."""
    for node in range(len(tokens)):
        row = parents[node] + 1
        if row < len(on_path) and on_path[row]:
            cell = cells[node]
            tried[cell] += 1.0
            if tokens[node] == choices[row]:
                accepted[cell] += 1.0
            probability[cell] = accepted[cell] / tried[cell]


_SHARE_MIDDLE = (0.08, 0.18, 0.35, 0.6, 0.85, 1.0)
_COUNT_MIDDLE = (1.0, 2.0, 3.5, 6.0, 12.0)


def _prior() -> NDArray[np.float64]:
    """float64[CELLS]: share of the continuation, discounted like count / (count + escape(order)).

    Short suffixes and single occurrences say little about what comes next; the discount is the escape estimate of
    n-gram models, with the escape falling from 6 at one token to 0.6 at eight.
    """
    prior = np.empty((len(LEVELS), ORDERS, COUNTS, SHARES, 2))
    for order in range(1, ORDERS + 1):
        escape = 6.0 / order**1.1
        for i, count in enumerate(_COUNT_MIDDLE):
            for j, share in enumerate(_SHARE_MIDDLE):
                trust = share * (count / share) / (count / share + escape)
                prior[:, order - 1, i, j, :] = trust
    prior[..., 1] = np.minimum(0.97, prior[..., 1] * 1.15)
    return prior.reshape(CELLS)


class Calibration:
    """Accept and try counters per cell."""

    def __init__(self, weight: float = 6.0) -> None:
        """`weight`: how many observations the prior is worth."""
        prior = _prior()
        self.tried = np.full(CELLS, weight)
        self.accepted = prior * weight
        self.probability = prior.astype(np.float32)

    def learn(
        self, tokens: NDArray[np.int32], parents: NDArray[np.int32], cells: NDArray[np.int32],
        path: list[int], choices: NDArray[np.int32],
    ) -> None:  # fmt: skip
        """Update from one verified step.

        tokens, parents, cells  int32[n], n >= rows - 1: the grown tree, of which a prefix was scored
        path                    accepted nodes
        choices                 int32[rows]: the target's choice at each scored row
        """
        on_path = np.zeros(len(choices), dtype=np.bool_)
        on_path[0] = True
        for node in path:
            on_path[node + 1] = True
        teach(tokens, parents, cells, on_path, choices, self.accepted, self.tried, self.probability)
