"""Where a graph's layers end: the tensors that everything a layer hands on goes through.

Graphs name their nodes in many ways, so the places are found by how nodes hang together: between two layers' attention
there is at least one tensor without a way around it from the ids to the logits. The last of these before the next
layer's attention is what that layer is given: its norm and its sum both take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.engines.openvino.runtime import openvino, ops

_ATTENTION = "PagedAttentionExtension"


def layer_outputs(graph: Any) -> list[Any]:
    """For a graph with paged attention, outputs that hold the hidden states [.., dim]: of what goes into the first
    layer, and of what comes out of each, the last one's before the final norm. Empty where they cannot be told.
    """
    nodes, ends = _between(graph)
    found: list[list[Any]] = [[]]
    farthest = 0
    for place, (node, end) in enumerate(zip(nodes, ends, strict=True)):
        attends = node.get_type_name() == _ATTENTION
        if attends:
            found.append([])
        elif place and farthest <= place:  # no way goes around it
            found[-1].append(node.output(0))
        farthest = max(farthest, end)
    return _chosen(found)


def _between(graph: Any) -> tuple[list[Any], list[int]]:
    """The nodes on ways from the ids to the logits, each after those that it takes from; and for each the place of the
    last one that takes from it. Ways through shapes do not count.
    """
    ids = graph.input("input_ids").get_node()
    ordered = graph.get_ordered_ops()
    names = [op.get_name() for op in ordered]
    below, takes = {ids.get_name()}, dict[str, list[str]]()
    for op, name in zip(ordered, names, strict=True):
        if op.get_type_name() != "ShapeOf":
            takes[name] = [one for given in op.input_values() if (one := given.get_node().get_name()) in below]
            if takes[name]:
                below.add(name)
    wanted = {graph.get_results()[0].get_name()}
    for name in reversed(names):
        if name in wanted:
            wanted.update(takes[name])
    kept = [(op, name) for op, name in zip(ordered, names, strict=True) if name in wanted]
    places = {name: place for place, (_, name) in enumerate(kept)}
    ends = list(range(len(kept)))
    for place, (_, name) in enumerate(kept):
        for above in takes[name]:
            ends[places[above]] = place
    return [op for op, _ in kept], ends


def _chosen(found: Sequence[Sequence[Any]]) -> list[Any]:
    """Of the tensors after so many attentions, those where layers end."""
    inner = {len(some) for some in found[1:-1]}
    if len(inner) != 1 or 0 in inner or not found[0]:
        return []
    count = inner.pop()
    if len(found[-1]) < count:
        return []
    chosen = [some[-1] for some in found[:-1]] + [found[-1][count - 1]]
    widths = {str(one.get_partial_shape()[-1]) for one in chosen}
    static = all(one.get_partial_shape()[-1].is_static for one in chosen)
    return chosen if static and len(widths) == 1 else []


def with_hidden(graph: Any, outputs: Sequence[Any]) -> Any:
    """The graph with further results behind its logits: float32[rows, dim] of each of these outputs of its nodes."""
    results = []
    for output in outputs:
        width = output.get_partial_shape()[-1].get_length()
        flat = ops.reshape(output, ops.constant([-1, width], openvino.Type.i64), special_zero=False)
        results.append(ops.result(ops.convert(flat, "f32")))
    if results:
        graph.add_results(results)
    return graph
