"""Data sets, runs, figures and the audit, on toy engines whose noise is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hierdraft.bench.audit import ROWS, audit, explain, first_difference, in_passes
from hierdraft.bench.datasets import DATASETS, fetched, load_questions
from hierdraft.bench.metrics import FEWEST, accepted_interval, interval, summarise
from hierdraft.bench.runs import Run, as_line, read_run
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine, ToySequence
from hierdraft.errors import CorpusError, UsageError
from hierdraft.protocols import Part, Scored
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import fresh, run

SIZE = 32


class Noisy(ToyEngine):
    """Rounds as half-precision kernels do: the logits depend a little on how many rows a pass has."""

    noise = 0.05

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        return [
            self._noised(len(part.tree), scored.logits)
            for part, scored in zip(parts, super().forward(parts), strict=True)
        ]

    def _noised(self, nodes: int, logits: NDArray[np.float64]) -> Scored:
        rng = np.random.default_rng([nodes, int(np.abs(logits[0, 0]) * 1e6)])
        return Scored(logits + rng.uniform(-self.noise, self.noise, logits.shape))


class MixedSequence(ToySequence):
    """Keeps the rows that come first instead of those that were accepted."""

    def commit(self, path: Sequence[int]) -> None:
        super().commit(range(len(path)))


class Mixed(Noisy):
    def open(self, ids: Any = (), **options: Any) -> ToySequence:
        return MixedSequence(self, [])


def runs(engine: ToyEngine, sampling: dict[str, Any], answers: int = 12, **changed: Any) -> tuple[Run, Run]:
    """Plain decoding, and decoding with an oracle's drafts hidden in trees."""
    both = []
    truth: dict[int, list[int]] = {}
    for drafts in (False, True):
        found = Run({"model": "toy", "dtype": "float32", "sampling": sampling, **changed})
        for number in range(answers):
            prompt = [number + 1, 5, 9]
            seed = number if sampling.get("temperature") else None
            chosen = Sampling(**sampling, seed=seed)
            rules = [*chosen.penalties(len(prompt)), *chosen.filters()]
            options = Options(60, FixedBudget(9), Sampler(engine.values, rules, seed))
            drafter = HARMLESS["OracleInATree"](SIZE, truth[number], 0) if drafts else PlainMethod()
            said, _ = run(engine, drafter, prompt, options)
            truth.setdefault(number, prompt + said)
            found.records[str(number)] = {
                "id": str(number), "prompt_ids": prompt, "output_ids": said, "seed": seed,
            }  # fmt: skip
        both.append(found)
    return both[0], both[1]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8}, {"temperature": 1.0, "top_p": 0.7, "top_k": 9}])
def test_what_rounding_does_is_called_a_tie(sampling: dict[str, Any]) -> None:
    engine, exact = Noisy(1, SIZE), ToyEngine(1, SIZE)
    one, other = runs(engine, sampling)
    found = audit(one, other, engine, exact)
    assert found.count("tie") > 3
    assert found.count("bug") == 0
    for difference in found.differences:
        assert difference.noise is not None
        assert difference.error is not None
        assert 0 < difference.noise < 2 * Noisy.noise
        assert 0 < difference.error < Noisy.noise
        assert "top_p" in sampling or difference.margin <= 2.5 * difference.noise
    report = json.loads(json.dumps(found.as_dict()))
    assert (report["answers"], report["ties"], report["bugs"], report["missing"]) == (12, found.count("tie"), 0, [])


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8}])
def test_a_bug_is_not_taken_for_noise_though_the_passes_of_the_audit_have_it_too(sampling: dict[str, Any]) -> None:
    engine = Mixed(1, SIZE, None)
    one, other = runs(engine, sampling)
    found = audit(one, other, engine, ToyEngine(1, SIZE, None))
    assert found.count("tie") <= 2  # where rounding came first
    assert found.count("bug") > 9
    assert any("further apart than rounding" in difference.reason for difference in found.differences)
    unguarded = audit(one, other, engine, None)
    assert unguarded.count("tie") > found.count("tie")


