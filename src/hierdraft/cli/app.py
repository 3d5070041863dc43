"""The `hierdraft` command: sub-commands are imported when they run, errors end in one sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hierdraft.cli import bench, config, db, doctor, generate, models, vllm
from hierdraft.errors import HierdraftError

app = typer.Typer(
    name="hierdraft",
    help="Language models decode faster and say exactly the same.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("generate")(generate.generate)
app.command("doctor")(doctor.doctor)
app.command("vllm-config")(vllm.vllm_config)
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        from hierdraft import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Language models decode faster and say exactly the same."""


def main() -> None:
    """Run the command line; every error raised on purpose is one sentence on stderr."""
    try:
        app()
    except HierdraftError as error:
        typer.echo(f"hierdraft: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("hierdraft: stopped.", err=True)
        sys.exit(130)
