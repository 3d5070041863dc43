"""Runs over a data set: what they were made with, continuing after a kill, long prompts, answers known before."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hierdraft.bench.audit import audit
from hierdraft.bench.datasets import Question, load_questions
from hierdraft.bench.known import VERBATIM, beginning_known, known_answers
from hierdraft.bench.metrics import compare
from hierdraft.bench.provenance import cpu_model, made_with
from hierdraft.bench.runner import Plan, Runner
from hierdraft.bench.runs import as_line, read_run
from hierdraft.databases import suffixsort
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import PackInfo, join, write_pack
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import ContextLengthError, HierdraftError, UsageError
from hierdraft.generation import LanguageModel
from tests.unit.byte_tokenizer import Bytes

# the runner


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(ToyEngine(1, 257, 3, eos_ids=(256,)), Bytes(), "toy")


@pytest.fixture
def questions(tmp_path: Path) -> list[Any]:
    path = tmp_path / "data.jsonl"
    rows = [{"id": i, "task": "ab"[i % 2], "turns": [f"question {i}", "and then?"][: 1 + i % 2]} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_questions(str(path))


def nothing(done: int, everything: int) -> None:
    pass


def test_a_run_and_its_figures(model: LanguageModel, questions: list[Any], tmp_path: Path) -> None:
    plan = Plan(["hierarchy", "none"], 40, 8, settings={"model": "toy", "dtype": "float32"})
    runner = Runner(model, plan, tmp_path / "out")
    told: list[int] = []
    runner.run(questions, lambda done, everything: told.append(done))
    assert told == [1, 2, 3, 4, 5]
    names = ["0.1", "1.1", "1.2", "2.1", "3.1", "3.2", "4.1"]
    for method in ("none", "hierarchy"):
        kept = read_run(tmp_path / "out" / f"{method}.jsonl")
        assert list(kept.records) == names
        assert kept.settings["method"] == method
        for record in kept.records.values():
            assert sum(record["step_tokens"]) == len(record["output_ids"]) - 1
            assert len(record["step_tokens"]) == record["steps"]
            assert "".join(record["pieces"]) == record["text"]
            assert len(record["pieces"]) == len(record["output_ids"])
    plain = runner.runs["none"].records
    second = plain["1.2"]["prompt_ids"]
    assert bytes(t for t in second if t < 256).decode(errors="replace") != ""
    assert len(second) > len(plain["1.1"]["prompt_ids"]) + len("and then?")
    found = compare(runner.runs, names)["methods"]
    assert found["none"]["speedup"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert found["none"]["accepted_length"] == 1.0
    assert found["hierarchy"]["identical"] is True
    assert found["hierarchy"]["answers"] == 7
    assert set(found["hierarchy"]["tasks"]) == {"a", "b"}
    assert found["hierarchy"]["tasks"]["b"]["answers"] == 4
    assert audit(runner.runs["none"], runner.runs["hierarchy"], None, None).tokens == found["none"]["tokens"]


def test_files_have_short_names_of_their_own(model: LanguageModel, tmp_path: Path) -> None:
    """Of a path its last part, and a digest where that is another run's; the same method finds its file again."""
    one, other = (f"draft-model:draft={folder}/small/:width=2+1" for folder in ("/a/b", "../c"))
    names = {
        "hierarchy:draft=owner/small": "hierarchy_draft=small",
        "hd": "hd",
        one: "draft-model_draft=small_width=2+1",
    }
    with Runner(model, Plan([*names, other], 4), tmp_path) as runner:
        assert {method: runner.path(method).stem for method in names} == names
        apart = runner.path(other)
        assert re.fullmatch(r"draft-model_draft=small_width=2\+1-[0-9a-f]{8}\.jsonl", apart.name)
    with Runner(model, Plan([other, "hierarchy"], 4), tmp_path) as runner:
        assert runner.path(other) == apart
    with Runner(model, Plan([one], 4), tmp_path) as runner:
        assert runner.path(one).stem == names[one]