def test_an_exact_engine_has_no_differences() -> None:
    one, other = runs(ToyEngine(1, SIZE), {"temperature": 1.0})
    found = audit(one, other, None, None)
    assert (found.answers, found.tokens, found.differences) == (12, 12 * 60, [])


@pytest.mark.parametrize("engine", [ToyEngine(1, SIZE), Noisy(1, SIZE)])
def test_a_wrong_token_is_called_a_bug(engine: ToyEngine) -> None:
    one, other = runs(engine, {}, answers=6)
    for record in other.records.values():
        record["output_ids"] = list(one.records[record["id"]]["output_ids"])
        logits = in_passes(engine, record["prompt_ids"], record["output_ids"][:7], 1)
        record["output_ids"][7] = int(np.argsort(logits)[0])  # the least likely of all
    found = audit(one, other, engine, None)
    assert [one.kind for one in found.differences] == ["bug"] * 6
    assert {one.position for one in found.differences} == {7}
    assert found.tokens == 6 * 8
    assert "only token" in found.differences[0].reason


def test_both_tokens_wrong_is_a_bug_too() -> None:
    engine = ToyEngine(1, SIZE)
    order = np.argsort(in_passes(engine, [1, 2], [3], 1))
    told = explain("x", [1, 2], [3], (int(order[0]), int(order[1])), Sampling(), engine, None)
    assert told.kind == "bug"
    assert "neither" in told.reason


def test_an_answer_that_ends_early_is_a_bug() -> None:
    one, other = runs(ToyEngine(1, SIZE), {}, answers=1)
    del other.records["0"]["output_ids"][-1]
    found = audit(one, other, ToyEngine(1, SIZE), None)
    assert found.count("bug") == 1
    assert found.differences[0].tokens[1] is None


def test_the_text_is_fed_in_passes_of_every_size() -> None:
    shapes: list[list[int]] = []

    class Watched(ToyEngine):
        def forward(self, parts: Sequence[Part]) -> list[Scored]:
            if len(parts[0].tokens) == 1:
                shapes[-1].append(1 + len(parts[0].tree))
            return super().forward(parts)

    engine = Watched(3, SIZE, None)
    said = np.random.default_rng(0).integers(0, SIZE, 11).tolist()
    expected = fresh(ToyEngine(3, SIZE, None), [1, 2, *said])[-1]
    for rows in ROWS:
        shapes.append([])
        assert in_passes(engine, [1, 2], said, rows).tolist() == expected.tolist()
        for useless in (1, 5):
            assert in_passes(ToyEngine(3, SIZE, None), [1, 2], said, rows, useless).tolist() == expected.tolist()
        assert sum(shapes[-1]) == 11
        assert set(shapes[-1][:-1]) <= {rows}
    assert shapes[0] == [1] * 11
    assert shapes[2] == [4, 4, 3]


def test_runs_that_cannot_be_compared_are_refused() -> None:
    one, other = runs(ToyEngine(1, SIZE), {}, answers=2)
    for name in ("model", "engine", "dtype", "sampling"):
        with pytest.raises(UsageError, match=name):
            audit(one, Run({**other.settings, name: "other"}, other.records), None, None)
    for name, value in (("prompt_ids", [9]), ("seed", 4)):
        changed = {**other.records, "1": {**other.records["1"], name: value}}
        with pytest.raises(UsageError, match="'1'"):
            audit(one, Run(other.settings, changed), None, None)
    del other.records["1"]
    assert audit(one, other, None, None).missing == ["1"]
    other.records["0"]["output_ids"] = [1]
    with pytest.raises(UsageError, match="model is needed"):
        audit(one, other, None, None)


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([], [4], 0), ([], [], None), ([5], [6], 0)],
)
def test_first_difference(one: list[int], other: list[int], place: int | None) -> None:
    assert first_difference(one, other) == place


