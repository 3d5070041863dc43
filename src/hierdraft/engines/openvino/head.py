"""An EAGLE-3-like head as an OpenVINO graph: see `training/eagle.py` for what it computes.

Beside the ids that a Llama's graph takes it has a feature for each of them, and it shows what comes out of its layer:
the features of what is drafted next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.headforms import Form
from hierdraft.engines.openvino.files import BEAM, FACTS, FEATURES, IDS, MASK, POSITIONS, ROWS, Facts, graph_file
from hierdraft.engines.openvino.llama import Sizes, attention, gated, ints, normal, number, turns
from hierdraft.engines.openvino.runtime import openvino, ops
from hierdraft.engines.openvino.stateful import with_variables

Float32 = NDArray[np.float32]

_JOINED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "o_proj": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down_proj": ("mlp.down_proj",),
}  # fmt: skip


class HeadWeights:
    """`llama.Weights` of a head."""

    def __init__(
        self, own: Mapping[str, Float32], embedding: Float32, output: Float32, *, whole: bool = False
    ) -> None:  # fmt: skip
        """
        own        as the formats in use name them: `layers.0.self_attn.q_proj` and so on
        embedding  float32[V, H]; output float32[K, H]
        whole      matrices in full precision, like vectors, and not in eight bits with a scale for every row
        """
        self._whole = whole
        self._own = {**own, "embed_tokens": embedding, "lm_head": output}

    def matrix(self, name: str, rows: int, columns: int) -> Any:
        """See `llama.Weights`. Raises KeyError for a name and ValueError for sizes that it does not have."""
        layer, _, kind = name.rpartition(".")
        parts = [self._own[f"{layer}.{one}" if layer else one] for one in _JOINED.get(kind, (kind,))]
        values = np.concatenate(parts)
        if values.shape != (rows, columns):
            raise ValueError(f"{name} has {values.shape[0]} x {values.shape[1]} weights and not {rows} x {columns}")
        if self._whole:
            return ops.constant(values)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True) / 127, 1e-7).astype(np.float16)
        numbers = np.clip(np.rint(values / scales.astype(np.float32)), -127, 127) + 128
        points = np.full((rows, 1), 128, dtype=np.uint8)
        whole, zero = (ops.convert(ops.constant(one.astype(np.uint8)), "f16") for one in (numbers, points))
        return ops.convert(ops.multiply(ops.subtract(whole, zero), ops.constant(scales)), "f32")

    def vector(self, name: str, size: int) -> Any:
        """See `llama.Weights`."""
        return ops.constant(self._own[name].astype(np.float32).reshape(1, 1, size))


def head_graph(sizes: Sizes, weights: HeadWeights, rows: int, form: Form) -> Any:
    """An `openvino.Model` like those of `llama_graph`, with a further input and a further output.

    rows   output rows that it has

    Its results are the logits float32[R, rows] and what it hands on, float32[T, H].
    """
    sizes.even_heads = form.even_heads
    ids, positions = (ops.parameter([1, -1], openvino.Type.i64) for _ in range(2))
    wanted, mask = ops.parameter([-1], openvino.Type.i64), ops.parameter([1, 1, -1, -1], openvino.Type.f32)
    features = ops.parameter([-1, -1, sizes.hidden], openvino.Type.f32)
    shapes = [(sizes.cached_heads, sizes.dim)] * 2 * form.layers
    past = [ops.parameter([1, heads, -1, dim], openvino.Type.f32) for heads, dim in shapes]
    table = weights.matrix("embed_tokens", sizes.vocab, sizes.hidden)
    embedded = ops.gather(table, ops.convert(ids, "i32"), number(0, np.int32))
    even = normal(sizes, weights, "layers.0.hidden_norm", features)
    given = ops.concat([normal(sizes, weights, "layers.0.input_layernorm", embedded), even], -1)
    states, turned, kept = even if form.even else features, turns(sizes, positions), list[Any]()
    for layer in range(form.layers):
        if layer:
            given = normal(sizes, weights, f"layers.{layer}.input_layernorm", states)
        attended, new = attention(sizes, weights, layer, given, turned, mask, past[2 * layer : 2 * layer + 2])
        states, kept = ops.add(states, attended), kept + new
        states = ops.add(states, gated(sizes, weights, layer, states))
    if form.hands_on:
        states = normal(sizes, weights, "norm", states)
    flat = ops.reshape(states, ints(-1, sizes.hidden), special_zero=False)
    final = ops.gather(ops.unsqueeze(flat, number(0)), wanted, number(1))
    final = final if form.hands_on else normal(sizes, weights, "norm", final)
    logits = ops.matmul(final, weights.matrix("lm_head", rows, sizes.hidden), False, True)
    graph = openvino.Model([ops.squeeze(logits, number(0)), *kept], [ids, positions, wanted, mask, features, *past])
    inputs = {IDS: [1, -1], POSITIONS: [1, -1], ROWS: [-1], MASK: [1, 1, -1, -1], FEATURES: [-1, -1, sizes.hidden]}
    graph = with_variables(graph, inputs, shapes, BEAM)
    graph.add_results([ops.result(flat)])
    return graph


def write_head(folder: Path, sizes: Sizes, weights: HeadWeights, rows: int, positions: int, form: Form) -> None:
    """Write graph and facts of a head into `folder`, for an engine.

    rows       output rows that it has
    positions  that it knows

    Raises KeyError or ValueError for weights that are missing or of other sizes, RuntimeError where it cannot be
    written.
    """
    graph = head_graph(sizes, weights, rows, form)
    openvino.save_model(graph, graph_file(folder), compress_to_fp16=False)
    facts = Facts("Eagle3", sizes.vocab, positions, False, (), (None,) * form.layers, features=sizes.hidden)
    (folder / FACTS).write_text(json.dumps({**asdict(facts), "bytes": {}}), encoding="utf-8")
