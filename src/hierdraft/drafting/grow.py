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

from hierdraft.databases.hashchain import ORDERS, Chains
from hierdraft.databases.suffixarray import LONGEST, Shelf, borrow
from hierdraft.drafting.candidates import (
    BRANCHES,
    Found,
    Offers,
    Rows,
    ask_chains,
    ask_pack,
    make_found,
    make_offers,
    make_rows,
)
from hierdraft.tree import LEVELS

LAZY = 0.5

_EXPAND = -1
_CONTEXT = LEVELS.index("context")
_MODEL = LEVELS.index("model")


class Pending(NamedTuple):
    """A binary heap of candidates by path probability: parallel arrays of one capacity."""

    prob: NDArray[np.float32]
    token: NDArray[np.int32]
    parent: NDArray[np.int32]
    cell: NDArray[np.int32]
    level: NDArray[np.uint8]


class Sources(NamedTuple):
    """Everything a tree is grown from.

    context         hash chains over this request
    recent, older   hash chains over finished requests that are in no pack yet
    shelf           the packs
    low, high       int32[packs, LONGEST + 1]: per suffix length of the committed text its range in the pack
    """

    context: Chains
    recent: Chains
    older: Chains
    shelf: Shelf
    low: NDArray[np.int32]
    high: NDArray[np.int32]


