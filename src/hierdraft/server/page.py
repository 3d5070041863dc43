"""The page: a few files of the package, without a build step and without anything from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from hierdraft.levels import registered

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("index.html", "page.css", "page.js", "client.js", "pane.js", "tree.js", "icon.svg")


def add_page(app: FastAPI, model: str) -> None:
    """Serve the files, and what they ask for first: what the `model` is called, and the levels."""
    for name in _FILES:
        _add(app, name, files("hierdraft.server").joinpath("static", name).read_bytes())
    _add(app, "levels.css", _colours().encode())

    @app.get("/page.json", include_in_schema=False)
    async def begin() -> JSONResponse:
        return JSONResponse({"model": model, "levels": [level.name for level in registered().values()]})


def _add(app: FastAPI, name: str, data: bytes) -> None:
    kind = f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8"

    @app.get("/" if name == "index.html" else f"/{name}", include_in_schema=False)
    async def page() -> Response:
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})


def _colours() -> str:
    """A style for each level, on a light and on a dark page."""
    light = "\n".join(f".level-{level.name} {{ --level: {level.light}; }}" for level in registered().values())
    dark = "\n".join(
        f'[data-theme="dark"] .level-{level.name} {{ --level: {level.dark}; }}' for level in registered().values()
    )
    return f"{light}\n{dark}\n"
