"""Costs that nobody measured beforehand: learned while decoding, honestly enough for the budget law."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from hierdraft.drafting.budget import AutoBudget
from hierdraft.engines.costs import SIZES, StepCosts
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.tree import DraftTree

FLAT = dict(zip(SIZES, (1.0, 1.0, 1.02, 1.05, 1.1, 1.2, 1.4), strict=True))
CLIFF = dict(zip(SIZES, (1.0, 1.6, 1.55, 1.6, 1.95, 2.7, 4.2), strict=True))
STEEP = dict(zip(SIZES, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), strict=True))


def chain(prob: list[float]) -> DraftTree:
    return DraftTree.build(list(range(len(prob))), list(range(-1, len(prob) - 1)), prob=prob)


def decode(curve: dict[int, float], accept: float, costs: LearnedCosts, tokens: int = 800, seed: int = 0) -> float:
    """Seconds for so many tokens by the budget law, where every drafted chain's node is right with `accept`.

    Timings are noisy, the first ones cold, and one in fifty takes three times as long.
    """
    true, law, rng = (
        StepCosts({rows: 0.02 * cost for rows, cost in curve.items()}),
        AutoBudget(),
        np.random.default_rng(seed),
    )
    seconds, written, steps = 0.0, 0, 0
    while written < tokens:
        tree = chain((accept ** np.arange(1, 25)).tolist())
        tree = law.trim(tree, costs, 1e-4)
        wrong = np.flatnonzero(rng.random(len(tree)) > accept)
        kept = int(wrong[0]) if len(wrong) else len(tree)
        took = true(1 + len(tree))
        seconds += took
        steps += 1
        noise = abs(rng.normal(0.0, 0.05)) + (1.0 if steps < 3 else 0.0) + (2.0 if rng.random() < 0.02 else 0.0)
        costs.record(1 + len(tree), took * (1.0 + noise))
        law.observe(tree, kept)
        written += kept + 1
    return seconds / (0.02 * tokens)


def known(curve: dict[int, float]) -> LearnedCosts:
    return LearnedCosts("cpu", StepCosts({rows: 0.02 * cost for rows, cost in curve.items()}))


@pytest.mark.parametrize("curve", [FLAT, CLIFF, STEEP], ids=["flat", "cliff", "steep"])
@pytest.mark.parametrize("accept", [0.05, 0.4, 0.7, 0.9])
def test_little_is_lost_against_costs_that_are_known(curve: dict[int, float], accept: float) -> None:
    learned = [decode(curve, accept, LearnedCosts("cpu"), seed=seed) for seed in range(4)]
    measured = [decode(curve, accept, known(curve), seed=seed) for seed in range(4)]
    assert np.mean(learned) <= 1.15 * np.mean(measured)
    assert np.mean(learned) <= max(1.05, 1.03 * np.mean(measured))  # plain decoding takes 1


def test_the_first_steps_are_plain() -> None:
    costs = LearnedCosts("cpu")
    tree = chain([0.99] * 24)
    for _ in range(2):
        assert AutoBudget().prompt_rows(8, costs) == 1
        assert len(AutoBudget().trim(tree, costs, 0.0)) == 0
        costs.record(1, 0.02)
    assert len(AutoBudget().trim(tree, costs, 0.0)) > 4


def test_a_look_at_one_row_comes_now_and_then_and_ever_more_rarely() -> None:
    costs = LearnedCosts("cpu")
    plain = []
    for step in range(2000):
        drafts = costs(9) < math.inf
        if not drafts:
            plain.append(step)
        costs.record(9 if drafts else 1, 0.03 if drafts else 0.02)
    assert plain[:2] == [0, 1]
    assert 3 <= len(plain) <= 7
    assert all(later - earlier > 15 for earlier, later in itertools.pairwise(plain[1:]))


def test_the_least_of_the_first_timings_counts_and_a_pause_does_not() -> None:
    costs = LearnedCosts("cpu")
    for seconds in (0.09, 0.02, 0.06):
        costs.record(1, seconds)
    assert costs(1) == pytest.approx(0.02, rel=0.2)
    for _ in range(40):
        costs.record(1, 0.02)
    costs.record(1, 3.0)
    assert costs(1) < 0.026


def test_costs_follow_a_machine_that_slows_down() -> None:
    costs = known(CLIFF)
    for _ in range(60):
        costs.record(8, 0.1)
        costs.record(1, 0.06)
    assert costs(8) == pytest.approx(0.1, rel=0.1)
    assert costs(1) == pytest.approx(0.06, rel=0.1)


def test_they_are_kept_for_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "costs" / "x.json"
    first = LearnedCosts.begin("cpu", file)
    assert first(9) == math.inf
    for rows, seconds in ((1, 0.02), (1, 0.02), (8, 0.031), (8, 0.031)):
        first.record(rows, seconds)
    first.write(file)
    again = LearnedCosts.begin("cpu", file)
    assert again.as_dict() == pytest.approx({1: 0.02, 8: 0.031}, rel=0.02)
    assert again(8) == pytest.approx(0.031, rel=0.02)
    file.write_text("{]")
    assert LearnedCosts.begin("cpu", file)(9) == math.inf
