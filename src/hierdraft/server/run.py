"""From a service to a running server, and its end: the first signal lets what runs finish, the second does not."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from hierdraft.errors import UsageError
from hierdraft.server.app import make_app
from hierdraft.server.bounds import protocol
from hierdraft.server.service import Service

_BACKLOG = 2048
_SWITCH = 0.0005
"""Seconds after which the thread that decodes lets the one that answers work: Python's own 0.005 would be seen."""

_CLOSING = 5
"""Seconds that connections have to close when all answers are over."""


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0: any that is free. Raises UsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The server cannot listen at {host}:{port} ({reason}).") from error


def serve(server: Server, listening: socket.socket) -> None:
    """Answer until a signal comes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    gc.collect()
    gc.freeze()  # what is loaded stays: looking through it again and again would hold up every answer
    try:
        server.run(sockets=[listening])
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


class Server(uvicorn.Server):
    """Lets what runs finish before it ends."""

    def __init__(
        self, service: Service, *, hosts: frozenset[str] | None = None, drain: float = 30.0,
        ready: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """
        hosts  names that the server answers to; None: all
        drain  seconds that what runs has to finish when the server ends
        ready  called once when it answers
        """
        super().__init__(uvicorn.Config(
            make_app(service, hosts), http=protocol(service.limits.slow, service.limits.unread),
            ws="none", lifespan="off", log_config=None,
            access_log=False, timeout_graceful_shutdown=_CLOSING, server_header=False,
        ))  # fmt: skip
        self._service, self._drain, self._ready = service, drain, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Admit nobody any more, wait, and end."""
        draining = asyncio.ensure_future(self._service.drain(self._drain))
        while not draining.done():
            await asyncio.wait({draining}, timeout=0.05)
            if self.force_exit:
                draining.cancel()
                await self._service.drain(0.0)
                break
        self.force_exit = False
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the server, and nothing else: the model is closed after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def told(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.force_exit = self.should_exit
            self.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, told)
        yield
