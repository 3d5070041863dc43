"""Answers as server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from hierdraft.server.failures import note, told

PING = 15
"""Seconds between comments in a stream that has nothing else to say, so that proxies keep it open."""

_log = logging.getLogger("hierdraft.server")


class Events(EventSourceResponse):
    """What a speaker says, event by event; a client that does not read is left alone. Whatever ends the stream, even
    before it began, ends the request.
    """

    def __init__(self, speaks: Any, request_ends: AsyncExitStack, unread: float, *, named: bool) -> None:
        """
        speaks        its events
        request_ends  closed, at the latest, when the stream ends
        unread        seconds that a client may leave what was sent to it unread
        named         whether events bear their type as their name
        """
        super().__init__(_sent(speaks, request_ends, named=named), ping=PING, send_timeout=unread)
        self._request_ends = request_ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except* SendTimeoutError:
            _log.info("a client did not read its answer")
        finally:
            await self._request_ends.aclose()


async def _sent(speaks: Any, request_ends: AsyncExitStack, *, named: bool) -> AsyncIterator[bytes]:
    """The events of a speaker; what fails on the way is the last of them.

    When a client has the last one, the request is over: it may send its next one at once, whatever its limit.
    """
    last = list[bytes]()
    try:
        async for says in speaks.events():
            for before in last:
                yield before
            last = [_event(says, named=named)]
            if not speaks.running.over:
                yield last.pop()
        if not named:
            last.append(b"data: [DONE]\n\n")
    except Exception as error:  # noqa: BLE001 - told to the client in the stream's own form
        note(error)
        last.append(_event(speaks.failed(told(error)), named=named))
    await request_ends.aclose()
    for says in last:
        yield says


def _event(says: dict[str, Any], *, named: bool) -> bytes:
    """As it is sent: JSON in one line, after the event's name where it has one."""
    name = f"event: {says['type']}\n" if named else ""
    return f"{name}data: {json.dumps(says)}\n\n".encode()
