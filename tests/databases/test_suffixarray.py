"""The suffix-array kernels against plain scans; no index that a damaged file could hold does harm."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.pack import join, split
from hierdraft.databases.suffixarray import (
    END,
    LONGEST,
    Index,
    document_start,
    follow,
    follow_all,
    match,
    narrow,
    runs,
    sample,
    shelve,
)
from hierdraft.databases.suffixsort import DEPTH, build, merge_some

TEXTS = st.lists(st.integers(END, 3), max_size=150)
QUERIES = st.lists(st.integers(0, 3), max_size=12)


def sorted_occurrences(text: list[int], key: list[int]) -> list[int]:
    """Where `key` occurs, in the order of the suffixes that begin there."""
    places = [p for p in range(len(text) - len(key) + 1) if text[p : p + len(key)] == key]
    return sorted(places, key=lambda p: text[p:])


def index_of(text: list[int], vocab: int = 4) -> Index:
    return build(np.array(text, dtype=np.int32), vocab)


@given(TEXTS)
def test_suffixes_are_sorted(text: list[int]) -> None:
    tokens, suffixes, starts = index_of(text)
    assert suffixes.tolist() == sorted(range(len(text)), key=lambda p: text[p:])
    assert starts.tolist() == [sum(token < t for token in text) for t in range(5)]
    assert tokens.tolist() == text


@pytest.mark.parametrize("vocab", [3, 70_000, 262_144])
def test_any_vocabulary(vocab: int) -> None:
    """More than 65,535 different ids take the wide path."""
    rng = np.random.default_rng(0)
    text = np.concatenate([rng.permutation(vocab).astype(np.int32), [END], rng.integers(0, vocab, 2_000)])
    index = build(text.astype(np.int32), vocab)
    assert sorted(index.suffixes.tolist()) == list(range(len(text)))
    for rank in rng.integers(1, len(text), 500).tolist():
        a, b = index.suffixes[rank - 1], index.suffixes[rank]
        assert text[a : a + 40].tolist() <= text[b : b + 40].tolist()


@pytest.mark.parametrize("wrong", [4, -2])
def test_ids_outside_the_vocabulary_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary of 4"):
        index_of([1, wrong])


@given(TEXTS, QUERIES)
def test_match_is_a_scan(text: list[int], query: list[int]) -> None:
    expected = {}
    for order in range(1, min(LONGEST, len(query)) + 1):
        places = sorted_occurrences(text, query[len(query) - order :])
        after = Counter(text[p + order] for p in places if p + order < len(text) and text[p + order] != END)
        if after:
            expected[order] = dict(after)
    assert match(index_of(text), query) == expected


@given(TEXTS, st.lists(st.integers(END, 4), max_size=14))
def test_following_is_searching(text: list[int], said: list[int]) -> None:
    """Ranges narrowed token by token are those of the last tokens; foreign ids match nothing."""
    index = index_of(text)
    shelf = shelve([index], [0])
    lows, highs = np.zeros((2, 1, LONGEST + 1), dtype=np.int32)
    for at, token in enumerate(said):
        follow(shelf, 0, lows[0], highs[0], token)
        for order in range(1, LONGEST + 1):
            key = said[at + 1 - order : at + 1] if order <= at + 1 else [9]
            found = index.suffixes[lows[0, order] : highs[0, order]].tolist()
            assert found == ([] if END in key else sorted_occurrences(text, key))
    together = np.zeros((2, 1, LONGEST + 1), dtype=np.int32)
    follow_all(shelf, together[0], together[1], np.array(said, dtype=np.int32))
    if said:
        assert (together[0] == lows).all()
        assert (together[1] == highs).all()


@given(TEXTS, QUERIES.filter(len), st.integers(1, 30))
def test_sample_looks_evenly(text: list[int], query: list[int], limit: int) -> None:
    tokens, suffixes, _ = index_of(text)
    low, high = 0, len(text)
    for depth, token in enumerate(query):
        low, high = narrow(tokens, suffixes, low, high, depth, token)
    places = suffixes[low:high].tolist()
    assert places == sorted_occurrences(text, query)
    if len(places) > limit:
        places = [places[(2 * i + 1) * len(places) // (2 * limit)] for i in range(limit)]
    after = [text[p + len(query)] for p in places if p + len(query) < len(text) and text[p + len(query)] != END]
    found, counts = np.empty((2, limit), dtype=np.int32)
    distinct, total = sample(tokens, suffixes, low, high, len(query), 4, limit, found, counts)
    assert total == len(after)
    assert dict(zip(found[:distinct].tolist(), counts[:distinct].tolist(), strict=True)) == dict(Counter(after))


@given(TEXTS, st.lists(st.integers(-(2**31), 2**31 - 1), max_size=150), QUERIES, st.randoms(use_true_random=False))
def test_damaged_arrays_do_no_harm(text: list[int], wild: list[int], query: list[int], random: object) -> None:
    """Arrays of the right lengths with any contents: no continuation outside the vocabulary, no endless loop."""
    good = index_of(text)
    wild = (wild * (len(text) + 5))[: len(text) + 5] if wild else [7] * (len(text) + 5)
    damaged = np.array(wild, dtype=np.int32)
    for index in (
        Index(damaged[: len(text)], good.suffixes, good.starts),
        Index(good.tokens, damaged[: len(text)], good.starts),
        Index(good.tokens, good.suffixes, damaged[-5:]),
        Index(damaged[: len(text)], damaged[: len(text)], damaged[-5:]),
    ):
        for counts in match(index, query).values():
            assert all(0 <= token < 4 for token in counts)
        lows, highs = np.zeros((2, LONGEST + 1), dtype=np.int32)
        shelf = shelve([index], [0])
        found, counted = np.empty((2, 8), dtype=np.int32)
        for token in query:
            follow(shelf, 0, lows, highs, token)
            assert (lows >= 0).all()
            assert (highs <= len(text)).all()
            for order in range(1, LONGEST + 1):
                n, _ = sample(index.tokens, index.suffixes, lows[order], highs[order], order, 4, 8, found, counted)
                assert all(0 <= t < 4 for t in found[:n].tolist())
                n = runs(index.tokens, index.suffixes, lows[order], highs[order], order, 4, found, counted)
                assert all(0 <= t < 4 for t in found[:n].tolist())


@given(TEXTS, TEXTS, st.integers(1, 50))
def test_merging_sorts_up_to_document_ends(a: list[int], b: list[int], chunk: int) -> None:
    a, b = [*a, END], [*b, END]
    both = a + b
    x, y = index_of(a), index_of(b)
    order: list[int] = []
    at = (0, 0)
    while len(order) < len(both):
        out = np.empty(min(chunk, len(both) - len(order)), dtype=np.int32)
        at = merge_some(x.tokens, x.suffixes, at[0], y.tokens, y.suffixes, at[1], len(a), out)
        order += out.tolist()
    assert sorted(order) == list(range(len(both)))

    def within_document(place: int) -> list[int]:
        return both[place : both.index(END, place)][:DEPTH]

    keys = [within_document(place) for place in order]
    assert keys == sorted(keys)
    assert (x.starts + y.starts).tolist() == index_of(both).starts.tolist()


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=8))
def test_documents_come_back(documents: list[list[int]]) -> None:
    text = join([np.array(document, dtype=np.int32) for document in documents])
    assert [document.tolist() for document in split(text)] == [document for document in documents if document]
    for place in range(len(text)):
        start = document_start(text, place)
        assert start == 0 or text[start - 1] == END
        assert END not in text[start:place].tolist()


def test_shelves_take_only_matching_arrays() -> None:
    tokens, suffixes, starts = index_of([1, 2, 3])
    for wrong in (
        Index(tokens.astype(np.int64), suffixes, starts),
        Index(tokens[::2], suffixes[:2], starts),
        Index(tokens, suffixes[:2], starts),
    ):
        with pytest.raises(ValueError, match="index"):
            shelve([wrong], [0])
