"""Which packs a new one replaces, and which documents stay when a database has reached its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import END
from hierdraft.tree import Int32

RATIO = 3
"""A pack is merged with a newer one of at least a third of its size, so that there are never many."""

KEPT = 0.8
"""How much of the limit is filled after documents had to go."""


class Merged(NamedTuple):
    """The text of a new pack, the packs it replaces, and when its documents (by first position) were last useful."""

    tokens: Int32
    replaced: tuple[Pack, ...]
    used: dict[int, int]


def merge(packs: Sequence[Pack], added: Int32, used: Mapping[str, Mapping[int, int]], most_tokens: int) -> Merged:
    """Put `added`, newly learned text, together with the packs that are not much larger than it.

    packs        oldest first
    used         pack's file name -> first position of a document -> when it was last useful
    most_tokens  if everything together is larger, all packs are replaced and the documents that were least recently
                 useful, or were never, oldest first, are left out
    """
    total = len(added) + sum(len(pack.index.tokens) for pack in packs)
    if total > most_tokens:
        return _shrink(packs, added, used, int(KEPT * most_tokens))
    size = len(added)
    first = len(packs)
    while first > 0 and len(packs[first - 1].index.tokens) <= RATIO * size:
        first -= 1
        size += len(packs[first].index.tokens)
    replaced = tuple(packs[first:])
    stamps: dict[int, int] = {}
    at = 0
    for pack in replaced:
        stamps.update({at + place: when for place, when in used.get(pack.path.name, {}).items()})
        at += len(pack.index.tokens)
    return Merged(np.concatenate([*(pack.index.tokens for pack in replaced), added]), replaced, stamps)


def _shrink(packs: Sequence[Pack], added: Int32, used: Mapping[str, Mapping[int, int]], most: int) -> Merged:
    texts = [*(pack.index.tokens for pack in packs), added]
    stamps = [*(used.get(pack.path.name, {}) for pack in packs), {}]
    spans: list[tuple[int, int, int, int, int]] = []  # when useful, age, text, start, stop
    for number, text in enumerate(texts):
        ends = np.flatnonzero(text == END)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            spans.append((stamps[number].get(start, 0), len(spans), number, start, end + 1))
    kept = []
    room = most
    for span in sorted(spans, reverse=True):
        size = span[4] - span[3]
        if size <= room:
            room -= size
            kept.append(span)
    kept.sort(key=lambda span: span[1])
    result: dict[int, int] = {}
    at = 0
    for when, _, _, start, stop in kept:
        if when:
            result[at] = when
        at += stop - start
    parts = [texts[number][start:stop] for _, _, number, start, stop in kept]
    return Merged(np.concatenate(parts) if parts else np.empty(0, dtype=np.int32), tuple(packs), result)
