"""What an answer looks like: a legend of what was used, and only where colours are; what was learned before is told."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from hierdraft.cli.bench_tables import remarks
from hierdraft.cli.generate import _one, as_record
from hierdraft.cli.render import legend, show_stream, shows_colours, summary
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo
from hierdraft.databases.said import SaidBefore
from hierdraft.databases.store import StoreOptions
from hierdraft.engines.toy import ToyEngine
from hierdraft.generation import LanguageModel
from hierdraft.stream import Generation, Piece
from tests.unit.byte_tokenizer import Bytes


def learner(folder: Path | None) -> LanguageModel:
    info = PackInfo("model", 257)
    namespaces = Namespaces(folder, info, StoreOptions("batch" if folder else "none"))
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy", Databases(namespaces=namespaces))


def test_the_legend_names_what_was_used() -> None:
    line = legend(["context", "target", "model", "context"]).plain
    assert line.partition("(")[0].split() == ["drafted", "by:", "context", "model"]


@pytest.mark.parametrize(
    ("terminal", "environment", "shown"),
    [
        (True, {"TERM": "xterm-256color"}, True),
        (True, {"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm-256color"}, False),
    ],
)
def test_colours_are_explained_where_they_are(terminal: bool, environment: dict[str, str], shown: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, _environ=environment)
    assert shows_colours(console) == shown


@pytest.mark.parametrize("no_color", [True, False])
def test_without_colours_only_the_text_is_written(no_color: bool) -> None:
    written = io.StringIO()
    environment = {"TERM": "xterm-256color", **({"NO_COLOR": "1"} if no_color else {})}
    console = Console(file=written, force_terminal=True, soft_wrap=True, highlight=False, _environ=environment)
    show_stream(console, [Piece("the ", "context"), Piece("end", "model"), Piece(".", "target")])
    assert (written.getvalue() == "the end.\n") == no_color
    assert re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue()) == "the end.\n"


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_that_was_learned_before_says_so(
    tmp_path: Path, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model = learner(tmp_path if kept else None)
    options = {"namespace": "default", "max_new_tokens": 60, "budget": 8}
    told = []
    for prompt in ("abc", "abc", "xyzzy"):
        _one(model, prompt, "hierarchy", options, compare=False, as_json=True)
        told.append(json.loads(capsys.readouterr().out)["learned_before"])
        if kept:  # as a pack, as the journal's newest part
            model.databases.namespaces.store("default").compact()  # type: ignore[union-attr]
    assert told == [False, True, False]
    for namespace, said in (("default", True), ("other", False)):
        _one(model, "abc", "hierarchy", {**options, "namespace": namespace}, compare=False, as_json=False)
        shown = capsys.readouterr()
        assert ("learned before" in shown.err) == said
        assert "drafted by:" not in shown.err  # no terminal, no colours
    _one(model, "abc", "hierarchy:levels=context", options, compare=False, as_json=True)
    assert not json.loads(capsys.readouterr().out)["learned_before"], "the model level was not drafted from"
    model.close()


def test_only_whole_answers_count(tmp_path: Path) -> None:
    model = learner(tmp_path)
    run = model.generate("abc", max_new_tokens=60)
    said = SaidBefore(model.databases.open("default"))
    assert said.holds(run.token_ids)
    assert said.holds(run.token_ids[:20])
    assert not said.holds([*run.token_ids, 5])
    assert not said.holds([*run.token_ids[:30], (run.token_ids[30] + 1) % 257, *run.token_ids[31:]])
    assert not said.holds(run.token_ids[:7]), "a few tokens stand everywhere"
    later = model.generate("xyzzy", max_new_tokens=60)
    assert not said.holds(later.token_ids), "learned after the moment that counts"
    model.close()


@pytest.mark.parametrize(
    ("forwards", "told"), [(None, ""), (0, "never asked"), (1, "asked once"), (7, "asked 7 times")]
)
def test_how_often_a_small_model_was_asked(forwards: int | None, told: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    run = Generation(draft_forwards=forwards)
    console.print(summary(run))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("small model" in shown) == (forwards is not None)
    assert told in shown
    assert as_record(run, None)["draft_forwards"] == forwards
    known: dict[str, list[str]] = {"in_databases": [], "asked_before": []}
    found = {"methods": {"m": {"draft_forwards": forwards}}, "skipped": [], "known": known}
    lines = [line for line in remarks(found) if line.startswith("m: ")]
    assert len(lines) == (forwards is not None)
    assert all(line.startswith(f"m: its small model was {told}") for line in lines)
