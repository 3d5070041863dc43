"""Budget law and step costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.drafting.budget import AutoBudget, BudgetLaw, FixedBudget
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.engines.costs import SIZES, StepCosts
from hierdraft.engines.measure import measured_costs
from hierdraft.engines.toy import ToyEngine
from hierdraft.tree import DraftTree

PROBS = st.lists(st.floats(0.001, 1.0), max_size=20).map(lambda p: sorted(p, reverse=True))


def tree_of(probs: list[float]) -> DraftTree:
    return DraftTree.build([1] * len(probs), [-1] * len(probs), prob=probs)


def trimmed(law: BudgetLaw, tree: DraftTree, cost: Callable[[int], float], drafting: float) -> DraftTree:
    """What is scored of a tree where one request is alone."""
    draft = Draft(law, tree, drafting)
    trim_together([draft], cost)
    return draft.tree


@given(PROBS, st.floats(0.1, 10.0), st.floats(0.0, 2.0), st.floats(0.0, 0.5))
def test_the_best_size_by_trying_all(probs: list[float], base: float, slope: float, drafting: float) -> None:
    def cost(rows: int) -> float:
        return base + slope * rows

    best = trimmed(AutoBudget(), tree_of(probs), cost, drafting)
    value = [(1 + sum(np.float32(probs[:n]))) / (drafting + cost(1 + n)) for n in range(len(probs) + 1)]
    assert value[len(best)] == pytest.approx(max(value), rel=1e-5)


def test_nothing_is_drafted_where_it_does_not_pay() -> None:
    assert len(trimmed(AutoBudget(), tree_of([0.3, 0.2]), lambda rows: float(rows), 0.0)) == 0
    assert len(trimmed(AutoBudget(), tree_of([0.3, 0.2]), lambda rows: 1.0, 0.0)) == 2


def test_a_step_that_costs_less_with_more_rows_is_used() -> None:
    costs = {1: 1.0, 2: 2.0, 3: 1.5}
    assert len(trimmed(AutoBudget(), tree_of([0.9, 0.9]), lambda rows: costs[rows], 0.0)) == 2


def test_unknown_costs_and_probes_keep_the_tree() -> None:
    assert len(trimmed(AutoBudget(nodes=3), tree_of([0.5] * 5), lambda _: 0.0, 0.0)) == 3
    probes = DraftTree.build([1, 2], [-1, 0], probe=True)
    assert len(trimmed(AutoBudget(), probes, lambda rows: float(rows), 0.0)) == 2
    assert len(trimmed(FixedBudget(2), probes, lambda rows: float(rows), 0.0)) == 2
    assert len(trimmed(FixedBudget(2), tree_of([0.5] * 5), lambda _: 0.0, 0.0)) == 2


def test_costs_between_and_beyond_the_measured_sizes() -> None:
    costs = StepCosts({1: 1.0, 2: 2.0, 4: 2.0, 8: 6.0})
    assert [costs(rows) for rows in (1, 2, 3, 4, 6, 8, 10)] == [1.0, 2.0, 2.0, 2.0, 4.0, 6.0, 8.0]
    assert StepCosts()(5) == 0.0
    assert costs(10_000) > costs(500)


def test_measuring_takes_the_least() -> None:
    calls: list[int] = []

    def run(rows: int) -> float:
        calls.append(rows)
        return 10.0 if len(calls) == 5 else 0.1 * rows

    costs = StepCosts.measure(run, repeats=3, sizes=(1, 4))
    assert costs.as_dict() == {1: 0.1, 4: 0.4}
    assert len(calls) == 8


def test_a_clock_that_stands_still_gives_costs_all_the_same() -> None:
    costs = StepCosts.measure(lambda _: 0.0, repeats=1, sizes=(1, 4))
    assert 0.0 < costs(1) < 1e-6


def test_a_slow_model_is_measured_in_a_bounded_time() -> None:
    """Once where five times would take too long, and up to the size whose drafts cannot pay."""
    ran: list[int] = []

    def run(rows: int) -> float:
        ran.append(rows)
        return 0.1 if rows == 1 else 0.5 * rows

    costs = StepCosts.measure(run, sizes=(1, 2, 4, 8, 16), again=True)
    assert ran == [1, 2, 4, 1, 1, 2, 2, 4, 4]
    assert costs.as_dict() == {1: 0.1, 2: 1.0, 4: 2.0}
    assert costs.seconds(16) == pytest.approx(8.0)
    ran.clear()
    StepCosts.measure(lambda rows: run(rows) * 1e-3, sizes=(1, 2))
    assert ran == [1, 2] * 6


def test_costs_are_kept_between_starts(tmp_path: Path) -> None:
    file = tmp_path / "costs" / "x.json"
    assert StepCosts.read(file) is None
    StepCosts({1: 1.0, 2: 1.5, 8: 2.0}).write(file)
    again = StepCosts.read(file)
    assert again is not None
    assert again.as_dict() == {1: 1.0, 2: 1.5, 8: 2.0}
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"1": 1}', '{"1": -1, "2": 1}', '{"1": "x", "2": 1}', '{"0": 1, "2": 1, "4": 1}', "[" * 9999,
     '{"1": NaN, "2": 1}', '{"1": 1e400, "2": 1}', '{"' + "9" * 400 + '": 1}', "7", "null"],
)  # fmt: skip
def test_damaged_costs_are_measured_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "costs.json"
    file.write_text(text)
    assert StepCosts.read(file) is None


def test_an_integer_too_large_for_a_float_is_measured_anew(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text('{"1": 1, "2": ' + "9" * 400 + "}")
    assert StepCosts.read(file) is None


def test_stored_costs_are_taken_without_a_forward(tmp_path: Path) -> None:
    class Untouched:
        max_length = vocab_size = 100

        def open(self, **_: object) -> None:
            raise AssertionError("looking takes time")

    StepCosts({1: 1.0, 8: 2.0}).write(tmp_path / "x.json")
    engine: Any = Untouched()
    assert measured_costs(engine, stored=tmp_path / "x.json", sizes=(1, 8)).as_dict() == {1: 1.0, 8: 2.0}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_context_that_has_hardly_any_room(length: int) -> None:
    engine = ToyEngine(1, max_length=length)
    costs = measured_costs(engine)
    assert set(costs.as_dict()) <= set(SIZES)
    assert costs(1) > 0.0


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    StepCosts({1: 1.0, 2: 2.0}).write(tmp_path / "file" / "x.json")
    assert StepCosts.read(tmp_path / "file" / "x.json") is None


def test_broken_promises_are_trusted_less_and_forgiven_in_time() -> None:
    law = AutoBudget()
    promise = tree_of([0.5, 0.5])
    assert law.trust == 1.0
    for _ in range(50):
        law.observe(promise, [])
    assert law.trust < 0.2
    assert len(trimmed(law, promise, lambda rows: 1.0 + 0.2 * rows, 0.0)) == 0
    for _ in range(1000):
        law.observe(tree_of([]), [])
    assert law.trust > 0.95
    for _ in range(200):
        law.observe(promise, [0])
    assert law.trust == pytest.approx(1.0, abs=0.05)


def test_the_prompts_rows_are_scored_as_far_as_they_are_worth_it() -> None:
    assert FixedBudget(8).prompt_rows(128, lambda rows: rows * 1.0) == 128
    assert AutoBudget().prompt_rows(128, lambda rows: 1.0 + 0.1 * (rows - 1)) == 6
    assert AutoBudget().prompt_rows(128, lambda _rows: 1.0) == 128  # a device on which rows are free
    assert AutoBudget().prompt_rows(128, lambda _rows: 0.0) == 128  # nothing is known
    assert AutoBudget().prompt_rows(1, lambda rows: rows * 1.0) == 1


def test_probe_nodes_come_on_top_of_a_budget() -> None:
    tree = DraftTree.build([1, 2, 3], [-1, -1, 1], probe=[False, True, True])
    assert len(trimmed(FixedBudget(1), tree, lambda rows: rows * 1.0, 0.0)) == 3
    assert len(trimmed(AutoBudget(1), tree, lambda rows: rows * 1.0, 0.0)) == 3
