"""Cells, the gradient that teaches the weights, and the file that keeps them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from hierdraft.databases.hashchain import ORDERS
from hierdraft.databases.levels import Databases
from hierdraft.drafting.hierarchy.calibration import NAMESPACES, Calibration, file_of
from hierdraft.drafting.hierarchy.cells import (
    CELLS,
    COUNTS,
    PER_LOOK,
    SHARES,
    SOURCES,
    STRENGTHS,
    cell_of,
    count_bucket,
    prior,
    rank_cell,
    share_bucket,
    source_of,
    strength_of,
)
from hierdraft.drafting.hierarchy.evidence import (
    BRANCHES,
    LOOKS,
    RANKS,
    Evidence,
    Weights,
    conclude,
    initial_weights,
    make_evidence,
    note,
    teach,
    worth_of,
)
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.errors import DraftWarning
from hierdraft.levels import asked_levels
from hierdraft.protocols import Setup
from hierdraft.registry import make_method

NOTES = [(7, 1000, 0), (7, 2050, 1), (3, 1003, 0), (9, 2051, 0), (3, 9, 0), (9, 4000, 0)]


@njit
def fill(evidence: Evidence, weights: Weights, notes: NDArray[np.int64]) -> None:
    evidence.held[0] = 0
    for token, cell, rank in notes:
        note(evidence, weights, 0, token, cell, rank)
    for slot in range(evidence.held[0]):
        evidence.age[0, slot] = slot
    conclude(evidence, weights, 0)


def filled(calibration: Calibration) -> tuple[Evidence, Weights]:
    evidence, weights = make_evidence(1), calibration.weights("a")
    evidence.none[0] = 5
    fill(evidence, weights, np.array(NOTES))
    return evidence, weights


def log_likelihood(calibration: Calibration, choice: int) -> float:
    evidence, _ = filled(calibration)
    known = dict(zip(evidence.token[0, : evidence.held[0]].tolist(), evidence.prob[0].tolist(), strict=False))
    return math.log(known.get(choice, float(evidence.none_prob[0])))


@given(st.integers(1, 300), st.integers(0, 300))
def test_buckets(count: int, more: int) -> None:
    assert 0 <= count_bucket(count) < COUNTS
    assert 0 <= share_bucket(count, count + more) < SHARES
    assert (share_bucket(count, count + more) == SHARES - 1) == (more == 0)
    assert count_bucket(count) <= count_bucket(count + more)


def test_cells_do_not_overlap() -> None:
    cells = {
        cell_of(source, order, count, total, newest): (source, order)
        for source in range(SOURCES)
        for order in range(1, ORDERS + 1)
        for count, total in ((1, 1), (1, 3), (2, 2), (2, 20), (3, 4), (5, 6), (9, 9))
        for newest in (False, True)
    }
    assert len(cells) == SOURCES * ORDERS * 7 * 2
    assert max(cells) < CELLS
    assert all(source_of(cell) == source for cell, (source, _) in cells.items())
    assert all(1 <= strength_of(cell) < STRENGTHS for cell in cells)
    assert len({rank_cell(2, 1, rank, sure) for rank in range(8) for sure in (False, True)}) == 16
    assert CELLS * RANKS < 2**15, "a look no longer fits into 16 bits"


def test_the_prior_is_sensible() -> None:
    table = prior()
    assert table.shape == (CELLS,)
    assert ((table > 0) & (table < 1)).all()
    assert table[cell_of(1, 8, 3, 3, False)] > table[cell_of(1, 1, 3, 3, False)] > table[cell_of(1, 1, 1, 9, False)]
    assert table[rank_cell(2, 1, 0, False)] > table[rank_cell(2, 1, 5, False)]


def teach_row(calibration: Calibration, evidence: Evidence, weights: Weights, choice: int) -> None:
    """The target chose `choice` at the first row."""
    teach(evidence, weights, calibration.tried, calibration.accepted, 0, choice)


@pytest.mark.parametrize("choice", [7, 3, 9, 4])
def test_learning_follows_the_gradient(choice: int) -> None:
    """Each weight moves by its rate times the slope of the log likelihood of what the target chose."""
    calibration = Calibration()
    evidence, weights = filled(calibration)
    before = {name: getattr(weights, name).copy() for name in weights._fields}
    evidence_now = weights.evidence.copy()
    teach_row(calibration, evidence, weights, choice)
    moved = {name: getattr(weights, name) - before[name] for name in weights._fields}
    for name in weights._fields:
        getattr(weights, name)[...] = before[name]
    rates = {"look": 0.005, "mask": 0.05, "mix": 0.05, "pair": 0.02, "none": 0.05, "token": 0.02}
    checked = 0
    for name, rate in rates.items():
        array = getattr(weights, name).reshape(-1)
        changed = np.flatnonzero(moved[name])
        assert len(changed)
        for place in changed:
            ends = []
            for step in (1e-2, -1e-2):
                array[place] += step
                ends.append(log_likelihood(calibration, choice))
                array[place] -= step
            slope = (ends[0] - ends[1]) / 2e-2
            assert moved[name].reshape(-1)[place] == pytest.approx(rate * slope, abs=2e-4 * rate + 1e-6, rel=2e-2)
            checked += 1
    assert checked > 12
    touched = {cell for _, cell, _ in NOTES}
    assert set(np.flatnonzero(calibration.tried != 6.0).tolist()) == touched
    assert (weights.evidence == evidence_now).all()


def test_cells_count_what_was_right() -> None:
    calibration = Calibration()
    evidence, weights = filled(calibration)
    before = calibration.accepted.copy()
    teach_row(calibration, evidence, weights, 3)
    gained = calibration.accepted - before
    assert {int(cell) for cell in np.flatnonzero(gained)} == {1003, 9}
    for cell in (1003, 1000):
        share = calibration.accepted[cell] / calibration.tried[cell]
        assert weights.evidence[cell] == pytest.approx(worth_of(share), rel=1e-5)


def test_a_row_that_was_not_expanded_teaches_nothing() -> None:
    calibration = Calibration()
    evidence, weights = filled(calibration)
    evidence.held[0] = -1
    before = [array.copy() for array in weights]
    teach_row(calibration, evidence, weights, 3)
    assert all((a == b).all() for a, b in zip(before, weights, strict=True))


def test_more_candidates_and_looks_than_there_is_room_for() -> None:
    evidence, weights = make_evidence(1), Calibration().weights("a")
    notes = [(token, 60 + token, 0) for token in range(BRANCHES + 9)] + [(3, 5, 0)] * (LOOKS + 4)
    fill(evidence, weights, np.array(notes))
    assert evidence.held[0] == BRANCHES
    assert evidence.used[0, 3] == LOOKS
    assert evidence.prob[0].sum() + evidence.none_prob[0] == pytest.approx(1.0, rel=1e-4)


def test_what_was_learned_is_kept(tmp_path: Path) -> None:
    first = Calibration()
    evidence, weights = filled(first)
    for _ in range(50):
        teach_row(first, evidence, weights, 3)
    path = tmp_path / "deep" / "calibration.safetensors"
    first.save(path)
    second = Calibration()
    assert second.read(path)
    kept = second.weights("b")
    for name in ("evidence", "look", "mask", "mix", "pair", "none"):
        assert np.allclose(getattr(kept, name), getattr(weights, name), atol=1e-6), name
    assert not kept.token.any()  # what a namespace says is not stored
    assert set(load_file(path)) == {"tried", "accepted", "look", "mask", "mix", "pair", "none"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["cut", "other", "shape", "infinite", "negative"])
def test_a_damaged_file_is_left_alone_with_a_warning(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    calibration = Calibration()
    calibration.save(path)
    arrays = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other":
        path.write_bytes(b"not a file of tensors")
    else:
        if damage == "shape":
            arrays["look"] = arrays["look"][:-1]
        elif damage == "infinite":
            arrays["mix"][5] = np.inf
        else:
            arrays["tried"][5] = -1.0
        save_file(arrays, path)
    again = Calibration()
    with pytest.warns(DraftWarning, match="is not used"):
        assert not again.read(path)
    assert (again.tried == Calibration().tried).all()


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(DraftWarning, match="not stored"):
        Calibration().save(tmp_path / "file" / "c.safetensors")


def test_the_default_comes_with_the_package() -> None:
    calibration = Calibration()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calibration.read_default()
    assert (calibration.tried <= 200.0 + 1e-9).all()
    assert calibration.weights("a").look.std() > 0


def test_who_drafts_with_a_model_has_a_default_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = (*asked_levels(), "draft")
    monkeypatch.setattr("hierdraft.drafting.hierarchy.calibration.files", lambda _: tmp_path)
    for name, tried in (((), 7.0), (levels, 9.0)):
        made = Calibration(name)
        made.tried[:] = tried
        made.write(file_of(tmp_path / "calibration.safetensors", name or asked_levels()))
    for name, tried in (((), 7.0), (levels, 9.0), ((*asked_levels(), "grammar"), 7.0)):
        calibration = Calibration(name)
        assert calibration.read_default()
        assert calibration.tried[0] == tried


def test_token_weights_stay_in_their_namespace() -> None:
    calibration = Calibration()
    evidence, weights = filled(calibration)
    teach_row(calibration, evidence, weights, 3)
    assert weights.token[3] > 0
    assert not calibration.weights("b").token.any()
    assert calibration.weights("a").token[3] == weights.token[3]
    for number in range(NAMESPACES):
        calibration.weights(f"n{number}")
    assert not calibration.weights("a").token.any()  # the least recently used one was let go


def learned(calibration: Calibration, choice: int, times: int) -> Calibration:
    evidence, weights = filled(calibration)
    for _ in range(times):
        teach_row(calibration, evidence, weights, choice)
    return calibration


def test_what_two_drafters_learn_at_once_is_all_kept(tmp_path: Path) -> None:
    """The one that stores last adds to what the other stored, and what it stores twice counts once."""
    path = tmp_path / "c.safetensors"
    before = Calibration()
    before.save(path)
    one, two = Calibration(), Calibration()
    assert one.read(path)
    assert two.read(path)
    learned(one, 3, 30).save(path)
    learned(two, 9, 20).save(path)
    two.save(path)
    kept = Calibration()
    assert kept.read(path)
    for name in ("tried", "accepted"):
        gained = sum(getattr(c, name) - getattr(before, name) for c in (one, two))
        assert np.allclose(getattr(kept, name) - getattr(before, name), gained), name
        assert gained.any()
    start = initial_weights()
    for name in ("look", "mask", "mix", "none"):
        moved = [getattr(c.weights("b"), name) - start[name] for c in (one, two)]
        assert np.allclose(getattr(kept.weights("b"), name) - start[name], sum(moved), atol=1e-6), name
        assert all(change.any() for change in moved)


def test_a_damaged_file_is_replaced_when_something_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"not a file of tensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned(Calibration(), 3, 5).save(path)
    assert Calibration().read(path)


def test_other_levels_have_a_file_of_their_own(tmp_path: Path) -> None:
    """`hierarchy` and `hierarchy:levels=...` see other evidence, whatever the order in which they end."""
    shared = tmp_path / "c.safetensors"
    for names in (("hierarchy", "hierarchy:levels=context"), ("hierarchy:levels=context", "hierarchy")):
        methods = [make_method(name) for name in names]
        for method in methods:
            assert isinstance(method, HierarchyMethod)
            method.attach(Setup(Databases(calibration_file=shared)))
            learned(method.calibration, 3 if "levels" in names[methods.index(method)] else 9, 40)
            method.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.context.safetensors", "c.safetensors"]
    ours, theirs = Calibration(), Calibration()
    assert ours.read(shared)
    assert theirs.read(tmp_path / "c.context.safetensors")
    assert ours.accepted[4000] > theirs.accepted[4000]
    assert ours.accepted[1003] < theirs.accepted[1003]


def test_the_order_in_which_levels_are_named_is_no_difference() -> None:
    path = Path("c.safetensors")
    assert (
        file_of(path, ("model", "context"))
        == file_of(path, ("context", "model"))
        == Path("c.context+model.safetensors")
    )
    assert file_of(path, asked_levels()) == path


def test_cells_per_look_hold_all_ranks() -> None:
    assert PER_LOOK == COUNTS * SHARES * 2
