"""`hierdraft models`: fetch, list, find, check and remove the models known by name, and what is kept for models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.choices import WEIGHTS, listed
from hierdraft.cli import options

if TYPE_CHECKING:
    from hierdraft.models.cached import CacheRow
    from hierdraft.models.listed import ModelRow
    from hierdraft.models.pull import Progress

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fetch, list, find, check and remove models.")


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
    from hierdraft.models import named as models

    with _progress(f"pulling {name}") as report:
        path = models.pull(name, _cache_dir(), report, force)
    _answer({"name": name, "path": str(path)}, as_json)


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(help="A GGUF file, a model's folder or name, a hub id, or a trained head.")],
    weights: Annotated[
        str | None, typer.Option(help=f"{listed(WEIGHTS)}; default: a GGUF file's own, float32 for others.")
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="Of int4: asym (with zero points, the default) or sym.")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Of int4: weights that share a scale (64 unless given); -1: all of a channel.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for the result; default: in the cache.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="openvino; of a trained head speculators or specforge, which others read.")
    ] = "openvino",
    as_json: options.AsJson = False,
) -> None:
    """Convert a model for OpenVINO and print its folder, which --model takes, on any machine with OpenVINO.

    A head that was trained here can be written for other engines instead: as a speculators folder, which vLLM and
    SGLang take, or as an EAGLE-3 head of SpecForge.

    Examples:

      hierdraft models convert llama-3.2-1b-instruct-q4_k_m.gguf --out llama-ov

      hierdraft models convert ./my-model --weights int4 --group-size 128 --out my-model-int4

      hierdraft models convert ./my-head --format speculators --out my-head-speculators
    """
    from hierdraft.choices import int4_weights
    from hierdraft.errors import UsageError
    from hierdraft.models.convert_to import convert_to

    if form != "openvino":
        _answer({"source": source, "path": str(_published(source, form, out, plain=weights is None))}, as_json)
        return
    if weights not in (None, *WEIGHTS):
        raise UsageError(f"There are no weights {weights!r}: choose {listed(WEIGHTS)}.")
    if (scheme is not None or group_size is not None) and weights != "int4":
        raise UsageError("--scheme and --group-size belong to --weights int4.")
    wanted = int4_weights(scheme, group_size) if weights == "int4" else weights
    with _progress(f"converting {source}") as report:
        report("running", 0.0)
        folder = convert_to(source, wanted, out, _cache_dir())
    _answer({"source": source, "path": str(folder)}, as_json)


def _published(source: str, form: str, out: Path | None, *, plain: bool) -> Path:
    """A head in another format. Raises UsageError for what does not go together. `plain`: no weights were asked for."""
    from hierdraft.errors import UsageError
    from hierdraft.models.publishing import FORMATS, publish

    if form not in FORMATS:
        raise UsageError(f"There is no format {form!r}: choose {listed(('openvino', *FORMATS))}.")
    if out is None or not plain:
        raise UsageError(f"--format {form} takes --out, a new folder, and the weights as they are.")
    return publish(source, form, out, _cache_dir())


@app.command("list")
def list_(
    caches: Annotated[bool, typer.Option("--caches", help="List all that the cache folder holds instead.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the models known by name, which of them are on this disk, and what is kept for them.

    Examples:

      hierdraft models list

      hierdraft models list --caches --json
    """
    from hierdraft.models.cached import cached
    from hierdraft.models.listed import list_models

    rows: list[Any] = cached(_cache_dir()) if caches else list(list_models(_cache_dir()))
    if as_json:
        typer.echo(json.dumps(rows))
    elif caches:
        _show_caches(rows)
    else:
        _show(rows)
        _sum_up(cached(_cache_dir()))


@app.command("rm")
def rm(
    name: Annotated[str | None, typer.Argument(help="A model's name, or the folder of one.")] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="What nothing installed now would use: old conversions, leftovers.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove a model that was pulled, and what was converted and measured for it. Your own folders are left alone.

    Examples:

      hierdraft models rm gemma3-270m

      hierdraft models rm --unused --yes
    """
    from hierdraft.errors import ModelError, UsageError
    from hierdraft.models.cached import belonging_to, cached, remove

    if (name is None) != unused:
        raise UsageError("Name a model, or give --unused.")
    rows = cached(_cache_dir())
    doomed = [row for row in rows if row["unused"]] if name is None else belonging_to(rows, name, _cache_dir())
    if not doomed and name is not None:
        raise ModelError(f"Nothing is kept for {name!r}: see hierdraft models list --caches.")
    size = sum(row["bytes"] for row in doomed)
    if doomed and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"This would remove {size / 1e6:.0f} MB: give --yes.")
        _show_caches(doomed)
        typer.confirm(f"Remove this ({size / 1e6:.0f} MB)?", abort=True, err=True)
    remove(doomed)
    if as_json:
        typer.echo(json.dumps({"removed": doomed, "bytes": size}))
    else:
        typer.echo(f"Removed {len(doomed)} of the cache's parts, {size / 1e6:.0f} MB.")


@app.command("path")
def path(name: options.Name, as_json: options.AsJson = False) -> None:
    """Print the folder of a model that was pulled.

    Example:

      hierdraft models path smollm2-135m
    """
    from hierdraft.models import named as models

    folder = models.pulled_path(name, _cache_dir())
    _answer({"name": name, "path": str(folder)}, as_json)


@app.command("verify")
def verify(name: options.Name, as_json: options.AsJson = False) -> None:
    """Read a pulled model's weights again and compare them with the checksum written when it was pulled.

    Example:

      hierdraft models verify smollm2-135m --json
    """
    from hierdraft.models import named as models

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
    """A progress bar on stderr for as long as the block runs; plain lines where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    if not sys.stderr.isatty():
        yield lambda stage, _: typer.echo(f"{title}: {stage}", err=True)
        return
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(stage: str, fraction: float) -> None:
            bar.update(task, description=f"{title}: {stage}", completed=fraction)

        yield report


def _sum_up(held: list[CacheRow]) -> None:
    whole, unused = (sum(row["bytes"] for row in rows) / 1e6 for rows in (held, [r for r in held if r["unused"]]))
    graphs = sum(row["kind"] == "graph" for row in held)
    typer.echo(
        f"In the cache: {whole:.0f} MB, with {graphs} conversions for OpenVINO (hierdraft models list --caches); "
        f"{unused:.0f} MB are unused (hierdraft models rm --unused)."
    )


def _show_caches(rows: list[CacheRow]) -> None:
    for row in rows:
        note = "  unused" if row["unused"] else ""
        typer.echo(f"{row['kind']:<9} {row['bytes'] / 1e6:>7.0f} MB  {row['what']}{note}  {row['path']}")


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
