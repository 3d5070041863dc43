"""`hierdraft bench run`, `bench audit` and sampled `generate` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import hierdraft

QUESTIONS = [
    {"id": "a", "task": "lists", "turns": ["List three colours, twice.", "Once more."]},
    {"id": "b", "task": "sums", "prompt": "What is 2 + 3? And 3 + 2?"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return path


@pytest.mark.model
@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_a_model_that_drafts(data: Path, smollm2: Path, temperature: str, tmp_path: Path) -> None:
    done = hierdraft(
        "bench", "run", "--dataset", str(data), "--model", str(smollm2), "--dtype", "float32", "--out", str(tmp_path),
        "--methods", "none,draft-model:width=1:depth=3", "--draft", str(smollm2), "--max-new-tokens", "12",
        "--budget", "3", "--temperature", temperature, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (name,) = set(found["methods"]) - {"none"}
    assert name == f"draft-model:draft={smollm2}:width=1:depth=3"
    assert found["methods"][name]["accepted_length"] > 2
    assert found["methods"][name]["identical"] or temperature != "0"
    assert found["drawn"] == ([] if temperature == "0" else [name])


@pytest.mark.model
def test_run_and_audit(data: Path, smollm2: Path) -> None:
    out = data.parent / "out"
    asked = [
        "bench", "run", "--dataset", str(data), "--model", str(smollm2), "--dtype", "float32", "--out", str(out),
        "--methods", "hierarchy", "--max-new-tokens", "12", "--temperature", "0.8",
    ]  # fmt: skip
    done = hierdraft(*asked, "--json")
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    made, found = whole["settings"], whole["methods"]
    assert list(found) == ["none", "hierarchy"]
    assert (made["dtype"], made["learn"], made["sampling"]["temperature"]) == ("float32", False, 0.8)
    assert made["engine"] in ("hf", "openvino")
    assert type(made["threads"]) is int
    assert whole["known"] == {"in_databases": [], "asked_before": []}
    assert json.loads((out / "none.jsonl").read_text().splitlines()[0])["run"] == {**made, "method": "none"}
    for score in found.values():
        assert {"accepted_length", "tokens_per_second", "speedup", "identical", "tasks"} <= set(score)
        assert set(score["speedup"]) == {"median", "low", "high", "values"}
        assert score["speedup"]["low"] is None, "of three answers no interval is told"
        assert set(score["tasks"]) == {"lists", "sums"}
        assert score["identical"] is True
        assert score["answers"] == 3
    shown = hierdraft(*asked)  # everything is there already
    assert shown.returncode == 0, shown.stderr
    assert "speed-up by task" in shown.stdout
    refused = hierdraft(*asked, "--top-k", "9")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "none.jsonl was made with another sampling" in refused.stderr
    told = hierdraft("bench", "report", str(out), "--out", str(data.parent / "site"), "--example", "a.2")
    assert told.returncode == 0, told.stderr
    assert "speed-up by task" in told.stdout
    made = {path.name for path in (data.parent / "site").iterdir()}
    assert {"report.json", "report.csv", "answers.csv", "report.html", "speedup.png"} <= made
    report = json.loads(hierdraft("bench", "report", str(out), "--json").stdout)
    assert report["methods"]["hierarchy"]["audit"]["bugs"] == 0
    assert report["example"]["method"] == "hierarchy"
    plain, drafted = out / "none.jsonl", out / "hierarchy.jsonl"
    assert "0 ties, 0 bugs" in hierdraft("bench", "audit", str(plain), str(drafted)).stdout
    rows = [json.loads(line) for line in drafted.read_text().splitlines()]
    rows[2]["output_ids"][3] = 777
    wrong = data.parent / "wrong.jsonl"
    wrong.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = hierdraft("bench", "audit", str(plain), str(wrong), "--json")
    assert told.returncode == 14
    assert "not explained" in told.stderr
    report = json.loads(told.stdout)
    assert (report["bugs"], report["ties"], report["differences"][0]["position"]) == (1, 0, 3)
    short = data.parent / "short.jsonl"
    short.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    told = hierdraft("bench", "audit", str(plain), str(short))
    assert told.returncode == 14
    assert "in one run only" in told.stderr


@pytest.mark.model
def test_long_prompts_are_named_or_skipped(tmp_path: Path, smollm2: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    rows = [{"id": "short", "prompt": "Hello."}, {"id": "long", "prompt": "word " * 9000}]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    given = (
        "bench", "run", "--dataset", str(asked), "--model", str(smollm2), "--engine", "hf", "--methods", "none",
        "--max-new-tokens", "2", "--out", str(out),
    )  # fmt: skip
    done = hierdraft(*given)
    assert done.returncode == 7, done.stderr
    assert "Question 'long', turn 1, has 90" in done.stderr
    assert len((out / "none.jsonl").read_text().splitlines()) == 1, "nothing was decoded"
    done = hierdraft(*given, "--skip-long", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["id"] for one in found["skipped"]] == ["long.1"]
    assert found["methods"]["none"]["answers"] == 1
    report = json.loads(hierdraft("bench", "report", str(out), "--json").stdout)
    assert [one["id"] for one in report["skipped"]] == ["long.1"]


@pytest.mark.model
def test_sampled_and_structured_answers(tmp_path: Path, smollm2: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"enum": ["red and green", "red and blue"]}))
    asked = ["generate", "Name two colours.", "--model", str(smollm2), "--max-new-tokens", "16", "--json", "--compare"]
    record = json.loads(hierdraft(*asked, "--temperature", "0.9", "--top-k", "50", "--schema", str(schema)).stdout)
    assert json.loads(record["text"]) in ("red and green", "red and blue")
    assert record["compare"]["identical"] is True
    assert record["seed"] is not None
    again = json.loads(hierdraft(*asked, "--temperature", "0.9", "--seed", "7").stdout)
    assert again["compare"]["identical"] is True
    assert again["seed"] == 7


@pytest.mark.model
def test_an_answer_that_leaves_its_schema_is_said_to(tmp_path: Path, smollm2: Path) -> None:
    (tmp_path / "number.json").write_text(json.dumps({"$defs": {"one": {"enum": [1, 2]}}}))
    schema = tmp_path / "schema.json"
    listed = {"type": "array", "items": {"$ref": "number.json#/$defs/one"}, "minItems": 3, "maxItems": 3}
    schema.write_text(json.dumps(listed | {"items": {"allOf": [listed["items"]]}, "uniqueItems": True, "maxItems": 4}))
    asked = ["generate", "Count.", "--model", str(smollm2), "--engine", "hf", "--max-new-tokens", "40", "--schema",
             str(schema)]  # fmt: skip
    told = hierdraft(*asked, "--lenient-schema", "--json")
    assert told.returncode == 15, told.stderr
    found = json.loads(told.stdout)["schema"]
    assert (found["follows"], found["left_to_check"]) == (False, ["#/uniqueItems"])
    assert "The answer does not follow its schema: " in told.stderr
    schema.write_text(json.dumps(listed))
    told = hierdraft(*asked[:-3], "2", "--schema", str(schema))
    assert told.returncode == 15
    assert told.stderr.strip().endswith("does not follow its schema: it was cut by the limit of new tokens.")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["generate", "x", "--temperature", "-1"], "temperature"),
        (["generate", "x", "--top-p", "2"], "top_p"),
        (["generate", "x", "--schema", "/nowhere.json"], "nowhere"),
        (["generate", "x", "--schema", str(Path(__file__).parents[2] / "Makefile")], "not JSON"),
        (["generate", "x", "--lenient-schema"], "--schema"),
        (["generate", "x", "--schema-folder", "."], "--schema"),
        (["bench", "run", "--out", "out", "--dataset", "nonsense"], "no data set"),
        (["bench", "run", "--out", "out", "--methods", "hierachy"], "hierarchy"),
        (["bench", "run", "--out", "out", "--methods", "hd,hd"], "different names"),
        (["bench", "run", "--out", "out", "--temperature", "-1"], "temperature"),
        (["bench", "audit", "/nowhere", "/nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], word: str, tmp_path: Path) -> None:
    done = hierdraft(*[str(tmp_path / "out") if part == "out" else part for part in arguments])
    assert done.returncode not in (0, 1)
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def write_run(path: Path, said: list[int], **settings: object) -> Path:
    header = {"run": {"model": "nowhere", "dtype": "float32", "sampling": {}, "method": path.stem, **settings}}
    record = {"id": "a.1", "task": "t", "prompt_ids": [1, 2], "output_ids": said}
    path.write_text(json.dumps(header) + "\n" + json.dumps(record) + "\n")
    return path


@pytest.mark.parametrize(
    ("said", "settings", "cut", "code", "sentence"),
    [
        ([3, 4], {}, 0, 0, "1 answers, 2 tokens compared: 0 ties, 0 bugs"),
        ([3, 5], {"model": "other"}, 0, 2, "model is nowhere in one and other in the other"),
        ([3, 5], {"engine": "openvino"}, 0, 2, "engine is none in one and openvino in the other"),
        ([3, 5], {"sampling": {"temperature": 1.0}}, 0, 2, "sampling is none in one and temperature 1.0 in the other"),
        ([3, 4], {}, 9, 13, "ends in the middle of a line"),
    ],
)
def test_audits_of_odd_runs(
    tmp_path: Path, said: list[int], settings: dict[str, object], cut: int, code: int, sentence: str
) -> None:
    one, other = write_run(tmp_path / "none.jsonl", [3, 4]), write_run(tmp_path / "hd.jsonl", said, **settings)
    whole = other.read_bytes()
    other.write_bytes(whole[: len(whole) - cut])
    done = hierdraft("bench", "audit", str(one), str(other))
    assert (done.returncode, done.stdout.count("\n") + done.stderr.count("\n")) == (code, 1), done.stderr
    assert sentence in done.stdout + done.stderr


def test_reports_of_odd_folders(tmp_path: Path) -> None:
    """One sentence each: an empty folder, a file for a folder, records without figures."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    write_run(tmp_path / "bare" / "none.jsonl", [3, 4])
    for place, code, sentence in (
        (tmp_path / "empty", 2, "holds no run of plain decoding"),
        (tmp_path / "bare" / "none.jsonl", 2, "is no folder"),
        (tmp_path / "bare", 13, "the record 'a.1' has no steps"),
    ):
        done = hierdraft("bench", "report", str(place), "--json")
        assert (done.returncode, done.stdout) == (code, "")
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not list(tmp_path.rglob("report.*"))
