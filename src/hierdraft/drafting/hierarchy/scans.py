"""Look-ups in a text that has no index: every look reads all of it.

A short text is read from end to end in less time than a few places of a hash table take that is in no cache, and a
serving engine's step leaves nothing in the caches. What is found is what hash chains find, in the same order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hierdraft.databases.hashchain import LOOK_BACK, ORDERS, Chains, age_of, power_of
from hierdraft.drafting.hierarchy.cells import SKIP
from hierdraft.drafting.hierarchy.evidence import RANKS, Evidence, Weights
from hierdraft.drafting.hierarchy.lookups import OCCURRENCES, Found, Rows, ask_chains, note_found
from hierdraft.kernels import njit

SHORT = 4096
"""Most tokens of a text that needs no index."""

BLOCK = 64
"""Tokens that are compared at once; a text without an index has room for at least this many."""


def _compile_equals(_context: Any, _address: Any, _token: Any) -> Any:
    """Bit i: whether the i-th of `BLOCK` int32 at an address is the token."""

    def generate(_typing: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        block = ir.VectorType(word, BLOCK)
        tokens = builder.load(builder.inttoptr(arguments[0], block.as_pointer()), align=4)
        one = builder.insert_element(ir.Constant(block, ir.Undefined), arguments[1], ir.Constant(word, 0))
        every = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(word, BLOCK), None))
        return builder.bitcast(builder.icmp_signed("==", tokens, every), ir.IntType(BLOCK))

    return types.uint64(types.int64, types.int32), generate


_equals: Any = intrinsic(_compile_equals)


def _compile_highest(_context: Any, _bits: Any) -> Any:
    """The number of the highest bit that is set; one is."""

    def generate(_typing: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(BLOCK)
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(word, BLOCK - 1), zeros)

    return types.int64(types.uint64), generate


_highest: Any = intrinsic(_compile_highest)


@njit(nogil=True, inline="always")
def _met(tokens: Any, start: int, stop: int, token: int) -> Any:
    """Bit i: whether token number start + i, below `stop`, is the one; stop is at most `BLOCK` further."""
    bits = _equals(tokens.ctypes.data + 4 * start, np.int32(token))
    return bits if stop - start == BLOCK else bits & ((np.uint64(1) << np.uint64(stop - start)) - np.uint64(1))


class Near(NamedTuple):
    """Where the last tokens of a row and of the one above stand in the text, by the row's number being even or odd.

    place   int32[2, 2, SHORT]: positions after an occurrence of the last token, newest first; then the same for
            only those that the last two tokens stand before
    same    int32[2, 2, SHORT]: how many tokens before each are the row's last ones
    held    int32[2, 2]: how many there are
    """

    place: NDArray[np.int32]
    same: NDArray[np.int32]
    held: NDArray[np.int32]


def make_near() -> Near:
    """Room for two rows."""
    place, same = np.zeros((2, 2, 2, SHORT), dtype=np.int32)
    return Near(place, same, np.zeros((2, 2), dtype=np.int32))


@njit(nogil=True, forceinline=True)
def is_bare(chains: Chains) -> bool:
    """Whether a text has no index."""
    return bool(chains.heads.shape[1] == 0)


@njit(nogil=True)
def places_behind(tokens: Any, length: int, token: int, place: Any) -> int:
    """place: every position below `length` that `token` stands before, newest first; returns how many."""
    count = 0
    stop = length - 1
    while stop > 0:
        start = max(0, stop - BLOCK)
        bits = _met(tokens, start, stop, token)
        while bits != 0:
            bit = _highest(bits)
            place[count] = start + bit + 1
            count += 1
            bits ^= np.uint64(1) << np.uint64(bit)
        stop = start
    return count


@njit(nogil=True)
def look(tokens: Any, length: int, suffix: Any, known: int, near: Near, row: int) -> None:
    """Find the places of `row`, whose last tokens are suffix[:known]."""
    side = row & 1
    place, long_place, long_same = near.place[side, 0], near.place[side, 1], near.same[side, 1]
    count = places_behind(tokens, length, suffix[known - 1], place) if known > 0 else 0
    near.held[side, 0] = count
    longer = 0
    if known > 1:
        for i in range(count):
            position = place[i]
            if position > 1 and tokens[position - 2] == suffix[known - 2]:
                most = min(known, position)
                equal = 2
                while equal < most and tokens[position - 1 - equal] == suffix[known - 1 - equal]:
                    equal += 1
                long_place[longer], long_same[longer] = position, equal
                longer += 1
    near.held[side, 1] = longer


@njit(nogil=True)
def newest_behind_all(near: Near, row: int) -> int:
    """The newest position that `ORDERS` tokens of the row stand before, -1 if there is none."""
    side = row & 1
    for i in range(near.held[side, 1]):
        if near.same[side, 1, i] == ORDERS:
            return int(near.place[side, 1, i])
    return -1


@njit(nogil=True, forceinline=True)
def _counts(tokens: Any, length: int, position: int, other: int) -> bool:
    """Whether something follows there; for a skip look, something after a token that is not `other`."""
    if other < 0:
        return bool(tokens[position] >= 0)
    return bool(
        position + 1 < length and tokens[position] >= 0 and tokens[position] != other and tokens[position + 1] >= 0
    )


@njit(nogil=True, forceinline=True)
def _shorter(tokens: Any, length: int, near: Near, side: int, most: int, bound: int, other: int) -> int:
    """The longest suffix, of at most `most` and less than `bound` tokens, with places that no longer one has; or 1."""
    longest = 1
    place, same = near.place[side, 1], near.same[side, 1]
    for i in range(near.held[side, 1]):
        equal = min(same[i], most)
        if longest < equal < bound and _counts(tokens, length, place[i], other):
            longest = equal
    return longest


@njit(nogil=True, forceinline=True)
def _collect(
    tokens: Any, length: int, near: Near, side: int, most: int, order: int, other: int, found: Found
) -> tuple[int, int]:
    """As `collect` of hash chains: the continuations of a suffix of `order` tokens."""
    gap = 1 if other >= 0 else 0
    longer = 1 if order > 1 else 0
    place, same = near.place[side, longer], near.same[side, longer]
    distinct = total = looked = 0
    for i in range(near.held[side, longer]):
        if longer == 1 and min(same[i], most) < order:
            continue
        if looked == LOOK_BACK * OCCURRENCES:
            break
        looked += 1
        if not _counts(tokens, length, place[i], other):
            continue
        token = tokens[place[i] + gap]
        slot = 0
        while slot < distinct and found.token[slot] != token:
            slot += 1
        if slot == distinct:
            found.token[slot] = token
            found.met[slot] = 0
            found.newest[slot] = total
            distinct += 1
        found.met[slot] += 1
        total += 1
        if total == OCCURRENCES:
            break
    return distinct, total


@njit(nogil=True, forceinline=True)
def ask_context(
    text: Chains, length: int, source: int, near: Near, rows: Rows, row: int, found: Found, evidence: Evidence,
    weights: Weights,
) -> int:  # fmt: skip
    """`ask_chains`, also for a text without an index, of which `look` has found the places of this row and its parent.

    length   tokens of the text
    """
    if not is_bare(text):
        return ask_chains(text, source, rows, row, -1, found, evidence, weights)
    skipping = source >= SKIP
    most = rows.known[row] - 1 if skipping else rows.known[row]
    side = (row + 1) & 1 if skipping else row & 1
    other = rows.suffix[row, most] if skipping else -1
    longest = before = rank = 0
    order = ORDERS + 1 if most > 0 else 1
    while order > 1:
        order = _shorter(text.tokens, length, near, side, most, order, other)
        distinct, total = _collect(text.tokens, length, near, side, most, order, other, found)
        if total <= before:
            continue
        before = total
        longest = max(longest, order)
        note_found(found, distinct, total, source, order, rank, row, evidence, weights)
        rank += 1
        if total == OCCURRENCES or rank == RANKS or skipping:
            break
    return longest


@njit(nogil=True, forceinline=True)
def age_in_context(text: Chains, length: int, token: int, most: int) -> int:
    """`age_of`, also for a text without an index."""
    if not is_bare(text):
        return age_of(text, length, token, most)
    stop = length - 1
    while stop > 0:
        start = max(0, stop - BLOCK)
        bits = _met(text.tokens, start, stop, token)
        if bits != 0:
            return power_of(length - (start + _highest(bits)), most)
        stop = start
    return most - 1
