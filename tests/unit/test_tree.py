"""The draft tree against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.engines.openvino.treerows import depth_first
from hierdraft.levels import CODES, level_name
from hierdraft.tree import DraftTree
from tests.distribution.exact import sparse


@st.composite
def trees(draw: Any) -> DraftTree:
    n = draw(st.integers(0, 24))
    parents = [draw(st.integers(-1, i - 1)) for i in range(n)]
    probe: list[bool] = []
    for parent in parents:
        probe.append((parent >= 0 and probe[parent]) or draw(st.booleans()))
    tokens = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    return DraftTree.build(tokens, parents, prob=[1 / (i + 1) for i in range(n)], probe=probe)


def ancestors(tree: DraftTree, node: int) -> set[int]:
    found = set()
    while node >= 0:
        found.add(node)
        node = int(tree.parents[node])
    return found


@given(trees())
def test_mask_depths_and_paths(tree: DraftTree) -> None:
    tree.check(10)
    mask, depths = tree.mask(), tree.depths()
    assert mask.shape == (len(tree) + 1, len(tree) + 1)
    assert mask[:, 0].all()
    assert mask[0].sum() == 1
    for node in range(len(tree)):
        above = ancestors(tree, node)
        assert set(np.flatnonzero(mask[node + 1]) - 1) == above | {-1}
        assert depths[node] == len(above)
        assert tree.path(node) == sorted(above)
        assert node in tree.children(int(tree.parents[node]))


@given(trees())
def test_depth_first(tree: DraftTree) -> None:
    def below(node: int) -> list[int]:
        return [found for child in tree.children(node) for found in (child, *below(child))]

    order = [-1, *below(-1)]
    more = len(order) + 3
    places, depths, seen = np.zeros(len(order), np.int64), np.zeros(more, np.int64), np.eye(more, dtype=bool)
    depth_first(tree.parents, places, depths, seen)
    assert np.argsort(places).tolist() == [node + 1 for node in order]
    assert depths[: len(order)].tolist() == [0, *tree.depths()[order[1:]]]
    rows = np.array(order) + 1
    assert (seen[: len(order), : len(order)] == tree.mask()[np.ix_(rows, rows)]).all()
    assert (seen[len(order) :] == np.eye(more)[len(order) :]).all()


@given(trees(), st.integers(0, 30))
def test_prefix_and_limited_are_trees(tree: DraftTree, bound: int) -> None:
    prefix = tree.prefix(bound)
    prefix.check(10)
    assert len(prefix) == min(bound, len(tree))
    limited = tree.limited(bound)
    limited.check(10)
    kept = [node for node in range(len(tree)) if tree.depths()[node] <= bound]
    assert len(limited) == len(kept)
    for new, old in enumerate(kept):
        assert [int(limited.tokens[n]) for n in limited.path(new)] == [int(tree.tokens[n]) for n in tree.path(old)]
        assert limited.prob[new] == tree.prob[old]
        assert limited.probe[new] == tree.probe[old]


def test_empty_and_chain() -> None:
    assert len(DraftTree.empty()) == 0
    DraftTree.empty().check(1)
    assert DraftTree.empty().mask().tolist() == [[True]]
    chain = DraftTree.chain([4, 5, 6], level=1)
    assert chain.parents.tolist() == [-1, 0, 1]
    assert chain.level.tolist() == [1, 1, 1]
    assert [level_name(code) for code in (1, 255)] == ["context", "target"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": np.array([1, 10], dtype=np.int32)}, "vocabulary of 10"),
        ({"tokens": np.array([1, -1], dtype=np.int32)}, "vocabulary of 10"),
        ({"tokens": np.array([1, 2])}, "int32"),
        ({"parents": np.array([-1, 1], dtype=np.int32)}, "before its child"),
        ({"parents": np.array([-2, 0], dtype=np.int32)}, "before its child"),
        ({"prob": np.zeros(3, dtype=np.float32)}, "length 2"),
        ({"level": np.array([0, CODES], dtype=np.uint8)}, "level"),
        ({"probe": np.array([True, False])}, "probe"),
    ],
)
def test_malformed_trees(change: dict[str, Any], words: str) -> None:
    good = DraftTree.build([1, 2], [-1, 0])
    parts = {name: getattr(good, name) for name in ("tokens", "parents", "prob", "level", "probe", "group")}
    with pytest.raises(ValueError, match=words):
        DraftTree(**{**parts, **change}).check(10)


def test_the_best_path_promises_most() -> None:
    """Against every path of random trees."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        count = int(rng.integers(0, 12))
        parents = [int(rng.integers(-1, node)) if node else -1 for node in range(count)]
        prob: list[float] = []
        for parent in parents:
            prob.append(float(rng.uniform(0.1, 1.0)) * (prob[parent] if parent >= 0 else 1.0))
        probe = [False] * count
        for node, parent in enumerate(parents):
            probe[node] = bool(rng.random() < 0.2) or (parent >= 0 and probe[parent])
        tree = DraftTree.build(list(range(count)), parents, prob=prob, probe=probe)
        paths = [tree.path(node) for node in range(count) if not probe[node]]
        found = tree.best_path()
        found.check(20)
        assert found.is_chain
        assert not found.probe.any()
        assert found.prob.sum() == pytest.approx(max((tree.prob[path].sum() for path in paths), default=0.0))
        assert found.tokens.tolist() in [*paths, []]
        assert (len(found) == 0) == (not paths)
        assert tree.is_chain == (parents == list(range(-1, count - 1)))


def test_the_best_path_of_drawn_tokens_does_not_depend_on_what_was_drawn() -> None:
    laws = [sparse(np.full(9, 1 / 9))] * 3
    tree = DraftTree.build(
        [4, 5, 6, 7, 8], [-1, -1, 0, 0, 1], prob=[0.1, 0.9, 0.05, 0.05, 0.9], group=[0, 0, 1, 1, 2], laws=laws
    )
    found = tree.best_path()
    assert found.tokens.tolist() == [4, 6]
    assert found.group.tolist() == [0, 1]
    assert len(found.laws) == 2
    beside = DraftTree.build([4, 5, 6], [-1, -1, 1], prob=[0.1, 0.9, 0.9], group=[0, -1, -1], laws=laws[:1])
    assert beside.best_path().tokens.tolist() == [4]  # a looked-up token beside may depend on what was drawn
    chain = DraftTree.chain([1, 2, 3])
    assert chain.best_path() is chain
