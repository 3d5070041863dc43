"""Trees of several requests trimmed together, against trying everything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.tree import DraftTree


@st.composite
def trees(draw: st.DrawFn) -> DraftTree:
    """Up to four nodes, each no likelier than its parent."""
    parents: list[int] = []
    probs: list[float] = []
    for node in range(draw(st.integers(0, 4))):
        parents.append(draw(st.integers(-1, node - 1)))
        above = probs[parents[-1]] if parents[-1] >= 0 else 0.99
        probs.append(above * draw(st.floats(0.05, 1.0)))
    return DraftTree.build(list(range(len(parents))), parents, prob=probs)


def prunings(tree: DraftTree) -> Iterator[list[int]]:
    """Every set of nodes that holds the parents of those it holds."""
    for bits in range(1 << len(tree)):
        nodes = [node for node in range(len(tree)) if bits >> node & 1]
        if all(tree.parents[node] < 0 or int(tree.parents[node]) in nodes for node in nodes):
            yield nodes


def best_rate(forest: list[DraftTree], cost: list[float], drafting: float) -> float:
    """Tokens per second of the best choice of nodes of all trees, by trying all of them."""
    sums: dict[int, float] = {0: 0.0}
    for tree in forest:
        own: dict[int, float] = {}
        for nodes in prunings(tree):
            own[len(nodes)] = max(own.get(len(nodes), 0.0), float(tree.prob[nodes].astype(np.float64).sum()))
        sums = {
            count: max(sums[a] + own[count - a] for a in sums if count - a in own)
            for count in {a + b for a in sums for b in own}
        }
    return max((len(forest) + gain) / (drafting + cost[len(forest) + count]) for count, gain in sums.items())


@settings(max_examples=300, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4), st.lists(st.floats(0.0, 1.0), min_size=21, max_size=21),
       st.floats(0.0, 0.5))  # fmt: skip
def test_the_best_nodes_of_all_trees(forest: list[DraftTree], steps: list[float], drafting: float) -> None:
    cost = np.cumsum([1.0, *steps]).tolist()
    drafts = [Draft(AutoBudget(), tree, drafting / len(forest)) for tree in forest]
    trim_together(drafts, lambda rows: cost[rows])
    for draft, tree in zip(drafts, forest, strict=True):
        draft.tree.check(10)
        assert set(draft.tree.tokens.tolist()) <= set(tree.tokens.tolist())
    kept = sum(len(draft.tree) for draft in drafts)
    gain = sum(float(draft.tree.prob.astype(np.float64).sum()) for draft in drafts)
    rate = (len(forest) + gain) / (drafting + cost[len(forest) + kept])
    assert rate == pytest.approx(best_rate(forest, cost, drafting), rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4), st.integers(0, 12))
def test_at_a_capacity_the_likeliest_of_all_trees(forest: list[DraftTree], most: int) -> None:
    """A forward that costs the same up to so many drafts, and too much beyond (TETRIS)."""
    cost = [1.0 if rows <= len(forest) + most else 1e6 for rows in range(24)]
    drafts = [Draft(AutoBudget(), tree, 0.0) for tree in forest]
    trim_together(drafts, lambda rows: cost[rows])
    gain = sum(float(draft.tree.prob.astype(np.float64).sum()) for draft in drafts)
    assert sum(len(draft.tree) for draft in drafts) == min(most, sum(map(len, forest)))
    assert len(forest) + gain == pytest.approx(best_rate(forest, cost, 0.0), rel=1e-5)


def test_a_node_that_claims_more_than_its_parent_does_not_lose_it() -> None:
    tree = DraftTree.build([1, 2], [-1, 0], prob=[0.1, 0.9])
    draft = Draft(AutoBudget(), tree, 0.0)
    trim_together([draft], lambda rows: 1.0 + 0.2 * rows)
    draft.tree.check(10)


def test_fixed_budgets_are_kept_beside_others() -> None:
    tree = DraftTree.build([1, 2, 3], [-1, 0, 1], prob=[0.2, 0.1, 0.05])
    fixed, auto = Draft(FixedBudget(2), tree, 0.0), Draft(AutoBudget(), tree, 0.0)
    trim_together([fixed, auto], lambda rows: 1.0 + rows)
    assert (len(fixed.tree), len(auto.tree)) == (2, 0)
    assert fixed.slowdown == 0.0
    assert auto.slowdown >= 1.0
