"""What went wrong, in the shape and with the status that clients expect: one sentence each."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hierdraft.errors import ContextLengthError, HierdraftError, QueueFullError, SchemaError, UsageError

_ANTHROPIC = {
    403: "permission_error", 404: "not_found_error", 408: "timeout_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


_NAME = re.compile("[a-z][a-z0-9_]*")
_log = logging.getLogger("hierdraft.server")


class ApiError(Exception):
    """An answer that is an error.

    status    HTTP's
    kind      OpenAI's `type`: invalid_request_error, authentication_error, rate_limit_error, server_error, ...
    param     the field that is wrong, if it is one
    code      a word for programs
    headers   sent with it
    """

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", *, param: str | None = None,
        code: str | None = None, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.headers = param, code, dict(headers or {})

    def as_openai(self) -> dict[str, Any]:
        """The body of OpenAI's APIs."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def as_anthropic(self) -> dict[str, Any]:
        """The body of Anthropic's API."""
        kind = _ANTHROPIC.get(self.status, "api_error" if self.kind == "server_error" else self.kind)
        return {"type": "error", "error": {"type": kind, "message": self.message}}


def told(error: Exception) -> ApiError:
    """What a client is told of an error; of one that nobody expected only that there was one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, ContextLengthError):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), "rate_limit_error", code="queue_full", headers={"Retry-After": "1"})
    if isinstance(error, UsageError | SchemaError):
        return ApiError(400, str(error))
    if isinstance(error, HierdraftError):
        return ApiError(500, str(error), "server_error")
    return ApiError(500, "The server failed to answer; its log says why.", "server_error")


def note(error: Exception) -> None:
    """Write an error that a client is told nothing of into the log."""
    if told(error).status >= 500 and not isinstance(error, ApiError):
        _log.error("a request failed", exc_info=error)


def _invalid(error: ValidationError) -> ApiError:
    """The first field that is wrong, and all that are not known."""
    faults = error.errors(include_url=False, include_input=False)
    unknown = [
        _place(fault["loc"][:-1], str(fault["loc"][-1])) for fault in faults if fault["type"] == "extra_forbidden"
    ]
    if unknown:
        fields = ", ".join(dict.fromkeys(unknown))
        return ApiError(
            400, f"Not supported here: {fields}.", param=unknown[0], code="unsupported_parameter"
        )  # fmt: skip
    first = max(faults, key=lambda fault: len(fault["loc"]))  # of alternatives the one that came farthest
    place = _place(first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return ApiError(400, f"{place}: {said}." if place else f"{said}.", param=place or None, code="invalid_value")


_TAGS = frozenset(
    {"str", "int", "float", "message", "function_call", "function_call_output", "text", "tool_use", "tool_result"}
)


def _place(where: tuple[int | str, ...], last: str = "") -> str:
    """messages[0].content, without the names that a validator gives to alternatives."""
    found = ""
    for before, part in zip([None, *where], where, strict=False):
        if isinstance(part, int):
            found += f"[{part}]"
        elif not (part in _TAGS and (isinstance(before, int) or part in ("str", "int", "float"))) and _NAME.fullmatch(
            part
        ):
            found += f".{part}" if found else part
    return f"{found}.{last}".lstrip(".") if last else found
