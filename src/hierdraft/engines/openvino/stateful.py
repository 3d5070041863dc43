"""Keys and values that are inputs and outputs of a graph become variables of it, as the CPU's kernels expect them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hierdraft.engines.openvino.runtime import apply_make_stateful_transformation, openvino, ops


def with_variables(
    graph: Any, inputs: Mapping[str, Sequence[int]], shapes: Sequence[tuple[int, int]], beam: str
) -> Any:
    """The graph, changed in place, with names for what goes in and out, and variables `key.LAYER` and `value.LAYER`.

    inputs   names and shapes of its first inputs, -1 for what varies; keys and values of every layer in turn follow.
             Its outputs are the logits, then what replaces keys and values
    shapes   (heads, dim) of the cache, as `graph.cache_shapes` finds them
    beam     name of the input that the attention kernel expects for beams
    """
    _name(graph, inputs, shapes)
    _make_stateful(graph, shapes, beam)
    return graph


def _variables(shapes: Sequence[tuple[int, int]]) -> list[str]:
    return [f"{('key', 'value')[part % 2]}.{part // 2}" for part in range(len(shapes))]


def _name(graph: Any, inputs: Mapping[str, Sequence[int]], shapes: Sequence[tuple[int, int]]) -> None:
    """Names and shapes of inputs and outputs."""
    variables = _variables(shapes)
    sizes = {**inputs, **{name: (1, heads, -1, dim) for name, (heads, dim) in zip(variables, shapes, strict=True)}}
    for given, (name, size) in zip(graph.inputs, sizes.items(), strict=True):
        given.get_tensor().set_names({name})
        given.get_node().set_friendly_name(name)
        given.get_node().set_partial_shape(openvino.PartialShape(list(size)))
    for found, name in zip(graph.outputs, ["logits", *(f"new.{name}" for name in variables)], strict=True):
        found.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def _make_stateful(graph: Any, shapes: Sequence[tuple[int, int]], beam: str) -> None:
    """Keys and values become variables, in the form that the CPU's attention kernel recognises.

    That form has a reordering of beams between a variable and what is appended to it; here there is one beam.
    """
    order = ops.parameter([1], dtype=np.int32, name=beam)
    order.output(0).get_tensor().set_names({beam})
    variables = _variables(shapes)
    for given in [given for given in graph.inputs if given.get_any_name() in variables]:
        readers = given.get_target_inputs()
        reordered = ops.gather(given.get_node(), order, ops.constant(0, dtype=np.int64))
        for reader in readers:
            reader.replace_source_output(reordered.output(0))
    graph.add_parameters([order])
    apply_make_stateful_transformation(graph, {name: f"new.{name}" for name in variables})
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            heads, dim = (node.get_output_partial_shape(0)[axis].get_length() for axis in (1, 3))
            empty = ops.broadcast(ops.constant(np.float32(0.0)), ops.constant(np.array([1, heads, 0, dim])))
            node.set_arguments([empty.output(0)])
    graph.validate_nodes_and_infer_types()
