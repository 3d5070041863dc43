"""What is scored again: its price in the budget, and the plain step that ends it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hierdraft.drafting.again import MOST, CatchingUp, row_price, rows_again
from hierdraft.drafting.budget import AutoBudget
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.tree import DraftTree


def test_rows_again_are_those_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        chances = rng.uniform(0.2, 1.0, int(rng.integers(1, 7)))
        tokens = int(rng.integers(1, 9))
        accepted = (rng.random((200_000, len(chances))) < chances).cumprod(axis=1).sum(axis=1)
        found = rows_again(np.cumprod(chances), tokens)
        for count in range(1, len(chances) + 1):
            kept = np.minimum(accepted, count)
            seen = np.where(kept < count, tokens + kept, 0).mean()
            assert found[:count].sum() == pytest.approx(seen, abs=0.05)


def test_nothing_is_scored_again_where_all_is_kept() -> None:
    assert rows_again(np.array([0.5, 0.25]), None).tolist() == [0.0, 0.0]
    assert rows_again(np.array([1.0, 1.0]), 5).tolist() == [0.0, 0.0]
    assert rows_again(np.zeros(0), 5).tolist() == []


def test_the_price_of_a_row() -> None:
    assert row_price(lambda rows: 1.0 + 0.25 * rows, 3) == pytest.approx(0.25)
    assert row_price(lambda rows: 0.0, 3) == 0.0
    assert row_price(lambda rows: math.inf if rows > 3 else 1.0, 3) == 0.0
    assert row_price(lambda rows: math.inf, 3) == 0.0
    assert row_price(lambda rows: 9.0 - rows, 3) == 0.0


def test_a_plain_step_is_due_when_as_much_was_wasted_as_it_loses() -> None:
    def cost(rows: int) -> float:
        return 1.0 + 0.05 * rows

    catching_up = CatchingUp()
    due = [
        catching_up.due(again, cost) for again in (0, 3, 6, 9, 12, 0, 3, 6)
    ]  # 0.15, 0.45, 0.9: more than half of 1.05
    assert due == [False, False, False, True, True, False, False, False]


def test_without_costs_a_plain_step_is_due_when_there_is_much() -> None:
    catching_up = CatchingUp()
    assert [catching_up.due(again, lambda rows: 0.0) for again in (MOST - 1, MOST, MOST + 1)] == [False, True, True]
    assert not catching_up.due(0, lambda rows: 0.0)
    assert CatchingUp().due(MOST, lambda rows: 1.0), "free rows are bounded too"
    assert not CatchingUp().due(MOST - 1, lambda rows: 1.0)


def chain(chances: list[float]) -> DraftTree:
    prob = np.cumprod(chances).astype(np.float32)
    return DraftTree.build(list(range(len(prob))), list(range(-1, len(prob) - 1)), prob=prob)


@pytest.mark.parametrize("again", [None, 1, 8, 30])
def test_the_best_number_of_nodes_counts_what_comes_after(again: int | None) -> None:
    """Against all numbers of nodes, with the rows that the next forward is expected to score again."""
    rng = np.random.default_rng(again or 0)
    for _ in range(40):
        tree, slope = chain(rng.uniform(0.3, 0.99, 8).tolist()), float(rng.choice([0.01, 0.05, 0.2]))
        draft = Draft(AutoBudget(), tree, 0.0, again=again)
        trim_together([draft], lambda rows, slope=slope: 1.0 + slope * rows)
        rates = []
        for count in range(len(tree) + 1):
            lost = rows_again(tree.prob[:count].astype(np.float64), again).sum()
            rates.append((1 + tree.prob[:count].sum()) / (1.0 + slope * (1 + count) + slope * lost))
        assert rates[len(draft.tree)] == pytest.approx(max(rates))


def test_what_is_lost_if_not_all_is_accepted_makes_drafts_fewer() -> None:
    counts = []
    for again in (None, 1, 10, 40):
        draft = Draft(AutoBudget(), chain([0.8] * 8), 0.0, again=again)
        trim_together([draft], lambda rows: 1.0 + 0.05 * rows)
        counts.append(len(draft.tree))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
