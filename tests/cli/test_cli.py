"""The command line as a user meets it: real processes, exit codes, one sentence on errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hierdraft import errors
from hierdraft.errors import HierdraftError


def hierdraft(
    *arguments: str, text: str | None = None, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from hierdraft.cli.app import main; main()", *arguments],
        input=text or "",  # an empty pipe: whoever runs the tests may have left standard input open
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **environment},
    )


def test_help_names_every_command_and_stays_light() -> None:
    shown = hierdraft("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("generate", "db", "doctor", "models"))
    code = (
        "import sys; sys.argv = ['hierdraft', '--help']\n"
        "from hierdraft.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'numba', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("command", ["generate", "doctor", "models", "models pull", "models list"])
def test_help_of_each_command(command: str) -> None:
    shown = hierdraft(*command.split(), "--help")
    assert shown.returncode == 0
    assert "--json" in shown.stdout or command == "models"


def test_version() -> None:
    import hierdraft as package

    assert hierdraft("--version").stdout.strip() == package.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate"], 2, "There is no prompt"),
        (["generate", "x", "--demo"], 2, "prompt or --demo"),
        (["generate", "  "], 2, "empty"),
        (["generate", "x", "--method", "hierachy"], 2, "did you mean 'hierarchy'"),
        (["generate", "x", "--method", "hierarchy:ask=always"], 2, "ask goes with draft"),
        (["generate", "x", "--method", "hd", "--draft", "small"], 2, "not with 'hd'"),
        (["generate", "x", "--method", "draft-model"], 2, "add --draft NAME"),
        (["generate", "x", "--method", "draft-model:draft=a", "--draft", "b"], 2, "given twice"),
        (["generate", "x", "--method", "draft-model", "--draft", "a:b"], 2, "without a colon"),
        (["generate", "x", "--method", "draft-model:width=0", "--draft", "a"], 2, "width must be"),
        (["bench", "run", "--out", "x", "--draft", "small"], 2, "name one among --methods"),
        (["generate", "x", "--budget", "lots"], 2, "budget"),
        (["generate", "x", "--max-new-tokens", "0"], 2, "max_new_tokens"),
        (["generate", "x", "--dtype", "int3"], 2, "dtype"),
        (["generate", "x", "--engine", "magic"], 2, "engine"),
        (["generate", "x", "--model", "smollm"], 5, "smollm2-135m"),
        (["generate", "x", "--model", "no/such-model-anywhere"], 5, "no/such-model-anywhere"),
        (["models", "path", "nothing"], 5, "nothing"),
        (["generate", "x", "--telepathy"], 2, "--telepathy"),
        (["generate", "x", "--methd", "hd"], 2, "--method"),
        (["generate", "x", "--seed", "q"], 2, "--seed"),
        (["bench", "run"], 2, "--out"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(arguments: list[str], code: int, words: str) -> None:
    done = hierdraft(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("hierdraft: ")
    assert done.stderr.endswith((".\n", "?\n"))
    assert done.stderr.count("\n") == 1


def test_groups_without_a_command_show_their_help() -> None:
    for words in ([], ["config"]):
        done = hierdraft(*words)
        assert done.returncode == 2
        assert "Usage: hierdraft" in done.stderr


def test_every_exit_code_is_in_the_page() -> None:
    """One code per kind of error, and the page on the command line names them all."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HierdraftError)]
    codes = [kind.exit_code for kind in kinds if "exit_code" in vars(kind)]
    assert len(set(codes)) == len(codes)
    page = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert told == {0, 1, 129, 130, 141, 143, *codes}, "docs/command-line.md names every exit code"


def test_an_empty_standard_input_is_refused() -> None:
    done = hierdraft("generate", "-", text="\n")
    assert done.returncode == 2
    assert "empty" in done.stderr


def test_a_damaged_model_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{not json")
    done = hierdraft("generate", "x", "--model", str(tmp_path))
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("modle = 'x'\n")
    done = hierdraft("doctor", HIERDRAFT_CONFIG=str(config))
    assert done.returncode == 4
    assert "modle" in done.stderr


def test_doctor_without_a_model() -> None:
    report = json.loads(hierdraft("doctor", "--json").stdout)
    assert report["packages"]["torch"]
    assert report["models"] == []
    assert {"python", "cpus", "threads", "cuda", "packed_weights", "cache_dir"} <= set(report)
    assert "transformers" in hierdraft("doctor").stdout
