"""Databases of fixed-length n-grams keyed by their first token, as the paper of hierarchy drafting has them.

`RecentGrams` is its context level, `frequent_grams` its model level and `continuations_of` its statistics level
(arXiv 2502.05609, section 3.2). The default drafter does not use them; `drafting/hd/method.py` does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.memory import view
from hierdraft.databases.suffixarray import END, Index, Shelf, first_range, narrow, token_at
from hierdraft.kernels import njit

Gram = tuple[int, ...]

MOST_OCCURRENCES = 5_000
"""Most occurrences of one key that `continuations_of` counts, evenly spaced over all of them."""


class RecentGrams:
    """key -> its `width` most recently seen continuations of `length` tokens."""

    def __init__(self, length: int, width: int) -> None:
        self._length = length
        self._width = width
        self._lists: dict[int, OrderedDict[Gram, bool]] = {}
        self._tail: list[int] = []

    def extend(self, tokens: Iterable[int]) -> None:
        """Append text: every token but the last `length` is a key, with the tokens after it."""
        text = [*self._tail, *tokens]
        for start in range(len(text) - self._length):
            self.add(text[start], tuple(text[start + 1 : start + 1 + self._length]))
        self._tail = text[-self._length :]

    def add(self, key: int, continuation: Gram, *, probed: bool = False) -> None:
        """Note one continuation as the newest; the least recently seen one goes where there are too many.

        probed   it was not read in the text: a look ahead has found it
        """
        seen = self._lists.setdefault(key, OrderedDict())
        seen[continuation] = probed and seen.get(continuation, True)
        seen.move_to_end(continuation)
        if len(seen) > self._width:
            seen.popitem(last=False)

    def get(self, key: int) -> list[Gram]:
        """The continuations of a token, newest first."""
        return list(reversed(self._lists.get(key, ())))

    def only_probed(self, key: int, continuation: Gram) -> bool:
        """Whether nothing but a look ahead knows of this continuation."""
        return self._lists[key][continuation]


def frequent_grams(indexes: Sequence[Index], length: int, most: int) -> dict[int, list[Gram]]:
    """The `most` n-grams of 1 + `length` tokens that occur in the most documents: first token -> continuations.

    Continuations are in descending order of document frequency, equal ones in the order of their first occurrence.
    """
    found = [_with_counts(index, length + 1) for index in indexes]
    grams = np.concatenate([rows for rows, _ in found]) if found else np.empty((0, length + 1), dtype=np.int32)
    counts = np.concatenate([count for _, count in found]) if found else np.empty(0, dtype=np.int64)
    if len(found) > 1:
        grams, first, where = np.unique(grams, axis=0, return_index=True, return_inverse=True)
        counts = np.bincount(where.ravel(), weights=counts)
        order = np.lexsort((first, -counts))
    else:
        order = np.argsort(-counts, kind="stable")
    table: dict[int, list[Gram]] = {}
    for key, *continuation in grams[order[:most]].tolist():
        table.setdefault(key, []).append(tuple(continuation))
    return table


def _with_counts(index: Index, length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Every n-gram of an index, in the order of first occurrence, and in how many documents it occurs."""
    places, counts = np.empty((2, len(index.tokens)), dtype=np.int32)
    n = _count_documents(index.tokens, index.suffixes, len(index.starts) - 1, length, places, counts)
    order = np.argsort(places[:n], kind="stable")
    rows = index.tokens[places[:n][order][:, None] + np.arange(length)]
    return rows, counts[:n][order].astype(np.int64)


@njit(nogil=True)
def _count_documents(tokens: Any, suffixes: Any, vocab: int, length: int, places: Any, counts: Any) -> int:
    """Runs of equal n-grams in suffix order: the first place of each and its number of documents."""
    document = np.cumsum(tokens == END)
    seen = np.full(len(tokens) + 1, -1, dtype=np.int32)
    runs = 0
    before = -1
    for place in suffixes:
        if place < 0 or place + length > len(tokens):
            before = -1
            continue
        same, whole = before >= 0, True
        for i in range(length):
            whole = whole and 0 <= tokens[place + i] < vocab
            same = same and tokens[before + i] == tokens[place + i]
        if not whole:
            before = -1
            continue
        if not same:
            places[runs] = place
            counts[runs] = 0
            runs += 1
        before = place
        places[runs - 1] = min(places[runs - 1], place)
        if seen[document[place]] != runs:
            seen[document[place]] = runs
            counts[runs - 1] += 1
    return runs


def continuations_of(
    shelf: Shelf, pack: int, key: Sequence[int], length: int, most: int = MOST_OCCURRENCES
) -> list[Gram]:
    """What follows `key` in a pack, up to `length` tokens within one document: the `most` frequent, in that order."""
    out = np.empty((MOST_OCCURRENCES, length), dtype=np.int32)
    counts = np.empty(MOST_OCCURRENCES, dtype=np.int32)
    n = _continuations(shelf, pack, np.array(key, dtype=np.int32), out, counts)
    order = np.argsort(-counts[:n], kind="stable")
    return [tuple(t for t in row if t >= 0) for row in out[order[:most]].tolist()]


@njit(nogil=True)
def _continuations(shelf: Shelf, pack: int, key: Any, out: Any, counts: Any) -> int:
    """Distinct continuations of `key` into `out` int32[limit, length], filled up with END; returns how many."""
    size = shelf.length[pack]
    tokens = view(shelf.tokens[pack], size)
    suffixes = view(shelf.suffixes[pack], size)
    starts = view(shelf.starts[pack], shelf.vocab[pack] + 1)
    low, high = first_range(starts, size, shelf.vocab[pack], key[0])
    for depth in range(1, len(key)):
        low, high = narrow(tokens, suffixes, low, high, depth, key[depth])
    limit, length = out.shape
    looks = min(high - low, limit)
    made = 0
    for look in range(looks):
        rank = low + (look * (high - low)) // looks
        ended = False
        for i in range(length):
            token = END if ended else token_at(tokens, suffixes, rank, len(key) + i)
            ended = ended or token < 0 or token >= shelf.vocab[pack]
            out[made, i] = END if ended else token
        if out[made, 0] < 0:
            continue
        if made > 0 and (out[made] == out[made - 1]).all():  # suffixes are sorted, so equal ones are neighbours
            counts[made - 1] += 1
        else:
            counts[made] = 1
            made += 1
            if made == limit:
                break
    return made
