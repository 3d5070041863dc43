"""The prompt of a command: what was typed, or what is piped in."""

from __future__ import annotations

import codecs
import os
import select
import stat
import sys

import typer

from hierdraft.errors import UsageError

NOTICE_SECONDS = 2.0
"""After this long without anything on standard input, stderr says that it is waited for."""

PATIENCE_SECONDS = 60.0
"""After this long it is given up, unless `-` asked for standard input: under cron nobody may ever write to it."""

_HOW = "give a prompt, pipe one in, or use --demo"


def read_prompt(prompt: str | None) -> str:
    """The prompt: `-`, or none at all with text piped in, is standard input; otherwise that is not read.

    Raises UsageError for an empty prompt, none at all, and piped text that cannot be read.
    """
    if prompt is None:
        if not _is_piped():
            raise UsageError(f"There is no prompt: {_HOW}.")
        _wait()
        text = _read()
        if not text.strip():
            raise UsageError(f"There is no prompt, and standard input is empty: {_HOW}.")
        return text
    text = _read() if prompt == "-" else prompt
    if not text.strip():
        raise UsageError("The prompt is empty: give some text.")
    return text


def _is_piped() -> bool:
    """Whether standard input is a pipe, a file or a socket; not a terminal, /dev/null or closed."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # no standard input, or one that was replaced or closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _wait() -> None:
    """Return when there is something to read, or the end of it. Raises UsageError where nothing comes."""
    if os.name != "posix" or select.select([sys.stdin], [], [], NOTICE_SECONDS)[0]:
        return
    typer.echo("hierdraft: waiting for a prompt on standard input.", err=True)
    if not select.select([sys.stdin], [], [], PATIENCE_SECONDS)[0]:
        raise UsageError(f"There is no prompt, and nothing came on standard input: {_HOW}, or - to wait for it.")


def _read() -> str:
    """All of standard input, which must be UTF-8. Raises UsageError."""
    if sys.stdin is None:
        raise UsageError("There is no standard input to read the prompt from: give a prompt.")
    data = sys.stdin.buffer.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError("Standard input is UTF-16 text: pipe in UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"Standard input is not UTF-8 text (byte {error.start}): pipe in UTF-8.") from error