# runs


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    record = {"id": "a", "prompt_ids": [1], "output_ids": [2, 3], "seed": 4}
    header = {"model": "m", "sampling": {"temperature": 0.5, "logit_bias": {"7": 1.0}}}
    path.write_text(as_line({"run": header}) + as_line(record))
    found = read_run(path)
    assert found.records == {"a": record}
    assert found.sampling(record) == Sampling(temperature=0.5, logit_bias={7: 1.0}, seed=4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"run": {}}\n{"id": 1, "prompt_', "ends in the middle of a line"),
        ('{"run": {}}\n{"run": {}}\n', "line 2: a second run begins here"),
        ("", "is empty"), ('{"id": 1}\n', "is not a run"), ('{"run": 3}\n', "is not a run"),
        ('{"run": {}}\n{"id": 1, "prompt_ids": [1]}\n', "line 2"), ('{"run": {}}\nxx\n', "line 2"),
        ('{"run": {}}\n{"id": 1, "prompt_ids": ["a"], "output_ids": []}\n', "line 2"),
        ('{"run": {}}\n' + '{"id": 1, "prompt_ids": [], "output_ids": []}\n' * 2, "occurs twice"),
    ],
)  # fmt: skip
def test_damaged_runs_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(CorpusError, match=reason):
        read_run(path)


# data sets


def test_builtin_questions() -> None:
    every = load_questions("builtin")
    assert len(every) == 42
    few = load_questions("builtin", 2)
    assert len(few) == 12
    assert len({question.task for question in few}) == 6
    assert [question.id for question in few] == [q.id for q in every if q in few]


def test_spec_bench_files_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "question.jsonl"
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["One.", "Two."]},
        {"question_id": 161, "category": "translation", "turns": ["Three."]},
        {"question_id": 162, "category": "coding", "turns": ["Four."]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in (str(path), f"spec-bench:{path}"):
        found = load_questions(name)
        several = "multi-turn conversation"
        assert [question.task for question in found] == [several, "translation", several]
        assert found[0].turns == ("One.", "Two.")
        assert [question.id for question in load_questions(name, 1)] == ["81", "161"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no questions"), ('{"id": 1}\n', "line 1"), ('{"prompt": ""}\n', "line 1"), ('{"turns": [3]}\n', "line 1"),
        ('{"turns": "x"}\n', "line 1"), ('{"id": 1, "prompt": "x"}\n' * 2, "occurs twice"), ("x\n", "line 1"),
    ],
)  # fmt: skip
def test_wrong_data_sets_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(CorpusError, match=reason):
        load_questions(str(path))


def test_data_sets_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="spec-bench:FILE"):
        load_questions("spec-bench")
    with pytest.raises(UsageError, match="no data set"):
        load_questions("nonsense")


