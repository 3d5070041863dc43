"""A compiled graph with paged attention, which shows hidden states from when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.branches import Branch
from hierdraft.engines.openvino.compiling import compile_graph
from hierdraft.engines.openvino.files import FEATURES
from hierdraft.engines.openvino.hidden import layer_outputs, with_hidden
from hierdraft.engines.openvino.pagedgraph import paged
from hierdraft.engines.openvino.rows import Rows
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.errors import UnsupportedModelError
from hierdraft.protocols import Part


class Compiled:
    """What is called.

    layers   how many layers it has, where it can show their hidden states; else 0
    features see `Offers`; a graph that takes them shows what comes out of its only layer, always
    request  takes the inputs; its outputs hold until the next call
    made     how often it was compiled: each time the request is a new one, without inputs
    """

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        """Raises RuntimeError for a graph that cannot be compiled."""
        self._file, self._options = file, options
        self._shown: tuple[int, ...] = ()
        self.layers = self.made = self.features = 0
        self._compile()
        self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    @property
    def inputs(self) -> list[Any]:
        """All of them, with names, shapes and number types."""
        return list(self._compiled.inputs)

    def _compile(self) -> None:
        graph = paged(openvino.Core().read_model(self._file))
        widths = [given.get_partial_shape()[-1].get_length() for given in graph.inputs if FEATURES in given.get_names()]
        if widths:
            self.features, self.layers, self._shown = widths[0], 1, (1,)
        else:
            outputs = layer_outputs(graph)
            self.layers = max(0, len(outputs) - 1)
            graph = with_hidden(graph, [outputs[layer] for layer in self._shown])
        self._compiled = compile_graph(graph, self._options)
        self.request = self._compiled.create_infer_request()
        self.made += 1

    def show(self, layers: Iterable[int]) -> None:
        """Show the hidden states of these layers too from now on.

        Raises UnsupportedModelError where it cannot be made, and shows what it did before.
        """
        before, wanted = self._shown, tuple(sorted({*self._shown, *layers}))
        if wanted == before:
            return
        if self.features:
            raise UnsupportedModelError("A head shows only what comes out of its layer.")
        del self.request, self._compiled  # two graphs at a time may be more than there is room for
        try:
            self._shown = wanted
            self._compile()
        except RuntimeError as error:
            self._shown = before
            self._compile()
            reason = str(error).strip().splitlines()[-1]
            raise UnsupportedModelError(f"The graph cannot show its hidden states ({reason}).") from error

    def logits(self) -> NDArray[np.float32]:
        """Of the last call, float32[R, V]."""
        logits: NDArray[np.float32] = self.request.get_output_tensor(0).data
        return logits

    def states(self, layer: int) -> NDArray[np.float32]:
        """Hidden states of the last call, float32[rows, dim]."""
        states: NDArray[np.float32] = self.request.get_output_tensor(1 + self._shown.index(layer)).data
        return states


def orders_of(branches: Sequence[Sequence[Branch]], given: Sequence[Sequence[Rows]]) -> list[NDArray[np.int64]]:
    """For each part of a call, which rows of the call are its tokens, in their order, and then its new nodes in theirs.

    branches, given   of each part
    """
    found, begin = list[NDArray[np.int64]](), 0
    for several, some in zip(branches, given, strict=True):
        order, begin = _in_order(several, some, begin)
        found.append(order)
    return found


def features_of(
    parts: Sequence[Part], orders: Sequence[NDArray[np.int64]], size: int, width: int
) -> NDArray[np.float32]:  # fmt: skip
    """float32[size, 1, width]: what goes in beside each row of a call; zeros beside rows that are nobody's."""
    found = np.zeros((size, 1, width), dtype=np.float32)
    for part, order in zip(parts, orders, strict=True):
        found[order, 0] = part.features
    return found


def _in_order(branches: Sequence[Branch], given: Sequence[Rows], begin: int) -> tuple[NDArray[np.int64], int]:
    """Those of one part, whose rows begin at `begin`; and where they end."""
    if not branches:
        rows = given[0]
        return begin + np.concatenate([np.arange(rows.text), rows.places]), begin + rows.text + len(rows.places)
    found = []
    for rows in given:
        found.append(begin + rows.wanted)
        begin += rows.text + len(rows.places)
    nodes = [node for branch in branches for node in branch.nodes]
    return np.concatenate(found)[np.argsort(nodes)], begin
