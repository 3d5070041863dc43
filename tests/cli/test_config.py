"""Settings can be found: what is in force and why, an example of every key, and what doctor tells of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hierdraft.cli.commands import app
from hierdraft.errors import SettingsError
from hierdraft.settings import Settings, config_path, load_settings


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "c.toml"
    path.write_text('method = "hd"\nlearn = false\npacks = ["a.safetensors"]\n')
    monkeypatch.setenv("HIERDRAFT_CONFIG", str(path))
    monkeypatch.setenv("HIERDRAFT_THREADS", "3")
    return path


def test_every_setting_is_shown_with_its_origin(config: Path) -> None:
    found = json.loads(ran("config", "show", "--json").stdout)
    assert (found["file"], found["found"]) == (str(config), True)
    settings = found["settings"]
    assert set(settings) == set(Settings.model_fields)
    told = {name: (settings[name]["value"], settings[name]["origin"]) for name in settings}
    assert told["method"] == ("hd", "file")
    assert told["learn"] == (False, "file")
    assert told["packs"] == (["a.safetensors"], "file")
    assert told["threads"] == (3, "environment")
    assert told["budget"] == ("auto", "default")
    assert settings["threads"]["variable"] == "HIERDRAFT_THREADS"
    lines = ran("config", "show").stdout.splitlines()
    assert str(config) in lines[0]
    shown = [line for line in lines if line.startswith(("method ", "threads ", "learn ", "expire_days "))]
    assert [re.sub(" +", " ", line) for line in shown] == [
        "method hd (settings file)",
        "threads 3 (HIERDRAFT_THREADS)",
        "learn false (settings file)",
        "expire_days not set (default)",
    ]


def test_the_path_is_told_whether_it_is_there_or_not(config: Path) -> None:
    assert ran("config", "path").stdout == f"{config}\n"
    config.unlink()
    assert json.loads(ran("config", "path", "--json").stdout) == {"file": str(config), "found": False}
    assert isinstance(ran("config", "show").exception, SettingsError)  # a file that is named must be there


def test_the_example_names_every_key_and_changes_nothing(config: Path) -> None:
    text = ran("config", "example").stdout
    assert tomllib.loads(text) == {}
    wanted = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert set(tomllib.loads(wanted)) == set(Settings.model_fields)
    config.write_text(wanted)
    found = load_settings(threads=None)
    unset = {"threads", "exact", "expire_days", "packs", "data_dir", "cache_dir"}
    for name in set(Settings.model_fields) - unset:
        assert getattr(found, name) == Settings.model_fields[name].default, name
    assert found.expire_days is not None
    assert found.packs[0].is_absolute()
    told = json.loads(ran("config", "example", "--json").stdout)
    assert told["text"] == text
    assert set(told["keys"]) == set(Settings.model_fields)


def test_without_a_file_the_example_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HIERDRAFT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "config example" in ran("config", "show").stdout.splitlines()[0]
    assert not config_path().exists()


def test_the_doctor_tells_what_is_in_force_in_lines(config: Path, tmp_path: Path) -> None:
    store = load_settings().data_dir / "model-level" / "model" / "namespace"
    store.mkdir(parents=True)
    (store / "journal").write_bytes(b"x" * 1000)
    done = ran("doctor", "--dtype", "bfloat16", "--json")
    report = json.loads(done.stdout)
    assert report["config"] == {"file": str(config), "found": True}
    assert report["settings"]["dtype"] == {
        "value": "bfloat16",
        "origin": "argument",
        "variable": "HIERDRAFT_DTYPE",
    }
    force = report["in_force"]
    assert (force["dtype"], force["threads"], force["learns"]) == ("bfloat16", 3, False)
    assert force["engine"] in ("hf", "openvino")
    assert force["learned"] == {"folder": str(store.parents[1]), "namespaces": 1, "bytes": 1000}
    assert "a.safetensors" in force["packs"][0]["problem"]
    assert force["packs"][1]["level"] == "model", "the pack that comes with the default model"
    text = ran("doctor", "--dtype", "bfloat16").stdout
    assert not re.search(r"[{}\[\]']|None|True|False", text), "no Python in it"
    for words in (
        f"settings file: {config}",
        "dtype: bfloat16 (command line)",
        "threads: 3 (HIERDRAFT_THREADS)",
        "learn: false (settings file)",
        "learning: off",
        f"data_dir: {load_settings().data_dir} (HIERDRAFT_DATA_DIR)",
        "NOT USABLE",
        "torch: ",
    ):
        assert words in text, words


COMPLETE = (
    "import sys; sys.argv = ['hierdraft']\n"
    "from hierdraft.cli.app import main\n"
    "try:\n    main()\nfinally:\n"
    "    print([m for m in ('torch', 'transformers', 'numba', 'openvino') if m in sys.modules], file=sys.stderr)"
)


def completed(words: Sequence[str], cwd: Path) -> list[str]:
    """What bash is offered for the last of the words."""
    environment = {"_HIERDRAFT_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    environment["COMP_CWORD"] = str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], cwd=cwd, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines() == ["[]"], done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("generate --method h", ["hd", "hierarchy", "hierarchy+draft", "hvt"]),
        ("generate --engine ", ["auto", "hf", "openvino"]),
        ("generate --dtype b", ["bfloat16"]),
        ("generate --model smol", ["smollm2-135m", "smollm2-tiny"]),
        ("generate --draft smol", ["smollm2-eagle", "smollm2-tiny", "smollm2-135m"]),
        ("generate --pack packs/", ["packs/deep/", "packs/one.safetensors"]),
        ("bench run --methods none,h", ["none,hd", "none,hierarchy", "none,hierarchy+draft", "none,hvt"]),
        ("models path gem", ["gemma3-270m"]),
    ],
)
def test_the_shell_is_offered_what_there_is(tmp_path: Path, words: str, wanted: list[str]) -> None:
    (tmp_path / "packs" / "deep").mkdir(parents=True)
    for name in ("one.safetensors", "two.txt", ".hidden.safetensors"):
        (tmp_path / "packs" / name).touch()
    assert completed(["hierdraft", *words.split(" ")], tmp_path) == wanted
