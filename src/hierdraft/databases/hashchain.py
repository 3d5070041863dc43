"""The mutable index: for every suffix length 1 to 8, hash chains over the text, newest position first.

The entry for position `p` under order `n` means "tokens[p-n : p] was followed by tokens[p]". Its bucket is a hash
of those `n` tokens; `heads[n-1, bucket]` is the newest such position and `prev[n-1, p]` the one before it, -1 at the
end. Buckets collide, so every reader compares the tokens themselves. Inserting costs O(orders) per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.memory import plane, view
from hierdraft.kernels import njit
from hierdraft.tree import Int32

ORDERS = 8
"""Longest suffix that is indexed, in tokens."""

UNWRITTEN = -2
"""What stands in `tokens` where no token is yet."""

LOOK_BACK = 8
"""A look at continuations goes past this many times as many occurrences as it wants, where most say nothing to it: a
text that repeats one passage over and over would be read from end to end for every row."""

MOST_PLACES = 1 << 12
"""Places that are compared to find where a followed text continues: a bound for texts that repeat one passage."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Chains(NamedTuple):
    """The arrays a kernel reads: tokens int32[capacity], heads int32[ORDERS, buckets], prev int32[ORDERS, capacity]."""

    tokens: Int32
    heads: Int32
    prev: Int32


class TextShelf(NamedTuple):
    """What a kernel needs to know of T texts with hash chains. The caller keeps the arrays alive.

    tokens, heads, prev   int64[T]: addresses of their arrays
    capacity, buckets     int64[T]: their sizes
    level                 uint8[T]: provenance code of what the text proposes
    """

    tokens: NDArray[np.int64]
    heads: NDArray[np.int64]
    prev: NDArray[np.int64]
    capacity: NDArray[np.int64]
    buckets: NDArray[np.int64]
    level: NDArray[np.uint8]


@njit(nogil=True, inline="always")
def chains_at(texts: Any, place: int) -> Any:
    """One text of a `TextShelf`, or of another record with these five fields."""
    return Chains(
        view(texts.tokens[place], texts.capacity[place]),
        plane(texts.heads[place], ORDERS, texts.buckets[place]),
        plane(texts.prev[place], ORDERS, texts.capacity[place]),
    )


@njit(nogil=True, inline="always")
def mix(state: Any, token: Any) -> Any:
    """One more token, going backwards through the text, into a 64-bit hash."""
    state = (state ^ np.uint64(token)) * _MULTIPLIER
    return state ^ (state >> np.uint64(29))


@njit(nogil=True)
def insert(chains: Any, start: int, stop: int) -> None:
    """Index positions start..stop-1, whose tokens are written."""
    tokens, heads, prev = chains
    mask = np.uint64(heads.shape[1] - 1)
    for position in range(start, stop):
        state = np.uint64(0)
        for order in range(1, min(ORDERS, position) + 1):
            state = mix(state, tokens[position - order])
            bucket = state & mask
            prev[order - 1, position] = heads[order - 1, bucket]
            heads[order - 1, bucket] = position


@njit(nogil=True, forceinline=True)
def newest_of(chains: Any, suffix: Any, length: int, positions: Any) -> int:
    """positions[n-1]: the newest entry in the bucket of the last n of suffix[:length], -1 if there is none.

    Returns how many suffix lengths were looked up; a longer one has no entry either.
    """
    heads = chains.heads
    mask = np.uint64(heads.shape[1] - 1)
    state = np.uint64(0)
    for order in range(1, length + 1):
        state = mix(state, suffix[length - order])
        positions[order - 1] = heads[order - 1, state & mask]
        if positions[order - 1] < 0:
            return order - 1
    return length


@njit(nogil=True)
def longest_before(chains: Any, suffix: Any) -> int:
    """The newest position that all of suffix int32[ORDERS] stands before, -1 if there is none."""
    tokens, heads, prev = chains
    state = np.uint64(0)
    for back in range(1, ORDERS + 1):
        state = mix(state, suffix[ORDERS - back])
    position = heads[ORDERS - 1, state & np.uint64(heads.shape[1] - 1)]
    while position >= 0:
        back = 1
        while back <= ORDERS and tokens[position - back] == suffix[ORDERS - back]:
            back += 1
        if back > ORDERS:
            return int(position)
        position = prev[ORDERS - 1, position]
    return -1


@njit(nogil=True, forceinline=True)
def collect(
    chains: Any, position: int, suffix: Any, length: int, order: int, limit: int, expected: int, other: int,
    found: Any, counts: Any, newest: Any,
) -> tuple[int, int]:  # fmt: skip
    """Continuations of the last `order` of suffix[:length], from at most `limit` occurrences, newest first.

    position   where `newest_of` says the search begins
    expected   -1, or the position whose token is marked instead of the newest one
    other      -1; or, for a skip look, the token that came next: occurrences where another one came next count, and
               what followed that one is the continuation

    No more than `LOOK_BACK` * `limit` occurrences are looked at, whether they count or not.

    Writes the distinct ones to `found`, how often each was met to `counts`, and to `newest` 0 for a marked one and
    more for any other. Returns (distinct continuations, occurrences).
    """
    tokens, _, prev = chains
    gap = 1 if other >= 0 else 0
    distinct = total = looked = 0
    while position >= 0 and total < limit and looked < LOOK_BACK * limit:
        back = 1
        while back <= order and tokens[position - back] == suffix[length - back]:
            back += 1
        same = back > order
        looked += same
        same = same and position + gap < len(tokens) and tokens[position] >= 0  # below 0: the end of a document
        if same and (gap == 0 or (tokens[position] != other and tokens[position + 1] >= 0)):
            token = tokens[position + gap]
            slot = 0
            while slot < distinct and found[slot] != token:
                slot += 1
            if slot == distinct:
                found[slot] = token
                counts[slot] = 0
                newest[slot] = total if expected < 0 else 1
                distinct += 1
            if position + gap == expected:
                newest[slot] = 0
            counts[slot] += 1
            total += 1
        position = prev[order - 1, position]
    return distinct, total


