"""`hierdraft models`: fetch, list, find and check the models known by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hierdraft.cli import options

if TYPE_CHECKING:
    from hierdraft.model_pull import Progress
    from hierdraft.models import ModelRow

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fetch, list, find and check models.")


@app.command("pull")
def pull(
    name: options.Name,
    force: Annotated[bool, typer.Option("--force", help="Fetch it again even if it is there.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Download a model, verify its checksum and convert it once for transformers.

    Examples:

      hierdraft models pull smollm2-135m

      hierdraft models pull gemma3-270m --force
    """
    from hierdraft import models

    with _progress(f"pulling {name}") as report:
        path = models.pull(name, _cache_dir(), report, force)
    _answer({"name": name, "path": str(path)}, as_json)


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """List the models known by name, and which of them are on this disk.

    Examples:

      hierdraft models list

      hierdraft models list --json
    """
    from hierdraft import models

    rows = models.list_models(_cache_dir())
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        _show(rows)


@app.command("path")
def path(name: options.Name, as_json: options.AsJson = False) -> None:
    """Print the folder of a model that was pulled.

    Example:

      hierdraft models path smollm2-135m
    """
    from hierdraft import models

    folder = models.pulled_path(name, _cache_dir())
    _answer({"name": name, "path": str(folder)}, as_json)


@app.command("verify")
def verify(name: options.Name, as_json: options.AsJson = False) -> None:
    """Read a pulled model's weights again and compare them with the checksum written when it was pulled.

    Example:

      hierdraft models verify smollm2-135m --json
    """
    from hierdraft import models

    with _progress(f"verifying {name}"):
        folder = models.verify(name, _cache_dir())
    if as_json:
        typer.echo(json.dumps({"name": name, "path": str(folder), "verified": True}))
    else:
        typer.echo(f"{name} in {folder} is what was pulled.")


def _cache_dir() -> Path:
    from hierdraft.settings import load_settings

    return load_settings().cache_dir


def _answer(found: dict[str, str], as_json: bool) -> None:
    """The path alone for people and shells, or everything as JSON."""
    typer.echo(json.dumps(found) if as_json else found["path"])


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """A progress bar on stderr for as long as the block runs; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=1.0)

        def report(stage: str, fraction: float) -> None:
            bar.update(task, description=f"{title}: {stage}", completed=fraction)

        yield report


def _show(rows: list[ModelRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "parameters", "kind", "on disk", "licence", "source"):
        table.add_column(heading, justify="right" if heading in {"parameters", "on disk"} else "left")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.0f} M",
            "instruct" if row["instruct"] else "base",
            f"{row['bytes'] / 1e6:.0f} MB" if row["pulled"] else "no",
            row["licence"],
            row["source"],
        )
    # Where no terminal sets a width, a row stays one line.
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width, highlight=False).print(table)
