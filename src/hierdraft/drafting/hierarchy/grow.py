"""Growing one tree best-first over all levels, in one compiled call.

The candidate with the highest path probability becomes the next node, is expanded in turn, and so on. A path's
probability is the product of its candidates' calibrated probabilities, so nodes come out in descending order of
`prob`, parents before children, and every prefix of the result is itself the best tree of its size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, UNWRITTEN, Chains, TextShelf, chains_at
from hierdraft.databases.memory import borrow_record
from hierdraft.databases.recycled import Successors
from hierdraft.databases.suffixarray import LONGEST, Shelf
from hierdraft.drafting.hierarchy.cells import SKIP
from hierdraft.drafting.hierarchy.evidence import (
    AGES,
    BRANCHES,
    Evidence,
    Weights,
    conclude,
    make_evidence,
)
from hierdraft.drafting.hierarchy.lookups import (
    Found,
    Rows,
    ask_chains,
    ask_pack,
    ask_place,
    ask_successors,
    make_found,
    make_rows,
    skip_in_pack,
)
from hierdraft.drafting.hierarchy.opinions import Opinions, ask_opinions, heard_below, make_opinions
from hierdraft.drafting.hierarchy.scans import Near, age_in_context, ask_context, make_near
from hierdraft.kernels import njit
from hierdraft.levels import code_of

LAZY = 0.3

_EXPAND = -1
_REFERENCE, _CONTEXT, _RECYCLED = (code_of(name) for name in ("reference", "context", "recycled"))


class Pending(NamedTuple):
    """A binary heap by path probability: parallel arrays of one capacity.

    row, slot   a candidate's place in `Evidence`; slot _EXPAND: the row itself, still to be expanded
    """

    prob: NDArray[np.float32]
    row: NDArray[np.int32]
    slot: NDArray[np.int32]


class Sources(NamedTuple):
    """Everything a tree is grown from.

    reference       hash chains over texts that the caller expects to see again
    expected        where in it the text is thought to continue, -1 for nowhere
    context, length   hash chains over this request, and how many tokens it has
    recycled        the target's own runner-up tokens
    texts           further texts with hash chains: finished requests that are in no pack yet, and other levels
    shelf           the packs
    low, high       int32[2, packs, LONGEST + 1]: per suffix length of the committed text its range in the pack; the
                    same for the text without its last token
    """

    reference: Chains
    expected: int
    context: Chains
    length: int
    recycled: Successors
    texts: TextShelf
    shelf: Shelf
    low: NDArray[np.int32]
    high: NDArray[np.int32]


class Space(NamedTuple):
    """Everything `grow` writes to; `pool.py` has many of them in one.

    tokens, parents, prob, level, depth   the nodes, in order
    opinions   what a small model thinks, which is read only
    """

    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    prob: NDArray[np.float32]
    level: NDArray[np.uint8]
    depth: NDArray[np.int32]
    rows: Rows
    evidence: Evidence
    pending: Pending
    found: Found
    near: Near
    opinions: Opinions


def make_space(nodes: int, packs: int) -> Space:
    """Work space for trees of up to `nodes` nodes."""
    ints = [np.empty(nodes, dtype=np.int32) for _ in range(3)]
    most = (nodes + 1) * (BRANCHES + 1)
    pending = Pending(np.empty(most, dtype=np.float32), *(np.empty(most, dtype=np.int32) for _ in range(2)))
    return Space(
        ints[0], ints[1], np.empty(nodes, dtype=np.float32), np.empty(nodes, dtype=np.uint8), ints[2],
        make_rows(nodes + 1, packs), make_evidence(nodes + 1), pending, make_found(), make_near(),
        make_opinions(nodes),
    )  # fmt: skip


@njit(nogil=True, forceinline=True)
def _swap(heap: Pending, a: int, b: int) -> None:
    heap.prob[a], heap.prob[b] = heap.prob[b], heap.prob[a]
    heap.row[a], heap.row[b] = heap.row[b], heap.row[a]
    heap.slot[a], heap.slot[b] = heap.slot[b], heap.slot[a]


@njit(nogil=True, forceinline=True)
def _push(heap: Pending, size: int, prob: float, row: int, slot: int) -> int:
    """Add an entry to a heap of `size` entries; returns the new size."""
    heap.prob[size] = prob
    heap.row[size] = row
    heap.slot[size] = slot
    at = size
    while at > 0 and heap.prob[(at - 1) // 2] < heap.prob[at]:
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2
    return size + 1


@njit(nogil=True, forceinline=True)
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


@njit(nogil=True, forceinline=True)
def expand(sources: Sources, space: Space, weights: Weights, row: int, depth: int, hurried: bool) -> None:
    """Ask every source about `row`, `depth` tokens after the committed text, and weigh what they say.

    hurried   leave out skip looks, and look in packs as for an unlikely row
    """
    rows, found, evidence = space.rows, space.found, space.evidence
    evidence.held[row] = 0
    near = far = 0
    for text in range(2 + len(sources.texts.level)):  # one place for each: what is called is compiled into it
        if text == 1:
            chains = sources.context
        else:
            chains = sources.reference if text == 0 else chains_at(sources.texts, text - 2)
        if chains.tokens[0] == UNWRITTEN:
            continue
        level = _REFERENCE if text == 0 else _CONTEXT if text == 1 else sources.texts.level[text - 2]
        expected = sources.expected + depth if text == 0 and sources.expected >= 0 else -1
        for source in range(level, level + (1 if hurried else SKIP + 1), SKIP):
            if text == 1:
                longest = ask_context(chains, sources.length, source, space.near, rows, row, found, evidence, weights)
            else:
                longest = ask_chains(chains, source, rows, row, expected, found, evidence, weights)
            if source == level and text < 2:
                near = max(near, longest)
            elif source == level:
                far = max(far, longest)
    if sources.expected >= 0:
        place = sources.expected + depth
        ask_place(sources.reference, _REFERENCE + SKIP, rows, row, place, evidence, weights)
    ask_successors(sources.recycled, _RECYCLED, rows, row, evidence, weights)
    reach = np.float32(0.0) if hurried else np.float32(1.0) if row == 0 else space.prob[row - 1]
    for pack in range(len(sources.shelf.length)):
        far = max(far, ask_pack(sources.shelf, pack, rows, row, space.parents, reach, found, evidence, weights))
        if not hurried:
            skip_in_pack(sources.shelf, pack, rows, row, space.parents, found, evidence, weights)
    if rows.heard[row] >= 0:
        ask_opinions(space.opinions, rows.heard[row], row, evidence, weights)
    for slot in range(evidence.held[row]):
        evidence.age[row, slot] = age_in_context(sources.context, sources.length, evidence.token[row, slot], AGES)
    evidence.none[row] = near * (ORDERS + 1) + far
    conclude(evidence, weights, row)


@njit(nogil=True)
def grow(sources: Sources, suffix: Any, weights: Weights, space: Space, nodes: int, depth: int, least: float) -> int:
    """Grow a tree of at most `nodes` nodes, `depth` levels deep, into `space`; returns how many nodes it has.

    suffix   int32[<= ORDERS]: the last committed tokens, newest last
    least    candidates with a lower path probability are dropped
    """
    sources, space, weights = borrow_record(sources), borrow_record(space), borrow_record(weights)  # the caller's own
    begin(sources, suffix, space)
    evidence, top = space.evidence, space.pending
    evidence.held[:] = -1
    size = _push(top, 0, 1.0, 0, _EXPAND)
    made = 0
    while size > 0 and made < nodes:
        row, slot, reach = top.row[0], top.slot[0], top.prob[0]
        size = _drop_top(top, size)
        if slot == _EXPAND:
            below = 0
            if row > 0:
                reach, below = space.prob[row - 1], space.depth[row - 1]
                extend_suffix(space, space.parents[row - 1] + 1, row, space.tokens[row - 1])
            expand(sources, space, weights, row, below, False)
            for candidate in range(evidence.held[row]):
                prob = reach * evidence.prob[row, candidate]
                if prob >= least:
                    size = _push(top, size, prob, row, candidate)
            continue
        space.tokens[made] = evidence.token[row, slot]
        space.parents[made] = row - 1
        space.prob[made] = reach
        space.level[made] = evidence.level[row, slot]
        space.depth[made] = 1 if row == 0 else space.depth[row - 1] + 1
        made += 1
        if space.depth[made - 1] < depth and reach * LAZY >= least:
            size = _push(top, size, reach * LAZY, made, _EXPAND)
    return made


@njit(nogil=True)
def begin(sources: Sources, suffix: Any, space: Space) -> None:
    """Row 0 is the committed text, the row after the last one the text without its last token."""
    rows, known = space.rows, len(suffix)
    rows.heard[0] = 0 if space.opinions.scored[0] else -1
    rows.known[0] = known
    rows.suffix[0, :known] = suffix
    for pack in range(len(sources.shelf.length)):
        for shorter in (0, 1):
            row = shorter * (len(rows.longest) - 1)
            order = LONGEST
            while order > 0 and sources.low[shorter, pack, order] >= sources.high[shorter, pack, order]:
                order -= 1
            rows.longest[row, pack] = order
            rows.low[row, pack, : LONGEST + 1] = sources.low[shorter, pack]
            rows.high[row, pack, : LONGEST + 1] = sources.high[shorter, pack]


@njit(nogil=True, forceinline=True)
def extend_suffix(space: Space, parent_row: int, row: int, token: int) -> None:
    """The suffix of `row` is its parent's with `token` appended, the oldest token dropped when full."""
    rows = space.rows
    rows.heard[row] = heard_below(space.opinions, rows.heard[parent_row], token)
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
