"""Graphs that others made: what they are, and how they become graphs that score the rows that are wanted.

Such a graph takes `input_ids`, `attention_mask`, `position_ids` and `beam_idx`, keeps keys and values in variables, and
scores every position. With paged attention in the place of its variables it takes rows of many sequences, as ours do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.engines.openvino.files import ROWS
from hierdraft.engines.openvino.runtime import openvino, ops, paged_attention_transformation
from hierdraft.errors import ModelError, UnsupportedModelError

_KINDS = {
    "u4": "int4", "i4": "int4", "nf4": "int4", "f4e2m1": "int4", "u8": "int8", "i8": "int8", "f8e4m3": "int8",
    "f16": "float16", "bf16": "bfloat16", "f32": "float32",
}  # fmt: skip
_LARGE = 1 << 14
_WINDOW = 10
"""Number of the attention's input that says how far back it goes, 0 for everything."""

_ELEMENTWISE = {"Convert", "Multiply", "Divide", "Add", "Tanh", "Subtract", "Reshape"}
"""What may lie between the product with the output layer and the logits: scales, caps, other forms of numbers."""


@dataclass(frozen=True)
class Graph:
    """What a graph tells of itself.

    weights   the number type that most of its weights are stored as
    bounded   whether it looks positions up in a table that ends
    """

    vocab_size: int
    layers: int
    weights: str
    bounded: bool


def about_graph(file: Path, length: int) -> Graph:
    """What is known of a graph for a model that knows `length` positions.

    Raises ModelError for a damaged file, UnsupportedModelError for a graph that cannot be run here.
    """
    try:
        graph = openvino.Core().read_model(file)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"OpenVINO cannot read {file} ({reason}).") from error
    names = {name for given in graph.inputs for name in given.get_names()}
    if "input_ids" not in names:
        raise UnsupportedModelError(f"{file} takes {', '.join(sorted(names))} and no input_ids: it is no text model.")
    if any(name.startswith("past_key_values") for name in names) or "beam_idx" not in names:
        raise UnsupportedModelError(
            f"{file} does not keep its own keys and values: export the model again, as a stateful one."
        )
    counts: Counter[str] = Counter()
    tables = []
    for op in graph.get_ops():
        if op.get_type_name() == "Constant":
            shape = op.get_output_shape(0)
            count = 1
            for size in shape:
                count *= size
            if count >= _LARGE:
                counts[_KINDS.get(op.get_output_element_type(0).get_type_name(), "float32")] += count
            if len(shape) == 2 and length <= shape[0] <= length + 2:
                tables.append(shape[0])
    logits = graph.output("logits") if len(graph.outputs) > 1 else graph.outputs[0]
    vocab = logits.get_partial_shape()[-1]
    if not vocab.is_static:
        raise UnsupportedModelError(f"{file} does not say how many tokens it scores.")
    size = vocab.get_length()
    paged = _paged(graph, file)
    layers = sum(op.get_type_name() == "PagedAttentionExtension" for op in paged.get_ops())
    bounded = any(rows != size for rows in tables)  # as many rows as tokens: the embedding
    return Graph(size, layers, counts.most_common(1)[0][0] if counts else "float32", bounded)


def _paged(graph: Any, file: Path) -> Any:
    try:
        paged_attention_transformation(graph, allow_qq_bias=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedModelError(f"The attention of {file} cannot be served here ({reason}).") from error
    kinds = Counter(op.get_type_name() for op in graph.get_ops())
    if kinds["ReadValue"] or not kinds["PagedAttentionExtension"]:
        raise UnsupportedModelError(f"{file} keeps a state besides keys and values, which cannot be rewound.")
    if any(_window(op) for op in graph.get_ops() if op.get_type_name() == "PagedAttentionExtension"):
        raise UnsupportedModelError(f"{file} attends within windows, whose rows cannot be those of a draft tree.")
    return graph


def _window(attention: Any) -> int:
    given = attention.input_value(_WINDOW).get_node()
    return int(np.max(given.data)) if given.get_type_name() == "Constant" else 1


def with_wanted_rows(graph: Any) -> Any:
    """The graph with one input more: `rows`, int64[R], whose logits are wanted, as in the graphs that are ours."""
    result = graph.get_results()[0]
    rows = ops.parameter([-1], openvino.Type.i64)
    rows.output(0).set_names({ROWS})
    axis = ops.constant(0, openvino.Type.i64)
    product = _product(result.input_value(0).get_node())
    if product is None:
        raise UnsupportedModelError("The graph has no output layer that can be told from others.")
    hidden = product.input_value(0)
    width = hidden.get_partial_shape()[-1].get_length()
    flat = ops.reshape(hidden, ops.constant([-1, width], openvino.Type.i64), special_zero=False)
    wanted = ops.unsqueeze(ops.gather(flat, rows, axis), axis)
    product.input(0).replace_source_output(wanted.output(0))
    scored = result.input_value(0)
    size = scored.get_partial_shape()[-1].get_length()
    result.input(0).replace_source_output(
        ops.reshape(scored, ops.constant([-1, size], openvino.Type.i64), special_zero=False).output(0)
    )
    graph.add_parameters([rows])
    graph.validate_nodes_and_infer_types()
    return graph


def _product(node: Any) -> Any:
    """The matrix product that the logits come from, through what scales or caps them; None where there is none."""
    while node.get_type_name() != "MatMul":
        if node.get_type_name() not in _ELEMENTWISE:
            return None
        node = node.input_value(0).get_node()
    return node
