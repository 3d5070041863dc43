"""Ctrl-C, SIGTERM and a terminal that was closed, at any moment: what runs is ended in order, within a second."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_SECONDS = 0.7
"""After this long a process that was told to end is ended, whatever it is doing."""

AGAIN_SECONDS = 0.02
"""How long after a signal that was swallowed it is sent again."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_PIPE = 13


class Stopped(BaseException):
    """Raised in the main thread by a signal, and by a standard output that nobody reads any more."""

    def __init__(self, number: int = _PIPE) -> None:
        """`number`: the signal's; that of a closed pipe is for both."""
        super().__init__(f"signal {number}")
        self.number = number
        self.exit_code = 128 + number
        self.quiet = number == _PIPE


def behind(error: BaseException | None) -> Stopped | None:
    """The signal that an error comes of: Python itself wraps what is raised while it makes a class."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, Stopped):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first signal raises `Stopped`; those that are ignored (nohup, background jobs) stay so.

    A signal is only heard between two steps of the interpreter, and libraries compute for seconds without one, or hold
    up the end: a thread ends the process if it is still there after `GRACE_SECONDS`. After the block signals end the
    process at once: the command is over. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = socket.socketpair()
    told.setblocking(False)
    watch = threading.Thread(target=_watch, args=(heard,), name="hierdraft-stop", daemon=True)
    watch.start()
    signals = _Signals()
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    held = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in held:
        signal.signal(number, signals.stop)
    try:
        yield
    finally:
        if not signals.stopping:
            for number in held:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            sys.unraisablehook = signals.tell
            told.send(b"\0")
            watch.join()
            heard.close()
            told.close()


@contextmanager
def unhurried() -> Iterator[None]:
    """Within a block of `stoppable`: whoever sets handlers of signals here may take as long as they need to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, held = signal.set_wakeup_fd(-1), {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)


class _Signals:
    """Raises `Stopped` once: what is being closed is not disturbed by a second signal."""

    def __init__(self) -> None:
        self.stopping = False
        self.tell, sys.unraisablehook = sys.unraisablehook, self._swallowed

    def stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.stopping:
            self.stopping = True
            raise Stopped(number)

    def _swallowed(self, unraisable: Any) -> None:
        """It came within a finalizer or a callback of a library, which no exception leaves: it comes again."""
        stopped = unraisable.exc_value
        if not isinstance(stopped, Stopped) or stopped.quiet:
            self.tell(unraisable)
            return
        self.stopping = False
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), stopped.number))
        again.daemon = True
        again.start()


def _watch(heard: socket.socket) -> None:
    """The bytes are the numbers of signals, 0 is the end of the block."""
    while (number := heard.recv(1)[0]) != 0:
        if number in _SIGNALS:
            time.sleep(GRACE_SECONDS)
            try:
                if select.select([], [2], [], 0)[1]:  # a pipe that is full and not read would hold this up
                    os.write(2, b"hierdraft: stopped.\n")
            finally:
                os._exit(128 + number)
