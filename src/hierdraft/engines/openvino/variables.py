"""Keys and values as variables of an OpenVINO graph, which it appends every row to that it scores.

A `RowTable` knows which of them are still part of the text; the others are masked out, and removed when enough have
gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS, SLIDING_MASK
from hierdraft.engines.openvino.rowtable import RowTable
from hierdraft.engines.openvino.runtime import openvino

Logits = NDArray[np.float32]

MOST_DROPPED = 256
"""Rejected rows that are carried along, and as many again as the text is long: a row more in the cache costs a forward
microseconds, and reading the graph's variables, to move the others together, costs tenths of a millisecond a row."""

_ONE_BEAM = np.zeros(1, dtype=np.int32)


class Variables:
    """Keys and values of one request; the methods are those of `Blocks`."""

    least = 1

    def __init__(self, compiled: Any, windows: Sequence[int | None]) -> None:
        """An empty cache for a compiled graph that `convert` made.

        windows   each layer's attention window, None for full attention
        """
        self.windows = windows
        self.table = RowTable()
        self._request = compiled.create_infer_request()
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._states = {state.name: state for state in self._request.query_state()}
        self._names = [given.get_any_name() for given in self._request.model_inputs]
        self._window = min((window for window in windows if window is not None), default=None)

    @property
    def length(self) -> int:
        """Positions that are part of the text."""
        return self.table.length

    def clear(self) -> None:
        """See `Blocks`."""
        self._request.reset_state()
        self.table = RowTable()

    def score(
        self, tokens: NDArray[np.int64], where: NDArray[np.int64], seen: NDArray[np.bool_] | None,
        wanted: NDArray[np.int64],
    ) -> Logits:  # fmt: skip
        """See `Blocks`."""
        if self.table.dropped > MOST_DROPPED + self.length:
            self._compact()
        among = np.tri(len(tokens), dtype=bool) if seen is None else seen
        full, sliding = self.table.masks(where, among, self._window)
        given = {IDS: tokens[None], POSITIONS: where[None], ROWS: wanted, BEAM: _ONE_BEAM, SLIDING_MASK: sliding}
        given[MASK] = full if SLIDING_MASK in self._names else sliding
        self._request.infer([given[name] for name in self._names], share_inputs=True, share_outputs=True)
        self.table.add(len(tokens))
        logits: Logits = self._request.get_output_tensor(0).data
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See `Blocks`."""
        self.table.keep(rows)

    def rewind(self, length: int) -> None:
        """See `Blocks`."""
        self.table.rewind(length)

    def _compact(self) -> None:
        """Move what is kept together."""
        kept = self.table.gather()
        for state in self._states.values():
            state.state = openvino.Tensor(np.ascontiguousarray(state.state.data[:, :, kept]))

    def cached(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """See `Blocks`."""
        self._compact()
        parts = {name: state.state.data[:, :, : self.length] for name, state in self._states.items()}

        def of(kind: str, layer: int) -> NDArray[Any]:  # a variable is called as what it holds, then what replaces it
            found: NDArray[Any] = next(part for name, part in parts.items() if name.startswith(f"{kind}.{layer}new."))
            return found

        return [(of("key", layer), of("value", layer)) for layer in range(len(self.windows))]