@njit(nogil=True, forceinline=True)
def age_of(chains: Any, length: int, token: int, most: int) -> int:
    """How long ago a token of the text was last used, in powers of two below `most` - 1; `most` - 1: not at all.

    The text's last token has no entry yet, and does not count.
    """
    position = chains.heads[0, mix(np.uint64(0), token) & np.uint64(chains.heads.shape[1] - 1)]
    while position >= 0 and chains.tokens[position - 1] != token:
        position = chains.prev[0, position]
    if position < 0:
        return most - 1
    return power_of(length - position + 1, most)


@njit(nogil=True, forceinline=True)
def power_of(distance: int, most: int) -> int:
    """The power of two that a distance reaches, at most `most` - 2."""
    age = 0
    while distance > 1 and age < most - 2:
        distance >>= 1
        age += 1
    return age


@njit(nogil=True)
def align(chains: Any, suffix: Any, expected: int) -> int:
    """Where a followed text continues after suffix int32[<= ORDERS], whose last token was expected at `expected`.

    One further, if it is there; else the nearest place where at least two tokens of the suffix occur, for as many
    tokens as possible; else one further all the same. After the last token of the chains: the last place again. Of
    more than `MOST_PLACES` such places the last ones are compared.
    """
    tokens = chains.tokens
    last = len(tokens) - 1
    if tokens[expected] != suffix[len(suffix) - 1]:
        entry = np.empty(ORDERS, dtype=np.int32)
        for order in range(newest_of(chains, suffix, len(suffix), entry), 1, -1):
            position = entry[order - 1]
            best = -1
            looked = 0
            while position >= 0 and looked < MOST_PLACES:
                back = 1
                while back <= order and tokens[position - back] == suffix[len(suffix) - back]:
                    back += 1
                if back > order:
                    looked += 1
                    if best >= 0 and abs(position - expected) >= abs(best - expected):
                        break  # they come in order: from here on each is further away
                    best = position
                position = chains.prev[order - 1, position]
            if best >= 0:
                return int(best)
    return min(expected + 1, last)


def make_chains(capacity: int) -> Chains:
    """An empty index with room for `capacity` tokens, at least 16."""
    capacity = max(16, capacity)
    buckets = 1 << (capacity - 1).bit_length()
    return Chains(
        np.full(capacity, UNWRITTEN, dtype=np.int32),
        np.full((ORDERS, buckets), -1, dtype=np.int32),
        np.full((ORDERS, capacity), -1, dtype=np.int32),
    )


class HashChains:
    """A growing text and its index. Not thread-safe: one writer, and readers between its calls."""

    def __init__(self, capacity: int = 1024) -> None:
        """Room for `capacity` tokens; grows by doubling."""
        self._length = 0
        self.chains = make_chains(capacity)

    def __len__(self) -> int:
        return self._length

    @property
    def tokens(self) -> Int32:
        """int32[L]: the text so far (a view)."""
        return self.chains.tokens[: self._length]

    def extend(self, tokens: Sequence[int] | Int32) -> None:
        """Append tokens; each becomes a continuation of what precedes it."""
        added = np.asarray(tokens, dtype=np.int32)
        start, stop = self._length, self._length + len(added)
        if stop > len(self.chains.tokens):
            self._grow(stop)
        self.chains.tokens[start:stop] = added
        insert(self.chains, start, stop)
        self._length = stop

    def _grow(self, needed: int) -> None:
        old = self.chains
        self.chains = make_chains(max(needed, 2 * len(old.tokens)))
        self.chains.tokens[: self._length] = old.tokens[: self._length]
        insert(self.chains, 0, self._length)

    def match(self, tokens: Sequence[int] | Int32, limit: int = 1 << 30) -> dict[int, dict[int, int]]:
        """For each suffix length of `tokens` that occurs: continuation -> count, newest continuation first."""
        suffix = np.asarray(tokens, dtype=np.int32)[-ORDERS:]
        space = [np.empty(min(limit, self._length) + 1, dtype=np.int32) for _ in range(3)]
        result: dict[int, dict[int, int]] = {}
        positions = np.empty(ORDERS, dtype=np.int32)
        for order in range(1, newest_of(self.chains, suffix, len(suffix), positions) + 1):
            position = positions[order - 1]
            distinct, _ = collect(self.chains, position, suffix, len(suffix), order, limit, -1, -1, *space)
            if distinct == 0:
                break
            result[order] = dict(zip(space[0][:distinct].tolist(), space[1][:distinct].tolist(), strict=True))
        return result
