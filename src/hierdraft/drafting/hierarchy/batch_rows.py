"""One chain for every row of a batch: compiled calls over the state of many requests.

A serving engine verifies chains, so each request gets the path that a tree would have grown along its likeliest
candidates. What `HierarchyMethod` keeps in objects lies here in arrays with one entry per slot, a slot being the place
of one request, so that one call without the interpreter's lock serves any part of a batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, Chains, TextShelf, chains_at, insert
from hierdraft.databases.memory import borrow, borrow_record, slot_of, view
from hierdraft.databases.recycled import Successors
from hierdraft.databases.suffixarray import LONGEST, Shelf, follow_all
from hierdraft.drafting.hierarchy.chain import best_chain
from hierdraft.drafting.hierarchy.evidence import Weights, teach
from hierdraft.drafting.hierarchy.grow import Sources, Space, make_space
from hierdraft.drafting.hierarchy.scans import Near, is_bare
from hierdraft.kernels import njit

_PART = 256
"""Tokens that are compared at a time."""


class Texts(NamedTuple):
    """Every slot's own text and its index, as in a `TextShelf`.

    tokens, heads, prev   int64[slots]: addresses of its arrays, which must outlive every use
    capacity, buckets     int64[slots]: their sizes
    length                int64[slots]: tokens that are known and indexed
    """

    tokens: NDArray[np.int64]
    heads: NDArray[np.int64]
    prev: NDArray[np.int64]
    capacity: NDArray[np.int64]
    buckets: NDArray[np.int64]
    length: NDArray[np.int64]


class Common(NamedTuple):
    """What all requests draft from.

    texts           finished requests that are in no pack yet
    shelf           the packs
    none, nothing   an empty index and an empty table, for the levels that a serving engine does not have
    """

    texts: TextShelf
    shelf: Shelf
    none: Chains
    nothing: Successors


class Pool(NamedTuple):
    """What a call writes, per slot. The last slots are no request's: each thread has one to work in.

    space       a `Space` for one chain, each array with the slots before its own dimensions; `near` with the threads
    low, high   int32[slots, 2, packs, LONGEST + 1]: as in `Sources`
    made        int32[slots]: how long the last chain was, -1 where none was asked for
    sent        int32[slots]: how much of it was sent to be verified
    """

    space: Space
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    made: NDArray[np.int32]
    sent: NDArray[np.int32]


def make_texts(slots: int) -> Texts:
    """No text in any slot."""
    return Texts(*np.zeros((6, slots), dtype=np.int64))


def make_pool(slots: int, threads: int, depth: int, packs: int) -> Pool:
    """Room for chains of up to `depth` tokens over `packs` packs, for `slots` requests and for `threads` threads."""

    def pooled(part: Any, count: int) -> Any:
        if isinstance(part, tuple):
            return type(part)(*(pooled(inner, threads if isinstance(inner, Near) else count) for inner in part))
        return np.zeros((count, *part.shape), dtype=part.dtype)

    count = slots + threads

    low, high = np.zeros((2, count, 2, packs, LONGEST + 1), dtype=np.int32)
    made = np.full(count, -1, dtype=np.int32)
    return Pool(pooled(make_space(depth, packs), count), low, high, made, np.zeros(count, dtype=np.int32))


@njit(nogil=True)
def _space_of(pool: Space, slot: int, work: int, thread: int) -> Any:
    """The space of one slot, all but the chain itself in slot `work`. Nothing here uses the heap."""
    return Space(
        borrow(pool.tokens)[slot], borrow(pool.parents)[slot], borrow(pool.prob)[slot], borrow(pool.level)[slot],
        borrow(pool.depth)[slot], slot_of(pool.rows, work), slot_of(pool.evidence, work), pool.pending,
        slot_of(pool.found, work), slot_of(pool.near, thread),
    )  # fmt: skip


@njit(nogil=True)
def same_text(texts: Texts, slot: int, row: Any, length: int) -> bool:
    """Whether a slot's whole text is the first `length` tokens of `row`."""
    if texts.length[slot] != length:
        return False
    tokens = view(texts.tokens[slot], length)
    stop = length
    while stop > 0:  # what differs, differs at the end as a rule; a part is compared without a branch for each token
        start = max(0, stop - _PART)
        ours, theirs = tokens[start:stop], row[start:stop]
        different = np.int32(0)
        for place in range(len(ours)):
            different |= np.int32(ours[place] ^ theirs[place])
        if different != 0:
            return False
        stop = start
    return True


