"""Building suffix arrays: sorting in memory, and merging sorted ones that need not fit into it.

Sorting is libdivsufsort's (pydivsufsort), over the tokens' bytes, most significant first: the order of byte strings
that begin at a token is the order of token strings. Merging compares at most `DEPTH` tokens and no further than a
document's end, which is all that a look-up ever depends on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hierdraft.databases.suffixarray import END, MOST_TOKENS, Index
from hierdraft.kernels import njit
from hierdraft.tree import Int32

DEPTH = 64
"""How many tokens of two suffixes a merge compares; look-ups depend on far fewer."""

_FEW = 1 << 16


def build(tokens: Int32, vocab_size: int) -> Index:
    """Index `tokens` int32[L], ids below `vocab_size` with `END` between documents.

    starts[t] is the rank of the first suffix that begins with an id of at least t. Takes about 14 bytes of memory a
    token, 28 if more than 65,535 different ids occur. Raises ValueError for other ids and for 2**31 - 2 tokens or
    more.
    """
    if len(tokens) >= MOST_TOKENS:
        raise ValueError(f"one index holds fewer than {MOST_TOKENS} tokens, not {len(tokens)}: make several")
    if len(tokens) and (tokens.min() < END or tokens.max() >= vocab_size):
        raise ValueError(f"an id lies outside the vocabulary of {vocab_size}")
    counts = np.bincount(tokens + 1, minlength=vocab_size + 1)
    starts = np.cumsum(counts, dtype=np.int64).astype(np.int32)
    return Index(tokens, _sorted(tokens, counts > 0), starts)


def _sorted(tokens: Int32, present: Any) -> Int32:
    from pydivsufsort import divsufsort

    if len(tokens) == 0:
        return np.empty(0, dtype=np.int32)
    few = int(present.sum()) <= _FEW
    rank = (np.cumsum(present) - 1).astype(">u2" if few else ">u4")  # the same order in fewer bytes
    order: Int32 = divsufsort(rank[tokens + 1].view(np.uint8))
    return order[: _keep_multiples(order, 2 if few else 4)]


@njit(nogil=True)
def _keep_multiples(order: Any, size: int) -> int:
    """Keep the suffixes that begin at a token, `size` bytes each, as token positions; returns how many."""
    kept = 0
    for i in range(len(order)):
        if order[i] % size == 0:
            order[kept] = order[i] // size
            kept += 1
    return kept


@njit(nogil=True)
def _before(a: Any, place_a: int, b: Any, place_b: int) -> bool:
    """Whether the suffix of `a` sorts before or equal to that of `b`."""
    for depth in range(DEPTH):
        x = END if place_a + depth >= len(a) else a[place_a + depth]
        y = END if place_b + depth >= len(b) else b[place_b + depth]
        if x != y:
            return bool(x < y)
        if x == END:
            return True
    return True


@njit(nogil=True)
def merge_some(
    a: Any, order_a: Any, at_a: int, b: Any, order_b: Any, at_b: int, shift: int, out: Any
) -> tuple[int, int]:
    """Fill `out` with the next suffixes of two sorted arrays, those of `b` moved by `shift`.

    Returns how far both have been read.
    """
    for i in range(len(out)):
        take_a = at_b >= len(order_b)
        if not take_a and at_a < len(order_a):
            take_a = _before(a, order_a[at_a], b, order_b[at_b])
        if take_a:
            out[i] = order_a[at_a]
            at_a += 1
        else:
            out[i] = order_b[at_b] + shift
            at_b += 1
    return at_a, at_b
