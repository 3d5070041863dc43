"""Costs that nobody measured beforehand: learned while decoding, honestly enough for the budget law."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hierdraft.drafting.budget import AutoBudget
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.engines.costs import SIZES, StepCosts
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.tree import DraftTree
from tests.unit.test_budget import trimmed

FLAT = dict(zip(SIZES, (1.0, 1.0, 1.02, 1.05, 1.1, 1.2, 1.4), strict=True))
CLIFF = dict(zip(SIZES, (1.0, 1.6, 1.55, 1.6, 1.95, 2.7, 4.2), strict=True))
PADDED = {2: 1.0, 4: 1.03, 6: 1.05, 8: 1.16, 12: 1.23, 16: 1.5, 24: 2.0, 32: 2.6, 48: 3.6, 64: 4.7}
"""As OpenVINO's are, which is given as many rows as one of these."""
STEEP = dict(zip(SIZES, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), strict=True))


def chain(prob: list[float]) -> DraftTree:
    return DraftTree.build(list(range(len(prob))), list(range(-1, len(prob) - 1)), prob=prob)


def decode(curve: dict[int, float], accept: float, costs: StepCosts, tokens: int = 800, seed: int = 0) -> float:
    """Seconds a token over those of plain decoding, by the budget law, where a drafted node is right with `accept`.

    Timings are noisy, the first ones cold, and one in fifty takes three times as long.
    """
    true, law, rng = true_of(curve), AutoBudget(), np.random.default_rng(seed)
    seconds, expected, written, steps = 0.0, 0.0, 0, 0
    while written < tokens:
        tree = chain((accept ** np.arange(1, 25)).tolist())
        draft = Draft(law, tree, 1e-4)
        trim_together([draft], costs)
        tree = draft.tree
        wrong = np.flatnonzero(rng.random(len(tree)) > accept)
        kept = int(wrong[0]) if len(wrong) else len(tree)
        rows = 1 + len(tree)
        if curve is PADDED:
            rows = next(size for size in PADDED if size >= rows)
        took = true(rows)
        seconds += took
        expected += 1.0 + float(tree.prob.sum())
        steps += 1
        noise = abs(rng.normal(0.0, 0.05)) + (1.0 if steps < 3 else 0.0) + (2.0 if rng.random() < 0.02 else 0.0)
        costs.record(rows, took * (1.0 + noise))
        law.observe(tree, range(kept), draft.slowdown)
        written += kept + 1
    return seconds / (0.02 * expected)


def true_of(curve: dict[int, float]) -> StepCosts:
    return StepCosts({rows: 0.02 * cost for rows, cost in curve.items()})


def known(curve: dict[int, float]) -> LearnedCosts:
    return LearnedCosts("cpu", true_of(curve), tuple(curve))


@pytest.mark.parametrize("curve", [FLAT, CLIFF, STEEP], ids=["flat", "cliff", "steep"])
@pytest.mark.parametrize("accept", [0.05, 0.4, 0.7, 0.9])
def test_little_is_lost_against_costs_that_are_known(curve: dict[int, float], accept: float) -> None:
    true = np.mean([decode(curve, accept, true_of(curve), seed=seed) for seed in range(4)])
    learned = np.mean([decode(curve, accept, LearnedCosts("cpu"), seed=seed) for seed in range(4)])
    measured = np.mean([decode(curve, accept, known(curve), seed=seed) for seed in range(4)])
    assert measured <= 1.1 * true
    assert learned <= (1.25 if curve is STEEP else 1.12) * true


