"""What a look-up says about a continuation, as the number of a cell.

A look is one search in one source for one suffix length. A source is a level, asked in one of two ways: for what
followed the row's suffix, or for what followed it when the last token was another one (a skip look). Everything
that a look tells about a continuation, how often and how steadily it came next, falls into a cell; what a cell is
worth is learned (`calibration.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS
from hierdraft.kernels import njit
from hierdraft.levels import ROOM, code_of

SKIP = ROOM
"""A level's code plus this is the source of its skip looks."""

SOURCES = 2 * SKIP
COUNTS = 5
SHARES = 6
PER_LOOK = COUNTS * SHARES * 2
CELLS = SOURCES * ORDERS * PER_LOOK

_SHARE_MIDDLE = (0.08, 0.18, 0.35, 0.6, 0.85, 1.0)
_COUNT_MIDDLE = (1.0, 2.0, 3.5, 6.0, 12.0)


@njit(nogil=True)
def count_bucket(count: int) -> int:
    """0..4 for a continuation met 1, 2, 3-4, 5-8, or more times."""
    return int(count > 1) + int(count > 2) + int(count > 4) + int(count > 8)  # no branch, which would be a coin toss


@njit(nogil=True)
def share_bucket(count: int, total: int) -> int:
    """0..5 for a share below 1/8, 1/4, 1/2, 3/4, below 1, and exactly 1."""
    eighths = 8 * count
    below = int(eighths >= total) + int(eighths >= 2 * total) + int(eighths >= 4 * total) + int(eighths >= 6 * total)
    return below + int(count == total)


@njit(nogil=True)
def cell_of(source: int, order: int, count: int, total: int, special: bool) -> int:
    """Cell of a continuation met `count` times among `total` occurrences of an `order`-token suffix.

    `special`: it is the newest one, or, in the reference, the one where the text has been followed so far.
    """
    cell = source * ORDERS + order - 1
    cell = cell * COUNTS + count_bucket(count)
    cell = cell * SHARES + share_bucket(count, total)
    return 2 * cell + (1 if special else 0)


@njit(nogil=True)
def rank_cell(source: int, order: int, rank: int, confirmed: bool) -> int:
    """Cell of the `rank`-th runner-up (0: the target's choice) in a successor table; at most `PER_LOOK` / 2 ranks."""
    return (source * ORDERS + order - 1) * PER_LOOK + 2 * rank + (1 if confirmed else 0)


@njit(nogil=True)
def opinion_cell(source: int, rank: int, bucket: int) -> int:
    """Cell of a model's opinion: the continuation that it thinks the `rank`-th likeliest (0: the likeliest).

    bucket   of its log probability, see `opinion_buckets`
    """
    return (source * ORDERS + rank) * PER_LOOK + 2 * bucket


@njit(nogil=True)
def source_of(cell: int) -> int:
    """Which source a cell belongs to."""
    return cell // (ORDERS * PER_LOOK)


@njit(nogil=True)
def strength_of(cell: int) -> int:
    """1..48: the cell's suffix length and share, for features of pairs of levels."""
    return 1 + (cell // PER_LOOK) % ORDERS * SHARES + (cell // 2) % SHARES


STRENGTHS = 1 + ORDERS * SHARES
"""Values of `strength_of`, and 0 for a level that does not know the continuation."""


BUCKETS = PER_LOOK // 2
"""Kinds of opinions of one rank."""

_PER_NAT = 5.0


def opinion_buckets(logprobs: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Natural log probabilities of a model's opinions as numbers below `BUCKETS`, a fifth of a nat each."""
    found: NDArray[np.uint8] = np.clip(-_PER_NAT * logprobs, 0, BUCKETS - 1).astype(np.uint8)
    return found


def prior() -> NDArray[np.float64]:
    """float64[CELLS]: share of the continuation, discounted like count / (count + escape(order)).

    Short suffixes and single occurrences say little about what comes next; the discount is the escape estimate of
    n-gram models, with the escape falling from 6 at one token to 0.6 at eight.
    """
    table = np.empty((SOURCES, ORDERS, COUNTS, SHARES, 2))
    for order in range(1, ORDERS + 1):
        escape = 6.0 / order**1.1
        for i, count in enumerate(_COUNT_MIDDLE):
            for j, share in enumerate(_SHARE_MIDDLE):
                table[:, order - 1, i, j, :] = share * (count / share) / (count / share + escape)
    table[..., 1] = np.minimum(0.97, table[..., 1] * 1.15)
    table[code_of("reference"), ..., 1] = np.maximum(0.9, table[code_of("reference"), ..., 1])
    ranks = 0.5 / (1.0 + np.arange(PER_LOOK // 2)) ** 1.2
    table[code_of("recycled")] = np.repeat(ranks, 2).reshape(COUNTS, SHARES, 2)
    thought = np.exp(-(np.arange(BUCKETS) + 0.5) / _PER_NAT)
    table[code_of("draft")] = np.repeat(thought, 2).reshape(COUNTS, SHARES, 2)
    return table.reshape(CELLS)
