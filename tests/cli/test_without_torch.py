"""GGUF files and OpenVINO folders need neither torch nor transformers: nothing imports them on those doors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.unit.gguf_files import write_gguf

pytest.importorskip("openvino_genai")

HIDDEN = ("accelerate", "nncf", "torch", "transformers")
SITE = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
"""Read by every Python that has its folder on the path: as if the packages were not installed."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    write_gguf(folder / "model.gguf", kind="Q4_0")
    return folder


def light(home: Path) -> dict[str, str]:
    """An environment without those packages, with caches of its own."""
    path = os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"HIERDRAFT_CACHE_DIR": str(home / "cache"), "HIERDRAFT_DATA_DIR": str(home / "data")}
    return {**os.environ, **own, "PYTHONPATH": path}


def run(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hierdraft", *arguments], input=given, capture_output=True, text=True, check=False,
        env=light(home),
    )  # fmt: skip


def test_the_packages_are_hidden(home: Path) -> None:
    for name in HIDDEN:
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], env={**os.environ, "PYTHONPATH": str(home)}, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert "ModuleNotFoundError" in done.stderr, name


def test_generate(home: Path) -> None:
    file = str(home / "model.gguf")
    options = ("--json", "--max-new-tokens", "24", "--threads", "1")
    answers = []
    for more in (("--method", "none"), (), ("--temperature", "0.8", "--seed", "3")):
        done = run(home, "generate", "the sky is blue", "--model", file, *options, *more)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)["text"])
    assert answers[0] == answers[1]


def test_chat_and_schema(home: Path) -> None:
    file = str(home / "model.gguf")
    done = run(home, "chat", "--model", file, "--max-new-tokens", "8", "--threads", "1", given="the sky\nis\n")
    assert done.returncode == 0, done.stderr
    (home / "schema.json").write_text('{"type": "boolean"}')
    done = run(home, "generate", "the", "--model", file, "--schema", str(home / "schema.json"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(done.stdout)["text"]) in (True, False)


def test_bench(home: Path) -> None:
    done = run(
        home, "bench", "run", "--model", str(home / "model.gguf"), "--limit", "1", "--max-new-tokens", "8",
        "--threads", "1", "--out", str(home / "run"), "--skip-long",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_serve(home: Path) -> None:
    command = [sys.executable, "-m", "hierdraft", "serve", "--model", str(home / "model.gguf"), "--port", "0", "--json"]
    process = subprocess.Popen(command, env=light(home), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, process.stderr.read() if process.stderr else ""
        url = json.loads(told)["url"]
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "the sky"}], "max_tokens": 8}
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        continued = [*asked["messages"], {"role": "assistant", "content": "is"}]
        for more in ({}, {"tools": [tool]}, {"messages": continued}):
            name = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
            answer = httpx.post(f"{url}/v1/chat/completions", json={"model": name, **asked, **more}, timeout=60)
            assert answer.status_code == 200, answer.text
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_transformers_folder_says_what_is_missing(home: Path) -> None:
    folder = home / "folder"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    done = run(home, "generate", "the", "--model", str(folder))
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install 'hierdraft[convert]'" in done.stderr


def test_a_transformers_script_says_what_is_missing(home: Path) -> None:
    code = (
        "import hierdraft\nfrom hierdraft.errors import MissingDependencyError\n"
        "for name in hierdraft.hf.__all__:\n"
        "    try:\n        getattr(hierdraft.hf, name)\n"
        "    except MissingDependencyError as error:\n        print(error)\n"
        "from hierdraft.hf import decode"
    )
    done = subprocess.run([sys.executable, "-c", code], env=light(home), capture_output=True, text=True, check=False)
    told = "Models need torch, transformers, not installed here: run pip install 'hierdraft[hf]'."
    assert done.stdout.splitlines() == [told] * 3
    assert done.stderr.strip().endswith(f"MissingDependencyError: {told}")
