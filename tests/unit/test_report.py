"""The account of a folder of runs, and what is made of it."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hierdraft.bench.page import inline, render
from hierdraft.bench.plots import COLOURS, DARK, LIGHT, as_png, as_svg, draw, surviving
from hierdraft.bench.report import answers, gather, table
from hierdraft.bench.runs import as_line
from hierdraft.errors import CorpusError, UsageError
from hierdraft.levels import level_names, level_of

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
    assert report["fewest"] == 6
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

    @classmethod
    def read(cls, page: str) -> str:
        outline = cls()
        outline.feed(page)
        return outline.text

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


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


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough answers for an interval over all, too few by task; the first was asked twice."""
    made = tmp_path / "many"
    for method, steps in (("none", [1] * 4), ("fast", [2, 2]), ("other", [1, 1, 2])):
        rows = [answer(str(n), steps, "ab"[n % 2], prompt_ids=[n], begun="monday") for n in range(7)]
        rows[6]["prompt_ids"] = [0]
        rows[3]["known"] = {"database": "said.safetensors", "tokens": 32}
        rows[3]["output_ids"] = list(range(5))
        write(made, method, rows)
    return made


def test_no_interval_is_told_of_two_answers(folder: Path, many: Path) -> None:
    few, enough = gather(folder), gather(many)
    row = few["methods"]["fast"]
    assert row["speedup"] == {"median": 3.0, "low": None, "high": None, "values": [2.0, 4.0]}
    assert row["accepted_interval"]["values"] == [2.0, 4.0]
    page = render(few, {})
    assert "95 % interval</th>" not in page
    assert "2.00, 4.00" in page
    row = enough["methods"]["fast"]
    assert (row["speedup"]["low"], row["speedup"]["high"]) == (2.0, 2.0)
    assert row["tasks"]["b"]["speedup"]["low"] is None
    assert "95 % interval</th>" in render(enough, {})
    line = next(csv.DictReader(io.StringIO(table(few))))
    assert (line["speedup_low"], line["accepted_high"]) == ("", "")
    drawn = draw(few)["speedup"].axes[0]
    assert not [line for line in drawn.lines if len(set(line.get_xdata())) > 1 and line.get_linestyle() == "-"]
    dots = [line for line in drawn.lines if line.get_marker() == "."]
    assert [list(line.get_xdata()) for line in dots] == [[2.0, 4.0], [1.3333, 1.3333]]


def test_both_ways_to_say_speed_up_are_on_the_page(folder: Path) -> None:
    report = gather(folder)
    assert report["methods"]["fast"]["speedup_total"] == pytest.approx(8 / 3, abs=1e-4)
    text = Outline.read(render(report, {}))
    assert "Speed-up is said in two ways" in text
    assert "2.67" in text


def test_answers_with_one_token_have_no_speed(tmp_path: Path) -> None:
    for method in ("none", "fast"):
        write(tmp_path / "runs", method, [answer("x", [], output_ids=[1], by_level={}, pieces=["One"])])
    report = gather(tmp_path / "runs")
    assert report["methods"]["fast"]["speedup"]["median"] is None
    assert "<td>-</td>" in render(report, draw(report))


def test_what_was_learned_before_is_told(many: Path) -> None:
    for path in many.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows[1:]:
            row |= {"output_ids": list(range(40)), "pieces": ["x"] * 40, "levels": ["target"] * 40}
            row |= {"step_tokens": [1] * 39, "steps": 39}
        path.write_text("".join(map(as_line, rows)))
    report = gather(many, "3")
    assert report["known"] == {"in_databases": ["3"], "asked_before": ["6"]}
    text = " ".join(Outline.read(render(report, {})).split())
    assert "1 answer (3) was learned before: the text stands in a database" in text
    assert "1 answer (6) was learned before: the same prompt came earlier" in text
    assert "This answer was learned before" in text
    assert "This answer was learned before" not in render(gather(many, "2"), {})
    assert "learned before" not in render({**report, "known": {"in_databases": [], "asked_before": []}}, {})


def test_answers_of_several_sittings_are_told(many: Path) -> None:
    assert gather(many)["apart"] == []
    assert "All methods took turns in one process" in render(gather(many), {})
    path = many / "other.jsonl"
    path.write_text(path.read_text().replace('"monday"', '"tuesday"', 2))
    report = gather(many)
    assert report["apart"] == ["0", "1"]
    text = " ".join(Outline.read(render(report, {})).split())
    assert "All methods took turns" not in text
    assert "2 answers (0, 1) were not given by all methods in one go" in text


def test_how_the_runs_were_made_is_on_the_page(many: Path) -> None:
    old = " ".join(Outline.read(render(gather(many), {})).split())
    assert "processornot recorded" in old
    assert "Not recorded: an older version made these runs." in old
    made = {
        "threads": 2, "cpu": "Some processor", "engine": "hf", "date": "2030-01-01", "learn": False, "rare": {"a": 1},
        "packs": [
            {"name": "said.safetensors", "level": "model", "tokens": 1200, "licence": "", "sha256": "ab" * 32},
        ],
    }  # fmt: skip
    report = gather(many)
    text = " ".join(Outline.read(render({**report, "settings": {**SETTINGS, **made}}, {})).split())
    for said in (
        "threads2", "processorSome processor", "begun2030-01-01", "samplinggreedy", "rarea 1",
        "answers are learned for later onesno", "said.safetensorsmodel1,200not givenabababab",
    ):  # fmt: skip
        assert said in text
    assert "None: every level but" in render({**report, "settings": {**SETTINGS, "packs": []}}, {})


