"""Keys and values as variables of an OpenVINO graph, which it appends every row to that it scores.

A `RowTable` knows which of them are still part of the text; the others are masked out, and removed when enough have
gathered. Each sequence has variables of its own, so a forward of several runs the graph once for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS, SLIDING_MASK
from hierdraft.engines.openvino.rows import Found, Logits, Rows, rows_of
from hierdraft.engines.openvino.rowtable import RowTable
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.engines.sequences import OneSequence
from hierdraft.tree import Int32

if TYPE_CHECKING:
    from hierdraft.protocols import Engine, Part

MOST_DROPPED = 256
"""Rejected rows that are carried along, and as many again as the text is long: a row more in the cache costs a forward
microseconds, and reading the graph's variables, to move the others together, costs tenths of a millisecond a row."""

_ONE_BEAM = np.zeros(1, dtype=np.int32)


class VariablesSequence(OneSequence):
    """One text, in variables of its own."""

    def __init__(self, engine: Engine, owner: Variables, request: Any) -> None:
        """An empty one."""
        super().__init__(engine)
        self.table = RowTable()
        self.last: Rows | None = None
        self._owner, self._request = owner, request
        self._states = {state.name: state for state in request.query_state()}

    def score(self, rows: Rows) -> Logits:
        """float32[R, V]: logits of the `wanted` rows, which come after the text; those that are text are committed."""
        if self.table.dropped > MOST_DROPPED + self.length:
            self._compact()
        given = self._owner.inputs(rows, self.table)
        self._request.infer(given, share_inputs=True, share_outputs=True)
        self.table.add(len(rows.tokens))
        self.table.keep(range(rows.text))
        self.length, self.last = self.table.length, rows
        logits: Logits = self._request.get_output_tensor(0).data
        return logits[: len(rows.wanted)]

    def commit(self, path: Sequence[int]) -> None:
        """Keep the rows of these nodes."""
        if path and self.last is not None:
            self.table.keep(self.last.places[list(path)].tolist())
            self.length = self.table.length
        self.last = None

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.table.rewind(length)
        self.length, self.last = length, None

    def close(self) -> None:
        """Leave the variables to another text."""
        if not self.closed:
            self._owner.free(self._request)
        super().close()

    def _compact(self) -> None:
        """Move what is kept together."""
        kept, self.last = self.table.gather(), None
        for state in self._states.values():
            state.state = openvino.Tensor(np.ascontiguousarray(state.state.data[:, :, kept]))

    def cached(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Keys and values of every layer, float[1, heads, length, dim]."""
        self._compact()
        parts = {name: state.state.data[:, :, : self.length] for name, state in self._states.items()}

        def of(kind: str, layer: int) -> NDArray[Any]:  # a variable is called as what it holds, then what replaces it
            found: NDArray[Any] = next(part for name, part in parts.items() if name.startswith(f"{kind}.{layer}new."))
            return found

        return [(of("key", layer), of("value", layer)) for layer in range(len(self._owner.windows))]


class Variables:
    """The graph, and the variables of texts that are over; the methods are those of `Pool`."""

    least = 1
    layers = features = 0

    def __init__(self, compiled: Any, windows: Sequence[int | None]) -> None:
        """Without sequences, for a compiled graph that `convert` made.

        windows   each layer's attention window, None for full attention
        """
        self.windows = windows
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._compiled = compiled
        self._names = [given.get_any_name() for given in compiled.inputs]
        self._window = min((window for window in windows if window is not None), default=None)
        self._unused: list[Any] = []

    def open(self, engine: Engine, ids: Sequence[int] | Int32, namespace: str | None) -> VariablesSequence:  # noqa: ARG002
        """An empty sequence: variables are not shared."""
        request = self._unused.pop() if self._unused else self._compiled.create_infer_request()
        request.reset_state()
        return VariablesSequence(engine, self, request)

    def free(self, request: Any) -> None:
        """A text is over."""
        self._unused.append(request)

    def inputs(self, rows: Rows, table: RowTable) -> list[Any]:
        """What the graph is given."""
        among = np.tri(len(rows.tokens), dtype=np.bool_) if rows.seen is None else rows.seen
        full, sliding = table.masks(rows.where, among, self._window)
        wanted = rows.wanted if len(rows.wanted) else np.zeros(1, dtype=np.int64)
        given = {IDS: rows.tokens[None], POSITIONS: rows.where[None], ROWS: wanted, BEAM: _ONE_BEAM}
        given |= {SLIDING_MASK: sliding, MASK: full if SLIDING_MASK in self._names else sliding}
        return [given[name] for name in self._names]

    def score(self, parts: Sequence[Part], size: int) -> list[Found]:
        """See `Pool`."""
        spare = size - sum(len(part.tokens) + len(part.tree) for part in parts)
        given = [rows_of(part, spare if part is parts[-1] else 0) for part in parts]
        return [Found(rows.plain, rows.sequence.score(rows)) for rows in given]
