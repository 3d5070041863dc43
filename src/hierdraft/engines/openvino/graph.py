"""A transformers model as one OpenVINO graph that keeps its own keys and values, for plain decoding and for trees.

The model is traced with a cache whose keys and values are inputs and outputs; OpenVINO then turns each pair into a
variable of the graph, which its CPU kernels append to in place and read without copies. Ids, positions, additive masks
and the rows whose logits are wanted stay inputs, so a tree is verified in the same graph as a single token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS, SLIDING_MASK
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.engines.openvino.stateful import with_variables
from hierdraft.errors import UnsupportedModelError

CACHED = 5
"""Cached positions in the example that a model is traced with."""


def convert(model: Any, windows: Sequence[int | None]) -> Any:
    """An `openvino.Model` of a transformers causal model in float32.

    windows   each layer's attention window, None for full attention

    Its variables are called `key.LAYER` and `value.LAYER`, then the name of the output that replaces them.
    Raises UnsupportedModelError.
    """
    name = model.__class__.__name__
    if model.config._attn_implementation != "sdpa":
        raise UnsupportedModelError(
            f"{name} has an attention that OpenVINO's cached kernel cannot do ({model.config._attn_implementation})."
        )
    masks = [MASK, SLIDING_MASK] if None in windows and any(windows) else [MASK]
    inputs = {IDS: [1, -1], POSITIONS: [1, -1], ROWS: [-1], **{mask: [1, 1, -1, -1] for mask in masks}}
    rows = 3
    example = (
        torch.zeros(1, rows, dtype=torch.long),
        torch.arange(CACHED, CACHED + rows)[None],
        torch.arange(rows),
        *(torch.zeros(1, 1, rows, CACHED + rows) for _ in masks),
    )
    try:
        return with_cache(_Traced(model, len(masks)), inputs, example, cache_shapes(model), BEAM)
    except Exception as error:  # the converter's own failures have no common base
        raise UnsupportedModelError(f"{name} cannot be converted for OpenVINO ({reason_of(error)}).") from error


def reason_of(error: Exception) -> str:
    """An error in a few words."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0].strip()[:120].rstrip('.:')}"


def with_cache(
    module: torch.nn.Module, inputs: Mapping[str, Sequence[int]], example: Sequence[torch.Tensor],
    shapes: Sequence[tuple[int, int]], beam: str,
) -> Any:  # fmt: skip
    """The graph of a function of its inputs, then of keys and values of every layer in turn, which become variables.

    module    returns logits, then keys and values with the new ones after them (`as_cache`, `parts`)
    inputs    their names and shapes, -1 for what varies
    example   one tensor for each, after `CACHED` cached positions
    shapes    of the cache, as `cache_shapes` finds them
    beam      name of the input that the attention kernel expects for beams
    """
    past = [torch.zeros(1, heads, CACHED, dim) for heads, dim in shapes]
    with torch.no_grad():
        graph = openvino.convert_model(module, example_input=(*example, *past))
    return with_variables(graph, inputs, shapes, beam)


def as_cache(past: Sequence[torch.Tensor]) -> Cache:
    """What a model is given for keys and values [1, heads, S, dim] of every layer in turn."""
    return Cache(layers=[_TracedLayer(*past[i : i + 2]) for i in range(0, len(past), 2)])


def parts(cache: Cache) -> tuple[torch.Tensor, ...]:
    """Keys and values of every layer in turn."""
    return tuple(part for layer in cache.layers for part in (layer.keys, layer.values))


class _TracedLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values that are handed in, and out again with the new ones after them."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """There is nothing to do."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """All of them, [1, heads, S + T, dim]."""
        self.keys = torch.cat([self.keys, key_states], dim=2)
        self.values = torch.cat([self.values, value_states], dim=2)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(positions attended to, offset of the first)."""
        return self.keys.shape[2] + query_length, 0

    def get_seq_length(self) -> int:
        """Positions kept."""
        return int(self.keys.shape[2])

    def get_max_length(self) -> int:
        """No bound."""
        return -1


class _Traced(torch.nn.Module):
    """The model as a function of tensors only."""

    def __init__(self, model: Any, masks: int) -> None:
        super().__init__()
        self._model = model
        self._masks = masks

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, *others: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Logits [R, V], then keys and values of every layer; `others`: the masks, then keys and values."""
        masks, cache = others[: self._masks], as_cache(others[self._masks :])
        mask = masks[0] if len(masks) == 1 else {"full_attention": masks[0], "sliding_attention": masks[1]}
        head = self._model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, given: _of_rows(given[0], rows))
        try:
            logits = self._model(
                input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
            ).logits
        finally:
            hook.remove()
        return (logits[0], *parts(cache))


def _of_rows(hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """[1, R, D] of [B, T, D], where B or T is 1: paged attention has its rows in the first of them."""
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, rows)[None]


def cache_shapes(model: Any) -> list[tuple[int, int]]:
    """(heads, dim) of every layer's keys and values, in turn."""
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 2, dtype=torch.long), past_key_values=cache, use_cache=True)
    return [(part.shape[1], part.shape[3]) for part in parts(cache)]
