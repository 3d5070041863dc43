"""What a pack holds and what it is worth: its commonest n-grams, and how records would be drafted with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierdraft.bench.replay import compare
from hierdraft.corpus.records import Record
from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import token_at
from hierdraft.kernels import njit

Ngram = tuple[list[int], int]


def top_ngrams(pack: Pack, size: int, most: int) -> list[Ngram]:
    """The `most` commonest n-grams of `size` tokens with their counts, the commonest first."""
    tokens, suffixes, _ = pack.index
    ranks, counts = np.zeros((2, most), dtype=np.int64)
    found = _top(tokens, suffixes, size, ranks, counts)
    places = [int(suffixes[rank]) for rank in ranks[:found]]
    grams = [(tokens[place : place + size].tolist(), int(n)) for place, n in zip(places, counts, strict=False)]
    return sorted(grams, key=lambda gram: (-gram[1], gram[0]))


@njit(nogil=True)
def _top(tokens: Any, suffixes: Any, size: int, ranks: Any, counts: Any) -> int:
    """Ranks and counts of the longest runs of suffixes that agree in `size` tokens; returns how many there are."""
    held = 0
    start = 0
    for rank in range(1, len(suffixes) + 1):
        if rank < len(suffixes):
            same = True
            for depth in range(size):
                if token_at(tokens, suffixes, rank, depth) != token_at(tokens, suffixes, start, depth):
                    same = False
                    break
            if same:
                continue
        whole = True
        for depth in range(size):
            whole = whole and token_at(tokens, suffixes, start, depth) >= 0
        if whole and held < len(ranks):
            ranks[held], counts[held] = start, rank - start
            held += 1
        elif whole:
            least = counts.argmin()
            if rank - start > counts[least]:
                ranks[least], counts[least] = start, rank - start
        start = rank
    return held


def score(packs: Sequence[Pack], records: Sequence[Record], nodes: int, vocab_size: int) -> float:
    """Accepted length over all records with these packs and the request's own text; learns nothing of the records."""
    return compare(records, ["hierarchy"], packs, vocab_size, nodes)["hierarchy"].accepted_length()
