"""The small real model: both doors, the command line, and the promise itself, on the built-in prompts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import hierdraft
from hierdraft.bench.datasets import builtin_prompts
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.engines.hf.cache import TreeCache
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.integrations.transformers import decode
from hierdraft.text import encode_prompt
from tests.cli.test_cli import hierdraft as command
from tests.lossless.harness import kept, run

pytestmark = pytest.mark.model
FIRST = list({row["kind"]: row for row in reversed(builtin_prompts())}.values())


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Any:
    return hierdraft.load(str(smollm2), engine="hf", dtype="float32")


@pytest.fixture(scope="module")
def plain_model(smollm2: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row["kind"])
def test_float32_is_exact(model: Any, row: dict[str, str]) -> None:
    options = {"max_new_tokens": 48, "ignore_eos": True}
    plain = model.generate(row["prompt"], method="none", **options)
    for budget in ("auto", 24):
        assert model.generate(row["prompt"], budget=budget, **options).token_ids == plain.token_ids


@pytest.mark.parametrize(
    ("draft", "engine", "methods"),
    [
        ("smollm2-tiny", "hf", ["hierarchy"]),
        ("smollm2-tiny", "openvino", ["hierarchy", "draft-model", "tabed"]),
        ("smollm2-eagle", "openvino", ["hierarchy", "draft-model"]),
    ],
)
def test_the_drafters_that_come_along(smollm2: Path, draft: str, engine: str, methods: list[str]) -> None:
    model = hierdraft.load("smollm2-135m", engine=engine, dtype="float32", threads=1, learn=False)
    row, options = FIRST[-1], {"max_new_tokens": 40, "ignore_eos": True}
    plain = model.generate(row["prompt"], method="none", **options)
    drawn = model.generate(row["prompt"], method="none", temperature=0.8, seed=3, **options)
    for name in methods:
        drafted = model.generate(row["prompt"], method=f"{name}:draft={draft}", budget=16, **options)
        assert drafted.token_ids == plain.token_ids
        assert drafted.steps < 0.8 * plain.steps
    seeded = {"budget": 16, "temperature": 0.8, "seed": 3, **options}
    beside = model.generate(row["prompt"], method=f"hierarchy:draft={draft}", **seeded)
    assert beside.token_ids == drawn.token_ids
    assert beside.draft_forwards > 0


def test_the_same_ids_as_transformers(model: Any, plain_model: Any) -> None:
    """Packed weights and preallocated cache on our side, the library's own loop on the other."""
    ids = encode_prompt(model.tokenizer, FIRST[0]["prompt"], chat=True)
    given = torch.tensor([ids])
    options = {"attention_mask": torch.ones_like(given), "max_new_tokens": 48, "do_sample": False}
    theirs = plain_model.generate(given, **options)[0, len(ids) :].tolist()
    assert model.generate(ids, max_new_tokens=48).token_ids == theirs
    custom = plain_model.generate(given, **options, custom_generate=decode())
    assert custom[0, len(ids) :].tolist() == theirs


def test_the_cache_after_drafts_is_that_of_a_fresh_prefill(model: Any) -> None:
    engine, sequences = model.engine, []
    ids = encode_prompt(model.tokenizer, "List ten fruits, then list them again.", chat=True)
    options = Options(40, FixedBudget(12), keep=kept(sequences))
    said, _ = run(engine, HierarchyMethod(), ids, options)
    cache: TreeCache = sequences[0].cache
    keys = [layer.keys[:, :, : cache.length].clone() for layer in cache.layers]
    other = engine.open()
    other.prefill((ids + said)[: cache.length])
    for ours, layer in zip(keys, other.cache.layers, strict=True):
        torch.testing.assert_close(ours, layer.keys[:, :, : ours.shape[2]], rtol=1e-3, atol=1e-3)


def test_prompts_that_do_not_fit(model: Any) -> None:
    with pytest.raises(ContextLengthError, match="8192"):
        model.generate([5] * 8192)
    with pytest.raises(UsageError, match="49152"):
        model.generate([49152])


def test_generate_on_the_command_line(smollm2: Path) -> None:
    asked = ["generate", "-", "--model", str(smollm2), "--max-new-tokens", "24", "--json", "--compare"]
    record = json.loads(command(*asked, text="Name three colours, three times.").stdout)
    assert record["compare"]["identical"] is True
    assert record["new_tokens"] == len(record["token_ids"]) == len(record["token_levels"]) <= 24
    assert {"text", "steps", "accepted_length", "seconds", "tokens_per_second", "levels"} <= set(record)
    assert {"speedup", "baseline_seconds"} <= set(record["compare"])
    shown = command("generate", "Name a colour.", "--model", str(smollm2), "--max-new-tokens", "8", "--stop", "colour")
    assert shown.returncode == 0
    assert "accepted length" in shown.stderr
    assert "colour" not in shown.stdout


def test_doctor_with_the_model(smollm2: Path) -> None:
    asked = ["doctor", "--model", str(smollm2), "--engine", "hf", "--json"]
    report = json.loads(command(*asked).stdout)["model"]
    assert report["engine"] == "hf"
    assert report["architecture"] == "LlamaForCausalLM"
    assert report["vocabulary"] == 49152
    assert set(report["milliseconds_by_rows"]) == {"1", "2", "4", "8", "16", "32", "64"}


@pytest.mark.parametrize("example", ["one_argument.py", "own_drafter.py"])
def test_examples_run(smollm2: Path, example: str) -> None:
    file = Path(__file__).parents[2] / "examples" / example
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    if example == "one_argument.py":
        assert "identical: True" in done.stdout
    else:
        said = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
        assert len(said) == 3
        assert len(set(said)) == 1


def test_the_demo_on_the_command_line(smollm2: Path) -> None:
    asked = ["generate", "--demo", "--model", str(smollm2), "--max-new-tokens", "12"]
    shown = command(*asked)
    assert shown.returncode == 0, shown.stderr
    assert "all 6 outputs identical: yes" in shown.stdout
    record = json.loads(command(*asked, "--json").stdout)
    assert record["identical"] is True
    assert len(record["prompts"]) == 6


def test_the_script_of_the_readme(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands there, but for the number of tokens; the model is found below the folder in which it runs."""
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    (name,) = re.findall(r'name = "(.*)"', code)
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).symlink_to(smollm2)
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    exec(compile(code.replace("=200", "=12"), "README.md", "exec"), given)  # noqa: S102 - our own page
    plain = given["model"].generate(**given["inputs"], max_new_tokens=12)
    assert given["output"].tolist() == plain.tolist()
    assert capsys.readouterr().out.startswith("The sky is blue because")
