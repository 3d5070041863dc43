"""What the budget law learns of windows, drafts without probabilities, drawn drafts, and drafters that do not pay."""

from __future__ import annotations

import numpy as np
import pytest

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import AutoBudget
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.drafting.worth import DepthWorth, Resting, WindowWorth
from hierdraft.levels import GRAMMAR, WINDOW, code_of
from hierdraft.protocols import Budget, Wants
from hierdraft.tree import DraftTree
from tests.distribution.exact import sparse
from tests.unit.test_budget import trimmed

CONTEXT = code_of("context")


def dear(rows: int) -> float:
    return 0.02 + 0.001 * (rows - 1)


def cheap(rows: int) -> float:
    return 0.02 + 0.00002 * (rows - 1)


def mixed() -> DraftTree:
    """Two drafted chains of two, and a window of three below nothing."""
    return DraftTree.build(
        [1, 2, 3, 4, 7, 8, 9], [-1, 0, -1, 2, -1, 4, 5], prob=[0.9, 0.8, 0.05, 0.01, 0, 0, 0],
        probe=[False] * 4 + [True] * 3,
    )  # fmt: skip


def test_drafts_are_trimmed_and_probes_stay() -> None:
    found = trimmed(AutoBudget(), mixed(), dear, 0.0)
    assert found.tokens.tolist() == [1, 2, 7, 8, 9]
    assert found.parents.tolist() == [-1, 0, -1, 2, 3]
    assert found.probe.tolist() == [False, False, True, True, True]


def test_bounds_hold_for_drafts_and_probes_apart() -> None:
    tree = mixed()
    assert tree.bounded(1, 3).tokens.tolist() == [1, 7, 8, 9]
    assert tree.bounded(9, 2).tokens.tolist() == [1, 2, 3, 4]
    assert tree.bounded(0, 0).tokens.tolist() == []
    below = DraftTree.build([1, 2, 3, 4], [-1, 0, 1, 0], probe=[False, False, True, True])
    assert below.bounded(1, 9).tokens.tolist() == [1, 4]  # the probe below node 1 goes with it
    assert below.bounded(1, 9).parents.tolist() == [-1, 0]


def test_a_window_is_not_even_tried_where_its_rows_are_dear() -> None:
    law = AutoBudget()
    for _ in range(2000):
        plan = law.plan(50, Wants(probes=28), dear)
        assert plan is None or plan.probes == 0
        law.observe(DraftTree.empty(), [])


@pytest.mark.parametrize("finds", [True, False])
def test_a_window_is_tried_where_its_rows_are_cheap_and_kept_while_it_finds_something(finds: bool) -> None:
    worth = WindowWorth()
    tree = DraftTree.build([1, 7], [-1, -1], level=[WINDOW, WINDOW], probe=[False, True])
    allowed = []
    for step in range(3000):
        probes = worth.allowed(28, 4.0, cheap)
        allowed.append(probes)
        won = finds and step % 3 == 0
        worth.observe(tree if probes else DraftTree.empty(), [0] if won and probes else [])
    assert allowed[0] == 28
    assert (np.mean(allowed[-1000:]) > 27) == finds
    if not finds:
        assert np.mean(allowed) < 0.5 * 28
        assert any(allowed[-2000:])  # looked at again


def test_drafts_without_probabilities_get_those_of_their_depth() -> None:
    worth = DepthWorth()
    chain = DraftTree.build([1, 2, 3], [-1, 0, 1], level=CONTEXT)
    rng = np.random.default_rng(0)
    for _ in range(400):
        worth.observe(chain, [0, 1][: int(rng.integers(0, 3))] if rng.random() < 0.5 else [])
    first, second, third = worth.prob(chain).tolist()
    assert first == pytest.approx(0.5 * 2 / 3, abs=0.08)
    assert second == pytest.approx(0.5 * 1 / 3, abs=0.08)
    assert third < 0.03
    known = DraftTree.build([1, 2], [-1, 0], prob=[0.7, 0.5])
    assert worth.prob(known).tolist() == known.prob.tolist()


def test_what_a_grammar_forces_is_certain() -> None:
    worth = DepthWorth()
    tree = DraftTree.build([1, 2, 3], [-1, 0, 1], level=[GRAMMAR, GRAMMAR, CONTEXT])
    assert worth.prob(tree)[:2].tolist() == [1.0, 1.0]
    assert 0.0 < worth.prob(tree)[2] < 1.0
    forced = DraftTree.build([1, 2], [-1, 0], level=GRAMMAR)
    assert worth.prob(forced).tolist() == [1.0, 1.0]


def test_long_drafts_without_probabilities_end_where_they_do_not_pay() -> None:
    law = AutoBudget()
    chain = DraftTree.build(list(range(20)), list(range(-1, 19)), level=CONTEXT)
    sizes = []
    for _ in range(300):
        draft = Draft(law, chain, 0.0)
        trim_together([draft], dear)
        sizes.append(len(draft.tree))
        law.observe(draft.tree, [0][: len(draft.tree)], draft.slowdown)
    assert max(sizes[-100:]) == 1


def test_a_drafter_that_brings_nothing_is_asked_now_and_then() -> None:
    resting = Resting()
    asked = 0
    for _ in range(2000):
        rests = resting.rests()
        asked += not rests
        resting.observe(0, 0.0 if rests else 1.02)
    assert 40 < asked < 160
    while resting.rests():
        pass
    resting.observe(2, 1.0)
    assert not any(resting.rests() for _ in range(20))


def test_one_good_step_in_many_keeps_a_cheap_drafter_awake() -> None:
    resting = Resting()
    asked = 0
    for step in range(2000):
        rests = resting.rests()
        asked += not rests
        resting.observe(1 if step % 10 == 0 else 0, 0.0 if rests else 1.02)
    assert asked == 2000


def test_drawn_drafts_are_scored_whole_and_not_asked_for_where_they_lose() -> None:
    law = AutoBudget()
    drawn = DraftTree.build([1, 2], [-1, 0], group=[0, 1], laws=[sparse(np.full(4, 0.25))] * 2)
    asked = 0
    for _ in range(1000):
        if law.plan(9, Wants(), dear) is None:
            law.observe(DraftTree.empty(), [])
            continue
        asked += 1
        draft = Draft(law, drawn, 0.01)
        trim_together([draft], dear)
        assert draft.tree is drawn
        law.observe(drawn, [], draft.slowdown)
    assert asked < 100


def test_nothing_is_asked_for_while_the_next_forward_must_be_plain() -> None:
    assert AutoBudget().plan(9, Wants(probes=28), lambda rows: 0.02 if rows < 2 else float("inf")) is None
    assert AutoBudget().plan(9, Wants(probes=28), lambda _: 0.0) == Budget(64, 9, 28)  # costs are unknown
    assert Options(1).budget.plan(9, Wants(), dear) is not None
