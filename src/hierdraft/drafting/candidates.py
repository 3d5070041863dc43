"""What the levels propose for one row of a growing tree: continuations, each with a calibrated probability.

A row is a node of the tree, or the last committed token (row 0). Every level offers what followed the row's suffix,
longest suffix first; a continuation that is offered several times keeps its highest probability.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, Chains, collect, newest_of
from hierdraft.databases.suffixarray import LONGEST, Shelf, first_range, narrow, sample, view
from hierdraft.drafting.calibration import cell_of

OCCURRENCES = 24
"""Most occurrences of one suffix that are looked at."""

BRANCHES = 32
"""Most different continuations of one row that are considered."""

SUFFIXES = 3
"""Most suffix lengths of one pack that are looked at, longest first: shorter ones add next to nothing."""


class Offers(NamedTuple):
    """The candidates of one row: parallel arrays of one capacity."""

    prob: NDArray[np.float32]
    token: NDArray[np.int32]
    cell: NDArray[np.int32]
    level: NDArray[np.uint8]


class Found(NamedTuple):
    """What one look-up returns: continuations, how often each was met, and the rank of its newest occurrence.

    entry   int32[ORDERS]: where the search in hash chains begins
    """

    token: NDArray[np.int32]
    met: NDArray[np.int32]
    newest: NDArray[np.int32]
    entry: NDArray[np.int32]


class Rows(NamedTuple):
    """What is known of every row.

    suffix      int32[rows, ORDERS]: the tokens before the row's continuation, newest last
    known       int32[rows]: how many of them are real
    low, high   int32[rows, packs, LONGEST + 1]: per suffix length its range in the pack; low -1: not looked up yet
    longest     int32[rows, packs]: the longest suffix that occurs in the pack
    """

    suffix: NDArray[np.int32]
    known: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    longest: NDArray[np.int32]


def make_offers() -> Offers:
    """Room for one row's candidates."""
    ints = np.empty((2, BRANCHES), dtype=np.int32)
    return Offers(np.empty(BRANCHES, dtype=np.float32), ints[0], ints[1], np.empty(BRANCHES, dtype=np.uint8))


def make_found() -> Found:
    """Room for one look-up."""
    token, met, newest = np.empty((3, OCCURRENCES + 1), dtype=np.int32)
    return Found(token, met, newest, np.empty(ORDERS, dtype=np.int32))


def make_rows(rows: int, packs: int) -> Rows:
    """Room for a tree of `rows` rows over `packs` packs."""
    ranges = np.zeros((2, rows, packs, LONGEST + 1), dtype=np.int32)
    return Rows(
        np.empty((rows, ORDERS), dtype=np.int32),
        np.empty(rows, dtype=np.int32),
        ranges[0],
        ranges[1],
        np.zeros((rows, packs), dtype=np.int32),
    )


@njit(cache=True, nogil=True, forceinline=True)
def offer(offers: Offers, held: int, least: float, prob: float, token: int, cell: int, level: int) -> int:
    """Note a candidate of the row at hand, of which there are `held`; returns how many there are now."""
    if prob < least:
        return held
    for slot in range(held):
        if offers.token[slot] == token:
            if prob > offers.prob[slot]:
                offers.prob[slot] = prob
                offers.cell[slot] = cell
                offers.level[slot] = level
            return held
    if held == len(offers.token):
        return held
    offers.prob[held] = prob
    offers.token[held] = token
    offers.cell[held] = cell
    offers.level[held] = level
    return held + 1


