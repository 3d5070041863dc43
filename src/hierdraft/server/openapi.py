"""The description of the routes for programs: bodies are those that are read, answers those that are given."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

_SCHEMAS = "x-schemas"
_ERRORS = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504)
_TOLD = ("#/components/schemas/Error", "#/components/schemas/AnthropicError")


def described(*errors: int, asks: type[BaseModel] | None = None, text: bool = False) -> dict[str, Any]:
    """Arguments of a route.

    errors  statuses besides 200; of a route that answers, all
    asks    what its body must be
    text    whether it answers with text
    """
    either = {"anyOf": [{"$ref": ref} for ref in _TOLD]}
    failed = {"description": "An error, in one sentence", "content": {"application/json": {"schema": either}}}
    drains = {"description": "Draining", "content": {"application/json": {"schema": {"type": "object"}}}}
    responses: dict[int | str, dict[str, Any]] = {
        status: drains if asks is None and status == 503 else failed for status in (_ERRORS if asks else errors)
    }
    content: dict[str, Any] = {"text/plain": {}} if text else {"application/json": {"schema": {}}}
    if asks is None:
        return {"responses": responses | {200: {"description": "As it is", "content": content}}}
    responses[200] = {"description": "The answer", "content": {**content, "text/event-stream": {}}}
    schema = asks.model_json_schema(ref_template="#/components/schemas/{model}")
    inner: dict[str, Any] = schema.pop("$defs", {})
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"responses": responses, "openapi_extra": {"requestBody": body, _SCHEMAS: inner}}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    from hierdraft import __version__

    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=__version__, routes=app.routes)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for path in made["paths"].values():
            for operation in path.values():
                schemas |= operation.pop(_SCHEMAS, {})
        told = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
        schemas["Error"] = {"type": "object", "properties": {"error": told}, "required": ["error"]}
        schemas["AnthropicError"] = {
            "type": "object", "properties": {"type": {"const": "error"}, "error": told}, "required": ["type", "error"],
        }  # fmt: skip
        app.openapi_schema = made
    return app.openapi_schema
