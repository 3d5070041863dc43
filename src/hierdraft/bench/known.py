"""Whether an answer was known before it was asked for: it stands in a database, or the prompt came earlier in the run.

Drafting such an answer is easy, and says little about answers that are new; the report tells how many there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hierdraft.bench.runs import Record
from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import END, Index

VERBATIM = 32
"""An answer counts as known to a database that holds this many of its first tokens, or all of them, in one piece."""

SHORTEST = 16
"""Answers below this many tokens do not count: they may stand anywhere."""


def beginning_known(packs: Iterable[Pack], answer: Sequence[int]) -> dict[str, Any] | None:
    """The database that holds most of the answer's beginning in one piece: {"database", "tokens"}; None if none does.

    At most `VERBATIM` tokens are looked for.
    """
    found = [(_longest(pack.index, answer[:VERBATIM]), pack.path.name) for pack in packs]
    tokens, name = max(found, key=lambda one: one[0], default=(0, ""))
    return {"database": name, "tokens": tokens} if tokens else None


def _longest(index: Index, ids: Sequence[int]) -> int:
    """How many of the first `ids` occur in the index one after the other."""
    low, high = 0, len(index.suffixes)
    for depth, token in enumerate(ids):
        ranks = range(low, high)

        def after(rank: int, depth: int = depth) -> int:
            place = int(index.suffixes[rank]) + depth
            return int(index.tokens[place]) if depth <= place < len(index.tokens) else END

        low, high = low + bisect_left(ranks, token, key=after), low + bisect_right(ranks, token, key=after)
        if low >= high:
            return depth
    return len(ids)


def known_answers(records: Mapping[str, Record], names: Sequence[str]) -> dict[str, list[str]]:
    """Which answers (of plain decoding's records) were no news.

    in_databases   what they say stood in a database that was drafted from
    asked_before   their prompt had come earlier in the same run, so that methods that learn had learned the answer
    """
    found: dict[str, list[str]] = {"in_databases": [], "asked_before": []}
    seen: set[tuple[int, ...]] = set()
    wanted = set(names)
    for name, record in records.items():
        prompt = tuple(record["prompt_ids"])
        if name in wanted and prompt in seen:
            found["asked_before"].append(name)
        seen.add(prompt)
        length = len(record["output_ids"])
        tokens = (record.get("known") or {}).get("tokens", 0)
        if name in wanted and length >= SHORTEST and tokens >= min(VERBATIM, length - 1):
            found["in_databases"].append(name)
    return found
