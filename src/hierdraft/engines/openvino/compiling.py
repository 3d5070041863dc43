"""Graphs, compiled for a CPU, around a defect of OpenVINO's fused feed-forward layers.

With bfloat16 on processors with AMX it computes a layer's three products in one kernel, which divides its work among
pairs of threads: with one thread it divides by zero, and the process dies (openvinotoolkit/openvino#33300), or the
layer's sizes are refused. There the products stay apart.
"""

from __future__ import annotations

from typing import Any

from hierdraft.engines.openvino.runtime import openvino, ops

_ACTIVATIONS = ("Swish", "Gelu")
_MOST = 3e38


def has_bfloat16() -> bool:
    """Whether this CPU computes in it."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_graph(graph: Any, options: dict[str, Any]) -> Any:
    """The compiled graph; `graph` may be changed. Raises RuntimeError for one that cannot be compiled."""
    core = openvino.Core()
    if options["INFERENCE_PRECISION_HINT"] == "bf16" and _threads(core, options) == 1:
        _keep_apart(graph)
    return core.compile_model(graph, "CPU", options)


def _threads(core: Any, options: dict[str, Any]) -> int:
    """How many threads a graph gets: those that were asked for, of those that this process may use."""
    (given,) = ops.parameter([1]).outputs()
    little = openvino.Model([ops.relu(given)], [given.get_node()])
    return int(core.compile_model(little, "CPU", options).get_property("INFERENCE_NUM_THREADS"))


def _keep_apart(graph: Any) -> None:
    """Have each activation between two products pass through what changes nothing, and is not known to the fusion."""
    for node in graph.get_ops():
        if node.get_type_name() in _ACTIVATIONS:
            targets = list(node.output(0).get_target_inputs())
            same = ops.clamp(node.output(0), -_MOST, _MOST).output(0)
            for one in targets:
                one.replace_source_output(same)
