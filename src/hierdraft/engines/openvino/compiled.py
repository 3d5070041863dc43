"""A compiled graph with paged attention, which shows hidden states from when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.branches import Branch
from hierdraft.engines.openvino.hidden import layer_outputs, with_hidden
from hierdraft.engines.openvino.pagedgraph import paged
from hierdraft.engines.openvino.rows import Rows
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.errors import UnsupportedModelError


class Compiled:
    """What is called.

    layers   how many layers it has, where it can show their hidden states; else 0
    request  takes the inputs; its outputs hold until the next call
    made     how often it was compiled: each time the request is a new one, without inputs
    """

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        """Raises RuntimeError for a graph that cannot be compiled."""
        self._file, self._options = file, options
        self._shown: tuple[int, ...] = ()
        self.layers = self.made = 0
        self._compile()
        self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    @property
    def inputs(self) -> list[Any]:
        """All of them, with names, shapes and number types."""
        return list(self._compiled.inputs)

    def _compile(self) -> None:
        core = openvino.Core()
        graph = paged(core.read_model(self._file))
        outputs = layer_outputs(graph)
        self.layers = max(0, len(outputs) - 1)
        graph = with_hidden(graph, [outputs[layer] for layer in self._shown])
        self._compiled = core.compile_model(graph, "CPU", self._options)
        self.request = self._compiled.create_infer_request()
        self.made += 1

    def show(self, layers: Iterable[int]) -> None:
        """Show the hidden states of these layers too from now on.

        Raises UnsupportedModelError where it cannot be made, and shows what it did before.
        """
        before, wanted = self._shown, tuple(sorted({*self._shown, *layers}))
        if wanted == before:
            return
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


def in_order(branches: Sequence[Branch], given: Sequence[Rows], begin: int) -> tuple[NDArray[np.int64], int]:
    """Which rows of a call are a part's tokens, in their order, and then its new nodes in theirs; and where they end.

    begin   of its rows among those of the call
    """
    if not branches:
        rows = given[0]
        return begin + np.concatenate([np.arange(rows.text), rows.places]), begin + rows.text + len(rows.places)
    found = []
    for rows in given:
        found.append(begin + rows.wanted)
        begin += rows.text + len(rows.places)
    nodes = [node for branch in branches for node in branch.nodes]
    return np.concatenate(found)[np.argsort(nodes)], begin