BUSY: dict[str, Callable[[int], float]] = {
    "all dear": lambda _: 3.0,
    "many rows dear": lambda rows: 2.0 if rows > 2 else 1.0,
    "one row dear": lambda rows: 2.0 if rows <= 2 else 1.0,
    "some dear": lambda rows: 2.5 if 8 <= rows <= 24 else 1.0,
    "too steep": lambda rows: rows**0.4,
    "too flat": lambda rows: rows**-0.3,
}
"""What a busy machine made of the costs that it stored."""


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("curve", [CLIFF, PADDED], ids=["cliff", "padded"])
def test_little_is_lost_with_costs_that_were_stored_on_a_busy_machine(curve: dict[int, float], busy: str) -> None:
    stored = StepCosts({rows: 0.02 * cost * BUSY[busy](rows) for rows, cost in curve.items()})
    lost = []
    for accept in (0.3, 0.7, 0.9):
        wrong = [decode(curve, accept, LearnedCosts("cpu", stored, tuple(curve)), seed=seed) for seed in range(4)]
        right = [decode(curve, accept, true_of(curve), seed=seed) for seed in range(4)]
        lost.append(np.mean(wrong) / np.mean(right))
    assert np.mean(lost) <= 1.12
    assert max(lost) <= 1.35  # not every wrong price is found out at once


def test_the_first_steps_are_plain() -> None:
    costs = LearnedCosts("cpu")
    tree = chain([0.99] * 24)
    for _ in range(2):
        assert AutoBudget().prompt_rows(8, costs) == 1
        assert len(trimmed(AutoBudget(), tree, costs, 0.0)) == 0
        costs.record(1, 0.02)
    assert len(trimmed(AutoBudget(), tree, costs, 0.0)) > 4


def test_a_look_at_one_row_comes_now_and_then_and_ever_more_rarely() -> None:
    costs = LearnedCosts("cpu")
    plain = []
    for step in range(2000):
        drafts = costs(9) < math.inf
        if not drafts:
            plain.append(step)
        costs.record(9 if drafts else 1, 0.03 if drafts else 0.02)
    assert plain[:2] == [0, 1]
    assert 3 <= len(plain) <= 5
    assert all(later - earlier > 63 for earlier, later in itertools.pairwise(plain[1:]))


def test_a_cold_start_is_forgotten_and_a_pause_counts_little() -> None:
    costs = LearnedCosts("cpu")
    for seconds in (0.09, 0.02, 0.02):
        costs.record(1, seconds)
    assert costs(1) == pytest.approx(0.02, rel=0.3)
    for _ in range(40):
        costs.record(1, 0.02)
    costs.record(1, 3.0)
    assert costs(1) < 0.028


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
    assert again.as_dict() == pytest.approx(first.as_dict())
    assert again.as_dict()[8] == pytest.approx(0.031, rel=0.05)
    assert again(8) <= again.as_dict()[8]
    file.write_text("{]")
    assert LearnedCosts.begin("cpu", file)(9) == math.inf


