"""What is done for the requests of one namespace in a step: one compiled call, without the interpreter's lock.

For each slot: learn what the last proposal was worth from the tokens that came, take these into its text, its packs'
ranges and its reference, then grow a tree, or the chain that a tree would have along its likeliest candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, TextShelf, align, chains_at, insert
from hierdraft.databases.memory import borrow, borrow_record, slot_of, view
from hierdraft.databases.recycled import Successors
from hierdraft.databases.suffixarray import LONGEST, Shelf, follow_all
from hierdraft.drafting.hierarchy.chain import best_chain
from hierdraft.drafting.hierarchy.evidence import Weights, teach
from hierdraft.drafting.hierarchy.grow import Sources, Space, grow
from hierdraft.drafting.hierarchy.pool import Pool, Requests, requests_of
from hierdraft.drafting.hierarchy.scans import is_bare
from hierdraft.kernels import njit


class Shared(NamedTuple):
    """What the requests of a namespace share: weights, the counters they come from, the target's runner-ups.

    tried, accepted   float64[CELLS]
    """

    weights: Weights
    tried: NDArray[np.float64]
    accepted: NDArray[np.float64]
    recycled: Successors


class Asks(NamedTuple):
    """What is asked for, int64[n] each, no slot twice.

    slot     of which request; -1: of none
    text     address of int32[length], everything committed so far, which must outlive the call
    length   how many tokens that is
    nodes    most nodes, at most the pool's; 0: only take in what came
    depth    how deep
    """

    slot: NDArray[np.int64]
    text: NDArray[np.int64]
    length: NDArray[np.int64]
    nodes: NDArray[np.int64]
    depth: NDArray[np.int64]


class Manner(NamedTuple):
    """How it is drafted.

    least     path probability below which nothing is
    chain     chains in place of trees; `hurried`: see `best_chain`
    every, turn   asks whose number is `turn` modulo `every` keep their evidence and teach; the others are worked out in
              the thread's own place, which stays in the processor's cache
    """

    least: float
    chain: bool = False
    hurried: bool = False
    every: int = 1
    turn: int = 0


@njit(nogil=True)
def serve_slots(pool: Pool, shared: Shared, asks: Asks, manner: Manner, accepted: Any) -> None:
    """Learn and draft, in the first thread's work space; `accepted`: see `learn_slots`."""
    learn_slots(pool, shared, asks, accepted)
    draft_slots(pool, shared, asks, manner, 0, len(asks.slot), 0)


@njit(nogil=True)
def learn_slots(pool: Pool, shared: Shared, asks: Asks, accepted: Any) -> None:
    """Follow what came down the nodes that were proposed: each row that it reaches teaches what was chosen there.

    What was scored is the proposal or a part of it. Where a grammar is followed it may be another tree altogether; then
    what came is followed as far as there are nodes of the proposal.

    accepted   int64[levels]: counts of proposed tokens that were committed, by level, added to
    """
    pool, shared = borrow_record(pool), borrow_record(shared)
    requests, space = requests_of(pool.state), pool.space
    for number in range(len(asks.slot)):
        slot = asks.slot[number]
        if slot < 0 or requests.made[slot] < 0 or requests.came[slot] < 0:
            continue
        first = requests.known[slot]
        text = view(asks.text[number], asks.length[number])
        came = min(requests.came[slot], len(text) - first)
        choices = came + (1 if requests.after[slot] >= 0 else 0)
        evidence = slot_of(space.evidence, slot)
        row = 0
        for place in range(choices):
            choice = text[first + place] if place < came else requests.after[slot]
            teach(evidence, shared.weights, shared.tried, shared.accepted, row, choice)
            row = child_row(space.parents[slot], space.tokens[slot], requests.made[slot], row, choice)
            if row == 0:
                break
            if place + 1 < choices:  # the last choice was nobody's draft
                accepted[space.level[slot, row - 1]] += 1
        requests.made[slot] = -1


@njit(nogil=True)
def child_row(parents: Any, tokens: Any, made: int, row: int, token: int) -> int:
    """The row below `row` with that token, among the first `made` nodes; 0 if there is none."""
    for node in range(row, made):
        if parents[node] == row - 1 and tokens[node] == token:
            return node + 1
    return 0


@njit(nogil=True)
def draft_slots(pool: Pool, shared: Shared, asks: Asks, manner: Manner, start: int, stop: int, thread: int) -> None:
    """Take in what came and draft, for the asks start..stop-1; what is learned must not change meanwhile."""
    pool, shared = borrow_record(pool), borrow_record(shared)
    requests = requests_of(pool.state)
    for number in range(start, stop):
        slot = asks.slot[number]
        if slot < 0:
            continue
        text = view(asks.text[number], asks.length[number])
        take_in(requests, slot, text)
        pool.space.evidence.held[slot][:] = -1
        requests.made[slot] = -1
        if asks.nodes[number] == 0:
            continue
        sources = _sources(requests, shared, slot)
        work = slot if number % manner.every == manner.turn else len(requests.known) + thread
        space = _space_of(pool.space, slot, work, thread)
        suffix = text[max(0, len(text) - ORDERS) :]
        nodes, depth = asks.nodes[number], asks.depth[number]
        if manner.chain:
            most = min(nodes, depth)
            made = best_chain(sources, suffix, shared.weights, space, most, manner.least, manner.hurried)
        else:
            made = grow(sources, suffix, shared.weights, space, nodes, depth, manner.least)
        requests.made[slot] = made


