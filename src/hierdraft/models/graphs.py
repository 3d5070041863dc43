"""Graphs on disk: each model is converted once for each kind of weights, and kept complete or not at all.

So is the refusal of a model that cannot be converted, until one of the packages that take part changes. Of a graph that
was downloaded only what has to be known of it is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from hierdraft import errors
from hierdraft.engines.openvino.files import FACTS, Facts
from hierdraft.errors import HierdraftError, UnsupportedModelError
from hierdraft.models.files import disk_errors
from hierdraft.models.openvino_folders import describe
from hierdraft.processes import ending, run_module

OWN = "own"
"""Weights of a graph that was downloaded: as they are."""

_FORM = 5
_HASHED = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_WEIGHTS = (".safetensors", ".xml", ".bin")
_REFUSAL, _ABOUT = "refused.json", "about.json"
_log = logging.getLogger(__name__)


def prepare(model: Path, weights: str, cache_dir: Path) -> Path:
    """The folder with the graph of the model in `model`, and its tokenizer; converts it where that was not done yet.

    weights   see `NumberType`; `OWN` for an OpenVINO folder

    Two processes at once take turns. Raises ModelError, UnsupportedModelError, CacheError, MissingDependencyError.
    """
    parent = cache_dir.expanduser() / "openvino"
    with disk_errors(parent):
        folder = parent / _key(model, weights)
        if not _is_complete(folder):
            parent.mkdir(parents=True, exist_ok=True)
            with FileLock(parent / f"{folder.name}.lock"):
                if not _is_complete(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    _fill(model, weights, folder)
    refusal = _read(folder / _REFUSAL).get("says")
    if refusal is not None:
        raise UnsupportedModelError(str(refusal))
    return folder


def _key(model: Path, weights: str) -> str:
    """A name that changes with the model's files, the kind of weights and all that takes part in a conversion."""
    if weights == OWN:
        packages: tuple[str, ...] = ("openvino", "tokenizers")
    else:
        packages = ("openvino", "torch", "transformers", *(("nncf",) if weights.startswith("int") else ()))
    found = hashlib.sha256(repr((_FORM, weights, [version(package) for package in packages])).encode())
    for file in sorted(model.iterdir()):
        if file.suffix in _HASHED:
            found.update(file.read_bytes())
        elif file.suffix in _WEIGHTS:
            about = file.stat()
            found.update(repr((file.name, about.st_size, about.st_mtime_ns)).encode())
    return found.hexdigest()[:24]


def made_for(folder: Path) -> tuple[str, str, bool]:
    """The model's folder and the kind of weights that a converted folder is for, and whether it would be used now.

    Those of an earlier version of hierdraft do not know: "", "".
    """
    about = _read(folder / _ABOUT)
    model, weights = str(about.get("model", "")), str(about.get("weights", ""))
    return model, weights, bool(model) and Path(model).is_dir() and _key(Path(model), weights) == folder.name


def _is_complete(folder: Path) -> bool:
    if "says" in _read(folder / _REFUSAL):
        return True
    try:
        sizes = _read(folder / FACTS)["bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fill(model: Path, weights: str, folder: Path) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.*/"):  # of conversions that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    if weights != OWN:
        _log.info("Converting %s for OpenVINO with %s weights: this is done once.", model.name, weights)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        try:
            (beside / _ABOUT).write_text(json.dumps({"model": str(model), "weights": weights}), encoding="utf-8")
            facts = _described(model, beside) if weights == OWN else converted(model, weights, beside)
        except _RefusalError as refusal:
            (beside / _REFUSAL).write_text(json.dumps({"says": str(refusal)}), encoding="utf-8")
        else:
            sizes = {file.name: file.stat().st_size for file in beside.iterdir()}
            (beside / FACTS).write_text(json.dumps({**asdict(facts), "bytes": sizes}), encoding="utf-8")
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


class _RefusalError(UnsupportedModelError):
    """What these versions of all that takes part will refuse again."""


def _described(model: Path, folder: Path) -> Facts:
    try:
        return describe(model, folder)
    except UnsupportedModelError as error:
        raise _RefusalError(str(error)) from error


def converted(model: Path, weights: str, folder: Path) -> Facts:
    """What `openvino_convert` tells of the graph that it wrote, in a process of its own. Raises as `prepare` does."""
    done = run_module("hierdraft.models.convert", str(model), weights, str(folder))
    if done.returncode < 0:
        raise UnsupportedModelError(f"The conversion of {model} for OpenVINO {ending(done.returncode)}.")
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UnsupportedModelError(f"{model} cannot be converted for OpenVINO ({lines[-1].rstrip('.')}).") from error
    if done.returncode == 0:
        return Facts.of(told)
    kind: type[HierdraftError] = getattr(errors, told["error"])
    raise (_RefusalError if kind is UnsupportedModelError else kind)(told["says"])
