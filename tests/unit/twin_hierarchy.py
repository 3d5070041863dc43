"""The growing of a tree, slowly and obviously: what every source says about a row, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hierdraft.databases.hashchain import LOOK_BACK, ORDERS, Chains, TextShelf
from hierdraft.databases.suffixarray import END, LONGEST
from hierdraft.drafting.hierarchy.cells import (
    PER_LOOK,
    SHARES,
    SKIP,
    SOURCES,
    cell_of,
    opinion_cell,
    rank_cell,
    source_of,
    strength_of,
)
from hierdraft.drafting.hierarchy.evidence import AGES, BRANCHES, LOOKS, RANKS, TOKENS, Weights
from hierdraft.drafting.hierarchy.lookups import DEEPEST, LIKELY, MOST_OCCURRENCES, OCCURRENCES
from hierdraft.levels import code_of, level_names
from tests.databases.test_suffixarray import sorted_occurrences

REFERENCE, CONTEXT, RECYCLED, MODEL, STATISTICS = range(5)
assert level_names()[:5] == ("reference", "context", "recycled", "model", "statistics")
FURTHER = code_of("draft")
"""A level that no text of hierdraft's own stands for."""


@dataclass
class Texts:
    """What is drafted from: texts, packs (tokens, level), successors (previous or -1, token) -> (ids, confirmed).

    `opinions`: path -> (token, bucket) of what a model thinks comes after it, likeliest first.
    """

    context: list[int]
    reference: list[int] = field(default_factory=list)
    expected: int = -1
    recent: list[int] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    packs: Sequence[tuple[list[int], int]] = ()
    successors: dict[tuple[int, int], tuple[list[int], bool]] = field(default_factory=dict)
    opinions: dict[tuple[int, ...], list[tuple[int, int]]] = field(default_factory=dict)


Note = tuple[int, int, int]
"""Token, cell, rank of the look."""


def shelve_texts(texts: Sequence[Chains], levels: Sequence[int]) -> TextShelf:
    """The addresses and sizes of `texts`, each of which must outlive every use of the result."""
    if len(texts) != len(levels):
        raise ValueError("every text has one level")
    numbers = [[*(array.ctypes.data for array in text), len(text.tokens), text.heads.shape[1]] for text in texts]
    tokens, heads, prev, capacity, buckets = np.array(numbers, dtype=np.int64).reshape(len(texts), 5).T.copy()
    return TextShelf(tokens, heads, prev, capacity, buckets, np.array(levels, dtype=np.uint8))


def in_text(text: list[int], suffix: list[int], source: int, expected: int) -> tuple[list[Note], int]:
    """Looks in a text: from the longest suffix to the shortest, each newest occurrence first."""
    notes: list[Note] = []
    skipping = source >= SKIP
    before = rank = longest = 0
    gap = 1 if skipping else 0
    key = suffix[:-1] if skipping else suffix
    for order in range(len(key), 0, -1):
        found = []
        places = [p for p in range(len(text) - 1, order - 1, -1) if text[p - order : p] == key[-order:]]
        for place in places[: LOOK_BACK * OCCURRENCES]:
            if text[place] < 0 or place + gap >= len(text):
                continue
            if skipping and (text[place] == suffix[-1] or text[place + 1] < 0):
                continue
            found.append(place + gap)
        found = found[:OCCURRENCES]
        if len(found) <= before:
            continue
        before = len(found)
        longest = max(longest, order)
        tokens = [text[place] for place in found]
        for token in dict.fromkeys(tokens):
            special = tokens[0] == token if expected < 0 else any(text[p] == token for p in found if p == expected)
            notes.append((token, cell_of(source, order, tokens.count(token), len(tokens), special), rank))
        rank += 1
        if len(found) == OCCURRENCES or rank == RANKS or skipping:
            break
    return notes, longest


