"""Keys and values in blocks that belong to the caller, for OpenVINO's paged attention.

A rejected row costs nothing here: the next forward writes over it. Accepted rows that lie apart are moved together.
Models with sliding windows cannot be served this way: the kernel counts a window in rows, and the rows of a tree are
more than its positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS
from hierdraft.engines.openvino.runtime import openvino, paged_attention_transformation

Logits = NDArray[np.float32]

_NAMES = {IDS: "input_ids", POSITIONS: "position_ids", MASK: "attention_mask", BEAM: "beam_idx"}
"""Inputs as the transformation expects them to be called."""

_LENGTHS, _BIAS = ("past_lens", "subsequence_begins", "block_indices_begins", "qq_bias_begins"), "qq_bias"
_FIRST = 8


def paged(graph: Any) -> Any:
    """The graph with paged attention in the place of its variables. Raises RuntimeError if that cannot be."""
    for given in graph.inputs:
        name = _NAMES.get(given.get_any_name())
        if name is not None:
            given.get_tensor().set_names({name})
            given.get_node().set_friendly_name(name)
    paged_attention_transformation(graph, allow_qq_bias=True)
    return graph


class Blocks:
    """Keys and values of one request, position after position. `length`: positions that are part of the text."""

    least = 2
    """Rows below which the kernels take other ways: from two rows on, a row is scored in the same arithmetic, to the
    last bit, however many there are. That a row more takes no time to speak of makes it worth while."""

    def __init__(self, compiled: Any) -> None:
        """An empty cache for a compiled graph that `paged` made."""
        self.length = 0
        self._request = compiled.create_infer_request()
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._kinds: dict[tuple[Any, ...], list[str]] = {}  # inputs of one shape and type share a buffer
        self._buffers: dict[tuple[Any, ...], NDArray[Any]] = {}
        for given in compiled.inputs:
            name, shape = given.get_any_name(), given.get_partial_shape()
            if name.startswith(("key_cache.", "value_cache.")):
                sizes = tuple(shape[axis].get_length() for axis in (1, 2, 3))
                self._kinds.setdefault((*sizes, given.get_element_type().get_type_name()), []).append(name)
        self._size = next(iter(self._kinds))[1]
        self._capacity = self._used = 0
        self._reserve(_FIRST * self._size)
        self._lengths = [self._bind(name, np.zeros(1 + (at > 0), np.int32)) for at, name in enumerate(_LENGTHS)]
        self._longest = self._bind("max_context_len", np.zeros((), np.int32))
        self._shape: tuple[int, int, bool] | None = None
        self._given: dict[str, NDArray[Any]] = {}
        self._known: dict[tuple[int, int, bool], dict[str, NDArray[Any]]] = {}

    def _bind(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array, which the graph takes this input from until another is bound."""
        self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return array

    def _reserve(self, positions: int) -> None:
        """Room for at least `positions` positions; where there is too little, it is at least doubled."""
        if positions <= self._capacity:
            return
        blocks = max(-(-positions // self._size), 2 * self._capacity // self._size)
        for kind, names in self._kinds.items():
            heads, size, dim, type_name = kind
            of = getattr(openvino.Type, type_name)
            grown = np.zeros((len(names), blocks, heads, size, dim), dtype=f"u{of.size}")
            if kind in self._buffers:
                grown[:, : self._capacity // size] = self._buffers[kind]
            self._buffers[kind] = grown
            for name, part in zip(names, grown, strict=True):
                self._request.set_tensor(name, openvino.Tensor(part, openvino.Shape(part.shape), of))
        self._capacity, self._used = blocks * self._size, 0
        self._table = np.arange(blocks, dtype=np.int32)

    def _inputs(self, rows: int, scored: int, seen: bool) -> dict[str, NDArray[Any]]:
        """Bound arrays for a forward of that shape; those of trees are kept, because their shapes come again."""
        shape = (rows, scored, seen)
        if shape != self._shape:
            self._given = self._known.get(shape) or {
                _NAMES[IDS]: np.empty(rows, np.int64), _NAMES[POSITIONS]: np.empty(rows, np.int64),
                ROWS: np.empty(scored, np.int64), _BIAS: np.empty(rows * rows if seen else 0, np.uint8),
            }  # fmt: skip
            if seen:
                self._known[shape] = self._given
            for name, array in self._given.items():
                self._bind(name, array)
            self._shape = shape
        return self._given

    def clear(self) -> None:
        """The next row is the first of a text."""
        self.length = 0

    def score(
        self, tokens: NDArray[np.int64], where: NDArray[np.int64], seen: NDArray[np.bool_] | None,
        wanted: NDArray[np.int64],
    ) -> Logits:  # fmt: skip
        """float32[R, V]: logits of the `wanted` rows, of those that now come after the text; see `keep`.

        tokens, where   int64[T], int64[T]: ids, positions
        seen            bool[T, T]: which of each other the rows see; None: those before them
        """
        rows, length = len(tokens), self.length
        self._reserve(length + rows)
        used = -(-(length + rows) // self._size)
        if used != self._used:
            self._bind("block_indices", self._table[:used])
            self._used = used
        given = self._inputs(rows, len(wanted), seen is not None)
        given[_NAMES[IDS]][:], given[_NAMES[POSITIONS]][:], given[ROWS][:] = tokens, where, wanted
        if seen is not None:
            given[_BIAS][:] = seen.reshape(-1)
        for array, value in zip(self._lengths, (length, rows, used, len(given[_BIAS])), strict=True):
            array[-1] = value
        self._longest[()] = length + rows
        self._request.infer(share_inputs=True, share_outputs=True)
        logits: Logits = self._request.get_output_tensor(0).data
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """These of the rows scored last continue the text, in order; `rows` ascends."""
        for to, at in enumerate(rows, start=self.length):
            source = self.length + at
            if source != to:
                (block, row), (to_block, to_row) = divmod(source, self._size), divmod(to, self._size)
                for buffer in self._buffers.values():
                    buffer[:, to_block, :, to_row] = buffer[:, block, :, row]
        self.length += len(rows)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        self.length = length

    def cached(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Keys and values of every layer, float32[1, heads, length, dim]."""
        found = {}
        for (heads, _, dim, type_name), names in self._kinds.items():
            for name, part in zip(names, self._buffers[heads, self._size, dim, type_name], strict=True):
                rows = part.transpose(1, 0, 2, 3).reshape(1, heads, -1, dim)[:, :, : self.length]
                wide = rows.astype(np.uint32) << 16 if type_name == "bf16" else np.ascontiguousarray(rows)
                found[name] = wide.view(np.float32)
        return [(found[f"key_cache.{at}"], found[f"value_cache.{at}"]) for at in range(len(found) // 2)]
