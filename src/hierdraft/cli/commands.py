"""All commands; what they need is imported when they run."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from hierdraft.cli import bench, chat, config, db, doctor, generate, models, serve, train, vllm

app = typer.Typer(
    name="hierdraft",
    help="Language models decode faster and say exactly the same.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("generate")(generate.generate)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("vllm-config")(vllm.vllm_config)
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")


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


def run() -> int:
    """Run the command line, and return its exit code; a wrong use is one sentence on stderr. Raises HierdraftError."""
    progress = logging.getLogger("hierdraft")
    progress.setLevel(logging.INFO)
    progress.addHandler(_Lines())
    try:
        return int(app(prog_name="hierdraft", standalone_mode=False) or 0)
    except _WrongUse as error:
        _tell(error)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("hierdraft: stopped.", err=True)
        return 130


class _Lines(logging.Handler):
    """What takes long is said on stderr, a line each: fetching, converting."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line wherever stderr leads now; a progress display may stand there."""
        typer.echo(record.getMessage(), err=True)


_WrongUse: Any = typer.BadParameter.__mro__[1]
"""What the command-line library raises for unknown commands and options, missing and wrong values."""


def _tell(error: Any) -> None:
    """A wrong use in one sentence; a group of commands that was named alone shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    said = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx is not None else "hierdraft"
    typer.echo(f"hierdraft: {said.rstrip('.')}. See {command} --help.", err=True)
