"""What comes before any route: bodies that are too long or slow, pages of others, headers that keep browsers safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from hierdraft.server.failures import ApiError

Refuse = Callable[[ApiError, Scope, Receive, Send], Awaitable[None]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


class Bounds:
    """An ASGI application around another one.

    A page of another origin is refused, whatever it asks: what runs on this machine is not for every web site that its
    user opens. So is a name of this machine that is not its own, behind which a site may hide.
    """

    def __init__(self, app: ASGIApp, *, body: int, slow: float, hosts: frozenset[str] | None, refuse: Refuse) -> None:
        """
        body    most bytes of a body
        slow    most seconds until it is there
        hosts   names that the server answers to; None: all
        refuse  answers with an error
        """
        self._app, self._body, self._slow, self._hosts, self._refuse = app, body, slow, hosts, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check(headers)
            seen = _Body(receive, self._body, self._slow)
            await self._app(scope, seen.receive, _with_headers(send))
        except ApiError as error:
            await self._refuse(error, scope, receive, _with_headers(send))

    def _check(self, headers: Headers) -> None:
        """Raises ApiError."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._body:
            raise _too_long(self._body)
        try:
            host, origin = _host(headers.get("host", "")), _origin(headers.get("origin"))
        except ValueError as error:
            raise ApiError(403, f"This cannot be the name of a server ({error}).", code="forbidden_host") from error
        if self._hosts is not None and host not in self._hosts:
            raise ApiError(403, f"This server does not answer to the name {host!r}.", code="forbidden_host")
        if origin is not None and origin != headers.get("host", ""):
            raise ApiError(403, "Pages of other origins may not ask this server.", code="forbidden_origin")


class _Body:
    """What a client sends, within its bounds."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive, self._most = receive, most
        self._until = asyncio.get_running_loop().time() + seconds
        self._seen, self._whole = 0, False

    async def receive(self) -> Message:
        """The next message. Raises ApiError."""
        if self._whole:  # what comes now is that the client leaves, which may take as long as the answer
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise ApiError(408, "The body took too long to arrive.", code="request_timeout") from error
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            raise _too_long(self._most)
        self._whole = not message.get("more_body", False)
        return message


def _too_long(most: int) -> ApiError:
    return ApiError(413, f"The body is longer than {most} bytes.", code="request_too_large")


def _host(given: str) -> str:
    """A name without its port."""
    name = urlsplit(f"//{given}").hostname if given else ""
    return (name or "").lower()


def _origin(given: str | None) -> str | None:
    """A page's server, as a `Host` would name it."""
    return urlsplit(given).netloc if given is not None else None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SAFE.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


class Timed(H11Protocol):
    """A connection that is closed where its client takes too long.

    slow    seconds until the head of a request is there, the first or a later one
    unread  seconds that what was sent may stay unread; then nothing of it is waited for any more
    """

    slow = unread = 30.0
    _clock: asyncio.TimerHandle | None = None
    _full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._clock is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._resume()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = self.loop.call_later(self.unread, self.transport.abort)

    def resume_writing(self) -> None:
        self._resume()
        super().resume_writing()

    def _resume(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def _wait(self) -> None:
        self._clock = self.loop.call_later(self.slow, self.transport.abort)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def protocol(slow: float, unread: float) -> type[H11Protocol]:
    """`Timed` with these limits."""
    return type("Timed", (Timed,), {"slow": slow, "unread": unread})
