"""The hash-chain kernels against a plain scan of the text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.hashchain import LOOK_BACK, MOST_PLACES, ORDERS, HashChains, age_of, align, collect, newest_of

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
        distinct, total = collect(index.chains, position, key, len(key), order, limit, -1, -1, *arrays)
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


@given(TEXTS, st.lists(st.integers(0, 3), max_size=8), st.integers(0, 3), st.integers(-1, 120))
def test_a_skip_look_takes_what_followed_another_token(
    text: list[int], suffix: list[int], other: int, expected: int
) -> None:
    index = HashChains(8)
    index.extend(text)
    arrays = [np.empty(200, dtype=np.int32) for _ in range(3)]
    key = np.array(suffix, dtype=np.int32)
    positions = np.empty(ORDERS, dtype=np.int32)
    for order in range(1, newest_of(index.chains, key, len(key), positions) + 1):
        entry = positions[order - 1]
        distinct, total = collect(index.chains, entry, key, len(key), order, 199, expected, other, *arrays)
        places = [
            p + 1
            for p in range(len(text) - 2, order - 1, -1)
            if text[p - order : p] == suffix[len(suffix) - order :] and text[p] != other
        ]
        found = [text[p] for p in places]
        assert total == len(found)
        assert arrays[0][:distinct].tolist() == list(dict.fromkeys(found))
        marked = {text[p] for p in places if p == expected} if expected >= 0 else set(found[:1])
        assert {int(t) for t, new in zip(arrays[0][:distinct], arrays[2][:distinct], strict=True) if new == 0} == marked


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_a_followed_text_goes_on_at_the_nearest_place(text: list[int], suffix: list[int]) -> None:
    index = HashChains(8)
    index.extend(text)
    expected = len(text) // 2
    found = align(index.chains, np.array(suffix, dtype=np.int32), expected)
    if text[expected] == suffix[-1]:
        assert found == expected + 1
        return
    for order in range(len(suffix), 1, -1):
        places = [p for p in range(order, len(text)) if text[p - order : p] == suffix[-order:]]
        if places:
            assert found in places
            assert abs(found - expected) == min(abs(p - expected) for p in places)
            return
    assert found == expected + 1


@given(TEXTS, st.integers(0, 3))
def test_the_age_of_a_token(text: list[int], token: int) -> None:
    index = HashChains(8)
    index.extend(text)
    places = [i for i, other in enumerate(text[:-1]) if other == token]
    age = int(np.log2(len(text) - places[-1])) if places else 15
    assert age_of(index.chains, len(text), token, 16) == age


@pytest.mark.parametrize(("repeats", "total"), [(20, 1), (5 * LOOK_BACK - 2, 1), (5 * LOOK_BACK + 1, 0), (5000, 0)])
def test_a_look_does_not_read_all_of_a_text_that_repeats_itself(repeats: int, total: int) -> None:
    """What another token than 7 followed stands before all the repetitions: it is found where it is near enough."""
    index = HashChains(8)
    index.extend([7, 9, 4, *[7] * repeats])
    arrays = [np.empty(6, dtype=np.int32) for _ in range(3)]
    key = np.array([7], dtype=np.int32)
    entry = np.empty(ORDERS, dtype=np.int32)
    newest_of(index.chains, key, 1, entry)
    assert collect(index.chains, entry[0], key, 1, 1, 5, -1, 7, *arrays)[1] == total
    assert collect(index.chains, entry[0], key, 1, 1, 5, -1, -1, *arrays)[1] == 5


def test_a_followed_text_that_repeats_itself_is_not_read_to_its_beginning() -> None:
    index = HashChains(8)
    index.extend([5, 5] * (2 * MOST_PLACES))
    suffix = np.array([5, 5], dtype=np.int32)
    for expected, found in ((3, 3 * MOST_PLACES), (4 * MOST_PLACES - 10, 4 * MOST_PLACES - 10)):
        index.chains.tokens[expected] = 9  # what came is not what was expected
        assert align(index.chains, suffix, expected) == found
