"""A report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from hierdraft.bench.plots import LEVEL_COLOURS, as_svg

_CAPTIONS = {
    "speedup": "Tokens per second over those of plain decoding, answer by answer, the prefill left out of both. "
    "The dot is the median, the line its 95 % bootstrap interval.",
    "accepted-length": "New tokens behind the first one over target forwards, the bonus token included; plain "
    "decoding has 1. The line is the 95 % bootstrap interval over answers.",
    "steps": "Every step gives the accepted draft tokens and one more that the target chose itself.",
    "levels": "The level of a node is the one that spoke for it most; the percentage is accepted of proposed.",
    "depth": "How often at least so many draft tokens were accepted in one step.",
    "time": "Where the time of a token goes: the target's forward, drafting, and everything else.",
}


def render(report: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The page: tables, plots as inline SVG, and one answer coloured by level."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = files("hierdraft.data").joinpath("report.html.j2").read_text(encoding="utf-8")
    plots = [(name, as_svg(figure), _CAPTIONS[name]) for name, figure in figures.items()]
    tasks = list(next(iter(report["methods"].values()))["tasks"])
    return environment.from_string(source).render(report=report, plots=plots, tasks=tasks, colours=LEVEL_COLOURS)
