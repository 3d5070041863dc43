"""A Llama as an OpenVINO graph, made node by node: what the conversion of a transformers model comes to, without one.

Weights come from whoever asks for the graph, one matrix at a time, so that a model can be made that would not fit into
the memory in full precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS
from hierdraft.engines.openvino.runtime import openvino, ops
from hierdraft.engines.openvino.stateful import with_variables

_LAST, _HEADS = -1, 1
"""Axes."""


class Weights(Protocol):
    """Where the weights come from, by their names in a transformers model (`q_proj`, `k_proj`, `v_proj` as `qkv`)."""

    def matrix(self, name: str, rows: int, columns: int) -> Any:
        """A node of the graph with float32[rows, columns]."""
        ...

    def vector(self, name: str, size: int) -> Any:
        """A node of the graph with float32[1, 1, size]."""
        ...


class Sizes:
    """The numbers of a configuration that a graph needs, by their names in transformers' `LlamaConfig`.

    speeds       float32[dim / 2]: how far rotary embeddings turn with each token
    even_heads   whether queries and keys are normalised, head by head
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Raises KeyError for one without the sizes that have no usual value."""
        self.hidden, self.inner = int(given["hidden_size"]), int(given["intermediate_size"])
        self.layers, self.vocab = int(given["num_hidden_layers"]), int(given["vocab_size"])
        self.heads = int(given["num_attention_heads"])
        self.cached_heads = int(given.get("num_key_value_heads") or self.heads)
        self.dim = int(given.get("head_dim") or self.hidden // self.heads)
        self.tied = bool(given.get("tie_word_embeddings", False))
        self.theta, self.eps = float(given.get("rope_theta", 10_000.0)), float(given.get("rms_norm_eps", 1e-6))
        self.speeds = (self.theta ** -(np.arange(0, self.dim, 2) / self.dim)).astype(np.float32)
        self.even_heads = False

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the matrices of one layer."""
        own = self.heads * self.dim
        return {
            "qkv": (own + 2 * self.cached_heads * self.dim, self.hidden), "o_proj": (self.hidden, own),
            "gate_up": (2 * self.inner, self.hidden), "down_proj": (self.hidden, self.inner),
        }  # fmt: skip


def llama_graph(sizes: Sizes, weights: Weights) -> Any:
    """An `openvino.Model` as `graph.convert` makes them: the same inputs, outputs and variables, products joined."""
    ids, positions = (ops.parameter([1, -1], openvino.Type.i64) for _ in range(2))
    rows, mask = ops.parameter([-1], openvino.Type.i64), ops.parameter([1, 1, -1, -1], openvino.Type.f32)
    shapes = [(sizes.cached_heads, sizes.dim)] * 2 * sizes.layers
    past = [ops.parameter([1, heads, -1, dim], openvino.Type.f32) for heads, dim in shapes]
    embedding = weights.matrix("embed_tokens", sizes.vocab, sizes.hidden)
    hidden = ops.gather(embedding, ops.convert(ids, "i32"), number(0, np.int32))
    turned = turns(sizes, positions)
    kept: list[Any] = []
    for layer in range(sizes.layers):
        even = normal(sizes, weights, f"layers.{layer}.input_layernorm", hidden)
        attended, new = attention(sizes, weights, layer, even, turned, mask, past[2 * layer : 2 * layer + 2])
        hidden = ops.add(hidden, attended)
        hidden = ops.add(hidden, gated(sizes, weights, layer, hidden))
        kept += new
    hidden = normal(sizes, weights, "norm", hidden)
    flat = ops.reshape(hidden, ints(-1, sizes.hidden), special_zero=False)
    wanted = ops.unsqueeze(ops.gather(flat, rows, number(0)), number(0))
    head = embedding if sizes.tied else weights.matrix("lm_head", sizes.vocab, sizes.hidden)
    logits = ops.squeeze(ops.matmul(wanted, head, False, True), number(0))
    graph = openvino.Model([logits, *kept], [ids, positions, rows, mask, *past])
    inputs = {IDS: [1, -1], POSITIONS: [1, -1], ROWS: [-1], MASK: [1, 1, -1, -1]}
    return with_variables(graph, inputs, shapes, BEAM)


def ints(*values: int) -> Any:
    return ops.constant(np.array(values, dtype=np.int64))


def number(value: float, kind: Any = np.int64) -> Any:
    return ops.constant(kind(value))


