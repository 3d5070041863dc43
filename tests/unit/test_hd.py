"""The paper's procedure: its databases, its order, its window."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.levels import Databases
from hierdraft.databases.ngrams import RecentGrams, continuations_of, frequent_grams
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.suffixarray import END, shelve
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hd.method import HdMethod
from hierdraft.drafting.hd.window import LookaheadWindow
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.levels import WINDOW, level_name
from hierdraft.protocols import Budget, Request, Setup, Step
from hierdraft.registry import make_method
from hierdraft.tree import DraftTree
from tests.lossless.harness import run

DOCUMENTS = st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=6)


def pack_of(documents: list[list[int]], level: str, vocab: int = 40) -> Pack:
    index = build(join([np.array(document, dtype=np.int32) for document in documents]), vocab)
    return Pack(Path(level), PackInfo(level, vocab), index)  # type: ignore[arg-type]


def test_recent_grams_are_least_recently_used_lists() -> None:
    grams = RecentGrams(2, 3)
    grams.extend([1, 5, 6])
    grams.extend([1, 7, 8, 1, 9])
    grams.extend([9])
    assert grams.get(1) == [(9, 9), (7, 8), (5, 6)]
    for tail in ([1, 5, 6], [1, 4, 4]):
        grams.extend(tail)
    assert grams.get(1) == [(4, 4), (5, 6), (9, 9)]  # (5, 6) was seen again, (7, 8) went
    assert grams.get(2) == []


@given(DOCUMENTS, st.integers(1, 3), st.integers(1, 9))
def test_frequent_grams_count_documents(documents: list[list[int]], length: int, most: int) -> None:
    table = frequent_grams([pack_of(documents, "model").index], length, most)
    counts: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        counts.update({tuple(document[i : i + length + 1]) for i in range(len(document) - length)})
    found = [(key, *rest) for key, lists in table.items() for rest in lists]
    assert len(found) == len(set(found)) == min(most, len(counts))
    assert sum(counts[gram] for gram in found) == sum(sorted(counts.values(), reverse=True)[:most])
    for key, lists in table.items():
        assert [counts[key, *rest] for rest in lists] == sorted((counts[key, *r] for r in lists), reverse=True)


def test_frequent_grams_of_several_packs_add_up() -> None:
    packs = [pack_of([[1, 2], [3, 4]], "model"), pack_of([[3, 4], [3, 4]], "model")]
    assert frequent_grams([pack.index for pack in packs], 1, 1) == {3: [(4,)]}
    assert frequent_grams([], 1, 5) == {}


@given(DOCUMENTS, st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_continuations_by_frequency(documents: list[list[int]], key: list[int]) -> None:
    pack = pack_of(documents, "statistics")
    counts: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        for i in range(len(document) - len(key)):
            if document[i : i + len(key)] == key:
                counts[tuple(document[i + len(key) : i + len(key) + 4])] += 1
    found = continuations_of(shelve([pack.index], [4]), 0, key, 4)
    assert set(found) == set(counts)
    assert [counts[gram] for gram in found] == sorted(counts.values(), reverse=True)


def databases() -> Databases:
    model = pack_of([[1, 10, 11, 12, 13], [1, 14, 15, 16, 17], [1, 14, 15, 16, 17]], "model")
    statistics = pack_of([[9, 1, 20, 21, 22, 23], [9, 1, 20, 21, 22, 24], [8, 1, 25, 26]], "statistics")
    return Databases([model, statistics])


def drafts(method: HdMethod, prompt: list[int], nodes: int = 28) -> list[tuple[str, list[int]]]:
    method.attach(Setup(databases()))
    text = np.array(prompt, dtype=np.int32)
    session = method.open(Request(text, 50))
    tree = session.propose(text, Budget(nodes, 20))
    tree.check(40)
    leaves = [node for node in range(len(tree)) if not tree.children(node)]
    return [(level_name(tree.level[leaf]), [int(tree.tokens[i]) for i in tree.path(leaf)]) for leaf in leaves]


def test_the_levels_are_asked_in_order() -> None:
    prompt = [1, 2, 3, 4, 5, 9, 1]
    found = drafts(HdMethod(window=0), prompt)
    assert found == [
        ("context", [2, 3, 4, 5]), ("model", [14, 15, 16, 17]), ("model", [10, 11, 12, 13]),
        ("statistics", [20, 21, 22, 23]), ("statistics", [20, 21, 22, 24]), ("statistics", [25, 26]),
    ]  # fmt: skip
    assert [level for level, _ in drafts(HdMethod(window=0, drafts=2), prompt)] == ["context", "model"]
    turned = drafts(HdMethod(window=0, drafts=2, order=("statistics", "model", "context")), prompt)
    assert [level for level, _ in turned] == ["statistics", "statistics"]
    assert len(drafts(HdMethod(window=0), prompt, nodes=4)) == 1


def test_by_the_last_two_tokens_and_then_by_fewer() -> None:
    assert drafts(HdMethod(window=0, order=("statistics",)), [8, 1])[0] == ("statistics", [25, 26])
    assert drafts(HdMethod(window=0, order=("statistics",), key=1), [8, 1])[0] == ("statistics", [20, 21, 22, 23])


def test_settings_by_name() -> None:
    method = make_method("hd:window=0:order=model+context:drafts=3")
    assert isinstance(method, HdMethod)
    for wrong, message in (
        ("hd:windows=0", "no setting 'windows'"), ("hd:window=x", "must be a whole number"),
        ("hd:order=past", "The order of hd"), ("hd:drafts=0", "at least 1"), ("none:a=1", "it takes none"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            make_method(wrong)


def test_the_windows_tokens_are_where_jacobi_decoding_has_them() -> None:
    """On a target that counts upwards, row r column c converges to the token 1 + r + c places ahead."""
    window = LookaheadWindow(3, 4, [5], seed=1)
    last, grams = 100, []
    for _ in range(8):
        tokens, parents = window.nodes(0)
        rows = len(tokens) // 3
        assert parents[:3] == [-1, 0, 1]
        assert parents[3:] == list(range(len(tokens) - 3))
        choices = np.array(tokens, dtype=np.int32) + 1
        grams = window.advance(choices, 1)
        last += 1
    assert rows == 3
    assert len(grams) == 3
    assert all(gram == list(range(gram[0], gram[0] + 4)) for gram in grams)


def test_the_window_moves_on_with_the_text() -> None:
    """After a step of several tokens, what was estimated for a place is still at that place."""
    window = LookaheadWindow(5, 3, [5])
    window._rows = [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    window.advance(np.array([0, 0, 0, 0, 0, 3, 4, 5, 6, 7], dtype=np.int32), 3)
    assert [row[:3] for row in window._rows] == [[4, 5, 6], [5, 6, 7]]


def test_the_window_fills_the_context_level() -> None:
    """On a target whose text depends on its last token only, what the window found is drafted and accepted."""
    steps, by_window = {0: 0, 7: 0}, 0
    for seed in range(20):
        engine = ToyEngine(seed=seed, vocab_size=40, memory=1)
        ids = []
        for window in steps:
            said, taken = run(
                engine, HdMethod(window=window, order=("context",)), list(range(40)), Options(30, FixedBudget(64))
            )
            assert any(step.tree.probe.any() for step in taken) == bool(window)
            steps[window] += len(taken)
            ids.append(said)
            found = sum(int((step.tree.level[step.path] == WINDOW).sum()) for step in taken)
            assert window or not found
            by_window += found
        assert ids[0] == ids[1]
    assert steps[7] < 0.95 * steps[0]
    assert by_window > 20


def test_a_window_that_is_not_scored_begins_anew() -> None:
    method = HdMethod()
    text = np.arange(40, dtype=np.int32)
    session = method.open(Request(text, 50))
    for rows in (1, 2, 3):
        tree = session.propose(text, Budget(28, 50))
        assert int(tree.probe.sum()) == 7 * rows
        session.observe(Step([3], tree, [], np.zeros(1 + len(tree), dtype=np.int32)))
    assert not session.propose(text, Budget(28, 50, 27)).probe.any()
    assert int(session.propose(text, Budget(28, 50, 28)).probe.sum()) == 7
    assert method.wants.probes == 28
    assert HdMethod(window=0).wants.probes == 0


def test_what_the_text_says_too_is_not_the_windows() -> None:
    grams = RecentGrams(2, 4)
    grams.add(1, (2, 3), probed=True)
    assert grams.only_probed(1, (2, 3))
    grams.extend([1, 2, 3, 9])
    assert not grams.only_probed(1, (2, 3))
    grams.add(1, (2, 3), probed=True)
    assert not grams.only_probed(1, (2, 3))


def test_all_new_text_is_learned_and_forgotten_with_the_request() -> None:
    method = HdMethod(window=0)
    text = np.array([1, 2, 3, 4, 5], dtype=np.int32)
    session = method.open(Request(text, 50))
    session.observe(Step([6, 1], DraftTree.empty(), [], np.array([6], dtype=np.int32)))
    whole = np.append(text, np.array([6, 1], dtype=np.int32))
    assert session.propose(whole, Budget(28, 20)).tokens.tolist() == [2, 3, 4, 5]
    assert session.propose(np.array([2], dtype=np.int32), Budget(28, 20)).tokens.tolist() == [3, 4, 5, 6]
    session.finish(whole)
    session = method.open(Request(np.array([1], dtype=np.int32), 50))
    assert len(session.propose(np.array([1], dtype=np.int32), Budget(28, 20))) == 0


def test_documents_are_not_drafted_across() -> None:
    pack = pack_of([[1, 2], [3, 4, 5, 6]], "statistics")
    assert continuations_of(shelve([pack.index], [4]), 0, [1], 4) == [(2,)]
    assert END not in [t for gram in continuations_of(shelve([pack.index], [4]), 0, [1], 4) for t in gram]
