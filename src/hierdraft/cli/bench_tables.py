"""What a comparison of methods looks like in a terminal: tables, and what has to be said about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from hierdraft.cli.render import times_asked

_SHOWN = 5


def tables(methods: Mapping[str, Any]) -> Iterator[Table]:
    """Over all answers, a line per method; then the speed-up by task, a line per task."""
    whole = Table(box=None, pad_edge=False)
    told = "95 % interval" if next(iter(methods.values()))["speedup"]["low"] is not None else "of each answer"
    for title in ("method", "accepted length", "tokens/s", "speed-up", told, "all together", "same output"):
        whole.add_column(title, justify="left" if title == "method" else "right")
    for method, row in methods.items():
        whole.add_row(
            method, f"{row['accepted_length']:.2f}", f"{row['tokens_per_second']:.1f}",
            number(row["speedup"]["median"]), spread_of(row["speedup"]), number(row["speedup_total"]),
            "yes" if row["identical"] else _audited(row["audit"]),
        )  # fmt: skip
    yield whole
    by_task = Table(box=None, pad_edge=False)
    by_task.add_column("speed-up by task")
    for method in methods:
        by_task.add_column(method, justify="right")
    for task in next(iter(methods.values()))["tasks"]:
        by_task.add_row(task, *(number(row["tasks"][task]["speedup"]["median"]) for row in methods.values()))
    yield by_task


def number(value: float | None) -> str:
    """Two decimals, a dash where nothing was measured."""
    return "-" if value is None else f"{value:.2f}"


def spread_of(figure: Mapping[str, Any]) -> str:
    """An interval; where there are too few answers for one, the values themselves."""
    if figure["low"] is not None:
        return f"{figure['low']:.2f} to {figure['high']:.2f}"
    return ", ".join(map(number, figure["values"])) or "-"


def _audited(audit: Mapping[str, Any] | None) -> str:
    return f"{audit['ties']} ties, {audit['bugs']} bugs" if audit else "no, not audited"


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the figures has to know, a sentence each."""
    yield (
        "speed-up: the median over answers of tokens per second over plain decoding's; all together: the same of all "
        "answers taken as one."
    )
    if found.get("drawn"):
        yield f"{', '.join(found['drawn'])}: drafts were drawn, so answers are other samples of the same distribution."
    for method, row in found["methods"].items():
        if row.get("draft_forwards") is not None:
            yield f"{method}: its small model was {times_asked(row['draft_forwards'])}."
    for ids, sentence in (
        ([one["id"] for one in found["skipped"]], "left out, too long for the model"),
        (found.get("left_out", []), "left out, which not every method has"),
        (found["known"]["in_databases"], "learned before: the text stands in a database that was drafted from"),
        (found["known"]["asked_before"], "learned before: the same prompt came earlier in the run"),
        (found.get("apart", []), "measured apart: not by all methods in one go"),
    ):
        if ids:
            yield f"{counted(ids)} {'was' if len(ids) == 1 else 'were'} {sentence}."


def counted(ids: Sequence[str]) -> str:
    """How many answers, and the first of them by name."""
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} {'answer' if len(ids) == 1 else 'answers'} ({', '.join(ids[:_SHOWN])}{more})"