@njit(nogil=True)
def take_in(requests: Requests, slot: int, text: Any) -> None:
    """Tell every source of a request what its text has gained."""
    known, came = requests.known[slot], requests.came[slot]
    if requests.kept[slot]:
        chains = chains_at(requests.own, slot)
        chains.tokens[known : len(text)] = text[known:]
        if not is_bare(chains):
            insert(chains, known, len(text))
    if requests.expected[slot] >= 0:
        _follow_reference(requests, slot, text)
    shelf, low, high = _shelf_of(requests, slot), requests.low[slot], requests.high[slot]
    if requests.useful[slot]:
        step = known + came if came >= 0 else len(text)
        follow(shelf, low, high, text, known, step)
        _note_places(shelf, low[0], high[0], requests.grown[slot], requests.place[slot])
        known = step
    follow(shelf, low, high, text, known, len(text))
    requests.useful[slot] = 0
    requests.came[slot] = requests.after[slot] = -1
    requests.known[slot] = len(text)


@njit(nogil=True)
def follow(shelf: Shelf, low: Any, high: Any, text: Any, known: int, length: int) -> None:
    """Carry ranges int32[2, packs, LONGEST + 1] on: of the text, and of the text without its last token.

    They were those of text[:known], and become those of text[:length].
    """
    if length == known:
        return
    start = max(known, length - LONGEST - 1)  # nothing before that is part of a range
    follow_all(shelf, low[0], high[0], text[start : length - 1])
    low[1], high[1] = low[0], high[0]
    follow_all(shelf, low[0], high[0], text[length - 1 : length])


@njit(nogil=True)
def _follow_reference(requests: Requests, slot: int, text: Any) -> None:
    """Where the answer, without its prompt, has come to in the texts that are expected."""
    chains, begun = chains_at(requests.reference, slot), requests.begun[slot]
    for place in range(max(requests.known[slot], begun), len(text)):
        suffix = text[max(begun, place + 1 - ORDERS) : place + 1]
        requests.expected[slot] = align(chains, suffix, requests.expected[slot])


@njit(nogil=True)
def _note_places(shelf: Shelf, low: Any, high: Any, grown: int, place: Any) -> None:
    """Where the longest suffix of two tokens or more stands in each of the first `grown` packs, if anywhere."""
    for pack in range(grown):
        order = 0
        while order < LONGEST and low[pack, order + 1] < high[pack, order + 1]:
            order += 1
        if order > 1:
            place[pack] = view(shelf.suffixes[pack], shelf.length[pack])[low[pack, order]]


@njit(nogil=True)
def _sources(requests: Requests, shared: Shared, slot: int) -> Any:
    """What one request drafts from."""
    said, count = requests.said, requests.texts[slot]
    texts = TextShelf(
        borrow(said.tokens)[slot][:count], borrow(said.heads)[slot][:count], borrow(said.prev)[slot][:count],
        borrow(said.capacity)[slot][:count], borrow(said.buckets)[slot][:count], borrow(said.level)[slot][:count],
    )  # fmt: skip
    return Sources(
        chains_at(requests.reference, slot), requests.expected[slot], chains_at(requests.own, slot),
        requests.known[slot] if requests.kept[slot] else 0, shared.recycled, texts, _shelf_of(requests, slot),
        borrow(requests.low)[slot], borrow(requests.high)[slot],
    )  # fmt: skip


@njit(nogil=True)
def _shelf_of(requests: Requests, slot: int) -> Any:
    """The packs of one request."""
    shelf, count = requests.shelf, requests.packs[slot]
    return Shelf(
        borrow(shelf.tokens)[slot][:count], borrow(shelf.suffixes)[slot][:count], borrow(shelf.starts)[slot][:count],
        borrow(shelf.length)[slot][:count], borrow(shelf.vocab)[slot][:count], borrow(shelf.level)[slot][:count],
    )  # fmt: skip


@njit(nogil=True)
def _space_of(pool: Space, slot: int, work: int, thread: int) -> Any:
    """The space of one slot, with evidence in place `work`, and a thread's arrays. Nothing here uses the heap."""
    return Space(
        borrow(pool.tokens)[slot], borrow(pool.parents)[slot], borrow(pool.prob)[slot], borrow(pool.level)[slot],
        borrow(pool.depth)[slot], slot_of(pool.rows, thread), slot_of(pool.evidence, work),
        slot_of(pool.pending, thread), slot_of(pool.found, thread), slot_of(pool.near, thread),
        slot_of(pool.opinions, slot),
    )  # fmt: skip