def test_a_run_goes_on_where_it_was_killed(model: LanguageModel, questions: list[Any], tmp_path: Path) -> None:
    plan = Plan(["hierarchy"], 20, 8, {"temperature": 0.9}, seed=5)
    Runner(model, plan, tmp_path / "whole").run(questions, nothing)
    out = tmp_path / "out"
    Runner(model, plan, out).run(questions[:3], nothing)
    path = out / "hierarchy.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with Runner(model, plan, out) as again:
        assert len(again.runs["hierarchy"].records) == 3
        with pytest.raises(UsageError, match="Another bench run writes"):
            Runner(model, plan, out)
        again.run(questions, nothing)
    for method in ("none", "hierarchy"):
        one, other = read_run(out / f"{method}.jsonl"), read_run(tmp_path / "whole" / f"{method}.jsonl")
        assert {k: v["output_ids"] for k, v in one.records.items()} == {
            k: v["output_ids"] for k, v in other.records.items()
        }
        assert len({record["seed"] for record in one.records.values()}) == 7
    with pytest.raises(UsageError, match="another max_new_tokens"):
        Runner(model, Plan(["hierarchy"], 21, 8, {"temperature": 0.9}, seed=5), out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        Runner(model, plan, tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="another sampling"):
        Runner(model, Plan(["hierarchy"], 20, 8, {"temperature": 0.8}, seed=5), out)


# what a run was made with


def header_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text().splitlines()[0])["run"]
    return found


def test_a_header_says_what_is_in_force(tmp_path: Path) -> None:
    info = PackInfo("model", 32, licence="CC0-1.0")
    pack = write_pack(tmp_path / "said.safetensors", suffixsort.build(join([np.arange(9, dtype=np.int32)]), 32), info)
    engine = SimpleNamespace(name="hf", dtype="float32", device="cpu", threads=3, exact=True)
    model = SimpleNamespace(engine=engine, databases=Databases([pack]))
    made = made_with(model)
    assert (made["dtype"], made["engine"], made["device"], made["threads"], made["learn"]) == (
        "float32", "hf", "cpu", 3, False,
    )  # fmt: skip
    (told,) = made["packs"]
    assert told == {
        "name": "said.safetensors", "level": "model", "tokens": 9, "licence": "CC0-1.0",
        "sha256": pack.info.checksums["tokens"],
    }  # fmt: skip
    assert len(told["sha256"]) == 64
    assert {"hierdraft", "numpy", "cpu", "cpus", "python", "code", "date"} <= set(made)
    assert "openvino" not in made
    assert json.loads(json.dumps(made)) == made
    engine.name = "openvino"
    assert ("openvino" in made_with(model)) == (find_spec("openvino") is not None)


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some: processor\nprocessor\t: 1\nmodel name\t: other\n")
    assert cpu_model(file) == "Some: processor"
    file.write_text("processor\t: 0\n")
    assert cpu_model(file) == cpu_model(tmp_path / "nowhere") != ""


