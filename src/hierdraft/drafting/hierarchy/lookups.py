"""What the levels know about one row of a growing tree: look-ups, each noted as evidence for its continuations.

A row is a node of the tree, or the last committed token (row 0). Every source is asked for what followed the row's
suffix, the longest suffix that occurs first, in up to `RANKS` looks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, Chains, collect, newest_of
from hierdraft.databases.memory import view
from hierdraft.databases.recycled import TOP, Successors, place_of
from hierdraft.databases.suffixarray import LONGEST, Shelf, first_range, narrow, sample, sample_skipping
from hierdraft.drafting.hierarchy.cells import SKIP, cell_of, rank_cell
from hierdraft.drafting.hierarchy.evidence import RANKS, Evidence, Weights, note
from hierdraft.kernels import njit

OCCURRENCES = 24
"""Most occurrences of one suffix that are looked at."""

LIKELY = 0.1
"""Path probability from which a row is worth more: it gets `MOST_OCCURRENCES`, and shorter suffixes."""

MOST_OCCURRENCES = 40
"""As `OCCURRENCES`, in a pack at a likely row."""

DEEPEST = 3 * LONGEST
"""Longest suffix looked up in a pack for rows after the committed text: there each token costs one narrowing only."""


class Found(NamedTuple):
    """What one look returns: continuations, how often each was met, and the rank of its newest occurrence.

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
    low, high   int32[rows + 1, packs, DEEPEST + 1]: per suffix length its range in the pack; low -1: not looked up
                yet. The last entry belongs to the text without its last token, the parent of row 0
    longest     int32[rows + 1, packs]: the longest suffix that occurs in the pack
    wider       int32[rows + 1, packs]: a length below `longest`; all longer suffixes that occur have the same range
    heard       int32[rows]: which of the rows that a model has an opinion about is this one, -1: none
    """

    suffix: NDArray[np.int32]
    known: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    longest: NDArray[np.int32]
    wider: NDArray[np.int32]
    heard: NDArray[np.int32]


def make_found() -> Found:
    """Room for one look."""
    token, met, newest = np.empty((3, MOST_OCCURRENCES + 1), dtype=np.int32)
    return Found(token, met, newest, np.empty(ORDERS, dtype=np.int32))


def make_rows(rows: int, packs: int) -> Rows:
    """Room for a tree of `rows` rows over `packs` packs."""
    ranges = np.zeros((2, rows + 1, packs, DEEPEST + 1), dtype=np.int32)
    longest, wider = np.zeros((2, rows + 1, packs), dtype=np.int32)
    return Rows(
        np.empty((rows, ORDERS), dtype=np.int32),
        np.empty(rows, dtype=np.int32),
        ranges[0],
        ranges[1],
        longest,
        wider,
        np.full(rows, -1, dtype=np.int32),
    )


@njit(nogil=True, forceinline=True)
def note_found(
    found: Found, distinct: int, total: int, source: int, order: int, rank: int, row: int, evidence: Evidence,
    weights: Weights,
) -> None:  # fmt: skip
    """Note what a look in a text has found: `distinct` continuations, from `total` occurrences."""
    for slot in range(distinct):
        cell = cell_of(source, order, found.met[slot], total, found.newest[slot] == 0)
        note(evidence, weights, row, found.token[slot], cell, rank)


@njit(nogil=True, forceinline=True)
def ask_chains(
    chains: Chains, source: int, rows: Rows, row: int, expected: int, found: Found, evidence: Evidence, weights: Weights
) -> int:
    """Note what a hash-chain index has for the suffixes of `row`; returns the longest suffix length that occurs.

    expected    -1, or the position that the text is thought to continue from, which is marked in place of the newest
    source      a skip look leaves the last token out of the suffix, and asks for what came after another one
    """
    skipping = source >= SKIP
    known = rows.known[row] - 1 if skipping else rows.known[row]
    suffix = rows.suffix[row]
    other = suffix[known] if skipping else -1
    longest = before = rank = 0
    for order in range(newest_of(chains, suffix, known, found.entry), 0, -1):
        entry = found.entry[order - 1]
        distinct, total = collect(
            chains, entry, suffix, known, order, OCCURRENCES, expected, other, found.token, found.met, found.newest
        )
        if total <= before:
            continue  # the same occurrences as the longer suffix had, which says more; or fewer, among many
        before = total
        longest = max(longest, order)
        note_found(found, distinct, total, source, order, rank, row, evidence, weights)
        rank += 1
        if total == OCCURRENCES or rank == RANKS or skipping:
            break
    return longest


@njit(nogil=True, forceinline=True)
def ask_pack(
    shelf: Shelf, pack: int, rows: Rows, row: int, parents: Any, reach: Any, found: Found, evidence: Evidence,
    weights: Weights,
) -> int:  # fmt: skip
    """Note what a pack has for the longest suffixes of `row`; returns the longest length that occurs.

    reach   path probability of the row; an unlikely one is asked for its longest suffix only, if that has anything
    """
    length = shelf.length[pack]
    tokens = view(shelf.tokens[pack], length)
    suffixes = view(shelf.suffixes[pack], length)
    order, step = longest_in_pack(shelf, pack, rows, row, parents)
    longest = min(int(order), LONGEST)
    limit = MOST_OCCURRENCES if reach >= LIKELY else OCCURRENCES
    rank = 0
    before = -1
    while order > 0 and rank < RANKS:
        _occurs(shelf, pack, rows, row, order, parents)
        low, high = rows.low[row, pack, order], rows.high[row, pack, order]
        if rank == 1:
            rows.wider[row, pack] = order if high - low != before else order - 1
        if high - low != before:
            before = high - low
            distinct, total = sample(
                tokens, suffixes, low, high, order, shelf.vocab[pack], limit, found.token, found.met
            )
            for slot in range(distinct):
                cell = cell_of(shelf.level[pack], min(order, LONGEST), found.met[slot], total, False)
                note(evidence, weights, row, found.token[slot], cell, rank)
            rank += 1
            if total >= (limit if reach >= LIKELY else 1):
                break  # shorter suffixes would only repeat it less precisely, or cost more than they are worth
        order = min(step, order - 1)
    return longest


@njit(nogil=True, forceinline=True)
def longest_in_pack(shelf: Shelf, pack: int, rows: Rows, row: int, parents: Any) -> tuple[int, int]:
    """The longest suffix of `row` that occurs in a pack; and from which length on a shorter one may occur elsewhere.

    It is at most one longer than the parent's; and where two of the parent's suffixes have one range, so do these.
    """
    order = rows.longest[row, pack]
    step = order - 1
    if row > 0:
        above = parents[row - 1] + 1
        order = min(rows.longest[above, pack] + 1, DEEPEST)
        step = rows.wider[above, pack] + 1
    while order > 0 and not _occurs(shelf, pack, rows, row, order, parents):
        order = min(step, order - 1)
    rows.longest[row, pack] = order
    rows.wider[row, pack] = max(min(step, order - 1), 0)
    return order, step


@njit(nogil=True, forceinline=True)
def skip_in_pack(
    shelf: Shelf, pack: int, rows: Rows, row: int, parents: Any, found: Found, evidence: Evidence, weights: Weights
) -> None:
    """Note what came one token later in a pack, after the text before the last token."""
    above = len(rows.longest) - 1 if row == 0 else parents[row - 1] + 1
    order = rows.longest[above, pack]
    if order < 2 or not _occurs(shelf, pack, rows, above, order, parents):
        return
    length = shelf.length[pack]
    distinct, total = sample_skipping(
        view(shelf.tokens[pack], length), view(shelf.suffixes[pack], length),
        rows.low[above, pack, order], rows.high[above, pack, order], order, shelf.vocab[pack], OCCURRENCES,
        found.token, found.met,
    )  # fmt: skip
    for slot in range(distinct):
        cell = cell_of(shelf.level[pack] + SKIP, min(order, LONGEST), found.met[slot], total, False)
        note(evidence, weights, row, found.token[slot], cell, 0)


@njit(nogil=True, forceinline=True)
def ask_place(
    chains: Chains, source: int, rows: Rows, row: int, expected: int, evidence: Evidence, weights: Weights
) -> None:
    """Note the token at the place that a followed text is thought to have come to, whatever the suffix is."""
    if expected < 0 or expected >= len(chains.tokens) or chains.tokens[expected] < 0:
        return
    agrees = expected == 0 or rows.suffix[row, rows.known[row] - 1] == chains.tokens[expected - 1]
    note(evidence, weights, row, chains.tokens[expected], cell_of(source, 1, 1, 2, agrees), RANKS - 1)


@njit(nogil=True, forceinline=True)
def ask_successors(table: Successors, source: int, rows: Rows, row: int, evidence: Evidence, weights: Weights) -> None:
    """Note which tokens the target thought of after the row's last two tokens, and after its last."""
    known = rows.known[row]
    suffix = rows.suffix[row]
    rank = 0
    for order in (2, 1):
        if known < order:
            continue
        place = place_of(table, suffix[known - 2] if order == 2 else -1, suffix[known - 1])
        if place < 0:
            continue
        for i in range(TOP):
            cell = rank_cell(source, order, i, table.confirmed[place] != 0)
            note(evidence, weights, row, table.ids[place, i], cell, rank)
        rank += 1


@njit(nogil=True, forceinline=True)
def _occurs(shelf: Shelf, pack: int, rows: Rows, row: int, order: int, parents: Any) -> bool:
    """Look up the range of the row's last `order` tokens, 1 <= order <= DEEPEST; False if it is empty.

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