@njit(cache=True, nogil=True, forceinline=True)
def ask_chains(
    chains: Chains,
    level: int,
    rows: Rows,
    row: int,
    found: Found,
    offers: Offers,
    held: int,
    least: float,
    probability: Any,
) -> int:
    """Offer the continuations that a hash-chain index has for the suffixes of `row`."""
    known = rows.known[row]
    suffix = rows.suffix[row]
    before = 0
    for order in range(newest_of(chains, suffix, known, found.entry), 0, -1):
        distinct, total = collect(
            chains, found.entry[order - 1], suffix, known, order, OCCURRENCES, found.token, found.met, found.newest
        )
        if total == before:
            continue  # the same occurrences as the longer suffix had, which says more
        before = total
        for slot in range(distinct):
            cell = cell_of(level, order, found.met[slot], total, found.newest[slot] == 0)
            held = offer(offers, held, least, probability[cell], found.token[slot], cell, level)
        if total == OCCURRENCES:
            break  # shorter suffixes would only repeat it less precisely
    return held


@njit(cache=True, nogil=True, forceinline=True)
def ask_pack(
    shelf: Shelf,
    pack: int,
    rows: Rows,
    row: int,
    parents: Any,
    found: Found,
    offers: Offers,
    held: int,
    least: float,
    probability: Any,
) -> int:
    """Offer the continuations that a pack has for the longest suffixes of `row`."""
    length = shelf.length[pack]
    tokens = view(shelf.tokens[pack], length)
    suffixes = view(shelf.suffixes[pack], length)
    level = shelf.level[pack]
    order = rows.longest[row, pack]
    if row > 0:  # at most one longer than the parent's
        order = min(rows.longest[parents[row - 1] + 1, pack] + 1, LONGEST)
    while order > 0 and not _occurs(shelf, pack, rows, row, order, parents):
        order -= 1
    rows.longest[row, pack] = order
    asked = 0
    before = -1
    while order > 0 and asked < SUFFIXES:
        _occurs(shelf, pack, rows, row, order, parents)
        low, high = rows.low[row, pack, order], rows.high[row, pack, order]
        if high - low != before:
            before = high - low
            distinct, total = sample(
                tokens, suffixes, low, high, order, shelf.vocab[pack], OCCURRENCES, found.token, found.met
            )
            for slot in range(distinct):
                cell = cell_of(level, order, found.met[slot], total, False)
                held = offer(offers, held, least, probability[cell], found.token[slot], cell, level)
            asked += 1
            if total >= OCCURRENCES:
                break  # shorter suffixes would only repeat it less precisely
        order -= 1
    return held


@njit(cache=True, nogil=True, forceinline=True)
def _occurs(shelf: Shelf, pack: int, rows: Rows, row: int, order: int, parents: Any) -> bool:
    """Look up the range of the row's last `order` tokens, 1 <= order <= LONGEST; False if it is empty.

    A range is its parent row's for one token less, narrowed. What is missing there is looked up first.
    """
    if rows.low[row, pack, order] >= 0:
        return bool(rows.low[row, pack, order] < rows.high[row, pack, order])
    climbed = 0
    at = row
    while rows.low[at, pack, order - climbed] < 0 and order - climbed > 1:
        at = parents[at - 1] + 1
        climbed += 1
    length = shelf.length[pack]
    tokens = view(shelf.tokens[pack], length)
    suffixes = view(shelf.suffixes[pack], length)
    starts = view(shelf.starts[pack], shelf.vocab[pack] + 1)
    if rows.low[at, pack, order - climbed] < 0:
        token = rows.suffix[at, rows.known[at] - 1]
        rows.low[at, pack, 1], rows.high[at, pack, 1] = first_range(starts, length, shelf.vocab[pack], token)
    while climbed > 0:
        climbed -= 1
        below = row
        for _ in range(climbed):
            below = parents[below - 1] + 1
        size = order - climbed - 1
        low, high = rows.low[at, pack, size], rows.high[at, pack, size]
        if low < high:
            token = rows.suffix[below, rows.known[below] - 1]
            low, high = narrow(tokens, suffixes, low, high, size, token)
        rows.low[below, pack, size + 1], rows.high[below, pack, size + 1] = low, high
        at = below
    return bool(rows.low[row, pack, order] < rows.high[row, pack, order])