def test_turns_that_were_skipped_are_told(many: Path) -> None:
    (many / "skipped.json").write_text(json.dumps([{"id": "9", "reason": "turn 1 has 90 tokens"}]))
    report = gather(many)
    assert report["skipped"] == [{"id": "9", "reason": "turn 1 has 90 tokens"}]
    assert "1 answer (9) was left out: too long" in Outline.read(render(report, {}))
    (many / "skipped.json").write_text('{"id"')
    with pytest.raises(CorpusError, match=r"skipped.json is damaged"):
        gather(many)


def test_panels_that_are_compared_have_one_scale(folder: Path) -> None:
    figures = draw(gather(folder))
    for name in ("speedup", "accepted-length", "levels"):
        assert len({panel.get_xlim() for panel in figures[name].axes}) == 1, name
    assert len({panel.get_ylim() for panel in figures["steps"].axes}) == 1


def test_ticks_are_ordinary_numbers(folder: Path) -> None:
    for name, figure in draw(gather(folder)).items():
        figure.canvas.draw()
        for panel in figure.axes:
            told = [tick.get_text() for tick in (*panel.get_xticklabels(), *panel.get_yticklabels())]
            assert not [text for text in told if any(sign in text for sign in ("$", "^", "e-", "e+", "mathdefault"))]
            assert name != "depth" or "100 %" in told


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_pictures_can_be_read_in_light_and_dark(folder: Path) -> None:
    for light, dark in COLOURS.items():
        assert contrast(light, LIGHT) >= 3 <= contrast(dark, DARK), light
    ink, *_ = COLOURS
    assert contrast(ink, LIGHT) >= 7 <= contrast(COLOURS[ink], DARK)
    assert {level_of(name).light for name in (*level_names(), "another")} <= {*COLOURS}
    for name, figure in draw(gather(folder)).items():
        svg = inline(name, as_svg(figure))
        assert not re.findall(r"#[0-9a-f]{6}\b|#[0-9a-f]{3}\b(?=[;\"])", svg), f"{name} has a colour of its own"
        assert not re.findall(r"<text(?![^>]*fill)[^>]*>", svg), f"{name} has text in no colour"
        assert "var(--c333333)" in svg


def test_every_picture_has_a_name_and_ids_of_its_own(folder: Path) -> None:
    report = gather(folder)
    page = render(report, draw(report))
    names = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(names) == len(set(names)) == 6
    groups = re.findall(r'<g id="([^"]+)"', page)
    assert len(groups) == len(set(groups))
    assert page.count('tabindex="0"') == page.count('class="wide"'), "what scrolls can be reached by keyboard"
    assert not re.findall(r"<th(?! scope|ead)[ >]", page)


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
    (folder / "again.jsonl").write_text((folder / "slow.jsonl").read_text())
    with pytest.raises(UsageError, match="two runs of slow"):
        gather(folder)
    (folder / "again.jsonl").unlink()
    write(folder, "fast", [answer("w", [4])])
    with pytest.raises(UsageError, match="No answer"):
        gather(folder)
    (folder / "none.jsonl").unlink()
    with pytest.raises(UsageError, match="no run of plain decoding"):
        gather(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "other"}, r"that of other was made with another model \(other, plain decoding's toy <b>\)"),
        ({"hierdraft": "0.0.1"}, "with its hierdraft recorded, unlike plain"),
        ({"dtype": "bfloat16"}, r"another dtype \(bfloat16, plain decoding's float32\)"),
    ],
)
def test_runs_that_were_not_made_alike_are_refused(folder: Path, change: dict[str, Any], sentence: str) -> None:
    write(folder, "other", [answer("x", [4])], **change)
    with pytest.raises(UsageError, match=sentence):
        gather(folder)


@pytest.mark.parametrize(
    "field",
    ["task", "steps", "step_tokens", "by_level", "seconds", "prefill_seconds", "draft_seconds", "forward_seconds"],
)
def test_records_without_figures_are_refused(folder: Path, field: str) -> None:
    for wrong in (None, "x" if field != "task" else 3):
        write(folder, "fast", [{**answer("x", [2, 2]), field: wrong}])
        with pytest.raises(CorpusError, match=f"the record 'x' has no {field}"):
            gather(folder)


def test_a_run_that_is_being_written_is_told(folder: Path) -> None:
    path = folder / "fast.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CorpusError, match="ends in the middle of a line"):
        gather(folder)
    path.write_text(path.read_text()[:20])
    with pytest.raises(CorpusError, match="ends in the middle of a line"):
        gather(folder)
    path.write_text("")
    with pytest.raises(CorpusError, match="is empty"):
        gather(folder)


def test_a_record_that_tells_no_levels_is_no_example(folder: Path) -> None:
    for broken in ({"levels": []}, {"step_tokens": [2]}, {"pieces": TEXTS[:-1]}):
        write(folder, "fast", [answer("x", [2, 2], **broken)])
        assert gather(folder)["example"] is None