def spread(places: list[int], limit: int = OCCURRENCES) -> list[int]:
    """All of them, or `limit` evenly spaced ones."""
    if len(places) <= limit:
        return places
    return [places[(2 * i + 1) * len(places) // (2 * limit)] for i in range(limit)]


def in_pack(pack: list[int], level: int, whole: list[int], depth: int, reach: float) -> tuple[list[Note], int]:
    """Looks in a pack: the longest suffixes that occur, then one token later, after the text before.

    A suffix reaches LONGEST tokens into the committed text, and `depth` tokens of the tree come after that.
    """
    limit = MOST_OCCURRENCES if reach >= LIKELY else OCCURRENCES
    notes: list[Note] = []
    rank, before, longest = 0, -1, 0
    for order in range(min(LONGEST + depth, DEEPEST, len(whole)), 0, -1):
        places = sorted_occurrences(pack, whole[len(whole) - order :])
        known = min(order, LONGEST)
        if places:
            longest = max(longest, known)
        if not places or len(places) == before or rank == RANKS:
            continue
        before = len(places)
        tokens = [pack[p + order] for p in spread(places, limit) if p + order < len(pack) and pack[p + order] != END]
        notes += [(t, cell_of(level, known, tokens.count(t), len(tokens), False), rank) for t in dict.fromkeys(tokens)]
        rank += 1
        if len(tokens) >= (limit if reach >= LIKELY else 1):
            break
    shorter = whole[:-1]
    for order in range(min(LONGEST + max(depth - 1, 0), DEEPEST, len(shorter)), 1, -1):
        places = sorted_occurrences(pack, shorter[len(shorter) - order :])
        if places:
            later = [p + order + 1 for p in spread(places) if p + order + 1 < len(pack) and pack[p + order] != END]
            tokens = [pack[p] for p in later if pack[p] != END]
            cells = {t: cell_of(level + SKIP, min(order, LONGEST), tokens.count(t), len(tokens), False) for t in tokens}
            notes += [(token, cell, 0) for token, cell in cells.items()]
            break
    return notes, longest


def row_notes(texts: Texts, path: list[int], reach: float, hurried: bool) -> tuple[list[Note], int, int]:
    """Everything noted about a row, in order, and the longest suffixes found near and far."""
    whole = [*texts.context, *path]
    suffix = whole[-ORDERS:]
    notes: list[Note] = []
    near = far = 0
    expected = texts.expected + len(path) if texts.expected >= 0 else -1
    asked = ((texts.reference, REFERENCE), (texts.context, CONTEXT), (texts.recent, MODEL), (texts.further, FURTHER))
    for text, level in asked:
        here = expected if level == REFERENCE else -1
        found, longest = in_text(text, suffix, level, here)
        notes += found + in_text(text, suffix, level + SKIP, here)[0]
        near = max(near, longest if level in (REFERENCE, CONTEXT) else 0)
        far = max(far, longest if level in (MODEL, FURTHER) else 0)
    if 0 <= expected < len(texts.reference) and texts.reference[expected] >= 0:
        agrees = expected == 0 or suffix[-1] == texts.reference[expected - 1]
        notes.append((texts.reference[expected], cell_of(REFERENCE + SKIP, 1, 1, 2, agrees), RANKS - 1))
    rank = 0
    for order in (2, 1):
        key = (suffix[-2] if order == 2 else -1, suffix[-1]) if len(suffix) >= order else None
        if key in texts.successors:
            ids, confirmed = texts.successors[key]
            notes += [(token, rank_cell(RECYCLED, order, i, confirmed), rank) for i, token in enumerate(ids)]
            rank += 1
    for pack, level in texts.packs:
        found, longest = in_pack(pack, level, whole, len(path), 0.0 if hurried else reach)
        notes += found
        far = max(far, longest)
    thought = enumerate(texts.opinions.get(tuple(path), []))
    notes += [(token, opinion_cell(FURTHER, rank, bucket), 0) for rank, (token, bucket) in thought]
    if hurried:
        notes = [note for note in notes if source_of(note[1]) < SKIP]
    return notes, near, far


def age_in(text: list[int], token: int) -> int:
    """How long ago the token was last used, the text's last token not counted."""
    places = [i for i, other in enumerate(text[:-1]) if other == token]
    return min(AGES - 2, int(math.log2(len(text) - places[-1]))) if places else AGES - 1


def probabilities(
    texts: Texts, path: list[int], reach: float, weights: Weights, hurried: bool = False
) -> dict[int, float]:
    """Softmax over the candidates of a row and "none of them"."""
    notes, near, far = row_notes(texts, path, reach, hurried)
    looks: dict[int, list[tuple[int, int]]] = {}
    for token, cell, rank in notes:
        if token in looks or len(looks) < BRANCHES:
            looks.setdefault(token, []).append((cell, rank))
    scores: dict[int, float] = {}
    for token, every in looks.items():
        used = every[:LOOKS]
        score = float(weights.token[token & TOKENS])
        for cell, rank in used:
            score += float(
                weights.look[(rank * SOURCES + source_of(cell)) * ORDERS + cell // PER_LOOK % ORDERS]
            ) * float(weights.evidence[cell])
        mask = 0
        strengths = [0] * SKIP
        for cell, _ in used:
            source = source_of(cell)
            mask |= 1 << min(source, SKIP)
            if source < SKIP and strengths[source] == 0:
                strengths[source] = strength_of(cell)
        share = used[0][0] // 2 % SHARES
        score += float(weights.mask[mask])
        score += float(weights.mix[(share * len(weights.mask) + mask) * AGES + age_in(texts.context, token)])
        for pair, (a, b) in enumerate(((CONTEXT, MODEL), (CONTEXT, STATISTICS), (MODEL, STATISTICS))):
            score += float(weights.pair[pair, strengths[a], strengths[b]])
        scores[token] = score
    none = float(weights.none[near * (ORDERS + 1) + far])
    highest = max([none, *scores.values()])
    total = math.exp(none - highest) + sum(math.exp(score - highest) for score in scores.values())
    return {token: math.exp(score - highest) / total for token, score in scores.items()}
