"""The immutable index: tokens and the order of their suffixes, both mapped from a file and never trusted.

`suffixes[i]` is where the i-th smallest suffix of `tokens` begins, so every occurrence of a text lies in one range
of `suffixes`, and within that range the occurrences are sorted by what comes next. Growing the text by a token
narrows its range; nothing is ever searched for again from the start. Documents are separated by `END`, which no
query contains and which is never a continuation.

Kernels read the arrays of any number of files through their addresses (`Shelf`): one compiled signature serves
every set of packs, writable or mapped read only. Whatever a damaged file holds, an index is checked before it is
used; see `token_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.memory import view
from hierdraft.kernels import njit
from hierdraft.tree import Int32

END = -1
"""Stands between two documents in `tokens`."""

LONGEST = 8
"""Longest suffix whose range is kept, in tokens."""

MOST_TOKENS = 2**31 - 2
"""Positions are 32 bits wide."""


class Shelf(NamedTuple):
    """What a kernel needs to know of P indexes. The caller keeps the arrays alive.

    tokens, suffixes, starts   int64[P]: addresses of int32 arrays (see `build`)
    length                     int64[P]: number of tokens
    vocab                      int64[P]: number of ids; `starts` has one entry more
    level                      uint8[P]: provenance code of what the index proposes
    """

    tokens: NDArray[np.int64]
    suffixes: NDArray[np.int64]
    starts: NDArray[np.int64]
    length: NDArray[np.int64]
    vocab: NDArray[np.int64]
    level: NDArray[np.uint8]


class Index(NamedTuple):
    """One suffix array: tokens int32[L], suffixes int32[L], starts int32[vocab + 1]."""

    tokens: Int32
    suffixes: Int32
    starts: Int32


def shelve(indexes: Sequence[Index], levels: Sequence[int]) -> Shelf:
    """The addresses and sizes of `indexes`, each of which must outlive every use of the result."""

    def numbers(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    for index in indexes:
        if any(array.dtype != np.int32 or not array.flags["C_CONTIGUOUS"] for array in index):
            raise ValueError("an index consists of contiguous int32 arrays")
        if len(index.tokens) != len(index.suffixes):
            raise ValueError("an index has one suffix for each token")
    return Shelf(
        numbers([index.tokens.ctypes.data for index in indexes]),
        numbers([index.suffixes.ctypes.data for index in indexes]),
        numbers([index.starts.ctypes.data for index in indexes]),
        numbers([len(index.tokens) for index in indexes]),
        numbers([len(index.starts) - 1 for index in indexes]),
        np.array(levels, dtype=np.uint8),
    )


@njit(nogil=True, inline="always")
def token_at(tokens: Any, suffixes: Any, rank: Any, depth: Any) -> Any:
    """The token `depth` places after the start of the suffix of that rank; `END` outside the text."""
    place = np.int64(suffixes[rank]) + depth
    if place < depth or place >= len(tokens):
        return END
    return np.int64(tokens[place])


@njit(nogil=True, forceinline=True)
def first_from(tokens: Any, suffixes: Any, low: Any, high: Any, depth: int, token: int) -> Any:
    """The first rank of low..high whose suffix continues, after `depth` tokens, with `token` or a higher id."""
    while low < high:
        middle = (low + high) >> 1
        if token_at(tokens, suffixes, middle, depth) < token:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, forceinline=True)
def narrow(tokens: Any, suffixes: Any, low: Any, high: Any, depth: int, token: int) -> tuple[Any, Any]:
    """The part of the range low..high-1, whose suffixes agree in `depth` tokens, that continues with `token`."""
    if token < 0:
        return low, low
    low = first_from(tokens, suffixes, low, high, depth, token)
    step = 1
    end = low
    while end < high and token_at(tokens, suffixes, end, depth) == token:  # leap, then search in the last leap
        low_end = end + 1
        end += step
        step *= 2
    if step == 1:
        return low, low
    return low, first_from(tokens, suffixes, low_end, min(end, high), depth, token + 1)


@njit(nogil=True, forceinline=True)
def first_range(starts: Any, length: Any, vocab: Any, token: int) -> tuple[Any, Any]:
    """The range of suffixes that begin with `token`, empty for an id outside the vocabulary."""
    if token < 0 or token >= vocab:
        return 0, 0
    low = min(max(np.int64(starts[token]), 0), length)
    high = min(max(np.int64(starts[token + 1]), low), length)
    return low, high


@njit(nogil=True)
def follow(shelf: Shelf, pack: int, lows: Any, highs: Any, token: int) -> None:
    """One more committed token: lows/highs int32[LONGEST + 1] become the ranges of the longer text's suffixes.

    Entry n is the range of the last n tokens; entry 0 is everything. An order that does not occur, and every longer
    one, is empty (low == high).
    """
    length = shelf.length[pack]
    tokens = view(shelf.tokens[pack], length)
    suffixes = view(shelf.suffixes[pack], length)
    starts = view(shelf.starts[pack], shelf.vocab[pack] + 1)
    deepest = LONGEST - 1
    while deepest > 0 and lows[deepest] >= highs[deepest]:
        deepest -= 1
    low = high = np.int64(-1)
    for order in range(deepest, 0, -1):
        if lows[order] == low and highs[order] == high:  # one and the same range continues in the same way
            lows[order + 1], highs[order + 1] = lows[order + 2], highs[order + 2]
            continue
        low, high = np.int64(lows[order]), np.int64(highs[order])
        lows[order + 1], highs[order + 1] = narrow(tokens, suffixes, low, high, order, token)
    for order in range(deepest + 2, LONGEST + 1):
        lows[order], highs[order] = 0, 0
    lows[1], highs[1] = first_range(starts, length, shelf.vocab[pack], token)
    lows[0], highs[0] = 0, length


@njit(nogil=True)
def follow_all(shelf: Shelf, lows: Any, highs: Any, added: Any) -> None:
    """Committed tokens int32[n] for every pack; lows, highs int32[packs, LONGEST + 1], see `follow`."""
    for pack in range(len(shelf.length)):
        for token in added:
            follow(shelf, pack, lows[pack], highs[pack], token)


@njit(nogil=True)
def document_start(tokens: Any, place: int) -> int:
    """Where the document that holds position `place` begins."""
    while place > 0 and tokens[place - 1] != END:
        place -= 1
    return place


@njit(nogil=True, forceinline=True)
def sample(
    tokens: Any, suffixes: Any, low: Any, high: Any, depth: int, vocab: int, limit: int, found: Any, counts: Any
) -> tuple[int, int]:
    """Continuations of a range, from all its occurrences or from `limit` evenly spaced ones.

    Writes each distinct continuation to `found` and how often it was met to `counts`, both int32[limit]; returns
    (distinct, met). Document ends and ids outside the vocabulary are not continuations.
    """
    size = high - low
    looks = min(size, limit)
    for i in range(looks):  # nothing is compared before all are read, so that the cache misses overlap
        rank = low + i if size <= limit else low + ((2 * i + 1) * size) // (2 * limit)
        found[i] = token_at(tokens, suffixes, rank, depth)
    distinct = 0
    total = 0
    for i in range(looks):
        token = found[i]
        if token < 0 or token >= vocab:
            continue
        total += 1
        if distinct > 0 and found[distinct - 1] == token:
            counts[distinct - 1] += 1
            continue
        found[distinct] = token
        counts[distinct] = 1
        distinct += 1
    return distinct, total


@njit(nogil=True, forceinline=True)
def sample_skipping(
    tokens: Any, suffixes: Any, low: Any, high: Any, depth: int, vocab: int, limit: int, found: Any, counts: Any
) -> tuple[int, int]:
    """Like `sample`, but of what came one token later, whatever the token in between was."""
    size = high - low
    looks = min(size, limit)
    for i in range(looks):
        rank = low + i if size <= limit else low + ((2 * i + 1) * size) // (2 * limit)
        token = token_at(tokens, suffixes, rank, depth + 1)
        found[i] = END if token_at(tokens, suffixes, rank, depth) < 0 else token
    distinct = 0
    total = 0
    for i in range(looks):
        token = found[i]
        if token < 0 or token >= vocab:
            continue
        total += 1
        slot = 0
        while slot < distinct and found[slot] != token:
            slot += 1
        if slot == distinct:
            found[slot] = token
            counts[slot] = 0
            distinct += 1
        counts[slot] += 1
    return distinct, total


@njit(nogil=True)
def runs(tokens: Any, suffixes: Any, low: int, high: int, depth: int, vocab: int, found: Any, counts: Any) -> int:
    """All continuations of a range with their exact counts, ascending by id; returns how many there are.

    `found`, `counts`: int32 arrays; what does not fit is left out.
    """
    distinct = 0
    while low < high and distinct < len(found):
        token = token_at(tokens, suffixes, low, depth)
        if token < 0 or token >= vocab:
            low += 1
            continue
        low, end = narrow(tokens, suffixes, low, high, depth, token)
        if end == low:  # only a damaged file is unsorted
            return distinct
        found[distinct] = token
        counts[distinct] = end - low
        distinct += 1
        low = end
    return distinct


def match(index: Index, tokens: Sequence[int] | Int32) -> dict[int, dict[int, int]]:
    """For each suffix length 1..LONGEST of `tokens` that occurs: continuation -> exact count."""
    text, suffixes, starts = index
    vocab = len(starts) - 1
    lows, highs = np.zeros((2, LONGEST + 1), dtype=np.int32)
    shelf = shelve([index], [0])
    for token in np.asarray(tokens, dtype=np.int64)[-LONGEST:]:
        follow(shelf, 0, lows, highs, int(token))
    result: dict[int, dict[int, int]] = {}
    for order in range(1, LONGEST + 1):
        if lows[order] >= highs[order]:
            break
        found, counts = np.empty((2, min(vocab, int(highs[order] - lows[order]))), dtype=np.int32)
        n = runs(text, suffixes, int(lows[order]), int(highs[order]), order, vocab, found, counts)
        if n:
            result[order] = dict(zip(found[:n].tolist(), counts[:n].tolist(), strict=True))
    return result