def test_a_few_steps_are_no_reason_to_write(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    costs = LearnedCosts("cpu", known(FLAT), file=file)
    costs.record(8, 0.5)
    costs.keep()
    assert not file.exists()
    for _ in range(100):
        costs.record(8, 0.5)
        costs.record(1, 0.02)
    costs.keep()
    again = LearnedCosts.begin("cpu", file)
    assert again.as_dict()[8] == pytest.approx(0.5, rel=0.1)
    again.keep()  # nothing new
    LearnedCosts("cpu").keep()  # of no file


def test_what_another_number_of_rows_costs_is_followed() -> None:
    costs = LearnedCosts("cpu", StepCosts(FLAT, change=0.5))
    for _ in range(200):
        costs.record_change(8, FLAT[8] + 0.1)
        costs.record(8, FLAT[8])
    assert costs.change == pytest.approx(0.1, rel=0.3)
    costs.record_change(8, 100.0)
    assert costs.change < 0.2
    assert costs.as_dict()[8] == pytest.approx(FLAT[8], rel=0.2)


def test_what_rows_beyond_the_last_size_cost_is_learned() -> None:
    """Batches have forwards of more rows, and the last slope may be nothing, or far too much."""
    for last in (0.0, 0.05, 5.0):
        curve = {**FLAT, 64: FLAT[32] + last}
        costs = LearnedCosts("cpu", StepCosts(curve))
        for _ in range(12):
            costs.record(256, curve[64] + 192 * 0.03, plain=16)
            costs.record(16, curve[16], plain=16)
        assert costs.seconds(256) == pytest.approx(curve[64] + 192 * 0.03, rel=0.1)
        assert costs.seconds(1000) == pytest.approx(curve[64] + 936 * 0.03, rel=0.2)
        assert costs.seconds(64) == pytest.approx(curve[64], rel=0.1)


def test_drafts_of_a_batch_that_do_not_pay_are_given_up() -> None:
    """With a last slope of nothing a forward of a thousand rows seemed to be as cheap as one of 64, for ever."""
    true = {rows: 0.05 + 0.001 * rows for rows in SIZES}
    costs, laws = LearnedCosts("cpu", StepCosts({**true, 64: true[32]})), [AutoBudget() for _ in range(16)]
    sent = []
    for _ in range(40):
        drafts = [Draft(law, chain((0.8 ** np.arange(1, 65)).tolist()), 1e-4) for law in laws]
        trim_together(drafts, lambda more: costs(16 + more, 16))
        sent.append(16 + sum(len(draft.tree) for draft in drafts))
        costs.record(sent[-1], 0.05 + 0.001 * sent[-1], 16)
    right = max(range(16, 16 * 65, 16), key=lambda rows: sum(0.8**n for n in range(rows // 16)) / (0.05 + 0.001 * rows))
    assert np.median(sent[-20:]) == pytest.approx(right, rel=0.5)


def test_a_price_beyond_the_last_size_that_was_far_too_dear_is_forgotten() -> None:
    costs = LearnedCosts("cpu", StepCosts(CLIFF))
    costs.record(256, 1000.0)
    assert costs.seconds(256) > 2 * StepCosts(CLIFF).seconds(256)
    for _ in range(1000):
        costs.record(8, CLIFF[8])
    assert costs.seconds(256) < 1.2 * StepCosts(CLIFF).seconds(256)


def test_what_is_known_begins_with_a_large_forward_too() -> None:
    costs = LearnedCosts("cpu")
    assert costs.must_be_plain
    for _ in range(2):
        costs.record(128, 3.0, plain=128)
    assert not costs.must_be_plain
    assert costs.seconds(128) == pytest.approx(3.0, rel=0.3)
    assert 0.1 < costs.seconds(1) < 1.0


def test_large_forwards_do_not_say_what_a_change_costs() -> None:
    costs = LearnedCosts("cpu", StepCosts(FLAT, change=0.1))
    for rows in range(100, 400, 7):
        costs.record_change(rows, 0.03 * rows, plain=16)
    assert costs.change <= 0.1


@pytest.mark.parametrize("change", [0.01, 0.2, 2.0, 9999.0])
def test_a_stored_change_that_is_far_too_dear_is_put_right_though_no_change_is_made(change: float) -> None:
    stored = StepCosts({rows: 0.02 * cost for rows, cost in PADDED.items()}, change)
    costs = LearnedCosts("cpu", stored, tuple(PADDED))
    assert costs.change <= 0.02
    for _ in range(400):
        costs.record(48, 0.02 * PADDED[48])
    assert costs.change < 0.007


@pytest.mark.parametrize("sizes", [SIZES, (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)])
@pytest.mark.parametrize("usual", [(2, 2), (2, 4), (16, 64), (64, 64), (5, 60)])
def test_what_is_not_known_stays_a_covariance(sizes: tuple[int, ...], usual: tuple[int, int]) -> None:
    """However one-sided and however long: a server makes forwards of the same few sizes for days."""
    costs, rng = LearnedCosts("cpu", sizes=sizes), np.random.default_rng(5)
    for _ in range(30_000):
        rows = int(rng.integers(usual[0], usual[1] + 1))
        costs._timed += 1
        costs._learn(costs._share(rows), 0.0)
    assert np.linalg.eigvalsh(costs._spread)[0] > 0.0
    assert (np.diag(costs._spread) <= np.diag(costs._prior) + 1e-9).all()
