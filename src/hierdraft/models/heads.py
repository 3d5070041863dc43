"""Heads: drafters that read their target's hidden states. Opened beside it; by itself a head is no model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hierdraft.engines.headforms import Form
from hierdraft.engines.trimmed import TRIMMED
from hierdraft.errors import ModelError
from hierdraft.models import drafters, files
from hierdraft.models.drafter_files import AMONG, EXIT, Head, is_drafter, read_config, read_head, read_own, short
from hierdraft.models.fusing import BESIDE, MASKS, is_fusing, reads_from, write_fusing
from hierdraft.models.hub import snapshot
from hierdraft.models.known import NAMED_MODELS
from hierdraft.models.named import HUB_NAME, folder_of, resolve, target_of
from hierdraft.models.published import HeadParts, is_published, read_published, said_target
from hierdraft.protocols import Reads
from hierdraft.tree import Int32

_FORM = "head-2"
_SIZES = "sizes.json"
_LARGEST = 1 << 24
_TABLES = ("model.embed_tokens.weight", "embed_tokens.weight", "model.language_model.embed_tokens.weight")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class FoundHead:
    """A head, or exits, and the transformers folder of its target."""

    folder: Path
    target: Path
    exits: bool = False


def find_head(name_or_path: str, cache_dir: Path, of: str = "") -> FoundHead | None:
    """The head of a name, and its target; None where the name is another drafter's or a model's. Raises ModelError.

    of   the name of the model that it is to draft for, where that is known: published heads are for any of that shape
    """
    folder = drafters.shipped().get(name_or_path) or folder_of(name_or_path)
    if not folder.is_dir() and HUB_NAME.fullmatch(name_or_path) and name_or_path not in NAMED_MODELS:
        folder = snapshot(name_or_path, True)
    if not name_or_path or not folder.is_dir():
        return None
    if is_drafter(folder):
        found = read_head(folder)
        if found is None:
            return None
        return FoundHead(folder.resolve(), target_of(folder, cache_dir, True, None).path, found.kind == EXIT)
    if not is_published(folder):
        return None
    target = of or said_target(folder)
    if not target:
        raise ModelError(f"The head in {folder} does not say which model it is for: name it with --draft beside that.")
    return FoundHead(folder.resolve(), resolve(target, cache_dir, full=True).path)


def composed(folder: Path, target: Path, cache_dir: Path) -> Path:
    """The folder of a head for OpenVINO, made with its target's embeddings where that was not done yet.

    target   the transformers folder of the model that it drafts for

    Raises ModelError for a damaged head or another target, CacheError, MissingDependencyError.
    """
    files.require_packages(("openvino", "torch", "transformers"))
    parent = cache_dir.expanduser() / drafters.FOLDER
    with files.disk_errors(parent):
        made = parent / f"{folder.name[:80]}-{_FORM}-{drafters.key_of(folder, target)}"
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{made.name}.lock"):
            if not _is_whole(made):
                _compose(folder, target, made)
    return made


def _is_whole(made: Path) -> bool:
    """Whether a composed folder has all of its files, as long as they were."""
    try:
        sizes = files.read_json(made / _SIZES)
        return all((made / name).stat().st_size == size for name, size in sizes.items())
    except (ModelError, OSError):  # not made yet, by an earlier version, or damaged: it is made again
        return False


def _compose(folder: Path, target: Path, made: Path) -> None:
    """Writes `made`, complete or not at all."""
    for leftover in made.parent.glob(f".{made.name}.tmp-*"):
        files.remove(leftover)
    parts, embedding, output = whole_head(folder, target)
    size = embedding.size + output.size + sum(4 * one.size for one in parts.own.values())
    files.require_space(made.parent, size, files.free_bytes(made.parent))
    temporary = made.with_name(f".{made.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        with _damaged(folder):
            _write(parts, embedding, output, temporary)
        if parts.ids is not None:
            save_file({"ids": parts.ids}, temporary / TRIMMED)
        drafters.write_about(temporary, folder, target)
        sizes = {path.name: path.stat().st_size for path in temporary.iterdir()}
        (temporary / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
        files.sync_folder(temporary)
        files.replace_folder(temporary, made, made.with_name(f".{made.name}.tmp-old-{os.getpid()}"))
    finally:
        files.remove(temporary)


def _write(parts: HeadParts, embedding: Float32, output: Float32, to: Path) -> None:
    """The graph, and what goes before it. Raises KeyError, ValueError or TypeError for what does not fit."""
    from hierdraft.engines.openvino.head import HeadWeights, write_head
    from hierdraft.engines.openvino.llama import Sizes

    form = _form(parts, embedding, output)
    sizes = Sizes({**parts.config, "num_hidden_layers": form.layers, "vocab_size": len(embedding)})
    sizes.speeds = _speeds(parts.config)
    positions = int(parts.config.get("max_position_embeddings") or 1 << 15)
    write_head(to, sizes, HeadWeights(parts.own, embedding, output), len(output), positions, form)
    write_fusing(to, parts, sizes.eps)


def _form(parts: HeadParts, embedding: Float32, output: Float32) -> Form:
    """Raises KeyError or ValueError for sizes that do not fit."""
    _check_sizes(parts.config)
    width, fc = int(parts.config["hidden_size"]), parts.own["fc"]
    if embedding.shape[1] != width or output.shape[1] != width:
        raise ValueError(f"its layers are {width} wide, and its target's embeddings {embedding.shape[1]}")
    if not parts.states or fc.shape != (width, len(parts.states) * embedding.shape[1]):
        raise ValueError("its fc does not fit the states that it reads")
    if (len(embedding) != len(output)) if parts.ids is None else int(parts.ids[-1]) >= len(embedding):
        raise ValueError("it does not say which ids its output rows are of")
    layers = 1 + max(int(name.split(".")[1]) for name in parts.own if name.startswith("layers."))
    return Form(layers, parts.even, parts.hands_on, "layers.0.self_attn.q_norm" in parts.own)


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Raises ValueError for numbers of layers that cannot be a Llama's."""
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    for name in (*names, "max_position_embeddings"):
        found = config.get(name)
        optional = name in ("num_key_value_heads", "head_dim", "max_position_embeddings")
        if not (found is None and optional) and not (type(found) is int and 0 < found <= _LARGEST):
            raise ValueError(f"{name} is {str(found)[:40]!r}")
    heads, cached = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
    if heads % cached or (config.get("head_dim") is None and config["hidden_size"] % heads):
        raise ValueError(f"{heads} heads do not fit its other sizes")
    eps, rope = config.get("rms_norm_eps", 1e-6), config.get("rope_parameters")
    if not isinstance(eps, float) or not 0.0 < eps < 1.0:
        raise ValueError(f"rms_norm_eps is {str(eps)[:40]!r}")
    if rope is not None and not isinstance(rope, dict):
        raise ValueError("its rope_parameters are no object")


