"""What the cache holds is listed, and what nobody needs can be removed, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hierdraft.cli.commands import app
from hierdraft.errors import ModelError, UsageError
from hierdraft.models import graphs as openvino_files


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, their graphs, an old graph, leftovers."""
    monkeypatch.setattr(openvino_files, "version", lambda package: package)
    folder = Path(os.environ["HIERDRAFT_CACHE_DIR"])
    for name in ("smollm2-135m", "gemma3-270m"):
        model = folder / "models" / name
        put(model / "config.json", f'{{"name": "{name}"}}')
        put(model / "model.safetensors", "x" * 1000)
        put(folder / "models" / f".{name}.lock", "")
        graph(folder, openvino_files._key(model, "float32"), model)
    graph(folder, "outdated", folder / "models" / "smollm2-135m")
    put(folder / "openvino" / "early" / "graph.bin", "x" * 50)
    put(folder / "openvino" / "abc.killed" / "graph.bin", "x" * 10)
    put(folder / "models" / ".smollm2-135m.tmp-77" / "config.json", "x" * 20)
    put(folder / "downloads" / "gemma3-270m" / "tmp.whl", "x" * 30)
    put(folder / "costs" / "a.json", "{}")
    return folder


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def graph(folder: Path, key: str, model: Path) -> None:
    put(folder / "openvino" / key / "graph.bin", "x" * 500)
    put(folder / "openvino" / key / "about.json", json.dumps({"model": str(model), "weights": "float32"}))
    put(folder / "openvino" / f"{key}.lock", "")


def run(*arguments: str, answer: str | None = None) -> str:
    done = CliRunner().invoke(app, ["models", *arguments], input=answer)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def listed() -> list[tuple[str, str, bool]]:
    return sorted((row["kind"], row["what"], row["unused"]) for row in json.loads(run("list", "--caches", "--json")))


def test_everything_in_the_cache_is_listed(cache: Path) -> None:
    assert listed() == [
        ("costs", "what a step takes", False),
        ("download", "gemma3-270m", True),
        ("graph", "gemma3-270m, float32", False),
        ("graph", "of an earlier version", True),
        ("graph", "smollm2-135m, float32", False),
        ("graph", "smollm2-135m, float32", True),
        ("leftover", "half a conversion", True),
        ("leftover", "smollm2-135m", True),
        ("model", "gemma3-270m", False),
        ("model", "smollm2-135m", False),
    ]
    assert "4 conversions" in run("list")
    assert "of an earlier version  unused" in run("list", "--caches")
    assert str(cache / "costs") in run("list", "--caches")


def test_a_model_goes_with_all_that_was_made_for_it(cache: Path) -> None:
    removed = json.loads(run("rm", "gemma3-270m", "--yes", "--json"))
    assert sorted(row["kind"] for row in removed["removed"]) == ["download", "graph", "model"]
    assert removed["bytes"] == sum(row["bytes"] for row in removed["removed"]) > 1500
    assert not [what for _, what, _ in listed() if what.startswith("gemma3")]
    assert len(listed()) == 7
    assert not list((cache / "models").glob(".gemma3*"))
    with pytest.raises(ModelError, match="--caches"):
        run("rm", "gemma3-270m", "--yes")


def test_what_is_unused_goes_and_nothing_else(cache: Path) -> None:
    run("rm", "--unused", "--yes")
    assert [kind for kind, _, _ in listed()] == ["costs", "graph", "graph", "model", "model"]
    assert "Removed 0" in run("rm", "--unused")


def test_a_folder_of_the_users_own_is_left_alone(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    put(own / "config.json", "{}")
    graph(cache, openvino_files._key(own, "float32"), own)
    assert ("graph", f"{own}, float32", False) in listed()
    run("rm", str(own), "--yes")
    assert (own / "config.json").exists()
    assert not [what for _, what, _ in listed() if what.startswith(str(own))]


def test_nothing_is_removed_unasked(cache: Path) -> None:
    before = listed()
    with pytest.raises(UsageError, match="--yes"):
        run("rm", "gemma3-270m")
    for arguments in ([], ["smollm2-135m", "--unused"]):
        with pytest.raises(UsageError, match="--unused"):
            run("rm", *arguments)
    with pytest.raises(ModelError):
        run("rm", "../models", "--yes")
    assert listed() == before
