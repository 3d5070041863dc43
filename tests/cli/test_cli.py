"""The command line as a user meets it: exit codes, one sentence on errors."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from hierdraft import errors
from hierdraft.cli import app, commands
from hierdraft.cli.output import shorten_warnings
from hierdraft.errors import HierdraftError, SlowerWarning


def hierdraft(
    *arguments: str, text: str | None = None, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command within this process, which saves the seconds that an interpreter and its imports take to start."""
    log = logging.getLogger("hierdraft")
    handlers, level = log.handlers[:], log.level
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(TemporaryFile("w+", encoding="utf-8")) for _ in range(3))
        given.write(text or "")
        given.seek(0)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"argv": ["hierdraft", *arguments], "stdin": given, "stdout": out, "stderr": err}.items():
            patch.setattr(sys, name, value)
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        try:
            code = app.told(commands.run)
        finally:
            log.handlers[:] = handlers
            log.setLevel(level)
        shown = [file.seek(0) or file.read() for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *shown)


def process(
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
    shown = process("--help")
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

    assert process("--version").stdout.strip() == package.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate"], 2, "There is no prompt"),
        (["generate", "x", "--demo"], 2, "prompt or --demo"),
        (["generate", "  "], 2, "empty"),
        (["generate", "x", "--method", "hierachy"], 2, "did you mean 'hierarchy'"),
        (["generate", "x", "--method", "hierarchy+drat"], 2, "did you mean 'hierarchy+draft'"),
        (["generate", "x", "--method", "hierarchy+drat", "--draft", "a"], 2, "did you mean 'hierarchy+draft'"),
        (["bench", "run", "--out", "x", "--methods", "hierarchy+drat", "--draft", "a"], 2, "mean 'hierarchy+draft'"),
        (["bench", "replay", "--records", "x", "--methods", "hierachy"], 2, "did you mean 'hierarchy'"),
        (["generate", "x", "--method", "hierarchy:ask=always"], 2, "ask and rounds go with draft"),
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
    one_sentence(hierdraft(*arguments), code, words)


def one_sentence(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("hierdraft: ")
    assert done.stderr.endswith((".\n", "?\n"))
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate"], 2, "There is no prompt"),
        (["generate", "x", "--model", "smollm"], 5, "smollm2-135m"),
        (["generate", "x", "--telepathy"], 2, "--telepathy"),
    ],
)
def test_so_it_is_in_a_process(arguments: list[str], code: int, words: str) -> None:
    one_sentence(process(*arguments), code, words)


ANSWERING = (
    ["generate", "x"], ["generate", "--demo"], ["chat"], ["serve"], ["bench", "run", "--out", "out"],
    ["db", "build", "--generate", "p.jsonl", "--out", "out"],
)  # fmt: skip


@pytest.mark.parametrize("command", ANSWERING, ids=" ".join)
@pytest.mark.parametrize("named", ["no-such", "./no.gguf", "damaged", "other/such"])
def test_a_drafter_that_is_not_there_is_said_before_the_target_is_loaded(
    command: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the target was loaded")

    monkeypatch.setattr("hierdraft.models.load.load_parts", load)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    more = ["--draft", named]
    if command[0] == "bench":
        more += ["--methods", "hierarchy+draft"]
    if command[0] == "db":
        more = ["--model", "smollm2-135m", "--method", f"hierarchy:draft={named}"]
    done = hierdraft(*command, *more, cwd=tmp_path)
    one_sentence(done, 5, named)
    assert not (tmp_path / "out").exists()
    if command[0] != "db":
        done = hierdraft(*command, "--pack", "gone.safetensors", cwd=tmp_path)
        one_sentence(done, 11, "gone.safetensors")


@pytest.mark.parametrize("named", ["gone.jsonl", "gone.safetensors", "gone.txt", "."])
def test_data_that_is_not_there_is_said_before_the_target_is_read(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hierdraft.training.train._folder", lambda *_: pytest.fail("the target was read"))
    done = hierdraft("train", "drafter", "--model", "smollm2-135m", "--data", named, "--out", "out", cwd=tmp_path)
    one_sentence(done, 11 if named.endswith("tensors") else 13, named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["generate", "x", "--top-k", "3", "--seed", "0"], "--top-k and --seed have"),
        (["generate", "x", "--temperature", "0", "--top-p", "0.9"], "--top-p has"),
        (["chat", "--seed", "7"], "--seed has"),
        (["bench", "run", "--out", "x", "--min-p", "0.1", "--top-k", "2", "--seed", "0"], "--top-k, --min-p and"),
        (["generate", "x", "--temperature", "0.5", "--top-p", "0.9"], ""),
        (["chat", "--server", "http://localhost:1", "--seed", "7"], ""),
        (["bench", "run", "--out", "x"], ""),
    ],
)
def test_options_that_need_a_temperature_are_said_to_have_no_effect(arguments: list[str], names: str) -> None:
    done = hierdraft(*arguments, *([] if "--server" in arguments else ["--pack", "gone.safetensors"]))
    *told, _ = done.stderr.splitlines()
    assert [line.partition(" no effect: ")[0].startswith(f"warning: {names}") for line in told] == [True] * bool(names)


def test_a_warning_is_one_line_and_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shorten_warnings()
        for text in ("It is\n slow.", "It is slow.", "It is damaged."):
            warnings.warn(text, SlowerWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: It is slow.\nwarning: It is damaged.\n"
    code = "import warnings; from hierdraft.cli import app; app._run = lambda: warnings.warn('So.') or 0; app.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "warning: So.\n")


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
