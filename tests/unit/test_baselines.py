"""Rival methods against examples worked by hand, and the automaton against a slow twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.bench.replay import text_method
from hierdraft.cli.options import NEEDING
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.suffixarray import END
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.rivals.automaton import SEPARATOR, SuffixAutomaton
from hierdraft.drafting.rivals.datastore import Datastore, frequent_prefixes
from hierdraft.drafting.rivals.logitspec import LogitSpecMethod
from hierdraft.drafting.rivals.lookahead import LookaheadMethod
from hierdraft.drafting.rivals.prompt_lookup import PromptLookupMethod
from hierdraft.drafting.rivals.rest import RestMethod
from hierdraft.drafting.rivals.sam import SamMethod
from hierdraft.drafting.rivals.suffix import SuffixMethod
from hierdraft.drafting.rivals.token_recycling import CHILDREN, TOP, TokenRecyclingMethod
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, Method, Request, Setup, Step
from hierdraft.registry import METHODS, make_method
from hierdraft.tree import DraftTree

WIDE = Budget(100, 100)


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


def draft(method: Method, *prompt: int, budget: Budget = WIDE) -> DraftTree:
    tree = method.open(Request(ids(*prompt), 50)).propose(ids(*prompt), budget)
    tree.check(1000)
    return tree


# prompt lookup


def test_prompt_lookup_copies_what_followed_the_earliest_match_of_three() -> None:
    text = [1, 2, 3, *range(10, 20), 9, 1, 2, 3, *range(30, 40), 5, 1, 2, 3]
    assert draft(PromptLookupMethod(), *text).tokens.tolist() == list(range(10, 20))
    assert draft(PromptLookupMethod(), *text, budget=Budget(4, 9)).tokens.tolist() == [10, 11, 12, 13]
    assert draft(PromptLookupMethod(), *text, budget=Budget(9, 3)).tokens.tolist() == [10, 11, 12]


def test_prompt_lookup_falls_back_to_shorter_matches_with_enough_behind_them() -> None:
    short = [2, 3, *range(10, 21), 1, 2, 3]
    assert draft(PromptLookupMethod(), *short).tokens.tolist() == list(range(10, 20))
    # of three tokens there is a match, but only seven tokens come after it; of one there is one with ten
    near = [3, *range(40, 52), 1, 2, 3, 7, 8, 1, 2, 3]
    assert draft(PromptLookupMethod(), *near).tokens.tolist() == list(range(40, 50))
    assert len(draft(PromptLookupMethod(), 1, 2, 3)) == 0
    assert len(draft(PromptLookupMethod(), 1)) == 0
    assert draft(PromptLookupMethod(1, 2), 4, 6, 7, 4).tokens.tolist() == [6, 7]


# token recycling


def test_the_published_tree() -> None:
    assert sum(CHILDREN) == 80
    method = TokenRecyclingMethod()
    tree = draft(method, 5)
    assert len(tree) == 80
    assert np.bincount(tree.depths()).tolist() == [0, 8, 21, 25, 15, 8, 3]
    assert [len(tree.children(node)) for node in range(-1, 80)] == [*CHILDREN, *[0] * (81 - len(CHILDREN))]


def test_the_matrix_is_read_breadth_first_and_written_by_every_row() -> None:
    method = TokenRecyclingMethod()
    session = method.open(Request(ids(7, 5), 50))
    top = {5: range(10, 18), 10: range(20, 28), 20: range(30, 38), 11: range(40, 48)}
    tree = DraftTree.build([10, 11, 20], [-1, -1, 0])
    runners = np.array([list(top[token]) for token in (5, 10, 11, 20)], dtype=np.int32)
    session.observe(Step([5], DraftTree.empty(), [], ids(5), np.zeros((1, TOP), dtype=np.int32), prefill=True))
    session.observe(Step([99], tree, [], ids(99, 0, 0, 0), runners))
    found = session.propose(ids(7, 5, 5), WIDE)
    assert found.tokens[:8].tolist() == list(range(10, 18))
    assert [found.tokens[n] for n in found.children(0)] == list(range(20, 28))
    assert [found.tokens[n] for n in found.children(1)] == [40, 41, 42, 43]
    first = found.children(0)[0]
    assert [found.tokens[n] for n in found.children(first)] == list(range(30, 38))
    session.finish(ids(7, 5, 99))
    assert draft(method, 5).tokens[:8].tolist() == list(range(10, 18))
    session = method.open(Request(ids(5), 50, namespace="other"))
    assert session.propose(ids(5), WIDE).tokens.tolist() == [0] * 80


def test_the_matrix_grows_with_the_vocabulary() -> None:
    method = TokenRecyclingMethod()
    session = method.open(Request(ids(200_000), 50))
    assert session.propose(ids(200_000), WIDE).tokens[0] == 0
    session.observe(Step([1], DraftTree.empty(), [], ids(1), np.arange(8, dtype=np.int32)[None]))
    assert session.propose(ids(200_000), Budget(8, 9)).tokens.tolist() == list(range(8))


# the automaton


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_automaton_counts_as_a_scan_does(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for token in text:
        automaton.extend(token)
    for start in range(len(text)):
        state = 0
        for end in range(start, len(text)):
            state = automaton.next[state][text[end]]
            word = text[start : end + 1]
            places = [i for i in range(len(text)) if text[i : i + len(word)] == word]
            assert automaton.count[state] == len(places)
            assert automaton.first[state] == places[0] + len(word)
    state, length = automaton.before
    longest = max(n for n in range(len(text)) if not n or any(
        text[i : i + n] == text[-n:] for i in range(len(text) - n)
    ))  # fmt: skip
    assert length == longest


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 3), max_size=30))
@settings(max_examples=100, deadline=None)
def test_matching_another_text(known: list[int], text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for token in [*known, SEPARATOR]:
        automaton.extend(token)
    state = matched = 0
    for end, token in enumerate(text, start=1):
        state, matched = automaton.follow(state, matched, token)
        words = [text[end - n : end] for n in range(end + 1)]
        assert matched == max(
            n for n in range(end + 1) if not n or any(known[i : i + n] == words[n] for i in range(len(known)))
        )


# suffix decoding


def test_suffix_drafts_the_most_frequent_continuation_with_its_probability() -> None:
    # 1 2 was followed by 3 twice and by 4 once; 1 2 3 by 5 and by 6
    text = [1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 4, 9, 1, 2]
    tree = draft(SuffixMethod(), *text)
    assert tree.tokens[0] == 3
    assert tree.prob[0] == pytest.approx(2 / 4)  # the last 1 2 counts too, as in the tree of all suffixes
    assert len(tree) == 2  # no longer than the match
    assert tree.prob[1] == pytest.approx(1 / 4)


def test_suffix_prefers_the_match_with_the_highest_sum() -> None:
    # the longer match (8 1 2, once) is followed by 7 7 7; the shorter (2) mostly by 4
    text = [8, 1, 2, 7, 7, 7, 5, 2, 4, 5, 2, 4, 5, 2, 4, 8, 1, 2]
    tree = draft(SuffixMethod(), *text)
    assert tree.tokens.tolist() == [7, 7, 7]
    assert tree.prob == pytest.approx([0.5, 0.5, 0.5])
    short = draft(SuffixMethod(depth=1), *text)
    assert short.tokens.tolist() == [4]


def test_suffix_learns_earlier_output_in_its_own_namespace() -> None:
    method = SuffixMethod()
    session = method.open(Request(ids(50, 51), 50))
    session.observe(Step([1, 2, 3, 4, 5, 6], DraftTree.empty(), [], ids(1)))
    session.finish(ids(50, 51, 1, 2, 3, 4, 5, 6))
    assert draft(method, 9, 1, 2, 3).tokens.tolist() == [4, 5, 6]
    assert draft(method, 9, 50).tokens.tolist() == []  # prompts are not kept
    assert draft(method, 9, 6).tokens.tolist() == []  # nothing is drafted across the end of a text
    session = method.open(Request(ids(9, 1, 2, 3), 50, namespace="other"))
    assert len(session.propose(ids(9, 1, 2, 3), WIDE)) == 0


def test_suffix_forgets_the_oldest_half() -> None:
    method = SuffixMethod(kept=40)
    for base in range(0, 500, 10):
        session = method.open(Request(ids(1000), 50))
        said = list(range(base, base + 9))
        session.observe(Step(said, DraftTree.empty(), [], ids(1)))
        session.finish(ids(1000, *said))
        assert len(method._earlier["default"].text) <= 40
    assert draft(method, 490, 491).tokens.tolist() == [492, 493]
    assert len(draft(method, 10, 11)) == 0


# retrieval


def pack(level: str, *texts: list[int]) -> Pack:
    documents = [np.array(text, dtype=np.int32) for text in texts]
    return Pack(Path(level), PackInfo(level, 100), build(join(documents), 100))  # type: ignore[arg-type]


def test_suffix_drafts_from_packs_of_earlier_output_as_from_what_it_saw_itself() -> None:
    answers = [[1, 2, 3, 5, 7], [1, 2, 3, 6], [8, 1, 2, 3, 5], [1, 2, 4, 9], [2, 4, 9]]
    method, packed = SuffixMethod(), SuffixMethod()
    packed.attach(Setup(Databases([pack("model", *answers), pack("statistics", [50, 1, 2, 9, 9])])))
    for answer in answers:
        session = method.open(Request(ids(90), 50))
        session.observe(Step(answer, DraftTree.empty(), [], ids(1)))
        session.finish(ids(90, *answer))
    for text in ([50, 1, 2], [50, 8, 1], [50, 2], [50, 3], [50, 9], [50, 4]):
        mine, theirs = draft(method, *text), draft(packed, *text)
        assert theirs.tokens.tolist() == mine.tokens.tolist()
        assert theirs.prob == pytest.approx(mine.prob)
        assert theirs.level.tolist() == mine.level.tolist()
    tree = draft(packed, 50, 1, 2)
    assert tree.tokens.tolist() == [3, 5]
    assert tree.prob == pytest.approx([3 / 4, 3 / 4 * 2 / 3])


def test_the_datastore_finds_the_longest_suffix_and_what_followed_it() -> None:
    held = pack("statistics", [1, 2, 3, 4, 5], [9, 2, 3, 6], [2, 3])
    store = Datastore(Databases([held]), "x", ["statistics"], 16, 3, 100)
    size, rows = store.find(ids(7, 2, 3))
    assert size == 2
    assert sorted(rows.tolist()) == [[END] * 3, [4, 5, END], [6, END, END]]
    size, rows = store.find(ids(1, 2, 3))
    assert (size, rows.tolist()) == (3, [[4, 5, END]])
    assert store.find(ids(50))[0] == 0
    assert store.find(ids(500))[0] == 0
    other = Datastore(Databases([pack("model", [1, 2, 3])]), "x", ["statistics"], 16, 3, 100)
    assert other.find(ids(2))[0] == 0


@given(st.lists(st.lists(st.integers(-1, 2), min_size=4, max_size=4), min_size=1, max_size=30), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_the_most_frequent_prefixes(texts: list[list[int]], nodes: int) -> None:
    ended = [[-1 if -1 in text[: i + 1] else token for i, token in enumerate(text)] for text in texts]
    rows = np.array(sorted(ended), dtype=np.int32)
    counts: dict[tuple[int, ...], int] = {}
    for row in rows.tolist():
        for end in range(1, 5):
            if row[end - 1] >= 0:
                counts[tuple(row[:end])] = counts.get(tuple(row[:end]), 0) + 1
    tree = frequent_prefixes(rows, nodes, 0)
    tree.check(3)
    words = [tuple(int(tree.tokens[i]) for i in tree.path(node)) for node in range(len(tree))]
    assert len(set(words)) == len(words) == min(nodes, len(counts))
    assert sorted((counts[word] for word in words), reverse=True) == sorted(counts.values(), reverse=True)[:nodes]
    assert tree.prob == pytest.approx([counts[word] / len(rows) for word in words])


def test_rest_drafts_the_most_frequent_prefixes() -> None:
    method = RestMethod(nodes=3)
    method.attach(Setup(Databases([pack("statistics", [1, 2, 3], [1, 2, 4], [1, 2, 3], [1, 5])])))
    tree = draft(method, 8, 1)
    assert [tree.tokens[tree.path(node)].tolist() for node in range(3)] == [[2], [2, 3], [5]]
    assert tree.prob == pytest.approx([0.75, 0.5, 0.25])
    assert len(draft(method, 8, 9)) == 0
    assert len(draft(RestMethod(), 8, 1)) == 0


def test_sam_copies_behind_the_earliest_place_four_tokens_for_each_of_the_match() -> None:
    text = [1, 2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 2, 30, 31, 32, 33, 34, 35, 1, 2]
    assert draft(SamMethod(), *text).tokens.tolist() == [7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert draft(SamMethod(), 5, 2, 7, 8, 9, 10, 11, 12, 2).tokens.tolist() == [7, 8, 9, 10, 11]
    assert len(draft(SamMethod(), 1, 2, 3)) == 0


def test_sam_takes_the_answers_where_they_match_by_more_than_five() -> None:
    said = [*range(40, 47), 60, 61]
    method = SamMethod()
    method.attach(Setup(Databases([pack("model", said, [*range(41, 47), 60, 62])])))
    tree = draft(method, *range(41, 47))  # six tokens, and none in the request
    assert sorted(tree.tokens.tolist()) == [60, 61, 62]
    assert tree.tokens[0] == 60
    assert len(draft(method, *range(42, 47))) == 0  # five are not more than five
    own = draft(method, 46, 77, *range(41, 47))  # six against one: not by more than five
    assert own.tokens.tolist() == [77, 41, 42, 43, 44]


# lookahead


def test_lookahead_verifies_the_pool_and_carries_the_window() -> None:
    method = LookaheadMethod(level=3, window=2, keep=2)
    session = method.open(Request(ids(1, 2, 3, 1, 2, 4, 1, 2, 5, 1), 50))
    tree = session.propose(ids(1, 2, 3, 1, 2, 4, 1, 2, 5, 1), WIDE)
    tree.check(1000)
    assert [tree.tokens[tree.path(node)].tolist() for node in np.flatnonzero(~tree.probe)] == [[2], [2, 5], [2, 4]]
    assert tree.probe.sum() == 2
    for choice in (70, 80):
        tree = session.propose(ids(1, 2, 3, 1, 2, 4, 1, 2, 5, 1), WIDE)
        rows = np.arange(choice, choice + 1 + len(tree), dtype=np.int32)
        session.observe(Step([9], tree, [], rows))
    assert tree.probe.sum() == 4
    first = int(tree.tokens[np.flatnonzero(tree.probe)[0]])
    assert [gram for gram in session._pool.get(first) if gram[1] >= 80]
    short = session.propose(ids(1), Budget(100, 3))
    assert not short.probe.any()


@pytest.mark.parametrize("name", ["lookahead", "logitspec", "token-recycling"])
def test_what_needs_logits_is_refused_where_there_are_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"The method '{name}' needs the target's logits"):
        text_method(name, Databases())


# logitspec


def test_logitspec_ranks_the_runners_up_of_the_last_logits() -> None:
    method = LogitSpecMethod()
    session = method.open(Request(ids(1, 2, 3, 9, 4, 5, 6, 7, 8, 1), 50))
    ranked = np.array([[2, 4, 9, *range(20, 81)]], dtype=np.int32)
    session.observe(Step([2], DraftTree.empty(), [], ids(2), ranked, prefill=True))
    tree = session.propose(ids(1, 2, 3, 9, 4, 5, 6, 7, 8, 1, 2), WIDE)
    tree.check(1000)
    words = [tree.tokens[tree.path(node)].tolist() for node in range(len(tree))]
    assert words[:6] == [[3], [3, 9], [3, 9, 4], [3, 9, 4, 5], [3, 9, 4, 5, 6], [3, 9, 4, 5, 6, 7]]
    assert words[6:10] == [[4], [4, 5], [4, 5, 6], [4, 5, 6, 7]]  # rank 1: four tokens
    assert words[10:14] == [[9], [9, 4], [9, 4, 5], [9, 4, 5, 6]]
    assert words[14:] == [[token] for token in range(20, 20 + 63 - 14)]  # nothing is known after them
    assert set(tree.level[:6].tolist()) == {1}
    assert set(tree.level[6:].tolist()) == {2}


def test_logitspec_drafts_less_behind_lower_ranks() -> None:
    method = LogitSpecMethod()
    prompt = [token for first in range(100, 150) for token in (first, 1, 2, 3, 4, 5)] + [7]
    session = method.open(Request(np.array(prompt, dtype=np.int32), 50))
    session.observe(Step([7], DraftTree.empty(), [], ids(7), np.arange(99, 163, dtype=np.int32)[None], prefill=True))
    tree = session.propose(np.array([*prompt, 7], dtype=np.int32), WIDE)
    after = {int(tree.tokens[n]): len([x for x in range(len(tree)) if n in tree.path(x)]) for n in tree.children(-1)}
    assert [after[token] for token in (100, 107, 108, 109)] == [4, 4, 3, 3]
    assert sum(after.values()) == len(tree) == 63


def test_logitspec_keeps_the_row_that_chose_the_last_token() -> None:
    method = LogitSpecMethod()
    session = method.open(Request(ids(1, 2), 50))
    runners = np.arange(4 * 64, dtype=np.int32).reshape(4, 64)
    tree = DraftTree.build([5, 6, 7], [-1, -1, 1])
    session.observe(Step([6, 9], tree, [1], ids(6, 0, 9, 0), runners))
    assert session.propose(ids(1, 2, 6, 9), WIDE).tokens[0] == runners[2, 0]


@pytest.mark.parametrize("name", sorted({*METHODS} - {*NEEDING}))
def test_rivals_are_methods_like_any_other(name: str) -> None:
    assert make_method(name).q_kind == "one_hot"