MADE: dict[str, Any] = {
    "model": "toy", "dtype": "float32", "threads": 2, "cpu": "a", "learn": False, "date": "monday", "commit": "c1",
    "code": "d1", "packs": [{"name": "p", "sha256": "1"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"threads": 4}, r"another threads \(2, now 4\)"),
        ({"cpu": "b"}, r"another cpu \(a, now b\)"),
        ({"code": "d2"}, r"another code \(d1, now d2\)"),
        ({"learn": True}, r"another learn \(no, now yes\)"),
        ({"packs": []}, r"another packs \(p, now none\)"),
        ({"packs": [{"name": "p", "sha256": "2"}]}, r"another packs \(p, with other contents\)"),
        ({"engine": "hf"}, r"without a record of its engine"),
        ({"threads": None}, r"another threads \(2, now none\)"),
    ],
)
def test_other_settings_do_not_go_on_and_are_named(
    model: LanguageModel, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    Runner(model, Plan(["none"], 20, 8, settings=MADE), tmp_path).close()
    with pytest.raises(UsageError, match=sentence) as refused:
        Runner(model, Plan(["none"], 20, 8, settings={**MADE, **change}), tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    Runner(model, Plan(["none"], 20, 8, settings={**MADE, "date": "tuesday", "commit": "c2"}), tmp_path).close()
    assert header_of(tmp_path / "none.jsonl")["date"] == "monday"


def test_a_run_of_an_older_version_is_not_gone_on_with(model: LanguageModel, tmp_path: Path) -> None:
    older = {"model": "toy", "method": "none", "budget": 8, "max_new_tokens": 20, "sampling": {}, "seed": 0}
    (tmp_path / "none.jsonl").write_text(as_line({"run": older}))
    with pytest.raises(UsageError, match="without a record of its dtype"):
        Runner(model, Plan(["none"], 20, 8, settings=MADE), tmp_path)


def test_a_kill_at_any_byte_loses_and_doubles_nothing(
    model: LanguageModel, questions: list[Any], tmp_path: Path
) -> None:
    """The file of a method is cut wherever a kill could have cut it, the header included."""
    plan = Plan(["none"], 6, 0, settings=MADE)
    with Runner(model, plan, tmp_path / "whole") as runner:
        runner.run(questions[:2], nothing)
    whole = (tmp_path / "whole" / "none.jsonl").read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {0, 1, 9, *(end + by for end in ends for by in (-1, 0, 1, 7) if end + by <= len(whole))}:
        out = tmp_path / str(cut)
        out.mkdir()
        (out / "none.jsonl").write_bytes(whole[:cut])
        with Runner(model, plan, out) as runner:
            kept = len(runner.runs["none"].records)
            assert kept == max(0, sum(end <= cut for end in ends) - 1)
            runner.run(questions[:2], nothing)
        found = read_run(out / "none.jsonl")
        assert list(found.records) == ["0.1", "1.1", "1.2"]


def test_a_seed_hangs_on_its_answer_alone(model: LanguageModel, questions: list[Any], tmp_path: Path) -> None:
    """Fewer questions, or another method later, and every answer still has the seed it had."""
    out, plan = tmp_path / "out", Plan(["none"], 8, 0, {"temperature": 0.9})
    with Runner(model, plan, out) as runner:
        runner.run(questions[2:], nothing)
    with Runner(model, Plan(["hierarchy"], 8, 0, {"temperature": 0.9}), out) as runner:
        runner.run(questions, nothing)
        plain, drafted = (runner.runs[method].records for method in ("none", "hierarchy"))
        assert {name: record["seed"] for name, record in plain.items()} == {
            name: record["seed"] for name, record in drafted.items()
        }
        assert len({record["seed"] for record in plain.values()}) == 7
        assert audit(runner.runs["none"], runner.runs["hierarchy"], None, None).answers == 7


# prompts that are too long


@pytest.fixture
def short() -> LanguageModel:
    """A model whose context holds 64 tokens."""
    engine = ToyEngine(1, 257, 3, eos_ids=(256,))
    engine.max_length = 64
    return LanguageModel(engine, Bytes(), "toy")


LONG = [Question("a", "t", ("short",)), Question("b", "t", ("x" * 40, "y" * 80)), Question("c", "t", ("z" * 70,))]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (LONG, "Question 'b', turn 2, has 1[0-9][0-9] tokens and the model's context holds 64"),
        (LONG[::2], "Question 'c', turn 1, has 7[0-9] tokens and the model's context holds 64: .*--skip-long"),
        ([Question("d", "t", ("",), raw=True)], "Question 'd', turn 1: The prompt is empty"),
    ],
)
def test_a_prompt_that_is_too_long_is_named_before_anything_is_decoded(
    short: LanguageModel, tmp_path: Path, asked: list[Question], sentence: str
) -> None:
    with Runner(short, Plan(["none"], 8, 0), tmp_path) as runner:
        with pytest.raises(HierdraftError, match=sentence):
            runner.run(asked, nothing)
        assert runner.runs["none"].records == {}


