"""The routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from hierdraft.server.anthropic import CountRequest, MessageSpeaker, MessagesRequest
from hierdraft.server.bounds import Bounds
from hierdraft.server.chat import ChatRequest
from hierdraft.server.completions import CompletionRequest, CompletionSpeaker
from hierdraft.server.events import Events
from hierdraft.server.failures import ApiError, note, told
from hierdraft.server.openapi import described, document
from hierdraft.server.page import add_page
from hierdraft.server.responding import ResponseSpeaker
from hierdraft.server.responses import ResponsesRequest
from hierdraft.server.service import ClientGoneError, Service, unless_gone
from hierdraft.server.speaking import Speaker
from hierdraft.server.wire import Asked

Shape = Callable[[ApiError], dict[str, Any]]

_GONE = 499


def make_app(service: Service, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application of one service; `hosts`: names that it answers to, None: all."""
    app = FastAPI(title="hierdraft", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(ApiError, _failed)
    app.add_exception_handler(404, _no_route)
    app.add_exception_handler(405, _no_route)
    _add_views(app, service)
    _add_answers(app, service)
    add_page(app, service.name)
    limits = service.limits
    app.add_middleware(Bounds, body=limits.body, slow=limits.slow, hosts=hosts, refuse=_refuse)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _add_views(app: FastAPI, service: Service) -> None:
    """What only looks."""

    @app.get("/health", **described())
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready", **described(503))
    async def ready() -> JSONResponse:
        return JSONResponse({"status": "draining"}, 503) if service.draining else JSONResponse({"status": "ready"})

    @app.get("/metrics", **described(401, text=True))
    async def metrics(request: Request) -> Response:
        service.keys.tenant(request.headers)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", **described(401))
    async def models(request: Request) -> JSONResponse:
        service.keys.tenant(request.headers)
        return JSONResponse({"object": "list", "data": [_model(service)]})

    @app.get("/v1/models/{name:path}", **described(401, 404))
    async def model(request: Request, name: str) -> JSONResponse:
        service.keys.tenant(request.headers)
        service.check_model(name)
        return JSONResponse(_model(service))

    @app.get("/slots", **described(401))
    async def slots(request: Request) -> JSONResponse:
        tenant = service.keys.tenant(request.headers)
        return JSONResponse([one.shown() for one in service.running.values() if one.tenant is tenant])

    @app.get("/openapi.json", **described())
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())


def _add_answers(app: FastAPI, service: Service) -> None:
    """What the model answers."""

    @app.post("/v1/chat/completions", **described(asks=ChatRequest))
    async def chat(request: Request) -> Response:
        return await _answered(service, request, ChatRequest, Speaker)

    @app.post("/v1/completions", **described(asks=CompletionRequest))
    async def completions(request: Request) -> Response:
        return await _answered(service, request, CompletionRequest, CompletionSpeaker)

    @app.post("/v1/responses", **described(asks=ResponsesRequest))
    async def responses(request: Request) -> Response:
        return await _answered(service, request, ResponsesRequest, ResponseSpeaker, named=True)

    @app.post("/v1/messages", **described(asks=MessagesRequest))
    async def messages(request: Request) -> Response:
        return await _answered(service, request, MessagesRequest, MessageSpeaker, named=True, shape=_as_anthropic)

    @app.post("/v1/messages/count_tokens", **described(asks=CountRequest))
    async def count(request: Request) -> Response:
        try:
            service.keys.tenant(request.headers)
            asked = await _asked(service, request, CountRequest)
            return JSONResponse({"input_tokens": await asyncio.to_thread(service.count, asked)})
        except ClientDisconnect:
            return Response(status_code=_GONE)
        except Exception as error:  # noqa: BLE001 - told in this API's own form
            return _error(error, _as_anthropic)


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.name, "object": "model", "created": service.created, "owned_by": "hierdraft"}


def _as_openai(error: ApiError) -> dict[str, Any]:
    return error.as_openai()


def _as_anthropic(error: ApiError) -> dict[str, Any]:
    return error.as_anthropic()


async def _answered(
    service: Service, request: Request, form: Any, speaker: Any, *, named: bool = False, shape: Shape = _as_openai
) -> Response:
    """Read a body, ask the model, and answer whole or as events.

    named   whether events bear their type as their name
    shape   of errors
    """
    stack = AsyncExitStack()
    try:
        tenant = service.keys.tenant(request.headers)
        asked = await _asked(service, request, form)
        running = await stack.enter_async_context(service.answering(asked, tenant))
        speaks = speaker(service, running)
        if asked.streamed:
            request_ends = stack.pop_all()
            return Events(speaks, request_ends, service.limits.unread, named=named)
        return JSONResponse(await unless_gone(speaks.whole(), lambda: _gone(request)))
    except (ClientGoneError, ClientDisconnect):
        return Response(status_code=_GONE)
    except Exception as error:  # noqa: BLE001 - told to the client in this API's own form
        return _error(error, shape)
    finally:
        await stack.aclose()


async def _asked(service: Service, request: Request, form: type[BaseModel]) -> Asked:
    """What a body asks of the model. Raises ApiError."""
    body: Any = await _parsed(service, request, form)
    service.check_model(body.model)
    try:
        asked: Asked = await asyncio.to_thread(body.as_asked)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"{str(error).rstrip('.')}.", code="invalid_value") from error
    return asked


async def _gone(request: Request) -> None:
    """Until the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _parsed(service: Service, request: Request, shape: type[BaseModel]) -> Any:
    """The body in its shape. Raises ApiError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415, "The body must be JSON, with Content-Type: application/json.", code="unsupported_media_type"
        )
    return await asyncio.to_thread(_read, await request.body(), service.dropped, shape)


def _read(content: bytes, dropped: frozenset[str], shape: type[BaseModel]) -> Any:
    """A body in its shape. Raises ApiError."""
    try:
        given = json.loads(content, parse_constant=_not_json)
        json.dumps(given, ensure_ascii=False).encode()  # half of a character can be neither read nor answered
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}.", code="invalid_json") from error
    if not isinstance(given, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    try:
        return shape.model_validate(_without(given, dropped))
    except (ValueError, RecursionError) as error:
        raise told(error) from error


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


_OWN = frozenset({"parameters", "input_schema", "schema", "input", "arguments"})
"""Fields whose contents are the client's own, with names of its own."""


def _without(given: Any, dropped: frozenset[str]) -> Any:
    """A body without the fields that are left out on purpose, and without those that are null: they were not given."""
    if isinstance(given, list):
        return [_without(one, dropped) for one in given]
    if not isinstance(given, dict):
        return given
    return {
        name: value if name in _OWN and isinstance(value, dict) else _without(value, dropped)
        for name, value in given.items()
        if value is not None and name not in dropped
    }


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await _error(error, _shape_at(scope["path"]))(scope, receive, send)


async def _failed(request: Request, error: Exception) -> Response:
    return _error(error, _shape_at(request.url.path))


async def _no_route(request: Request, error: Any) -> Response:
    said = f"There is nothing at {request.method} {request.url.path}."
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    return _error(ApiError(error.status_code, said, code=code, headers=error.headers), _shape_at(request.url.path))


def _shape_at(path: str) -> Shape:
    return _as_anthropic if path.startswith("/v1/messages") else _as_openai


def _error(error: Exception, shape: Shape = _as_openai) -> JSONResponse:
    shown = told(error)
    note(error)
    return JSONResponse(shape(shown), shown.status, headers=shown.headers)