class Space(NamedTuple):
    """Everything `grow` writes to, allocated once per drafter and number of packs.

    tokens, parents, prob, level, cells, depth   the nodes, in order
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    prob: NDArray[np.float32]
    level: NDArray[np.uint8]
    cells: NDArray[np.int32]
    depth: NDArray[np.int32]
    rows: Rows
    pending: Pending
    offers: Offers
    found: Found


def make_space(nodes: int, packs: int) -> Space:
    """Work space for trees of up to `nodes` nodes."""

    def ints(size: int) -> NDArray[np.int32]:
        return np.empty(size, dtype=np.int32)

    def floats(size: int) -> NDArray[np.float32]:
        return np.empty(size, dtype=np.float32)

    most = (nodes + 1) * (BRANCHES + 1)
    pending = Pending(floats(most), ints(most), ints(most), ints(most), np.empty(most, dtype=np.uint8))
    return Space(
        ints(nodes), ints(nodes), floats(nodes), np.empty(nodes, dtype=np.uint8), ints(nodes), ints(nodes),
        make_rows(nodes + 1, packs), pending, make_offers(), make_found(),
    )  # fmt: skip


@njit(cache=True, nogil=True, forceinline=True)
def _swap(heap: Pending, a: int, b: int) -> None:
    heap.prob[a], heap.prob[b] = heap.prob[b], heap.prob[a]
    heap.token[a], heap.token[b] = heap.token[b], heap.token[a]
    heap.parent[a], heap.parent[b] = heap.parent[b], heap.parent[a]
    heap.cell[a], heap.cell[b] = heap.cell[b], heap.cell[a]
    heap.level[a], heap.level[b] = heap.level[b], heap.level[a]


@njit(cache=True, nogil=True, forceinline=True)
def _push(heap: Pending, size: int, prob: float, token: int, parent: int, cell: int, level: int) -> int:
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


@njit(cache=True, nogil=True, forceinline=True)
def _drop_top(heap: Pending, size: int) -> int:
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


@njit(cache=True, nogil=True, forceinline=True)
def _expand(sources: Sources, space: Space, row: int, least: float, probability: Any) -> int:
    """Put the candidates for `row` of at least that probability into `space.offers`; returns how many there are."""
    rows, found, offers = space.rows, space.found, space.offers
    held = ask_chains(sources.context, _CONTEXT, rows, row, found, offers, 0, least, probability)
    held = ask_chains(sources.recent, _MODEL, rows, row, found, offers, held, least, probability)
    held = ask_chains(sources.older, _MODEL, rows, row, found, offers, held, least, probability)
    for pack in range(len(sources.shelf.length)):
        held = ask_pack(sources.shelf, pack, rows, row, space.parents, found, offers, held, least, probability)
    return held


@njit(cache=True, nogil=True)
def _borrow_chains(chains: Chains) -> Any:
    return Chains(borrow(chains.tokens), borrow(chains.heads), borrow(chains.prev))


@njit(cache=True, nogil=True)
def _borrow_sources(sources: Sources) -> Any:
    s = sources.shelf
    shelf = Shelf(
        borrow(s.tokens), borrow(s.suffixes), borrow(s.starts), borrow(s.length), borrow(s.vocab), borrow(s.level)
    )
    context, recent, older = sources.context, sources.recent, sources.older
    return Sources(
        _borrow_chains(context), _borrow_chains(recent), _borrow_chains(older), shelf,
        borrow(sources.low), borrow(sources.high),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _borrow_space(space: Space) -> Any:
    r, p, o, f = space.rows, space.pending, space.offers, space.found
    rows = Rows(borrow(r.suffix), borrow(r.known), borrow(r.low), borrow(r.high), borrow(r.longest))
    pending = Pending(borrow(p.prob), borrow(p.token), borrow(p.parent), borrow(p.cell), borrow(p.level))
    offers = Offers(borrow(o.prob), borrow(o.token), borrow(o.cell), borrow(o.level))
    found = Found(borrow(f.token), borrow(f.met), borrow(f.newest), borrow(f.entry))
    return Space(
        borrow(space.tokens), borrow(space.parents), borrow(space.prob), borrow(space.level),
        borrow(space.cells), borrow(space.depth), rows, pending, offers, found,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def grow(sources: Sources, suffix: Any, probability: Any, space: Space, nodes: int, depth: int, least: float) -> int:
    """Grow a tree of at most `nodes` nodes, `depth` levels deep, into `space`; returns how many nodes it has.

    suffix       int32[<= ORDERS]: the last committed tokens, newest last
    probability  float32[CELLS]
    least        candidates with a lower path probability are dropped
    """
    sources, space = _borrow_sources(sources), _borrow_space(space)  # the caller holds them
    probability = borrow(probability)
    _begin(sources, suffix, space.rows)
    top, offers = space.pending, space.offers
    size = _push(top, 0, 1.0, _EXPAND, -1, 0, 0)
    made = 0
    while size > 0 and made < nodes:
        token, parent, reach = top.token[0], top.parent[0], top.prob[0]
        if token == _EXPAND:
            size = _drop_top(top, size)
            if parent >= 0:
                reach = space.prob[parent]
                _extend_suffix(space.rows, space.parents[parent] + 1, parent + 1, space.tokens[parent])
            for slot in range(_expand(sources, space, parent + 1, least / reach, probability)):
                prob = reach * offers.prob[slot]
                size = _push(top, size, prob, offers.token[slot], parent, offers.cell[slot], offers.level[slot])
            continue
        space.tokens[made] = token
        space.parents[made] = parent
        space.prob[made] = reach
        space.level[made] = top.level[0]
        space.cells[made] = top.cell[0]
        space.depth[made] = 1 if parent < 0 else space.depth[parent] + 1
        size = _drop_top(top, size)
        if space.depth[made] < depth and reach * LAZY >= least:
            size = _push(top, size, reach * LAZY, _EXPAND, made, 0, 0)
        made += 1
    return made


@njit(cache=True, nogil=True)
def _begin(sources: Sources, suffix: Any, rows: Rows) -> None:
    """Row 0 is the committed text."""
    known = len(suffix)
    rows.known[0] = known
    rows.suffix[0, :known] = suffix
    for pack in range(len(sources.shelf.length)):
        order = LONGEST
        while order > 0 and sources.low[pack, order] >= sources.high[pack, order]:
            order -= 1
        rows.longest[0, pack] = order
        rows.low[0, pack] = sources.low[pack]
        rows.high[0, pack] = sources.high[pack]


@njit(cache=True, nogil=True, forceinline=True)
def _extend_suffix(rows: Rows, parent_row: int, row: int, token: int) -> None:
    """The suffix of `row` is its parent's with `token` behind it, the oldest token dropped when full."""
    rows.low[row] = -1  # every pack, every suffix length
    known = rows.known[parent_row]
    if known == ORDERS:
        rows.suffix[row, : ORDERS - 1] = rows.suffix[parent_row, 1:]
        rows.suffix[row, ORDERS - 1] = token
        rows.known[row] = ORDERS
    else:
        rows.suffix[row, :known] = rows.suffix[parent_row, :known]
        rows.suffix[row, known] = token
        rows.known[row] = known + 1
