"""What a drafter takes from its target: embeddings, output rows, sizes, and layers to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models.drafter_files import Shared
from hierdraft.models.drafters import digest, names_of, tensor_of

_ROPES = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embeddings whose numbers mean the same in a Llama."""


@dataclass(frozen=True)
class Target:
    """A target, of which only what is asked for is read.

    name, path   as it was asked for, and its transformers folder
    embedding    float32[V, H], and `output` likewise: the same tensor where the model shares them
    config       the sizes of a Llama as wide as it
    depth        how many layers it has
    layers       for each of its layers the shapes of its weights, by their names within it; empty where they have
                 not the form of Llama's
    """

    name: str
    path: Path
    embedding: Tensor
    output: Tensor
    config: dict[str, Any]
    depth: int
    layers: list[dict[str, torch.Size]]
    shared: Shared

    def layer(self, number: int) -> dict[str, Tensor]:
        """The weights of one of its layers, float32, by their names within it. Raises ModelError."""
        found = {name: tensor_of(self.path, f"model.layers.{number}.{name}") for name in self.layers[number]}
        for name, one in found.items():
            if one is None:
                raise ModelError(f"The weight files of {self.path} have no {name} of layer {number}: --init random.")
        return {name: one.float() for name, one in found.items() if one is not None}


def read_target(name: str, path: Path) -> Target:
    """The model in a transformers folder. Raises ModelError, and UnsupportedModelError where nothing can be shared."""
    model = _outline(path)
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    table, rows = getattr(inputs, "weight", None), getattr(head, "weight", None)
    if table is None or rows is None or table.shape != rows.shape:
        raise UnsupportedModelError(f"{type(model).__name__} has no output rows as wide as its embeddings to share.")
    names = {id(one): known for known, one in model.named_parameters()}
    first = _found(path, names[id(table)], model, "")
    second = first if rows is table else _found(path, names[id(rows)], model, first[0])
    embedding = first[1]
    output = embedding if second[0] == first[0] else second[1]
    text_config = model.config.get_text_config(decoder=True)
    config = llama_config(text_config, len(embedding))
    where = str(path) if Path(name).expanduser().is_dir() else name
    shared = Shared(where, first[0], second[0], digest(embedding, output))
    depth = int(text_config.num_hidden_layers)
    return Target(name, path, embedding, output, config, depth, _shapes(model), shared)


def _outline(path: Path) -> Any:
    """The model of a folder without its weights. Runs no code from it. Raises ModelError."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The model in {path} cannot be loaded: {reason.rstrip('.')}.") from error


def _found(path: Path, name: str, model: Any, other: str) -> tuple[str, Tensor]:
    """A table of a model, float32, and its name in the files.

    That may leave out the name of the model's body, or be an earlier one: then it is the only table of its size, but
    for `other`. Raises UnsupportedModelError.
    """
    names = [name, name.removeprefix(f"{model.base_model_prefix}.")]
    alike = names_of(path, tuple(model.get_parameter(name).shape))
    names += [one for one in alike if one != other] if len(set(alike) - {other}) == 1 else []
    for one in names:
        found = tensor_of(path, one)
        if found is not None:
            return one, found.float()
    raise UnsupportedModelError(f"The weight files of {path} do not hold the embeddings of its model as they are.")


def llama_config(text_config: Any, vocab_size: int) -> dict[str, Any]:
    """The configuration of a Llama as wide as a model, but for its number of layers, ready for config.json."""
    width, heads = int(text_config.hidden_size), int(text_config.num_attention_heads)
    found = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab_size, "hidden_size": width,
        "intermediate_size": int(getattr(text_config, "intermediate_size", None) or 4 * width),
        "num_attention_heads": heads,
        "num_key_value_heads": int(getattr(text_config, "num_key_value_heads", None) or heads),
        "head_dim": int(getattr(text_config, "head_dim", None) or width // heads),
        "rms_norm_eps": float(getattr(text_config, "rms_norm_eps", None) or 1e-6),
        "max_position_embeddings": int(getattr(text_config, "max_position_embeddings", None) or 1 << 15),
        "rope_parameters": _rope(getattr(text_config, "rope_parameters", None) or {}),
        "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "dtype": "float32",
        "initializer_range": float(getattr(text_config, "initializer_range", None) or 0.02),
    }  # fmt: skip
    ids = {name: getattr(text_config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {**found, **ids}


def _rope(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a model, or of its layers with full attention; without what changes with a text's length."""
    rope = given.get("full_attention", given)
    kind = rope.get("rope_type", "default")
    if kind in _ROPES and rope.get("partial_rotary_factor", 1.0) == 1.0:
        return {"rope_type": kind, "rope_theta": 10000.0, **rope}
    return {"rope_type": "default", "rope_theta": float(rope.get("rope_theta") or 10000.0)}


def _shapes(model: Any) -> list[dict[str, torch.Size]]:
    """Of the weights of each of a model's layers, where it has layers under the name of Llama's."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        return []
    return [{name: one.shape for name, one in layer.state_dict().items()} for layer in layers]
