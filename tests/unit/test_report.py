"""The account of a folder of runs, and what is made of it."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hierdraft.bench.page import render
from hierdraft.bench.plots import as_png, as_svg, draw, surviving
from hierdraft.bench.report import answers, gather, table
from hierdraft.bench.runs import as_line
from hierdraft.errors import CorpusError, UsageError

SETTINGS = {"model": "toy <b>", "dtype": "float32", "budget": 8, "max_new_tokens": 9, "sampling": {}, "dataset": "x"}
TEXTS = ["One", " <two>", " three", "\nfour", " five"]


def answer(name: str, steps: list[int], task: str = "a", **more: Any) -> dict[str, Any]:
    """Five tokens, one of the prefill and the others in steps; the last of each step is the target's own."""
    levels = ["target"]
    for size in steps:
        levels += ["context"] * (size - 1) + ["target"]
    return {
        "id": name, "task": task, "seed": None, "prompt_ids": [1, 2], "output_ids": [5, 6, 7, 8, 9], "text": "",
        "steps": len(steps), "step_tokens": steps, "levels": levels, "pieces": TEXTS, "seconds": 1.0 + len(steps),
        "prefill_seconds": 1.0, "draft_seconds": 0.1, "forward_seconds": 0.5, "rest_seconds": 0.2,
        "by_level": {"context": {"proposed": 8, "accepted": 4 - len(steps)}}, **more,
    }  # fmt: skip


def write(folder: Path, method: str, records: list[dict[str, Any]], **settings: Any) -> None:
    folder.mkdir(exist_ok=True)
    rows = [{"run": {**SETTINGS, **settings, "method": method}}, *records]
    (folder / f"{method}.jsonl").write_text("".join(map(as_line, rows)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "runs"
    write(made, "none", [answer("x", [1] * 4), answer("y", [1] * 4, "b"), answer("z", [1] * 4)])
    write(made, "slow", [answer("x", [1, 1, 2]), answer("y", [1, 2, 1], "b"), answer("z", [1, 1, 2])])
    write(made, "fast", [answer("x", [2, 2]), answer("y", [4], "b", output_ids=[5, 6, 7, 8, 3])])
    return made


def test_what_is_gathered(folder: Path) -> None:
    report = gather(folder)
    assert list(report["methods"]) == ["none", "fast", "slow"]
    assert report["settings"] == SETTINGS
    assert (report["answers"], report["left_out"]) == (2, ["z"])
    fast = report["methods"]["fast"]
    assert fast["accepted_length"] == pytest.approx(8 / 3, abs=1e-4)
    assert fast["tasks"]["b"]["speedup"]["median"] == 4.0
    assert (fast["identical"], report["methods"]["slow"]["identical"]) == (False, True)
    assert fast["step_tokens"] == {"2": 2, "4": 1}
    assert fast["audit"] is None
    assert json.loads(json.dumps(report)) == report


def test_one_answer_is_shown_token_by_token(folder: Path) -> None:
    shown = gather(folder, "x")["example"]
    assert (shown["id"], shown["method"], shown["task"]) == ("x", "fast", "a")
    assert shown["tokens"] == [
        ["One", "target", True], [" <two>", "context", True], [" three", "target", False],
        ["\nfour", "context", True], [" five", "target", False],
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no answer 'z'"):
        gather(folder, "z")
    write(folder, "fast", [answer("x", [2, 2], pieces=[])])
    assert gather(folder)["example"] is None


def test_tables(folder: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(table(gather(folder)))))
    assert [(line["method"], line["task"]) for line in lines[:4]] == [
        ("none", "all"), ("none", "a"), ("none", "b"), ("fast", "all"),
    ]  # fmt: skip
    assert float(lines[3]["accepted_length"]) == pytest.approx(8 / 3, abs=1e-4)
    every = list(csv.DictReader(io.StringIO(answers(folder))))
    assert len(every) == 8
    assert {line["id"] for line in every if line["method"] == "none"} == {"x", "y", "z"}


class Outline(HTMLParser):
    """Tags that load something, and everything that can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "use"):
            self.open.append(tag)
        self.loaded += [f"{name}={value}" for name, value in attrs if name in ("src", "href") and tag != "use"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_beside_it(folder: Path) -> None:
    report = gather(folder)
    page = render(report, draw(report))
    outline = Outline()
    outline.feed(page)
    assert outline.loaded == []
    assert outline.open == []
    assert "toy <b>" in outline.text
    assert "One <two> three\nfour five" in outline.text
    assert "no, not audited" in outline.text
    assert page.count("<svg") == 6
    assert page == render(report, draw(report)), "the same runs make the same page"


def test_the_pictures(folder: Path) -> None:
    figures = draw(gather(folder))
    assert set(figures) == {"speedup", "accepted-length", "steps", "levels", "depth", "time"}
    for figure in figures.values():
        assert as_png(figure).startswith(b"\x89PNG")
        assert as_svg(figure).startswith("<svg")
    (folder / "fast.jsonl").unlink()
    (folder / "slow.jsonl").unlink()
    assert len(draw(gather(folder))) == 6, "plain decoding alone"


def test_how_deep_drafts_are_accepted() -> None:
    assert surviving({"1": 5, "2": 3, "4": 2})[:4] == [0.5, 0.2, 0.2, 0.0]


def test_audits_are_told(folder: Path) -> None:
    audits = {"none": {"ties": 0, "bugs": 0}, "fast": {"ties": 1, "bugs": 0}, "slow": {"ties": 0, "bugs": 0}}
    (folder / "audits.json").write_text(json.dumps(audits))
    report = gather(folder)
    assert report["methods"]["fast"]["audit"]["ties"] == 1
    assert "1 ties, 0 bugs" in render(report, {})


@pytest.mark.parametrize("text", ['{"x', "[]", '{"fast": 3}', '{"fast": {"ties": 1}}'])
def test_damaged_audits_are_told(folder: Path, text: str) -> None:
    (folder / "audits.json").write_text(text)
    with pytest.raises(CorpusError, match=r"audits.json is damaged"):
        gather(folder)


def test_folders_that_hold_no_comparison(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        gather(tmp_path / "nowhere")
    write(folder, "other", [answer("x", [4])], max_new_tokens=7)
    with pytest.raises(UsageError, match="another max_new_tokens"):
        gather(folder)
    (folder / "other.jsonl").unlink()
    write(folder, "fast", [answer("w", [4])])
    with pytest.raises(UsageError, match="No answer"):
        gather(folder)
    (folder / "none.jsonl").unlink()
    with pytest.raises(UsageError, match="no run of plain decoding"):
        gather(folder)