def torch_head(folder: Path, target: Path, device: str, dtype: str) -> tuple[Any, Reads, Int32 | None]:
    """(a transformers model of a head, what goes into it, the ids of its output rows).

    Raises ModelError for a damaged head or another target, MissingDependencyError.
    """
    files.require_packages(("torch", "transformers"))
    import torch

    from hierdraft.engines.hf.head import head_model

    parts, embedding, output = whole_head(folder, target)
    with _damaged(folder):
        form = _form(parts, embedding, output)
        own = {name: one for name, one in parts.own.items() if not is_fusing(name)}
        model = head_model(parts.config, own, embedding, output, form, getattr(torch, dtype)).to(device)
        reads = reads_from(parts, float(parts.config.get("rms_norm_eps", 1e-6)), len(embedding))
    return model, reads, parts.ids


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Within it, what does not fit is a damaged head: ModelError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        said = f"it has no {error.args[0]}" if isinstance(error, KeyError) else short(error)
        raise ModelError(f"The head in {folder} is damaged ({said}): restore or train it again.") from error


def _speeds(config: Mapping[str, object]) -> Float32:
    """How far rotary embeddings turn with each token, as transformers has it."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    names = ("hidden_size", "num_attention_heads", "head_dim", "rope_parameters", "max_position_embeddings")
    found = LlamaRotaryEmbedding(LlamaConfig(**{name: config[name] for name in names if config.get(name) is not None}))
    if found.attention_scaling != 1.0:
        raise ValueError("its rotary embeddings scale attention, which is not known here")
    return np.asarray(found.inv_freq.numpy(), dtype=np.float32)


def whole_head(folder: Path, target: Path) -> tuple[HeadParts, Float32, Float32]:
    """A head, embeddings float32[V, H] and output rows float32[K, H]: the target's, where it has none of its own.

    Raises ModelError.
    """
    with _damaged(folder):
        return _ours(folder, target) if is_drafter(folder) else _theirs(folder, target)


def _ours(folder: Path, target: Path) -> tuple[HeadParts, Float32, Float32]:
    config, shared = read_config(folder)
    head = read_head(folder)
    own, kept = read_own(folder)
    table = drafters.tensor_of(target, shared.input)
    rows = table if shared.output == shared.input else drafters.tensor_of(target, shared.output)
    if head is None or table is None or rows is None or drafters.digest(table, rows) != shared.sha256:
        raise ModelError(
            f"The head in {folder} shares the embeddings of {shared.target}, which are not those in {target}: train it "
            "for this model."
        )
    if kept is not None and int(kept[-1]) >= len(rows):
        raise ModelError(f"The head in {folder} is damaged (its sizes are not its target's): train it again.")
    output = rows.float().numpy()
    named = {name.removesuffix(".weight"): one for name, one in own.items()}
    embedding = table.float().numpy()
    _check_masks(folder, head, named, embedding.shape[1])
    if MASKS in named:  # as further rows of the table, of ids that the target does not have
        kept = np.arange(len(output), dtype=np.int32) if kept is None else kept
        embedding = np.concatenate([embedding, named[MASKS]])
    parts = HeadParts(config, head.states, named, kept, kind=head.kind, offsets=head.offsets)
    return parts, embedding, output if kept is None else output[kept]


def _check_masks(folder: Path, head: Head, named: Mapping[str, Float32], width: int) -> None:
    """Raises ModelError unless a head has the masks that it needs, and no others."""
    needs = AMONG.get(head.kind, "none") != "none"
    shapes = [named[name].shape if name in named else None for name in (MASKS, BESIDE)]
    if shapes != [(head.offsets - 1, width) if needs else None] * 2:
        raise ModelError(f"The head in {folder} is damaged (its masks do not fit): restore or train it again.")


def _theirs(folder: Path, target: Path) -> tuple[HeadParts, Float32, Float32]:
    parts, embedding, output = read_published(folder)
    if embedding is None:
        found = [table for name in _TABLES if (table := drafters.tensor_of(target, name)) is not None]
        if not found:
            raise ModelError(f"The head in {folder} has no embeddings, and none are found in {target}.")
        embedding = found[0].float().numpy()
    depth = files.read_json(target / "config.json").get("num_hidden_layers")
    usual = (2, depth // 2, depth - 3) if isinstance(depth, int) else ()
    return replace(parts, states=parts.states or usual), embedding, output
