"""What a pack holds and what it is worth: its commonest n-grams, and how records would be drafted with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from hierdraft.answers import read_jsonl
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import token_at
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy import HierarchyDrafter
from hierdraft.engines.loop import Options, decode
from hierdraft.engines.replay import ReplayEngine
from hierdraft.errors import CorpusError

Ngram = tuple[list[int], int]


def top_ngrams(pack: Pack, size: int, most: int) -> list[Ngram]:
    """The `most` commonest n-grams of `size` tokens with their counts, the commonest first."""
    tokens, suffixes, _ = pack.index
    ranks, counts = np.zeros((2, most), dtype=np.int64)
    found = _top(tokens, suffixes, size, ranks, counts)
    places = [int(suffixes[rank]) for rank in ranks[:found]]
    grams = [(tokens[place : place + size].tolist(), int(n)) for place, n in zip(places, counts, strict=False)]
    return sorted(grams, key=lambda gram: (-gram[1], gram[0]))


@njit(cache=True, nogil=True)
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


def read_records(path: Path, vocab_size: int) -> Iterator[dict[str, Any]]:
    """Rows with `prompt_ids`, `output_ids` and `task` ("all" where there is none). Raises CorpusError."""
    for number, row in read_jsonl(path):
        for name in ("prompt_ids", "output_ids"):
            ids = row.get(name)
            if not isinstance(ids, list) or not ids or any(type(token) is not int for token in ids):
                raise CorpusError(f"{path}, line {number}: a record needs token ids under {name!r}.")
            if min(ids) < 0 or max(ids) >= vocab_size:
                raise CorpusError(f"{path}, line {number}: {name} has an id outside the vocabulary of {vocab_size}.")
        yield {**row, "task": str(row.get("task", "all"))}


def score(packs: Sequence[Pack], records: Sequence[dict[str, Any]], nodes: int, vocab_size: int) -> float:
    """Accepted length over all records with these packs and the request's own text; learns nothing of the records."""
    engine = ReplayEngine(vocab_size)
    drafter = HierarchyDrafter()
    drafter.attach(Databases(packs))
    tokens = steps = 0
    for row in records:
        engine.play(row["output_ids"])
        options = Options(limit=len(row["output_ids"]), budget=FixedBudget(nodes))
        for step in decode(engine, drafter, row["prompt_ids"], options):
            tokens += 0 if step.prefill else len(step.tokens)
            steps += 0 if step.prefill else 1
    return tokens / steps if steps else 1.0
