"""Retrieval from packs as REST and SAM-Decoding do it: the longest suffix that occurs, and what followed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import END, first_range, narrow
from hierdraft.tree import DraftTree, Int32

Rows = NDArray[np.int32]


class Datastore:
    """The packs of some levels, asked for the longest suffix of a text."""

    def __init__(
        self, databases: Databases, namespace: str, levels: Sequence[str], longest: int, width: int = 0, most: int = 0
    ) -> None:
        """Of what a request of this namespace may draft from.

        longest: tokens of a suffix; width: of what follows; most: occurrences that are looked at
        """
        self._longest, self._width, self._most = longest, width, most
        self._packs = databases.open(namespace, levels).packs

    def find(self, tokens: Int32) -> tuple[int, Rows]:
        """(length of the longest suffix that occurs in a pack, what followed it int32[m, width] in suffix order).

        The first pack wins among equals; END stands where a document ended. (0, int32[0, width]) for no match.
        """
        for size in range(min(self._longest, len(tokens)), 0, -1):
            for pack in self._packs:
                low, high = _range(pack, tokens[-size:])
                if low < high:
                    return size, self._rows(pack, low, min(high, low + self._most), size)
        return 0, np.empty((0, self._width), dtype=np.int32)

    def matches(self, tokens: Int32) -> Iterator[tuple[Pack, int, int, int]]:
        """(pack, n, low, high): where the last n tokens occur, for every pack and every n that does."""
        for pack in self._packs:
            for size in range(1, min(self._longest, len(tokens)) + 1):
                low, high = _range(pack, tokens[-size:])
                if low >= high:
                    break
                yield pack, size, low, high

    def _rows(self, pack: Pack, low: int, high: int, size: int) -> Rows:
        known = pack.index.tokens
        places = pack.index.suffixes[low:high].astype(np.int64)[:, None] + size + np.arange(self._width)
        inside = (places >= 0) & (places < len(known))
        rows = np.where(inside, known[np.clip(places, 0, len(known) - 1)], END).astype(np.int32)
        ended = np.logical_or.accumulate((rows < 0) | (rows >= pack.info.vocab_size), axis=1)
        rows[ended] = END
        return rows


def _range(pack: Pack, key: Int32) -> tuple[int, int]:
    """The suffixes that begin with `key`."""
    index = pack.index
    if key[0] >= pack.info.vocab_size:
        return 0, 0
    low, high = first_range(index.starts, len(index.tokens), pack.info.vocab_size, int(key[0]))
    for depth in range(1, len(key)):
        if low >= high:
            break
        low, high = narrow(index.tokens, index.suffixes, low, high, depth, int(key[depth]))
    return int(low), int(high)


def frequent_prefixes(rows: Rows, nodes: int, level: int) -> DraftTree:
    """The `nodes` prefixes of sorted rows that occur most often, as a tree; shorter ones first among equals."""
    if len(rows) == 0:
        return DraftTree.empty()
    fresh = np.ones(rows.shape, dtype=np.bool_)
    fresh[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    found: list[tuple[int, int, int]] = []  # (how often, depth, first row)
    for depth in range(rows.shape[1]):
        starts = np.flatnonzero(fresh[:, depth])
        counts = np.diff(np.append(starts, len(rows)))
        keep = rows[starts, depth] >= 0
        order = np.argsort(-counts[keep], kind="stable")[:nodes]
        found += [(int(-counts[keep][i]), depth, int(starts[keep][i])) for i in order]
    chosen = sorted(found)[:nodes]
    number = {(depth, start): node for node, (_, depth, start) in enumerate(chosen)}
    parents = []
    for _, depth, start in chosen:
        above = int(np.flatnonzero(fresh[: start + 1, depth - 1])[-1]) if depth else 0
        parents.append(number[depth - 1, above] if depth else -1)
    ids = [int(rows[start, depth]) for _, depth, start in chosen]
    return DraftTree.build(ids, parents, prob=[-count / len(rows) for count, _, _ in chosen], level=level)
