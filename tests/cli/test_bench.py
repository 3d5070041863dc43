"""`hierdraft bench replay` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierdraft.databases.pack import PackInfo, join, write_pack
from hierdraft.databases.suffixsort import build
from tests.cli.test_cli import hierdraft


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records that repeat each other in part, and a pack of some of what they say."""
    path = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    phrases = [rng.integers(0, 60, 12) for _ in range(12)]
    rows = []
    for number in range(8):
        said = np.concatenate([phrases[i] for i in rng.integers(0, 12, 8)])
        row: dict[str, Any] = {"prompt_ids": said[:5].tolist(), "output_ids": said[5:].tolist()}
        rows.append(row if number % 2 else {**row, "task": "even"})
    (path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_pack(path / "m.safetensors", build(join(phrases[:6]), 60), PackInfo("model", 60))
    return path


def replay(folder: Path, *arguments: str) -> dict[str, Any]:
    done = hierdraft("bench", "replay", "--records", str(folder / "records.jsonl"), *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["methods"]
    return found


def test_the_promised_fields(folder: Path) -> None:
    found = replay(folder, "--methods", "hierarchy,hd,none", "--pack", str(folder / "m.safetensors"), "--budget", "12")
    assert list(found) == ["hierarchy", "hd", "none"]
    for score in found.values():
        assert {"accepted_length", "steps", "tokens", "nodes_per_step", "draft_us_per_step", "tasks"} <= set(score)
        assert score["tokens"] == 8 * (8 * 12 - 5 - 1)
        assert score["accepted_length"] == pytest.approx(score["tokens"] / score["steps"], abs=1e-3)
        assert set(score["tasks"]) == {"even", "all"}
        assert score["nodes_per_step"] <= 12
    assert found["none"]["accepted_length"] == 1.0 < found["hd"]["accepted_length"]
    assert found["hierarchy"]["accepted_length"] > found["none"]["accepted_length"]


def test_packs_warm_records_and_learning_all_help(folder: Path) -> None:
    alone = replay(folder, "--methods", "hierarchy")["hierarchy"]["accepted_length"]
    pack = replay(folder, "--methods", "hierarchy", "--pack", str(folder / "m.safetensors"))["hierarchy"]
    online = replay(folder, "--methods", "hierarchy", "--online")["hierarchy"]["accepted_length"]
    warm = replay(folder, "--methods", "hierarchy", "--warm", str(folder / "records.jsonl"))["hierarchy"]
    assert alone < pack["accepted_length"]
    assert alone < online < warm["accepted_length"]
    assert replay(folder, "--methods", "hierarchy", "--limit", "2")["hierarchy"]["tokens"] == 180


def test_a_table_for_people(folder: Path) -> None:
    done = hierdraft("bench", "replay", "--records", str(folder / "records.jsonl"), "--methods", "hd:window=0,none")
    assert done.returncode == 0
    assert "hd:window=0" in done.stdout
    assert "drafting" in done.stdout


def test_what_a_replay_was_made_with(folder: Path) -> None:
    """Enough to make its figures again; a run's own file is read as records, its header left out."""
    rows = (folder / "records.jsonl").read_text().splitlines()[:2]
    run = folder / "none.jsonl"
    run.write_text("\n".join([json.dumps({"run": {"model": "m"}}), *rows]) + "\n")
    asked = ("bench", "replay", "--methods", "none", "--budget", "9", "--pack", str(folder / "m.safetensors"), "--json")
    found = json.loads(hierdraft(*asked, "--records", str(run)).stdout)["settings"]
    assert (found["records"], found["count"], found["budget"], found["online"]) == ("none.jsonl", 2, 9, False)
    assert [(pack["name"], len(pack["sha256"])) for pack in found["packs"]] == [("m.safetensors", 64)]
    assert {"hierdraft", "cpu", "date", "code"} <= set(found)
    run.write_text(run.read_text() * 2)
    mixed = hierdraft(*asked, "--records", str(run))
    assert (mixed.returncode, mixed.stdout) == (13, "")
    assert "line 4: a second run begins here" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--methods", "telepathy"], 2, "no drafting method 'telepathy'"),
        (["--methods", "hd,hd"], 2, "different names"),
        (["--methods", " "], 2, "different names"),
        (["--methods", "hd:drafts=many"], 2, "must be a whole number"),
        (["--pack", "nowhere.safetensors"], 11, "nowhere.safetensors"),
        (["--warm", "nowhere.jsonl"], 13, "nowhere.jsonl"),
        (["--budget", "900"], 2, "budget"),
        (["--budget", "many"], 2, "budget"),
        (["--budget", "auto"], 2, "--random-weights"),
        (["--random-weights", "llama-9000b"], 2, "choose one of llama-8b"),
        (["--random-weights", "llama-68m", "--device", "cuda:77"], 2, "cuda:77"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = hierdraft("bench", "replay", "--records", str(folder / "records.jsonl"), *arguments)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_records_that_are_none(folder: Path, tmp_path: Path) -> None:
    for text, sentence in (("", "holds no records"), ('{"prompt_ids": [1]}\n', "line 1"), ("[[]]\n", "line 1")):
        path = tmp_path / "r.jsonl"
        path.write_text(text)
        done = hierdraft("bench", "replay", "--records", str(path), "--methods", "none")
        assert done.returncode == 13, done.stderr
        assert sentence in done.stderr
        packed = hierdraft("bench", "replay", "--records", str(path), "--pack", str(folder / "m.safetensors"))
        assert packed.returncode == 13
