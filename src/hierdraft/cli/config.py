"""`hierdraft config`: where settings stand, what each is, and where its value comes from."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hierdraft.cli import options

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from hierdraft.settings import Sourced

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Where settings stand, and which are in force.")


@app.command("show")
def show(as_json: options.AsJson = False) -> None:
    """Every setting in force and where its value comes from: the file, an environment variable, or the default.

    Examples:

      hierdraft config show

      HIERDRAFT_THREADS=2 hierdraft config show --json
    """
    from hierdraft.settings import config_path, origins

    found = origins()
    if as_json:
        values = {name: as_record(name, one) for name, one in found.items()}
        typer.echo(json.dumps({"file": str(config_path()), "found": config_path().is_file(), "settings": values}))
        return
    typer.echo(f"settings file: {file_in_words(config_path())}\n")
    width = max(map(len, found))
    for name, one in found.items():
        typer.echo(f"{name:<{width}}  {in_words(one.value)}  ({origin_in_words(name, one)})")


@app.command("path")
def path(as_json: options.AsJson = False) -> None:
    """Print where the settings file is, or would be: HIERDRAFT_CONFIG names another.

    Example:

      $EDITOR "$(hierdraft config path)"
    """
    from hierdraft.settings import config_path

    found = {"file": str(config_path()), "found": config_path().is_file()}
    typer.echo(json.dumps(found) if as_json else found["file"])


@app.command("example")
def example(as_json: options.AsJson = False) -> None:
    """Print a settings file that names every key with its default, each line a comment until it is wanted.

    Example:

      hierdraft config example >> "$(hierdraft config path)"
    """
    from hierdraft.settings import Settings

    fields = Settings.model_fields
    text = "\n".join([_HEAD, *(_lines(name, field) for name, field in fields.items())])
    if as_json:
        keys = {name: {"for": field.title, "must_be": field.description} for name, field in fields.items()}
        typer.echo(json.dumps({"text": text, "keys": keys}))
    else:
        typer.echo(text, nl=False)


_HEAD = """\
# Settings of hierdraft. A line counts when the # before its key is gone; the command line and environment variables
# (HIERDRAFT_ and the key in capitals) come before this file. `hierdraft config show` says what is in force.
"""


def _lines(name: str, field: FieldInfo) -> str:
    """A comment that says what a key is for, and the key with its default, or an example where it has none."""
    value = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    shown = json.dumps(str(value) if isinstance(value, Path) else value)  # as TOML writes it, for these types
    return textwrap.fill(f"{field.title} ({field.description})", 118, initial_indent="# ", subsequent_indent="# ") + (
        f"\n# {name} = {shown}\n"
    )


def as_record(name: str, one: Sourced) -> dict[str, Any]:
    """A setting for JSON: value, origin and its environment variable."""
    from hierdraft.settings import variable

    value: Any = one.value
    if isinstance(value, Path):
        value = str(value)
    elif isinstance(value, tuple):
        value = list(map(str, value))
    return {"value": value, "origin": one.origin, "variable": variable(name)}


def file_in_words(file: Path) -> str:
    """The settings file and whether it is there."""
    return str(file) if file.is_file() else f"{file} (not there: hierdraft config example prints one)"


def in_words(value: object) -> str:
    """A value in plain words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    return "not set" if value is None else str(value)


def origin_in_words(name: str, one: Sourced) -> str:
    """Where a value comes from."""
    from hierdraft.settings import variable

    places = {"file": "settings file", "environment": variable(name), "argument": "command line"}
    return places.get(one.origin, one.origin)
