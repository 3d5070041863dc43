"""A head of ours in the formats that others read: a speculators folder (vLLM, SGLang), or SpecForge's EAGLE-3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from hierdraft.errors import UsageError
from hierdraft.models import files
from hierdraft.models.drafter_files import CONFIG, WEIGHTS, is_drafter
from hierdraft.models.heads import find_head, whole_head
from hierdraft.models.published import HeadParts

FORMATS = ("speculators", "specforge")

_DRAFTS = 5
"""Tokens of a draft that the folder recommends."""

Float32 = NDArray[np.float32]


def publish(source: str, form: str, out: Path, cache_dir: Path) -> Path:
    """Write a trained head, with the embeddings and output rows of its target, into a new folder; returns it.

    source   what `--draft` can be
    form     one of FORMATS

    Raises UsageError for what is no head of ours and a folder that is there; ModelError, CacheError.
    """
    head = find_head(source, cache_dir)
    if head is None or not is_drafter(head.folder):
        raise UsageError(f"{source} is no head that was trained here: only those are written as {form}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name a folder that is not.")
    if form == "specforge" and int(files.read_json(head.folder / CONFIG)["num_hidden_layers"]) > 1:
        raise UsageError("SpecForge's EAGLE-3 heads have one layer, and this one has more: --format speculators.")
    parts, embedding, output = whole_head(head.folder, head.target)
    if parts.offsets > 1 or head.exits:
        raise UsageError(f"There is no format for heads of the kind {parts.kind} among {' and '.join(FORMATS)}.")
    config = files.read_json(head.target / CONFIG)
    verifier = {"name_or_path": str(head.target), "architectures": config.get("architectures") or []}
    layers = {**parts.config, "vocab_size": len(embedding), "tie_word_embeddings": False}
    if form == "speculators":
        about, tensors = _speculators(parts, layers, verifier, len(output)), _named(parts, "layers.0.")
        tensors["embed_tokens.weight"] = embedding
    else:
        about, tensors = _specforge(parts, layers, len(output)), _named(parts, "midlayer.")
    tensors["lm_head.weight"] = output
    if parts.ids is not None:
        tensors |= _mapped(parts.ids, len(embedding))
    _write(out, about, tensors)
    return out


def _named(parts: HeadParts, first: str) -> dict[str, NDArray[Any]]:
    """The head's own weights; `first`: what the names of its layer begin with."""
    return {f"{name.replace('layers.0.', first)}.weight": one for name, one in parts.own.items()}


def _mapped(ids: NDArray[np.int32], vocab_size: int) -> dict[str, NDArray[Any]]:
    """Which of the target's ids the output rows are of, both ways."""
    known = np.zeros(vocab_size, dtype=np.bool_)
    known[ids] = True
    return {"d2t": ids.astype(np.int64) - np.arange(len(ids)), "t2d": known}


def _speculators(parts: HeadParts, layers: Mapping[str, Any], verifier: Mapping[str, Any], rows: int) -> dict[str, Any]:
    proposal = {
        "proposal_type": "greedy", "speculative_tokens": _DRAFTS, "verifier_accept_k": 1, "accept_tolerance": 0.0
    }  # fmt: skip
    return {
        "architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3", "draft_vocab_size": rows,
        "eagle_aux_hidden_state_layer_ids": list(parts.states), "norm_before_residual": False, "norm_before_fc": False,
        "fc_norm": False, "norm_output": False, "transformer_layer_config": dict(layers), "torch_dtype": "float32",
        "tie_word_embeddings": False,
        "speculators_config": {
            "algorithm": "eagle3", "proposal_methods": [proposal], "default_proposal_method": "greedy",
            "verifier": dict(verifier),
        },
    }  # fmt: skip


def _specforge(parts: HeadParts, layers: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {
        **layers, "architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": rows,
        "eagle_config": {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": list(parts.states)},
    }  # fmt: skip


def _write(out: Path, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """The folder, complete or not at all."""
    with files.new_folder(out, sum(one.nbytes for one in tensors.values())) as folder:
        held = {name: np.ascontiguousarray(one) for name, one in tensors.items()}
        (folder / WEIGHTS).write_bytes(save(held, metadata={"format": "pt"}))
        (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
