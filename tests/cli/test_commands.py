"""What all commands have in common, found by walking through them: JSON, examples that are right, names to complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hierdraft.cli.commands import app
from hierdraft.cli.options import drafting
from hierdraft.errors import UsageError

COMPLETED = {"--model", "--tokenizer", "--engine", "--dtype", "--method", "--methods", "--draft", "--pack"}


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something: its words and what typer makes of it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


ALL = dict(commands())


def test_the_walk_finds_the_commands() -> None:
    assert {"generate", "doctor", "vllm-config", "config show", "db build", "models list", "bench run"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_json_and_help_with_examples(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"])
    assert done.exit_code == 0
    assert "--json" in done.stdout
    assert re.search(r"^\s+Examples?:$", done.stdout, re.MULTILINE)


def examples(command: Any) -> list[list[str]]:
    """The words after `hierdraft` in each example of a command."""
    text = (command.help or "").partition("Example")[2]
    lines = [line.partition("hierdraft ")[2] for line in text.splitlines() if "hierdraft " in line]
    return [shlex.split(re.split(r" >|\)\"$", line)[0]) for line in lines]


@pytest.mark.parametrize("name", ALL)
def test_examples_are_what_the_command_takes(name: str) -> None:
    words = name.split()
    found = examples(ALL[name])
    assert found
    for given in found:
        assert given[: len(words)] == words, given
        arguments = given[len(words) :]
        with ALL[name].make_context(name, arguments, resilient_parsing=False) as context:
            assert context.params


@pytest.mark.parametrize("name", ALL)
def test_names_are_offered_wherever_they_are_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("said.safetensors", "notes.txt"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    command = ALL[name]
    with command.make_context(name, [], resilient_parsing=True) as context:
        for parameter in command.params:
            for option in COMPLETED & set(parameter.opts):
                offered = [(one.type, one.value) for one in parameter.shell_complete(context, "")]
                assert offered, option
                assert {kind for kind, _ in offered} == {"plain"}, f"{option} offers any file"
                assert option != "--pack" or offered == [("plain", "said.safetensors")]


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_option_is_one_sentence(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--telepathy"])
    assert done.exit_code == 2
    assert "--telepathy" in done.stderr
    assert done.stdout == ""


def test_a_model_that_drafts_goes_into_the_methods_name() -> None:
    assert drafting("hierarchy", None) == "hierarchy"
    assert drafting("draft-model:width=4+2", "small") == "draft-model:draft=small:width=4+2"
    assert [drafting("draft-model:draft=small", None), drafting("draft-model", "./a/b.gguf")] == [
        "draft-model:draft=small", "draft-model:draft=./a/b.gguf",
    ]  # fmt: skip
    assert drafting("hierarchy", "small") == "hierarchy:draft=small"
    assert drafting("hierarchy+draft:ask=always", "small") == "hierarchy:draft=small:ask=always"
    assert drafting("hvt:first=4:of=draft-model:depth=2", "small") == "hvt:first=4:of=draft-model:draft=small:depth=2"
    assert [drafting("hvt", None), drafting("tabed", "small")] == ["hvt", "tabed:draft=small"]
    assert drafting("hvt:first=4", "small") == "hvt:first=4:of=hierarchy:draft=small"
    for method, draft, told in (
        ("hierarchy+draft", None, "add --draft NAME"), ("hvt:of=suffix", "small", "not with 'suffix'"),
        ("hvt:of=tabed", None, "tabed needs a model"), ("suffix", "small", "not with 'suffix'"),
        ("hierarchy:draft=a", "b", "given twice"), ("hierarchy", "a:b", "without a colon"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            drafting(method, draft)
