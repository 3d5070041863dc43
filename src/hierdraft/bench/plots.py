"""The figures of a report, drawn with matplotlib (the extra `report`)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from hierdraft.bench.report import PLAIN
from hierdraft.levels import Level, level_names, level_of, registered

LIGHT, DARK = "#ffffff", "#16181c"
"""What the plots stand on: the first in files, one of them on the page."""

COLOURS = {
    "#333333": "#d8d8d8", "#b5382a": "#f0806e", "#557799": "#8fb0d0", "#2f8f68": "#7fd6ae",
    **{level.light: level.dark for level in (*registered().values(), Level(""))},
}  # fmt: skip
"""Every colour of the plots -> the one that stands for it on a dark page; each at least 3:1 against what it is on."""

_INK, _FIRST, _OTHER = "#333333", "#b5382a", "#557799"
_LINES = ("#4466aa", "#228833", "#997700", "#1f8299", "#aa3377", "#777777", "#884400", "#2f8f68", "#333333")
_DASHES = ("-", "--", ":", "-.")
_PARTS = {"forward": "#557799", "draft": "#b5382a", "rest": "#777777"}
_DEPTHS = 12
_STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _INK,
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "svg.fonttype": "none", "svg.hashsalt": "hierdraft",
    "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.facecolor": "none", "axes.formatter.useoffset": False,
}  # fmt: skip

Methods = Mapping[str, Mapping[str, Any]]


def draw(report: Mapping[str, Any]) -> dict[str, Figure]:
    """File name without ending -> figure."""
    methods: Methods = report["methods"]
    with mpl.rc_context(_STYLE):
        return {
            "speedup": by_task(
                methods, "Speed-up over plain decoding (median over answers, 95 % interval)", _speedup, 1.0
            ),
            "accepted-length": by_task(methods, "Tokens per target forward (95 % interval)", _accepted, 1.0),
            "steps": steps(methods),
            "levels": levels(methods),
            "depth": depth(methods),
            "time": time(methods),
        }


def as_svg(figure: Figure) -> str:
    """The figure as an <svg> element, on whatever stands behind it."""
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    data = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(data, format="png", dpi=150, bbox_inches="tight", facecolor=LIGHT)
    return data.getvalue()


def _drafting(methods: Methods) -> list[str]:
    return [method for method in methods if method != PLAIN]


def _colour(place: int) -> str:
    return _FIRST if place == 0 else _OTHER


def _speedup(row: Mapping[str, Any]) -> tuple[float | None, Mapping[str, Any]]:
    return row["speedup"]["median"], row["speedup"]


def _accepted(row: Mapping[str, Any]) -> tuple[float | None, Mapping[str, Any]]:
    return row["accepted_length"], row["accepted_interval"]


def _panels(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` axes, `across` in a row, each `height` inches high."""
    down = -(-count // across)
    figure = Figure(figsize=(3.3 * across, height * down), layout="constrained")
    return figure, [figure.add_subplot(down, across, place + 1) for place in range(count)]


def by_task(methods: Methods, title: str, value: Any, base: float) -> Figure:
    """A panel for all answers and one for each task, on one scale; in each a dot and an interval per method.

    Where answers are too few for an interval they stand as dots of their own.
    """
    names = _drafting(methods)
    tasks = list(next(iter(methods.values()))["tasks"])
    figure, axes = _panels(1 + len(tasks), 4, 0.6 + 0.24 * max(1, len(names)))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for place, (panel, task) in enumerate(zip(axes, ["all", *tasks], strict=True)):
        for row, name in enumerate(names):
            middle, around = value(methods[name] if task == "all" else methods[name]["tasks"][task])
            if middle is None:
                continue
            if around["low"] is None:
                panel.plot(around["values"], [row] * len(around["values"]), ".", color=_colour(row), markersize=3.5)
            else:
                panel.plot([around["low"], around["high"]], [row, row], color=_colour(row), linewidth=1.5, alpha=0.6)
            panel.plot([middle], [row], "o", color=_colour(row), markersize=4.5)
            panel.annotate(
                f"{middle:.2f}", (middle, row), (0, 4), textcoords="offset points", ha="center", fontsize=6.5
            )
        panel.axvline(base, color=_INK, linewidth=0.8, linestyle=":")
        panel.set_yticks(range(len(names)), names if place % 4 == 0 else [""] * len(names))
        panel.set_ylim(len(names) - 0.4, -0.8)
        panel.set_title(task, loc="left")
    _one_scale(axes)
    return figure


def _one_scale(axes: list[Axes]) -> None:
    """Lengths in panels that stand side by side are compared, whatever is in each."""
    low = min(panel.get_xlim()[0] for panel in axes)
    high = max(panel.get_xlim()[1] for panel in axes)
    for panel in axes:
        panel.set_xlim(low, high)


def steps(methods: Methods) -> Figure:
    """How many tokens the steps of each method gave."""
    names = _drafting(methods)
    figure, axes = _panels(max(1, len(names)), 4, 1.5)
    figure.suptitle("Share of steps by the tokens they gave", x=0.01, ha="left", fontsize=11)
    for place, (panel, name) in enumerate(zip(axes, names, strict=False)):
        counted = {int(size): count for size, count in methods[name]["step_tokens"].items()}
        total = sum(counted.values()) or 1
        shares = [counted.get(size, 0) / total for size in range(1, _DEPTHS)]
        shares.append(sum(count for size, count in counted.items() if size >= _DEPTHS) / total)
        panel.bar(range(1, _DEPTHS + 1), shares, color=_colour(place), width=0.8)
        panel.set_xticks([1, 4, 8, _DEPTHS], ["1", "4", "8", f"{_DEPTHS}+"])
        panel.set_ylim(0, 1)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_title(name, loc="left")
    return figure


def place_of_level(level: str) -> int:
    """Where a level stands among others: those that are not known here come last."""
    names = level_names()
    return names.index(level) if level in names else len(names)


def levels(methods: Methods) -> Figure:
    """Of what each level proposed: how much was accepted, in nodes per step."""
    names = [name for name in _drafting(methods) if methods[name]["levels"]]
    figure, axes = _panels(max(1, len(names)), 4, 1.6)
    figure.suptitle("Nodes per step by level: proposed (pale), accepted (full)", x=0.01, ha="left", fontsize=11)
    for panel, name in zip(axes, names, strict=False):
        row = methods[name]
        shown = sorted(row["levels"], key=place_of_level)
        for place, level in enumerate(shown):
            counts = row["levels"][level]
            proposed, accepted = (counts[what] / max(1, row["steps"]) for what in ("proposed", "accepted"))
            panel.barh(place, proposed, color=level_of(level).light, alpha=0.3)
            panel.barh(place, accepted, color=level_of(level).light)
            share = counts["accepted"] / max(1, counts["proposed"])
            panel.annotate(f" {share:.0%}", (proposed, place), va="center", fontsize=7)
        panel.set_yticks(range(len(shown)), shown)
        panel.margins(x=0.2)
        panel.invert_yaxis()
        panel.set_title(name, loc="left")
    _one_scale(axes)
    return figure


def surviving(step_tokens: Mapping[str, int]) -> list[float]:
    """Share of steps that accepted at least 1, 2, ... draft tokens."""
    total = sum(step_tokens.values()) or 1
    deep = range(1, _DEPTHS + 1)
    return [sum(count for size, count in step_tokens.items() if int(size) > least) / total for least in deep]


def depth(methods: Methods) -> Figure:
    """How deep drafts are accepted."""
    figure, (panel,) = _panels(1, 1, 3.4)
    figure.set_size_inches(6.6, 3.4)
    names = _drafting(methods)
    for place, name in enumerate(names):
        colour = _FIRST if place == 0 else _LINES[(place - 1) % len(_LINES)]
        dashes = _DASHES[place // len(_LINES) % len(_DASHES)]
        shares = [share or math.nan for share in surviving(methods[name]["step_tokens"])]  # a log scale has no zero
        deep = range(1, _DEPTHS + 1)
        panel.plot(deep, shares, dashes, color=colour, label=name, marker=".", linewidth=2.2 if place == 0 else 1.1)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(_percent))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks([1, 4, 8, _DEPTHS])
    panel.set_xlabel("draft tokens accepted, at least")
    panel.set_title("Share of steps by how deep a draft was accepted", loc="left")
    if names:
        panel.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _percent(share: float, _place: int) -> str:
    """100 %, 10 %, 0.1 %: ordinary numbers on a scale of powers."""
    return f"{100 * share:g} %"


def time(methods: Methods) -> Figure:
    """Milliseconds per token, without the prefill."""
    names = list(methods)
    figure, (panel,) = _panels(1, 1, 0.9 + 0.26 * len(names))
    figure.set_size_inches(6.6, 0.9 + 0.26 * len(names))
    for place, name in enumerate(names):
        row, left = methods[name], 0.0
        for part, colour in _PARTS.items():
            spent = 1e3 * row["seconds"][part] / max(1, row["tokens"] - row["answers"])
            panel.barh(place, spent, left=left, color=colour, label=part if place == 0 else None)
            left += spent
        panel.annotate(f" {left:.1f}", (left, place), va="center", fontsize=7.5)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_title("Milliseconds per token after the prefill", loc="left")
    panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
