"""Heads as others publish and train them: speculators folders, and EAGLE-3 heads of SpecForge.

Both hold one directory with config.json and safetensors: `fc.weight`, `layers.0.*` (in SpecForge `midlayer.*`),
`norm.weight`, output rows of their own (`lm_head.weight`), for which ids of the target these are (`d2t`: what is added
to a row's number), and maybe embeddings, which else are the target's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import files
from hierdraft.models.drafters import tensors_of
from hierdraft.tree import Int32

CONFIG = "config.json"

Float32 = NDArray[np.float32]

_ROPES = ("default", "llama3", "linear")
_LAYERS = ("llama", "qwen3")


@dataclass(frozen=True)
class HeadParts:
    """All of a head.

    config     the numbers of its layers, as a Llama's
    states     the layers of its target whose hidden states it reads; empty: those that are usual
    own        its weights: `fc`, `layers.N.*`, `norm`, and norms of what it reads, without `.weight`
    ids        int32[K], rising: the target's ids that its output rows are of; None: all, in order
    even       whether its first layer adds to the normalised feature (`norm_before_residual`)
    hands_on   whether what it hands on to its next step is normalised (`norm_output`)
    kind       see `drafter_files.Head`; `offsets` likewise
    """

    config: Mapping[str, Any]
    states: tuple[int, ...]
    own: Mapping[str, Float32]
    ids: Int32 | None
    even: bool = False
    hands_on: bool = False
    kind: str = "eagle3"
    offsets: int = 1


def is_published(folder: Path) -> bool:
    """Whether a folder holds a head of one of these formats, of whatever kind."""
    try:
        config = files.read_json(folder / CONFIG)
    except ModelError:
        return False
    names = config.get("architectures")
    specforge = isinstance(names, list) and any("Eagle3" in str(name) for name in names)
    return "speculators_model_type" in config or specforge


def said_target(folder: Path) -> str:
    """The model that a head says it is for; empty: it does not say. Raises ModelError."""
    verifier = _under(files.read_json(folder / CONFIG), "speculators_config", "verifier")
    return str(verifier.get("name_or_path") or "")


def read_published(folder: Path) -> tuple[HeadParts, Float32 | None, Float32]:
    """A head, its embeddings float32[V, H], where it has some, and its output rows float32[K, H].

    Raises ModelError for a damaged one, UnsupportedModelError for another kind than EAGLE-3.
    """
    config = files.read_json(folder / CONFIG)
    kind = config.get("speculators_model_type", "eagle3")
    if kind != "eagle3":
        raise UnsupportedModelError(f"The drafter in {folder} is of the kind {kind!r}; of these, eagle3 is known here.")
    layers = _under(config, "transformer_layer_config") or config
    if (of := layers.get("model_type", "llama")) not in _LAYERS:
        raise UnsupportedModelError(f"The layers of the head in {folder} are {of}'s, not Llama's or Qwen3's.")
    tensors = {_name(name): one for name, one in tensors_of(folder).items()}
    found = {name: _numbers(one) for name, one in tensors.items() if name not in ("d2t", "t2d")}
    others = ("embed_tokens", "lm_head", "verifier_lm_head", "verifier_norm")
    own = {name: one for name, one in found.items() if name not in others}
    if not {"fc", "norm", "layers.0.hidden_norm", "lm_head"} <= set(found):
        raise ModelError(f"The head in {folder} is damaged: it lacks weights of an EAGLE-3 head.")
    if any(name.endswith("bias") for name in own):
        raise UnsupportedModelError(f"The head in {folder} has biases, which are not known here.")
    embedding, output = found.get("embed_tokens"), found["lm_head"]
    parts = HeadParts(
        _plain(layers), _states(config), _wanted(config, own), _ids(folder, tensors, output),
        bool(config.get("norm_before_residual")), bool(config.get("norm_output")),
    )  # fmt: skip
    return parts, None if embedding is None or np.isnan(embedding[:1]).any() else embedding, output


def _name(name: str) -> str:
    """A weight's name here."""
    return name.removeprefix("model.").replace("midlayer.", "layers.0.").removesuffix(".weight")


def _wanted(config: Mapping[str, Any], own: Mapping[str, Float32]) -> dict[str, Float32]:
    """The weights, without the norms before `fc` that the configuration does not ask for. Raises ModelError."""
    unused = {
        *(name for name in own if name.startswith("fc_norm.") and not config.get("fc_norm")),
        *(name for name in own if name == "input_norm" and not config.get("norm_before_fc")),
    }  # fmt: skip
    if (config.get("fc_norm") and "fc_norm.0" not in own) or (config.get("norm_before_fc") and "input_norm" not in own):
        raise ModelError("The head is damaged: it lacks the norms before its fc.")
    return {name: one for name, one in own.items() if name not in unused}


def _numbers(tensor: Any) -> Float32:
    found: Float32 = tensor.float().numpy()
    return found


def _under(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What stands under a name below others; empty where it is missing."""
    found: Any = config
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _states(config: Mapping[str, Any]) -> tuple[int, ...]:
    given = config.get("eagle_aux_hidden_state_layer_ids")
    given = _under(config, "eagle_config").get("eagle_aux_hidden_state_layer_ids") if given is None else given
    return tuple(int(one) for one in given) if isinstance(given, list) else ()


def _ids(folder: Path, tensors: Mapping[str, Any], output: Float32) -> Int32 | None:
    """The target's ids of the output rows. Raises ModelError."""
    if "d2t" not in tensors:
        return None
    found: Int32 = (np.arange(len(output)) + tensors["d2t"].numpy().astype(np.int64)).astype(np.int32)
    if len(found) != len(output) or (np.diff(found) <= 0).any() or found[0] < 0:
        raise ModelError(f"The head in {folder} is damaged (d2t does not name rising ids).")
    return found


def _plain(layers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of its layers. Raises UnsupportedModelError for rotary embeddings that are not known."""
    rope = {**(_under(layers, "rope_scaling")), **(_under(layers, "rope_parameters"))}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPES:
        raise UnsupportedModelError(f"The head has rotary embeddings of the kind {kind!r}, which are not known here.")
    theta = float(rope.get("rope_theta") or layers.get("rope_theta") or 10_000.0)
    return {**layers, "rope_parameters": {**rope, "rope_type": kind, "rope_theta": theta}}
