"""A report as one page of HTML that needs nothing beside it, for light and dark screens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from hierdraft.bench.plots import COLOURS, DARK, LIGHT, as_svg, place_of_level
from hierdraft.bench.provenance import brief
from hierdraft.levels import level_names, level_of

_CAPTIONS = {
    "speedup": "Tokens per second over those of plain decoding, answer by answer, the prefill left out of both. "
    "The large dot is the median, the line its 95 % interval; small dots are single answers, where they are too few "
    "for an interval. One scale for all panels.",
    "accepted-length": "New tokens after the first one over target forwards, the bonus token included; plain "
    "decoding has 1. The line is the 95 % interval over answers; small dots are single answers. One scale for all "
    "panels.",
    "steps": "Every step gives the accepted draft tokens and one more that the target chose itself.",
    "levels": "The level of a node is the one that spoke for it most; the percentage is accepted of proposed. One "
    "scale for all panels.",
    "depth": "How often at least N draft tokens were accepted in one step; each line across is a tenth of the "
    "one above it.",
    "time": "Where the time of a token goes: the target's forward, drafting, and everything else.",
}
_TITLES = {
    "speedup": "Speed-up by task and method", "accepted-length": "Tokens per target forward by task and method",
    "steps": "How many tokens steps gave, by method", "levels": "Nodes proposed and accepted, by level and method",
    "depth": "How deep drafts were accepted, by method", "time": "Where the time of a token goes, by method",
}  # fmt: skip
_NAMES = {
    "model": "model", "dataset": "data set", "questions": "digest of its questions", "engine": "engine",
    "dtype": "number type", "device": "device", "threads": "threads", "packs": "databases",
    "learn": "answers are learned for later ones", "budget": "nodes per step",
    "max_new_tokens": "most new tokens of an answer", "sampling": "sampling", "seed": "seed", "cpu": "processor",
    "cpus": "processors", "date": "begun", "code": "digest of the program", "commit": "commit",
}  # fmt: skip
"""What comes first in the account of how the runs were made, and what it is called there."""


def render(report: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page: tables, plots as inline SVG, how the runs were made, and one answer coloured by level."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["two"] = lambda value: "-" if value is None else f"{value:.2f}"
    source = files("hierdraft.data").joinpath("report.html.j2").read_text(encoding="utf-8")
    plots = [(name, inline(name, as_svg(figure)), _CAPTIONS[name]) for name, figure in figures.items()]
    tasks = list(next(iter(report["methods"].values()))["tasks"])
    drafted = {*level_names(), *(level for _, level, _ in (report["example"] or {}).get("tokens", ()))} - {"target"}
    levels = {level: level_of(level).light for level in sorted(drafted, key=place_of_level)}
    return environment.from_string(source).render(
        report=report, plots=plots, tasks=tasks, levels=levels, colours=COLOURS, light=LIGHT, dark=DARK,
        titles=_TITLES, made=list(_made(report["settings"])), packs=report["settings"].get("packs"),
    )  # fmt: skip


def inline(name: str, svg: str) -> str:
    """A plot for the page: with a name for those who cannot see it, ids of its own, and the page's colours."""
    svg = re.sub(r'id="([a-z0-9.]+(?:_[a-z]+)*_\d+)"', rf'id="{name}-\1"', svg)
    for colour in COLOURS:
        svg = svg.replace(colour, f"var(--c{colour[1:]})")
    width = re.search(r'width="([\d.]+)pt"', svg)
    own = f' style="--own: {width[1]}pt"' if width else ""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(_TITLES[name])}"{own} ', 1)


def _made(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the runs were made with, in words; databases stand in a table of their own."""
    for key in (*_NAMES, *(key for key in settings if key not in _NAMES)):
        if key == "packs" or (key == "commit" and key not in settings):
            continue
        if key not in settings:
            yield _NAMES[key], "not recorded"
        elif key == "sampling":
            yield _NAMES[key], brief(settings[key]) if settings[key] else "greedy"
        else:
            yield _NAMES.get(key, key), brief(settings[key])
