"""What the cache folder holds, for whom, and what of it nobody would miss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

from hierdraft.models import drafters, files
from hierdraft.models.gguf import made_of
from hierdraft.models.graphs import made_for
from hierdraft.settings import INDEXES


class CacheRow(TypedDict):
    """One thing in the cache, ready for JSON.

    kind     `model`, `graph` (converted for OpenVINO), `gguf` (what a GGUF file was converted to), `adapter` (merged),
             `drafter` (put together with its target), `readings` (by targets, for trainings), `costs`, `kernels`,
             `indexes`, `download`, `leftover`
    what     the model it is for, or what it is
    unused   nothing that is installed now would use it again
    """

    kind: str
    what: str
    path: str
    bytes: int
    unused: bool


def cached(cache_dir: Path) -> list[CacheRow]:
    """Everything that lies in the cache folder, models first. Raises CacheError if it cannot be read."""
    with files.disk_errors(cache_dir):
        return [*_models(cache_dir), *_graphs(cache_dir), *_ggufs(cache_dir), *_others(cache_dir)]


def belonging_to(rows: Iterable[CacheRow], name: str, cache_dir: Path) -> list[CacheRow]:
    """Of these, what is there for a model: a known name, or the folder of one."""
    folder = cache_dir / "models" / name
    home = str(folder if folder.is_dir() else Path(name).expanduser().resolve())
    return [
        row
        for row in rows
        if row["path"] == str(folder)
        or (row["kind"] in ("graph", "gguf", "drafter") and row["what"].partition(", ")[0] in (home, name))
        or (row["kind"] in ("download", "leftover") and Path(row["path"]).name.lstrip(".").split(".tmp-")[0] == name)
    ]


def remove(rows: Iterable[CacheRow]) -> int:
    """Delete them, and return how many bytes that frees. Raises CacheError."""
    freed = 0
    for row in rows:
        path = Path(row["path"])
        with files.disk_errors(path):
            files.remove(path)
            for lock in (path.with_name(f"{path.name}.lock"), path.with_name(f".{path.name}.lock")):
                files.remove(lock)
        freed += row["bytes"]
    return freed


def _models(cache_dir: Path) -> Iterator[CacheRow]:
    for path in _inside(cache_dir / "models"):
        half = path.name.startswith(".")
        if path.is_dir():
            yield _row("leftover" if half else "model", path.name.lstrip(".").split(".tmp-")[0], path, unused=half)


def _graphs(cache_dir: Path) -> Iterator[CacheRow]:
    for path in _inside(cache_dir / "openvino"):
        if not path.is_dir():
            continue
        if "." in path.name:  # of a conversion that was killed, or runs
            yield _row("leftover", "half a conversion", path, unused=True)
            continue
        model, weights, used = made_for(path)
        inside = Path(model).parent == cache_dir / "models"
        what = f"{Path(model).name if inside else model}, {weights}" if model else "of an earlier version"
        yield _row("graph", what, path, unused=not used)


def _ggufs(cache_dir: Path) -> Iterator[CacheRow]:
    for path in _inside(cache_dir / "gguf"):
        if path.is_dir():
            file, form, used = made_of(path)
            half = path.name.startswith(".")
            what = "half a conversion" if half else f"{file or 'of an earlier version'}, for {form or 'nobody'}"
            yield _row("leftover" if half else "gguf", what, path, unused=not used)


def _others(cache_dir: Path) -> Iterator[CacheRow]:
    for path in _inside(cache_dir / "downloads"):
        yield _row("download", path.name, path, unused=True)
    for path in _inside(cache_dir / "adapters"):
        if path.is_dir():
            half = path.name.startswith(".")
            yield _row("leftover" if half else "adapter", "a base model with an adapter", path, unused=half)
    for path in _inside(cache_dir / drafters.FOLDER):
        if path.is_dir():
            half = path.name.startswith(".")
            what, used = ("half a composition", False) if half else drafters.made_of(path)
            yield _row("leftover" if half else "drafter", what, path, unused=not used)
    kept = {
        "readings": "what targets think of training data",
        "costs": "what a step takes",
        "kernels": "compiled drafting code",
        INDEXES: "indexes of packs",
    }
    for kind, what in kept.items():
        if (cache_dir / kind).is_dir():
            yield _row(kind, what, cache_dir / kind, unused=False)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _row(kind: str, what: str, path: Path, *, unused: bool) -> CacheRow:
    every = [path, *path.rglob("*")] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in every if file.is_file())
    return CacheRow(kind=kind, what=what, path=str(path), bytes=size, unused=unused)