def normal(sizes: Sizes, weights: Weights, name: str, hidden: Any, width: int = 0) -> Any:
    """RMS normalisation, in the nodes that OpenVINO makes one kernel of; `width` 0: of hidden states."""
    one, two, eps = (ops.constant(np.full((1, 1, 1), value, np.float32)) for value in (1.0, 2.0, sizes.eps))
    mean = ops.reduce_mean(ops.power(hidden, two), ints(_LAST), keep_dims=True)
    scaled = ops.multiply(hidden, ops.divide(one, ops.sqrt(ops.add(mean, eps))))
    return ops.multiply(weights.vector(name, width or sizes.hidden), scaled)


def turns(sizes: Sizes, positions: Any) -> tuple[Any, Any]:
    """Cosines and sines of the rotary embedding, float32[1, 1, T, dim]."""
    where = ops.convert(ops.unsqueeze(positions, number(2)), "f32")
    half = ops.multiply(where, ops.constant(sizes.speeds.astype(np.float32)[None, None]))
    angles = ops.concat([half, half], _LAST)
    return ops.unsqueeze(ops.cos(angles), number(_HEADS)), ops.unsqueeze(ops.sin(angles), number(_HEADS))


def _turned(sizes: Sizes, states: Any, turns: tuple[Any, Any]) -> Any:
    """Rotary embedding of float32[1, heads, T, dim]."""
    half, end, step, axis = (ints(value) for value in (sizes.dim // 2, np.iinfo(np.int64).max, 1, 3))
    upper = ops.multiply(ops.slice(states, half, end, step, axis), number(-1.0, np.float32))
    lower = ops.slice(states, ints(0), half, step, axis)
    cosines, sines = turns
    return ops.add(ops.multiply(states, cosines), ops.multiply(ops.concat([upper, lower], _LAST), sines))


def attention(
    sizes: Sizes, weights: Weights, layer: int, given: Any, turns: tuple[Any, Any], mask: Any, past: list[Any]
) -> tuple[Any, list[Any]]:
    """What attention over `given`, float32[.., T, width], adds, and the layer's keys and values with the new ones
    behind them.
    """
    shapes = sizes.matrices()
    name = f"layers.{layer}"
    width = given.get_output_partial_shape(0)[_LAST].get_length()
    joined = ops.matmul(given, weights.matrix(f"{name}.qkv", shapes["qkv"][0], width), False, True)
    counts = (sizes.heads, sizes.cached_heads, sizes.cached_heads)
    split = ops.variadic_split(joined, number(_LAST), ints(*(count * sizes.dim for count in counts)))
    heads = [
        ops.reshape(split.output(at), ints(0, 0, count, sizes.dim), special_zero=True)
        for at, count in enumerate(counts)
    ]
    for at, kind in enumerate(("q_norm", "k_norm") if sizes.even_heads else ()):
        heads[at] = normal(sizes, weights, f"{name}.self_attn.{kind}", heads[at], sizes.dim)
    query, key, value = (ops.transpose(one, ints(0, 2, 1, 3)) for one in heads)
    new = [ops.concat([past[0], _turned(sizes, key, turns)], 2), ops.concat([past[1], value], 2)]
    scale = number(sizes.dim**-0.5, np.float32)
    keys, values = (_repeated(sizes, states) for states in new)
    found = ops.scaled_dot_product_attention(_turned(sizes, query, turns), keys, values, mask, scale, causal=False)
    flat = ops.reshape(ops.transpose(found, ints(0, 2, 1, 3)), ints(0, 0, sizes.heads * sizes.dim), special_zero=True)
    return ops.matmul(flat, weights.matrix(f"{name}.o_proj", *shapes["o_proj"]), False, True), new


def _repeated(sizes: Sizes, states: Any) -> Any:
    """Keys or values once for every head that reads them."""
    times = sizes.heads // sizes.cached_heads
    if times == 1:
        return states
    length = ops.gather(ops.shape_of(states), ints(2), number(0))
    shape = ops.concat([ints(1, sizes.cached_heads, times), length, ints(sizes.dim)], 0)
    each = ops.broadcast(ops.unsqueeze(states, number(2)), shape)
    return ops.reshape(each, ints(0, sizes.heads, -1, sizes.dim), special_zero=True)


def gated(sizes: Sizes, weights: Weights, layer: int, hidden: Any) -> Any:
    """What the gated layer adds."""
    name, shapes = f"layers.{layer}", sizes.matrices()
    even = normal(sizes, weights, f"{name}.post_attention_layernorm", hidden)
    joined = ops.matmul(even, weights.matrix(f"{name}.gate_up", *shapes["gate_up"]), False, True)
    split = ops.variadic_split(joined, number(_LAST), ints(sizes.inner, sizes.inner))
    inner = ops.multiply(ops.swish(split.output(0)), split.output(1))
    return ops.matmul(inner, weights.matrix(f"{name}.down_proj", *shapes["down_proj"]), False, True)
