"""Standard output and standard error as a command needs them, whatever they are connected to.

Text that the encoding of a terminal does not have is shown as escapes. A pipe that was closed ends the command quietly,
a full disk with one sentence. What cannot be written to standard error is let go: it is not the answer.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from hierdraft.cli.stopping import Stopped
from hierdraft.errors import OutputError


def guard_output() -> None:
    """Replace `sys.stdout` and `sys.stderr`; one that is closed discards what it is given, and is taken by no file."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one: this one
    sys.stdout = _guarded(sys.stdout, _fail)
    sys.stderr = _guarded(sys.stderr, lambda _: None)


def shorten_warnings() -> None:
    """From now on a warning is one line on standard error, and is shown once, wherever it comes from."""
    told: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            sys.stderr.write(f"warning: {text}\n")

    warnings.showwarning = show


def _fail(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise Stopped
    reason = error.strerror or error
    raise OutputError(f"Standard output cannot be written ({reason}): make room or choose another place.") from error


def _guarded(text: TextIO | None, fail: Callable[[OSError], None]) -> TextIO:
    if text is None:
        return open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(text, "buffer", None)
    if buffer is None:  # replaced by a program that runs the command within itself
        return text
    raw: Any = _Guarded(getattr(buffer, "raw", buffer), fail)
    unbuffered = not hasattr(buffer, "raw")  # PYTHONUNBUFFERED
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw), text.encoding, "backslashreplace",
        line_buffering=bool(text.line_buffering), write_through=unbuffered,
    )  # fmt: skip


class _Guarded(io.RawIOBase):
    """Hands bytes on; the first failure is told, and everything after it is discarded: it cannot fail again."""

    def __init__(self, raw: Any, fail: Callable[[OSError], None]) -> None:
        self._raw = raw
        self._fail = fail
        self._failed = False

    def write(self, data: Any) -> int:
        """Write all of it, however little the system takes at once."""
        rest = memoryview(data).cast("B")
        while len(rest) and not self._failed:
            try:
                rest = rest[self._raw.write(rest) or 0 :]
            except OSError as error:
                self._failed = True
                self._fail(error)
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        return int(self._raw.fileno())