@njit(nogil=True)
def check_rows(texts: Texts, slots: Any, ids: Any, before: Any) -> None:
    """slots int64[rows]: set to -1 where the slot's text is not what the row held before this step.

    ids      int32[rows, longest text]
    before   int64[rows]: tokens of each row before this step
    """
    for row in range(len(slots)):
        if slots[row] >= 0 and not same_text(texts, slots[row], ids[row], before[row]):
            slots[row] = -1


@njit(nogil=True)
def learn_rows(
    texts: Texts, pool: Pool, weights: Weights, tried: Any, accepted: Any, slots: Any, ids: Any, lengths: Any,
    kept: Any,
) -> int:  # fmt: skip
    """Compare the last chains with what came; returns how many drafted tokens were accepted.

    The calibration learns from the rows that kept their evidence.

    kept   int64[levels]: counts of accepted tokens by level, added to
    """
    total = 0
    weights = borrow_record(weights)
    for row in range(len(slots)):
        slot = slots[row]
        if slot < 0 or pool.made[slot] < 0:
            continue
        first = texts.length[slot]
        evidence = slot_of(pool.space.evidence, slot)
        for place in range(min(lengths[row] - first, pool.made[slot] + 1)):
            choice = ids[row, first + place]
            teach(evidence, weights, tried, accepted, place, choice)
            if place >= pool.sent[slot] or pool.space.tokens[slot, place] != choice:
                break
            kept[pool.space.level[slot, place]] += 1
            total += 1
    return total


@njit(nogil=True)
def made_rows(pool: Pool, slots: Any, prob: Any, made: Any) -> None:
    """What was drafted: path probabilities float32[rows, depth] and lengths int64[rows], 0 where there is no chain."""
    for row in range(len(slots)):
        made[row] = max(0, pool.made[slots[row]]) if slots[row] >= 0 else 0
        for place in range(made[row]):
            prob[row, place] = pool.space.prob[slots[row], place]


@njit(nogil=True)
def send_rows(pool: Pool, slots: Any, sent: Any, proposed: Any) -> float:
    """Note how much of each chain is sent; returns the lowest path probability that is, 1 where nothing is.

    sent       int64[rows]
    proposed   int64[levels]: counts of sent tokens by level, added to
    """
    lowest = 1.0
    for row in range(len(slots)):
        slot = slots[row]
        if slot < 0:
            continue
        pool.sent[slot] = sent[row]
        for place in range(sent[row]):
            proposed[pool.space.level[slot, place]] += 1
            lowest = min(lowest, pool.space.prob[slot, place])
    return lowest


@njit(nogil=True)
def follow(shelf: Shelf, low: Any, high: Any, added: Any) -> None:
    """Carry ranges int32[2, packs, LONGEST + 1] on: of the text, and of the text without its last token.

    added   int32[n]: what the text has gained
    """
    if len(added) == 0:
        return
    last = len(added) - 1
    follow_all(shelf, low[0], high[0], added[:last])
    low[1], high[1] = low[0], high[0]
    follow_all(shelf, low[0], high[0], added[last:])


@njit(nogil=True)
def draft_rows(
    texts: Texts, pool: Pool, common: Common, weights: Weights, slots: Any, ids: Any, lengths: Any, depths: Any,
    least: float, hurried: bool, every: int, turn: int, start: int, stop: int, work: int,
) -> None:  # fmt: skip
    """Index what came, and draft a chain, for the rows start..stop-1; what is learned must not change meanwhile.

    slots    int64[rows]: the slot of each row, -1: none
    depths   int32[rows]: longest chain, at most the pool's; 0: only index
    least    path probability below which nothing is drafted
    hurried   see `best_chain`
    every, turn   rows whose number is `turn` modulo `every` keep their evidence, for `learn_rows`
    work     the slot that all others are worked out in; it stays in the processor's cache
    """
    weights = borrow_record(weights)
    common = borrow_record(common)
    for row in range(start, stop):
        slot = slots[row]
        if slot < 0:
            continue
        text, length = chains_at(texts, slot), lengths[row]
        known = texts.length[slot]
        text.tokens[known:length] = ids[row, known:length]
        if not is_bare(text):
            insert(text, known, length)
        texts.length[slot] = length
        low, high = borrow(pool.low)[slot], borrow(pool.high)[slot]
        follow(common.shelf, low, high, text.tokens[max(known, length - LONGEST) : length])
        borrow(pool.space.evidence.held)[slot][:] = -1
        space = _space_of(pool.space, slot, slot if row % every == turn else work, work - len(texts.length))
        pool.made[slot] = -1
        if depths[row] > 0:
            sources = Sources(common.none, -1, text, length, common.nothing, common.texts, common.shelf, low, high)
            suffix = text.tokens[max(0, length - ORDERS) : length]
            pool.made[slot] = best_chain(sources, suffix, weights, space, depths[row], least, hurried)
