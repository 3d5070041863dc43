"""GGUF files: each becomes a folder in the cache once, alone among processes, complete or not at all.

An OpenVINO folder where OpenVINO GenAI knows the architecture: weights of 4 and 8 bits stay what they are. Else, and
for the transformers engine, a transformers folder, whose weights are in full precision.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from hierdraft import errors
from hierdraft.errors import HierdraftError, ModelError, UnsupportedModelError
from hierdraft.models import files, openvino_folders
from hierdraft.processes import ending, run_module

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_PART = re.compile(r"(?P<name>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_FORM = 1
ABOUT = "about.json"
"""In a folder in the cache: what it was made of."""

_REFUSED = "refused.json"
_log = logging.getLogger(__name__)


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder without another model; the first of parts.

    Raises ModelError where there are several, or parts are missing.
    """
    if path.is_dir():
        if (path / "config.json").exists() or openvino_folders.is_openvino(path):
            return None
        found = [path / file for file in first_parts(sorted(one.name for one in path.glob(f"*{SUFFIX}")))]
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ModelError(f"{path} holds several GGUF files ({names}): name one of them, with its folder.")
        return parts_of(found[0])[0] if found else None
    return parts_of(path)[0] if path.suffix == SUFFIX and path.is_file() else None


def first_parts(names: Sequence[str]) -> list[str]:
    """Of the names of files those that begin a model: all but the later ones of its parts."""
    parts = {name: _PART.fullmatch(name) for name in names}
    return [name for name, part in parts.items() if part is None or int(part["number"]) == 1]


def parts_like(name: str) -> list[str]:
    """The names of all files of a model: one, or those it was split into, in order."""
    part = _PART.fullmatch(name)
    if part is None:
        return [name]
    return [f"{part['name']}-{n:05}-of-{part['count']}{SUFFIX}" for n in range(1, int(part["count"]) + 1)]


def parts_of(file: Path) -> list[Path]:
    """All files of a model: one, or those it was split into, in order. Raises ModelError where some are missing."""
    every = [file.with_name(name) for name in parts_like(file.name)]
    missing = [one.name for one in every if not one.is_file()]
    if missing or not every:
        raise ModelError(f"{file.parent} lacks {', '.join(missing[:3])}: download all parts of the model.")
    return every


def check(file: Path) -> None:
    """Raises ModelError for what does not begin like a GGUF file."""
    with files.disk_errors(file), file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"{file} is not a GGUF file: download it again.")


def folder_of(file: Path, cache_dir: Path, *, full: bool = False) -> Path:
    """The folder made of a GGUF file, and of the other parts of its model; converts it where that was not done yet.

    full   for transformers, in full precision

    Raises ModelError, UnsupportedModelError, CacheError, MissingDependencyError.
    """
    every = parts_of(file)
    for part in every:
        check(part)
    if not full:
        found = _made(every, cache_dir, "openvino")
        if found is not None:
            return found
    made = _made(every, cache_dir, "transformers")
    if made is None:
        raise UnsupportedModelError(f"{file} cannot be read: {_refusal(_target(every, cache_dir, 'transformers'))}")
    return made


class _NotNowError(UnsupportedModelError):
    """What may be otherwise the next time: not enough memory or room, for example. It is not kept."""


def _made(every: list[Path], cache_dir: Path, form: str) -> Path | None:
    """The folder of that form; None where these versions of everything cannot make it."""
    target = _target(every, cache_dir, form)
    with files.disk_errors(target.parent):
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_name(f"{target.name}.lock")):
                if not target.is_dir():
                    try:
                        _make(every, target, form)
                    except _NotNowError as error:
                        _log.warning("%s is not run as it is this time: %s", every[0].name, error)
                        return None
    if (reason := _refusal(target)) is None:
        return target
    _log.info("%s is not run as it is: %s", every[0].name, reason)
    return None


def _target(every: list[Path], cache_dir: Path, form: str) -> Path:
    return cache_dir.expanduser() / "gguf" / f"{every[0].stem[:80]}-{_key(every, form)}"


def _key(every: list[Path], form: str) -> str:
    """A name that changes with the files and all that takes part in a conversion."""
    packages = ("openvino", "openvino-genai") if form == "openvino" else ("torch", "transformers", "gguf")
    found = hashlib.sha256(repr((_FORM, form, [_version(package) for package in packages])).encode())
    for file in every:
        about = file.stat()
        found.update(repr((str(file.resolve()), about.st_size, about.st_mtime_ns)).encode())
    return found.hexdigest()[:16]


def made_of(folder: Path) -> tuple[str, str, bool]:
    """The file that a folder in the cache was made of, the form that it has, and whether it would be used now."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        every, form = [Path(name) for name in about["files"]], str(about["form"])
        return str(every[0]), form, folder.name.endswith(f"-{_key(every, form)}")
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return "", "", False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _refusal(folder: Path) -> str | None:
    """Why there is nothing in a folder but this reason."""
    file = folder / _REFUSED
    return str(json.loads(file.read_text(encoding="utf-8"))["says"]) if file.is_file() else None


def _make(every: list[Path], target: Path, form: str) -> None:
    for leftover in target.parent.glob(f".{target.name}.tmp-*"):
        files.remove(leftover)
    size = sum(file.stat().st_size for file in every)
    files.require_space(target.parent, 2 * size if form == "openvino" else 8 * size, files.free_bytes(target.parent))
    _log.info("Converting %s for %s: this is done once.", every[0].name, form)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        try:
            _convert(every, temporary, form)
        except _NotNowError:
            raise
        except UnsupportedModelError as error:
            (temporary / _REFUSED).write_text(json.dumps({"says": str(error)}), encoding="utf-8")
        about = {"files": [str(part.resolve()) for part in every], "form": form}
        (temporary / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        files.sync_folder(temporary)
        temporary.rename(target)
    finally:
        files.remove(temporary)


def _convert(every: list[Path], folder: Path, form: str) -> None:
    if form == "transformers":
        files.convert_gguf(every[0], folder)
        return
    done = run_module("hierdraft.models.gguf_graph", str(folder), *map(str, every))
    if done.returncode == 0:
        return
    if done.returncode < 0:
        says = f"The conversion of {every[0]} {ending(done.returncode)}."
        raise (ModelError if done.returncode == -signal.SIGKILL else _NotNowError)(says)
    try:
        told = json.loads(done.stdout.splitlines()[-1])
        kind: type[HierdraftError] = getattr(errors, told["error"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UnsupportedModelError(f"{every[0]} cannot be converted ({lines[-1].rstrip('.')}).") from error
    raise (_NotNowError if told.get("again") else kind)(told["says"])
