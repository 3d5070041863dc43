"""Growing one tree best-first over all levels, in one compiled call.

The candidate with the highest path probability becomes the next node, is expanded in turn, and so on. A path's
probability is the product of its candidates' calibrated probabilities, so nodes come out in descending order of
`prob`, parents before children, and every prefix of the result is itself the best tree of its size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, collect
from hierdraft.drafting.calibration import cell_of
from hierdraft.tree import LEVELS

OCCURRENCES = 24
"""Most occurrences of one suffix that are looked at, newest first."""

BRANCHES = 32
"""Most different continuations of one node that are considered."""

_CONTEXT = LEVELS.index("context")


class Pending(NamedTuple):
    """A binary heap of candidates by path probability: parallel arrays of one capacity."""

    prob: NDArray[np.float32]
    token: NDArray[np.int32]
    parent: NDArray[np.int32]
    cell: NDArray[np.int32]
    level: NDArray[np.uint8]


class Space(NamedTuple):
    """Everything `grow` writes to, allocated once per drafter.

    tokens, parents, prob, level, cells, depth   the nodes, in order
    suffix    int32[nodes + 1, ORDERS]: the last tokens before each row's continuation, newest last
    known     int32[nodes + 1]: how many of them are real
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    prob: NDArray[np.float32]
    level: NDArray[np.uint8]
    cells: NDArray[np.int32]
    depth: NDArray[np.int32]
    suffix: NDArray[np.int32]
    known: NDArray[np.int32]
    pending: Pending
    best: Pending
    found: NDArray[np.int32]
    counts: NDArray[np.int32]
    newest: NDArray[np.int32]


def make_space(nodes: int) -> Space:
    """Work space for trees of up to `nodes` nodes."""

    def heap(capacity: int) -> Pending:
        prob, level = np.empty(capacity, dtype=np.float32), np.empty(capacity, dtype=np.uint8)
        return Pending(prob, ints(capacity), ints(capacity), ints(capacity), level)

    def ints(*shape: int) -> NDArray[np.int32]:
        return np.empty(shape, dtype=np.int32)

    return Space(
        ints(nodes), ints(nodes), np.empty(nodes, dtype=np.float32), np.empty(nodes, dtype=np.uint8),
        ints(nodes), ints(nodes), ints(nodes + 1, ORDERS), ints(nodes + 1),
        heap((nodes + 1) * BRANCHES), heap(BRANCHES),
        ints(OCCURRENCES + 1), ints(OCCURRENCES + 1), ints(OCCURRENCES + 1),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _swap(heap: Any, a: int, b: int) -> None:
    heap.prob[a], heap.prob[b] = heap.prob[b], heap.prob[a]
    heap.token[a], heap.token[b] = heap.token[b], heap.token[a]
    heap.parent[a], heap.parent[b] = heap.parent[b], heap.parent[a]
    heap.cell[a], heap.cell[b] = heap.cell[b], heap.cell[a]
    heap.level[a], heap.level[b] = heap.level[b], heap.level[a]


@njit(cache=True, nogil=True)
def _push(heap: Any, size: int, prob: float, token: int, parent: int, cell: int, level: int) -> int:
    """Add a candidate to a heap of `size` entries; returns the new size."""
    heap.prob[size] = prob
    heap.token[size] = token
    heap.parent[size] = parent
    heap.cell[size] = cell
    heap.level[size] = level
    at = size
    while at > 0 and heap.prob[(at - 1) // 2] < heap.prob[at]:
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2
    return size + 1


@njit(cache=True, nogil=True)
def _drop_top(heap: Any, size: int) -> int:
    """Remove the best entry; returns the new size."""
    size -= 1
    _swap(heap, 0, size)
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            return size
        if child + 1 < size and heap.prob[child + 1] > heap.prob[child]:
            child += 1
        if heap.prob[child] <= heap.prob[at]:
            return size
        _swap(heap, at, child)
        at = child


@njit(cache=True, nogil=True)
def _offer(best: Any, held: int, prob: float, token: int, cell: int, level: int) -> int:
    """Note a candidate of the row at hand; found several ways, it keeps its highest probability."""
    for slot in range(held):
        if best.token[slot] == token:
            if prob > best.prob[slot]:
                best.prob[slot] = prob
                best.cell[slot] = cell
                best.level[slot] = level
            return held
    if held == len(best.token):
        return held
    best.prob[held] = prob
    best.token[held] = token
    best.cell[held] = cell
    best.level[held] = level
    return held + 1


@njit(cache=True, nogil=True)
def _ask_chains(chains: Any, level: int, space: Any, row: int, held: int, probability: Any) -> int:
    """Offer the continuations that a hash-chain index has for the suffix of `row`, longest suffix first."""
    found, counts, newest = space.found, space.counts, space.newest
    before = 0
    for order in range(space.known[row], 0, -1):
        distinct, total = collect(
            chains, space.suffix[row], space.known[row], order, OCCURRENCES, found, counts, newest
        )
        if total == before:
            continue  # the same occurrences as the longer suffix had, which says more
        before = total
        for slot in range(distinct):
            cell = cell_of(level, order, counts[slot], total, newest[slot] == 0)
            held = _offer(space.best, held, probability[cell], found[slot], cell, level)
    return held


@njit(cache=True, nogil=True)
def grow(context: Any, suffix: Any, probability: Any, space: Any, nodes: int, depth: int, least: float) -> int:
    """Grow a tree of at most `nodes` nodes, `depth` levels deep, into `space`; returns how many nodes it has.

    context      `Chains` of the context level
    suffix       int32[<= ORDERS]: the last committed tokens, newest last
    probability  float32[CELLS]
    least        candidates with a lower path probability are dropped
    """
    known = len(suffix)
    space.known[0] = known
    space.suffix[0, :known] = suffix
    size = 0
    made = 0
    row = 0
    reach = 1.0
    while True:
        row_depth = 0 if row == 0 else space.depth[row - 1]
        if row_depth < depth:
            held = _ask_chains(context, _CONTEXT, space, row, 0, probability)
            for slot in range(held):
                prob = reach * space.best.prob[slot]
                if prob >= least:
                    best = space.best
                    size = _push(
                        space.pending,
                        size,
                        prob,
                        best.token[slot],
                        row - 1,
                        best.cell[slot],
                        best.level[slot],
                    )
        if size == 0 or made == nodes:
            return made
        top = space.pending
        parent = top.parent[0]
        space.tokens[made] = top.token[0]
        space.parents[made] = parent
        space.prob[made] = top.prob[0]
        space.level[made] = top.level[0]
        space.cells[made] = top.cell[0]
        space.depth[made] = 1 if parent < 0 else space.depth[parent] + 1
        reach = top.prob[0]
        size = _drop_top(space.pending, size)
        _extend_suffix(space, parent + 1, made + 1, space.tokens[made])
        made += 1
        row = made


@njit(cache=True, nogil=True)
def _extend_suffix(space: Any, parent_row: int, row: int, token: int) -> None:
    """The suffix of `row` is its parent's with `token` behind it, the oldest token dropped when full."""
    known = space.known[parent_row]
    if known == ORDERS:
        space.suffix[row, : ORDERS - 1] = space.suffix[parent_row, 1:]
        space.suffix[row, ORDERS - 1] = token
    else:
        space.suffix[row, :known] = space.suffix[parent_row, :known]
        space.suffix[row, known] = token
        space.known[row] = known + 1
        return
    space.known[row] = ORDERS