def test_spec_bench_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question_id": i, "category": "qa", "turns": ["x"]} for i in (1, 2)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    asked: list[str] = []

    def download(address: str) -> bytes:
        asked.append(address)
        return data

    with pytest.raises(UsageError, match="not the file"):
        fetched("spec-bench", tmp_path, download)
    assert not list(tmp_path.rglob("*.jsonl"))
    known = replace(DATASETS["spec-bench"], sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(DATASETS, "spec-bench", known)
    assert fetched("spec-bench", tmp_path, download) == fetched("spec-bench", tmp_path, download)
    assert asked == [known.address] * 2
    assert [question.id for question in load_questions("spec-bench", cache=tmp_path)] == ["1", "2"]

    def unreachable(address: str) -> bytes:
        raise OSError("no route")

    with pytest.raises(UsageError, match=r"cannot be fetched \(no route\)"):
        fetched("spec-bench", tmp_path / "elsewhere", unreachable)


# figures


def record(name: str, tokens: int, seconds: float, steps: int, task: str = "a") -> dict[str, Any]:
    return {
        "id": name, "task": task, "output_ids": list(range(tokens)), "steps": steps, "seconds": seconds + 1.0,
        "prefill_seconds": 1.0, "draft_seconds": 0.1, "forward_seconds": 0.5, "rest_seconds": 0.2,
        "by_level": {"context": {"proposed": 4, "accepted": 2}},
        "step_tokens": [(tokens - 1) // steps] * steps if steps else [],
    }  # fmt: skip


def test_figures_by_hand() -> None:
    plain = {"x": record("x", 11, 2.0, 10), "y": record("y", 21, 4.0, 20), "z": record("z", 1, 0.0, 0)}
    ours = [record("x", 11, 1.0, 5), record("y", 21, 1.0, 5), record("z", 1, 0.0, 0)]
    found = summarise(ours, plain)
    assert found["accepted_length"] == 3.0
    assert found["tokens_per_second"] == 15.0
    assert found["speedup"] == {"median": 3.0, "low": None, "high": None, "values": [2.0, 4.0]}
    assert found["speedup_total"] == 3.0
    assert (found["answers"], found["tokens"], found["steps"]) == (3, 33, 10)
    assert found["levels"] == {"context": {"proposed": 12, "accepted": 6}}
    assert found["seconds"] == {"prefill": 3.0, "draft": 0.3, "forward": 1.5, "rest": 0.6}
    assert found["step_tokens"] == {"2": 5, "4": 5}
    assert found["accepted_interval"] == {"low": None, "high": None, "values": [2.0, 4.0]}
    nothing_measured = summarise(ours[2:], plain)
    assert nothing_measured["speedup"] == {"median": None, "low": None, "high": None, "values": []}
    assert nothing_measured["speedup_total"] is None
    assert nothing_measured["accepted_interval"]["values"] == []


def test_the_interval_covers_the_median() -> None:
    values = np.random.default_rng(0).normal(5, 1, 200).tolist()
    found = interval(values)
    assert found["low"] < found["median"] < found["high"]
    assert 0.2 < found["high"] - found["low"] < 0.6


@pytest.mark.parametrize("count", range(1, 9))
def test_an_interval_is_told_only_where_the_answers_can_hold_one(count: int) -> None:
    values = [float(n) for n in range(count, 0, -1)]
    found = interval(values)
    if 2 * 0.5**count > 0.05:  # the chance that the median lies outside the whole range
        assert (found["low"], found["high"], found["values"]) == (None, None, sorted(values))
    else:
        assert found["low"] < found["median"] < found["high"]
        assert "values" not in found
    records = [record(str(n), 1 + n * 2, 1.0, n) for n in range(1, count + 1)]
    assert (accepted_interval(records)["low"] is None) == (count < FEWEST)
    assert json.loads(json.dumps(found)) == found


def test_the_two_ways_to_say_speed_up_differ() -> None:
    """One long answer without drafts weighs more than two short ones, but is one answer among three."""
    plain = {"x": record("x", 11, 1.0, 10), "y": record("y", 11, 1.0, 10), "z": record("z", 101, 10.0, 100)}
    found = summarise([record("x", 11, 0.5, 5), record("y", 11, 0.5, 5), record("z", 101, 10.0, 100)], plain)
    assert found["speedup"]["median"] == 2.0
    assert found["speedup_total"] == pytest.approx(12 / 11, abs=1e-4)


# runs that the audit cannot judge


def test_runs_without_answers_are_not_called_equal() -> None:
    with pytest.raises(UsageError, match="neither holds an answer"):
        audit(Run({}), Run({}), None, None)


@pytest.mark.parametrize("wrong", [{"prompt_ids": [1, 99]}, {"output_ids": [1, 99]}, {"output_ids": [1, -1]}])
def test_ids_of_another_model_are_refused(wrong: dict[str, Any]) -> None:
    kept = {"id": "a", "prompt_ids": [1, 2], "output_ids": [3, 4], **wrong}
    other = {**kept, "output_ids": [5, 4]}
    with pytest.raises(UsageError, match="'a' has ids outside the vocabulary of 32"):
        audit(Run({}, {"a": kept}), Run({}, {"a": other}), ToyEngine(1, SIZE), None)


@pytest.mark.parametrize("sampling", [{"temprature": 1.0}, [1], "greedy", {"logit_bias": {"x": 1.0}}])
def test_sampling_that_is_none_is_refused(sampling: Any) -> None:
    with pytest.raises(CorpusError, match="sampling"):
        Run({"sampling": sampling}).sampling({})
