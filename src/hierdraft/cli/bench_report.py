"""`hierdraft bench report`: what a folder of runs comes to, as tables, JSON, CSV, a page and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hierdraft.errors import MissingDependencyError, UsageError


def report(
    folder: Annotated[Path, typer.Argument(help="What bench run wrote.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes; the folder itself unless given.")] = None,
    example: Annotated[str | None, typer.Option(help="Id of the answer that is shown token by token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON only, and write nothing.")] = False,
) -> None:
    """Tables on the console; report.json, report.csv, answers.csv, report.html and the plots as PNG in a folder.

    Nothing is decoded again. Answers that not every method has are left out, and said to be.

    Examples:

      hierdraft bench report runs/today

      hierdraft bench report runs/today --out site --example 81.2
    """
    from hierdraft.bench.report import answers, gather

    found = gather(folder, example)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from hierdraft.cli.bench_tables import remarks, tables
    from hierdraft.cli.render import stderr_console, stdout_console

    written = _files(found, answers(folder))
    target = out or folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in written.items():
            (target / name).write_bytes(data)
    except OSError as error:
        raise UsageError(f"The report cannot be written to {target} ({error.strerror}).") from error
    for one in tables(found["methods"]):
        stdout_console().print(one)
    for sentence in remarks(found):
        stderr_console().print(sentence)
    stderr_console().print(f"wrote {len(written)} files to {target}")


def _files(found: dict[str, Any], answers: str) -> dict[str, bytes]:
    """File name -> content. Raises MissingDependencyError where the extra `report` is not installed."""
    from hierdraft.bench.report import table

    try:
        from hierdraft.bench.page import render
        from hierdraft.bench.plots import as_png, draw
    except ImportError as error:
        raise MissingDependencyError(
            f"Reports need matplotlib and Jinja2 ({error}): pip install 'hierdraft[report]'."
        ) from error
    figures = draw(found)
    return {
        "report.json": (json.dumps(found, indent=1) + "\n").encode(),
        "report.csv": table(found).encode(),
        "answers.csv": answers.encode(),
        "report.html": render(found, figures).encode(),
        **{f"{name}.png": as_png(figure) for name, figure in figures.items()},
    }
