"""Trainings in bfloat16: rows that fill sizes up change nothing, and what is learned is the same but for rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hierdraft.engines.openvino import compiling
from hierdraft.engines.openvino.compiling import has_bfloat16
from hierdraft.errors import UsageError
from hierdraft.training.precision import ROWS, filled, filled_window, products_in, room
from hierdraft.training.settings import KINDS, HeadTraining, Limits, Training
from hierdraft.training.students import new_student
from hierdraft.training.target import Target, read_target
from hierdraft.training.train import Job, train_drafter
from hierdraft.training.windows import packed, window_of
from tests.unit.test_eagle import QUICK, documents
from tests.unit.test_training import rows_of, save_target, write


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = save_target(tmp_path_factory.mktemp("target") / "base")
    return read_target(str(folder), folder)


def settings(kind: str) -> Training:
    """Of a kind of head, or of a drafter."""
    if kind not in KINDS:
        return Training(layers=2, sampled=0, loops=2 if kind == "looped" else 1)
    usual = KINDS[kind]
    given = {"kind": kind, "layers": usual.layers, "unrolled": usual.unrolled, "adversarial": usual.adversarial}
    return replace(QUICK, sampled=0, **given)


@pytest.mark.parametrize("kind", [*KINDS, "drafter", "looped"])
def test_rows_that_fill_up_teach_nothing(
    kind: str, known: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and gradients, in float32 with sizes filled up as they are in bfloat16."""
    training = settings(kind)
    reads = training.reads(known.depth) if isinstance(training, HeadTraining) else ()
    given = documents(known, tmp_path, reads)
    for pieces in packed(given, 200, 1):
        found = []
        for fill in (False, True):
            student, _ = new_student(known, training, None, reads)
            with monkeypatch.context() as patch:
                patch.setattr(torch, "is_autocast_enabled", lambda *_, fill=fill: fill)
                window = filled_window(window_of(pieces))
                assert len(window.ids) % ROWS == 0 or not fill
                loss = student.loss(window, 0.5)
                (loss.entropy + loss.divergence).backward()  # type: ignore[no-untyped-call]
            slopes: list[Any] = [one.grad for one in student.parameters()]
            found.append((loss, slopes))
        (plain, slopes), (more, others) = found
        assert float(more.entropy.detach()) == pytest.approx(float(plain.entropy.detach()), rel=1e-5)
        assert float(more.divergence.detach()) == pytest.approx(float(plain.divergence.detach()), rel=1e-4, abs=1e-6)
        for one, other in zip(slopes, others, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()) + 1e-7)


def test_sizes_are_filled_up_in_bfloat16_only() -> None:
    rows = torch.arange(2 * (ROWS + 3)).view(-1, 2)
    assert room(ROWS + 3) == ROWS + 3
    assert torch.equal(filled(rows), rows)
    with products_in("bfloat16"):
        assert [room(count) for count in (0, 1, ROWS, ROWS + 1)] == [0, ROWS, ROWS, 2 * ROWS]
        more = filled(rows)
        assert len(more) == 2 * ROWS
        assert torch.equal(more[: len(rows)], rows)
        assert (more[len(rows) :] == rows[0]).all()
        assert len(filled(rows[:0])) == 0
    with products_in("float32"):
        assert room(1) == 1


@pytest.mark.filterwarnings("ignore:OpenVINO cannot compile")
@pytest.mark.parametrize("kind", ["eagle3", "drafter"])
def test_it_learns_what_it_learns_in_float32(kind: str, known: Target, tmp_path: Path) -> None:
    if not has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    data = write(tmp_path / "data.jsonl", rows_of(60))
    losses = []
    for dtype in ("float32", "bfloat16"):
        training = replace(settings(kind), rows=60, window=64, batch=2, held_out=0.2, learning_rate=1e-2, dtype=dtype)
        job = Job(str(known.path), [data], tmp_path / dtype, training, Limits(steps=12), threads=1)
        found = train_drafter(job, tmp_path / "cache")
        assert found is not None
        losses.append(found["held_out"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_processor_without_it_says_so(known: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "has_bfloat16", lambda: False)
    data = write(tmp_path / "data.jsonl", rows_of(20))
    job = Job(str(known.path), [data], tmp_path / "out", Training(dtype="bfloat16"), Limits(steps=1))
    with pytest.raises(UsageError, match="does not compute in bfloat16: leave --dtype out"):
        train_drafter(job, tmp_path / "cache")


def test_other_number_types_are_refused() -> None:
    with pytest.raises(UsageError, match="--dtype must be float32 or bfloat16, not 'float16'"):
        Training(dtype="float16").check()
