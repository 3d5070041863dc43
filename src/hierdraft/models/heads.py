"""Heads: drafters that read their target's hidden states. Opened beside it; by itself a head is no model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from hierdraft.engines.trimmed import TRIMMED
from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import drafters, files
from hierdraft.models.drafter_files import Head, Shared, read_config, read_head, read_own
from hierdraft.protocols import Array, Reads

FUSING = "fusing.safetensors"
"""In a composed folder: `fc` float32[F, k * H]."""

_FORM = "head-1"

Float32 = NDArray[np.float32]


def composed(folder: Path, target: Path, cache_dir: Path) -> Path:
    """The folder of a head for OpenVINO, made with its target's embeddings where that was not done yet.

    target   the transformers folder of the model whose embeddings it shares

    Raises ModelError for a damaged head or another target, CacheError, MissingDependencyError.
    """
    files.require_packages(("openvino", "torch", "transformers"))
    parent = cache_dir.expanduser() / drafters.FOLDER
    with files.disk_errors(parent):
        made = parent / f"{folder.name[:80]}-{_FORM}-{drafters.key_of(folder, target)}"
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{made.name}.lock"):
            if not (made / FUSING).is_file():
                _compose(folder, target, made)
    return made


def _compose(folder: Path, target: Path, made: Path) -> None:
    """Writes `made`, complete or not at all."""
    for leftover in made.parent.glob(f".{made.name}.tmp-*"):
        files.remove(leftover)
    config, shared = read_config(folder)
    own, kept = read_own(folder)
    embedding, output = _tables(folder, shared, target)
    rows = output if kept is None else output[kept]
    files.require_space(made.parent, embedding.size + rows.size + 4 * sum(one.size for one in own.values()),
                        files.free_bytes(made.parent))  # fmt: skip
    temporary = made.with_name(f".{made.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        _write(folder, config, own, embedding, rows, temporary)
        if kept is not None:
            save_file({"ids": kept}, temporary / TRIMMED)
        drafters.write_about(temporary, folder, target)
        save_file({"fc": own["fc.weight"]}, temporary / FUSING)
        files.sync_folder(temporary)
        files.replace_folder(temporary, made, made.with_name(f".{made.name}.tmp-old-{os.getpid()}"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path, config: dict[str, Any], own: dict[str, Float32], embedding: Float32, rows: Float32, to: Path
) -> None:
    from hierdraft.engines.openvino.head import write_head

    wanted = (len(_head(folder).states) * embedding.shape[1],)
    if own.get("fc.weight", np.empty((0, 0))).shape[1:] != wanted:
        raise ModelError(f"The head in {folder} is damaged (its fc does not fit the states that it reads).")
    sizes = {**config, "rope_theta": (config.get("rope_parameters") or {}).get("rope_theta", 10_000.0)}
    if (config.get("rope_parameters") or {}).get("rope_type", "default") != "default":
        raise UnsupportedModelError(f"The head in {folder} has rotary embeddings of another kind than the plain one.")
    try:
        write_head(to, sizes, own, embedding, rows, int(config["max_position_embeddings"]))
    except (KeyError, ValueError) as error:
        raise ModelError(f"The head in {folder} is damaged ({error}): restore or train it again.") from error


def _tables(folder: Path, shared: Shared, target: Path) -> tuple[Float32, Float32]:
    """The target's embeddings and output rows. Raises ModelError for another target's."""
    table = drafters.tensor_of(target, shared.input)
    rows = table if shared.output == shared.input else drafters.tensor_of(target, shared.output)
    if table is None or rows is None or drafters.digest(table, rows) != shared.sha256:
        raise ModelError(
            f"The head in {folder} shares the embeddings of {shared.target}, which are not those in {target}: train it "
            "for this model."
        )
    return table.float().numpy(), rows.float().numpy()


def _head(folder: Path) -> Head:
    found = read_head(folder)
    if found is None:
        raise ModelError(f"The drafter in {folder} is no head.")
    return found


def reads_of(folder: Path, made: Path) -> Reads:
    """What goes into the head in `folder` of what its target thinks. Raises ModelError."""
    try:
        weights = np.ascontiguousarray(load_file(made / FUSING)["fc"].T)
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{made / FUSING} is damaged ({error}): delete that folder, and it is made again.") from error
    return Reads(_head(folder).states, _fusing(weights))


def _fusing(weights: Float32) -> Callable[[Sequence[Array]], Float32]:
    def fuse(states: Sequence[Array]) -> Float32:
        found: Float32 = np.concatenate([_numbers(one) for one in states], axis=1) @ weights
        return found

    return fuse


def _numbers(states: Array) -> Float32:
    """float32 of an array, wherever it lies."""
    if isinstance(states, np.ndarray):
        return states.astype(np.float32, copy=False)
    found: Float32 = states.float().cpu().numpy()
    return found
