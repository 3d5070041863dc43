"""The hash-chain kernels against a plain scan of the text."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.hashchain import ORDERS, HashChains, collect, newest_of
from hierdraft.databases.levels import ContextLevel

TEXTS = st.lists(st.integers(0, 3), max_size=120)


def scan(text: list[int], suffix: list[int], order: int) -> list[int]:
    """Continuations of the last `order` tokens of `suffix`, newest first."""
    key = suffix[len(suffix) - order :]
    return [text[p] for p in range(len(text) - 1, order - 1, -1) if text[p - order : p] == key]


@given(TEXTS, st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(1, 30), max_size=6))
def test_match_is_a_scan(text: list[int], suffix: list[int], cuts: list[int]) -> None:
    index = HashChains(16)  # small, so that it grows
    at = 0
    for cut in [*cuts, len(text)]:
        index.extend(text[at : at + cut])
        at = min(len(text), at + cut)
    assert index.tokens.tolist() == text[:at]
    expected = {}
    for order in range(1, min(ORDERS, len(suffix)) + 1):
        found = scan(text[:at], suffix, order)
        if not found:
            break
        expected[order] = dict(Counter(found))
    assert index.match(suffix) == expected


@given(TEXTS, st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(1, 6))
def test_collect_reports_the_newest_first(text: list[int], suffix: list[int], limit: int) -> None:
    index = HashChains(8)
    index.extend(text)
    arrays = [np.empty(limit + 1, dtype=np.int32) for _ in range(3)]
    key = np.array(suffix, dtype=np.int32)
    positions = np.empty(ORDERS, dtype=np.int32)
    looked_up = newest_of(index.chains, key, len(key), positions)
    for order in range(1, len(suffix) + 1):
        position = positions[order - 1] if order <= looked_up else -1
        distinct, total = collect(index.chains, position, key, len(key), order, limit, *arrays)
        found = scan(text, suffix, order)[:limit]
        assert total == len(found)
        counts = Counter(found)
        assert distinct == len(counts)
        for token, count, rank in zip(*(array[:distinct].tolist() for array in arrays), strict=True):
            assert counts[token] == count
            assert found.index(token) == rank


def test_large_ids_do_not_collide_into_wrong_text() -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(0, 262_144, 5_000).astype(np.int32)
    index = HashChains(64)
    index.extend(text)
    for place in rng.integers(ORDERS, len(text) - 1, 300):
        match = index.match(text[place - ORDERS : place])
        assert set(match) == set(range(1, ORDERS + 1))
        assert match[ORDERS] == {int(text[place]): 1}
    assert index.match([262_143, 262_143, 262_143]) in ({}, {1: index.match([262_143]).get(1)})


def test_the_context_level_forgets_on_close() -> None:
    level = ContextLevel([1, 2, 3, 1, 2], room=3)
    level.extend([3, 1])
    assert level.match([1, 2]) == {1: {3: 2}, 2: {3: 2}}
    level.close()
    assert level.match([1, 2]) == {}
