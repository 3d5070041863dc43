"""Growing a tree best-first, against a slow obvious twin; what the calibration learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.hashchain import ORDERS, HashChains
from hierdraft.databases.levels import ContextLevel
from hierdraft.databases.suffixarray import END, LONGEST, Index, follow_all, shelve
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.calibration import (
    CELLS,
    COUNTS,
    SHARES,
    Calibration,
    cell_of,
    count_bucket,
    share_bucket,
)
from hierdraft.drafting.candidates import OCCURRENCES, SUFFIXES
from hierdraft.drafting.grow import LAZY, Sources, grow, make_space
from hierdraft.drafting.hierarchy import HierarchyDrafter
from hierdraft.protocols import Budget, Request, Step
from hierdraft.tree import LEVELS, DraftTree, Int32
from tests.databases.test_hashchain import scan
from tests.databases.test_suffixarray import sorted_occurrences

CONTEXT, MODEL, STATISTICS = (LEVELS.index(name) for name in ("context", "model", "statistics"))


def twin_candidates(text: list[int], suffix: list[int], probability: np.ndarray) -> dict[int, float]:
    """Continuation -> best probability over all suffix lengths."""
    best: dict[int, float] = {}
    before = 0
    for order in range(min(ORDERS, len(suffix)), 0, -1):
        found = scan(text, suffix, order)[:OCCURRENCES]
        if len(found) == before:
            continue
        before = len(found)
        for token in set(found):
            cell = cell_of(CONTEXT, order, found.count(token), len(found), found.index(token) == 0)
            best[token] = max(best.get(token, 0.0), float(probability[cell]))
        if len(found) == OCCURRENCES:
            break
    return best


def twin_pack_candidates(pack: list[int], level: int, suffix: list[int], probability: np.ndarray) -> dict[int, float]:
    """The same for a pack: up to SUFFIXES suffix lengths, the longest that occurs first."""
    best: dict[int, float] = {}
    asked, before = 0, -1
    for order in range(min(LONGEST, len(suffix)), 0, -1):
        places = sorted_occurrences(pack, suffix[len(suffix) - order :])
        if not places or len(places) == before or asked == SUFFIXES:
            continue
        before = len(places)
        if len(places) > OCCURRENCES:
            places = [places[(2 * i + 1) * len(places) // (2 * OCCURRENCES)] for i in range(OCCURRENCES)]
        found = [pack[p + order] for p in places if p + order < len(pack) and pack[p + order] != END]
        for token in set(found):
            cell = cell_of(level, order, found.count(token), len(found), False)
            best[token] = max(best.get(token, 0.0), float(probability[cell]))
        asked += 1
        if len(found) >= OCCURRENCES:
            break
    return best


Candidates = Callable[[list[int]], dict[int, float]]


def check_order(tree: DraftTree, text: list[int], candidates: Candidates, nodes: int, depth: int, least: float) -> None:
    """Replays the growth: what is best comes next, be it a node or the expansion of a node, at LAZY of its own.

    Equals may come in any order; the one that the tree went on with is taken.
    """
    paths = [[int(tree.tokens[i]) for i in tree.path(node)] for node in range(len(tree))]
    ready: dict[tuple[int, ...], float] = {}
    unexpanded: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 1.0)}

    def expand(key: float, upcoming: list[list[int]]) -> None:
        tied = [path for path, (found, _) in unexpanded.items() if found >= key * (1 - 1e-6)]
        parents = [tuple(path[:-1]) for path in upcoming]
        chosen = min(tied, key=lambda path: parents.index(path) if path in parents else len(parents))
        _, reach = unexpanded.pop(chosen)
        for token, p in candidates([*text, *chosen]).items():
            if p >= least / reach:
                ready[(*chosen, token)] = reach * p

    for node, path in enumerate(paths):
        while True:
            best = max(ready.values(), default=0.0)
            key = max((found for found, _ in unexpanded.values()), default=0.0)
            mine = ready.get(tuple(path), 0.0)
            if mine >= max(best, key) * (1 - 1e-6):
                break
            assert key >= best * (1 - 1e-6), f"node {node} has {mine}, but {best} was there"
            expand(key, paths[node:])
        assert tree.prob[node] == pytest.approx(ready.pop(tuple(path)), rel=1e-5)
        if len(path) < depth and mine * LAZY >= least:
            unexpanded[tuple(path)] = (mine * LAZY, mine)
    if len(tree) < nodes:
        while unexpanded:
            expand(max(found for found, _ in unexpanded.values()), [])
        assert not ready


def sources(text: Int32, packs: Sequence[tuple[list[int], int]] = ()) -> tuple[Sources, list[Index]]:
    """What `grow` reads, for a context and packs (tokens, level); the indexes must be kept as long."""
    indexes = [build(np.array(tokens, dtype=np.int32), 4) for tokens, _ in packs]
    shelf = shelve(indexes, [level for _, level in packs])
    low, high = np.zeros((2, len(packs), LONGEST + 1), dtype=np.int32)
    follow_all(shelf, low, high, text[-LONGEST:].copy())
    empty = HashChains(0).chains
    return Sources(ContextLevel(text).chains, empty, empty, shelf, low, high), indexes


TEXT = st.lists(st.integers(0, 3), min_size=1, max_size=80)
PACK = st.lists(st.integers(END, 3), max_size=150)


@given(TEXT, st.lists(PACK, max_size=2), st.integers(0, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_tree_is_that_of_a_slow_twin(
    text: list[int], packs: list[list[int]], nodes: int, depth: int, seed: int
) -> None:
    probability = np.random.default_rng(seed).uniform(0.01, 0.99, CELLS).astype(np.float32)
    space = make_space(max(1, nodes), len(packs))
    tokens = np.array(text, dtype=np.int32)
    levelled = list(zip(packs, (MODEL, STATISTICS), strict=False))
    read, kept = sources(tokens, levelled)

    def candidates(whole: list[int]) -> dict[int, float]:
        best = twin_candidates(text, whole, probability)
        for pack, level in levelled:
            for token, p in twin_pack_candidates(pack, level, whole, probability).items():
                best[token] = max(best.get(token, 0.0), p)
        return best

    n = grow(read, tokens[-ORDERS:].copy(), probability, space, nodes, depth, 0.001)
    tree = DraftTree.build(
        space.tokens[:n].copy(),
        space.parents[:n].copy(),
        prob=space.prob[:n].copy(),
        level=space.level[:n].copy(),
    )
    tree.check(4)
    check_order(tree, text, candidates, nodes, depth, 0.001)
    assert len({(int(p), int(t)) for p, t in zip(tree.parents, tree.tokens, strict=True)}) == n
    assert (tree.depths() <= depth).all()
    for node in range(n):
        p = candidates(text + [int(tree.tokens[i]) for i in tree.path(node)[:-1]])[int(tree.tokens[node])]
        parent = int(tree.parents[node])
        assert tree.prob[node] == pytest.approx(p * (1.0 if parent < 0 else tree.prob[parent]), rel=1e-5)
        assert probability[space.cells[node]] == np.float32(p)
    assert len(kept) == len(packs)


@given(st.integers(1, 300), st.integers(0, 300))
def test_buckets(count: int, more: int) -> None:
    assert 0 <= count_bucket(count) < COUNTS
    assert 0 <= share_bucket(count, count + more) < SHARES
    assert (share_bucket(count, count + more) == SHARES - 1) == (more == 0)
    assert count_bucket(count) <= count_bucket(count + more)


def test_cells_do_not_overlap() -> None:
    cells = {
        cell_of(level, order, count, total, newest)
        for level in range(len(LEVELS))
        for order in range(1, ORDERS + 1)
        for count, total in ((1, 1), (1, 3), (2, 2), (2, 20), (3, 4), (5, 6), (9, 9))
        for newest in (False, True)
    }
    assert len(cells) == len(LEVELS) * ORDERS * 7 * 2
    assert max(cells) < CELLS


def test_a_cell_learns_only_from_the_path() -> None:
    calibration = Calibration(weight=1.0)
    tokens = np.array([5, 6, 7, 8], dtype=np.int32)
    parents = np.array([-1, -1, 0, 1], dtype=np.int32)
    cells = np.array([10, 11, 12, 13], dtype=np.int32)
    before = calibration.tried.copy()
    calibration.learn(tokens, parents, cells, [0], np.array([5, 9, 0, 0, 0], dtype=np.int32))
    assert (calibration.tried - before)[[10, 11, 12, 13]].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert calibration.probability[10] > 0.5 > calibration.probability[12]
    assert calibration.probability[11] == pytest.approx(calibration.accepted[11] / calibration.tried[11])


def test_nodes_cut_by_the_budget_teach_too() -> None:
    """Their parents were scored, so what the target chose there is known."""
    calibration = Calibration()
    before = calibration.tried.sum()
    calibration.learn(
        np.array([5, 6], dtype=np.int32), np.array([-1, 0], dtype=np.int32), np.array([3, 4], dtype=np.int32),
        [], np.array([9], dtype=np.int32),
    )  # fmt: skip
    assert calibration.tried.sum() == before + 1


def test_a_request_forgets_the_text_of_the_one_before() -> None:
    drafter = HierarchyDrafter()
    text = np.array([1, 2, 3, 4, 1, 2], dtype=np.int32)
    drafter.start(Request(text, 10))
    assert drafter.propose(text, Budget(8, 8)).tokens[0] == 3
    drafter.observe(Step([3], DraftTree.empty(), [], np.array([3], dtype=np.int32)))
    drafter.finish(text)
    other = np.array([9, 8, 1, 2], dtype=np.int32)
    drafter.start(Request(other, 10))
    assert len(drafter.propose(other, Budget(8, 8))) == 0


def test_probabilities_become_honest() -> None:
    """On text where a repeated pair is continued as before only every other time, 0.5 is learned."""
    rng = np.random.default_rng(1)
    drafter = HierarchyDrafter()
    text = np.array([1], dtype=np.int32)
    drafter.start(Request(text, 4000))
    said, expected = [], []
    for i in range(3000):
        tree = drafter.propose(text, Budget(4, 1))
        truth = int(rng.integers(0, 2)) + 2 * (i % 2)
        if len(tree) and i > 1000:
            said.append(float(tree.prob[0]))
            expected.append(float(tree.tokens[0] == truth))
        choices = np.full(len(tree) + 1, truth, dtype=np.int32)
        drafter.observe(Step([truth], tree, [], choices))
        text = np.append(text, np.int32(truth))
    assert abs(np.mean(said) - np.mean(expected)) < 0.1  # the best of several noisy estimates leans high


@pytest.mark.parametrize("nodes", [1, 64, 100, 128])
def test_as_many_nodes_as_asked_for(nodes: int) -> None:
    drafter = HierarchyDrafter(least=0.0)
    text = np.array([1, 2, 3, 4, 5, 6, 7] * 40, dtype=np.int32)
    drafter.start(Request(text, 300))
    assert len(drafter.propose(text, Budget(nodes, 300))) == nodes