def test_a_later_turn_that_grows_too_long_is_named_and_nothing_is_lost(short: LanguageModel, tmp_path: Path) -> None:
    grows = [Question("g", "t", ("x" * 25, "y" * 25))]
    with Runner(short, Plan(["none"], 30, 0), tmp_path) as runner:
        with pytest.raises(ContextLengthError, match="Question 'g', turn 2, has"):
            runner.run(grows, nothing)
        assert list(read_run(tmp_path / "none.jsonl").records) == ["g.1"]


def test_long_turns_are_skipped_on_request(short: LanguageModel, tmp_path: Path) -> None:
    with Runner(short, Plan(["none"], 8, 0, skip_long=True), tmp_path) as runner:
        runner.run(LONG, nothing)
        assert list(runner.runs["none"].records) == ["a.1", "b.1"]
        assert [one["id"] for one in runner.skipped] == ["b.2", "c.1"]
        assert "the model's context holds 64" in runner.skipped[0]["reason"]


# answers that were known before


def packed(path: Path, documents: Sequence[Sequence[int]]) -> Any:
    text = join([np.array(ids, dtype=np.int32) for ids in documents])
    return write_pack(path, suffixsort.build(text, 300), PackInfo("model", 300))


def test_the_beginning_of_an_answer_is_looked_for_in_databases(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    said = rng.integers(0, 300, 50).tolist()
    one = packed(tmp_path / "one.safetensors", [rng.integers(0, 300, 400).tolist(), [7, *said], said[:10]])
    other = packed(tmp_path / "other.safetensors", [[*said[:20], 299, *said[20:]]])
    assert beginning_known([other, one], said) == {"database": "one.safetensors", "tokens": VERBATIM}
    assert beginning_known([other], said) == {"database": "other.safetensors", "tokens": 20}
    assert beginning_known([one], said[1:]) == {"database": "one.safetensors", "tokens": VERBATIM}
    assert beginning_known([], said) is None
    assert beginning_known([packed(tmp_path / "no.safetensors", [[1, 2, 3]])], [250] * 40) is None
    for length in (0, 1, 3):
        expected = {"database": "one.safetensors", "tokens": length} if length else None
        assert beginning_known([one], said[:length]) == expected


def test_answers_that_were_learned_before_are_told() -> None:
    def answered(prompt: int, tokens: int, known: int | None) -> dict[str, Any]:
        found = None if known is None else {"database": "p", "tokens": known}
        return {"prompt_ids": [prompt], "output_ids": list(range(tokens)), "known": found}

    records = {
        "new": answered(1, 60, 8), "held": answered(2, 60, VERBATIM), "short": answered(3, 5, 5),
        "whole": answered(4, 20, 19), "again": answered(2, 60, None), "apart": answered(1, 60, VERBATIM),
    }  # fmt: skip
    names = [name for name in records if name != "apart"]
    assert known_answers(records, names) == {"in_databases": ["held", "whole"], "asked_before": ["again"]}
    del records["new"]["known"]  # as an older version wrote it
    assert known_answers(records, ["new"])["in_databases"] == []


def test_a_run_notes_what_its_databases_hold(questions: list[Any], tmp_path: Path) -> None:
    engine = ToyEngine(1, 257, 3, eos_ids=(256,))
    said = LanguageModel(engine, Bytes(), "toy").generate("question 0", max_new_tokens=40).token_ids
    pack = packed(tmp_path / "said.safetensors", [said])
    model = LanguageModel(engine, Bytes(), "toy", Databases([pack]))
    with Runner(model, Plan(["hierarchy"], 40, 8), tmp_path / "out") as runner:
        runner.run(questions[:2], nothing)
        plain = runner.runs["none"].records
        assert plain["0.1"]["known"]["tokens"] == min(VERBATIM, len(said))
        known = known_answers(plain, list(plain))
        assert ("0.1" in known["in_databases"]) == (len(said) >= 16)
        assert "1.1" not in known["in_databases"]
