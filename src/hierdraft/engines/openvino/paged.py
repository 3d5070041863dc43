"""Keys and values of any number of sequences in one pool of blocks, for OpenVINO's paged attention.

One call of the graph scores rows of many sequences, each against its own blocks, wherever in the pool these lie. A
rejected row costs nothing here: the next forward writes over it. Accepted rows that lie apart are moved together.
Models with sliding windows cannot be served this way: the kernel counts a window in rows, and the rows of a tree are
more than its positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.blocks import Blocks
from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS
from hierdraft.engines.openvino.rows import Logits, Rows
from hierdraft.engines.openvino.runtime import openvino, paged_attention_transformation
from hierdraft.engines.sequences import OneSequence
from hierdraft.tree import Int32

if TYPE_CHECKING:
    from hierdraft.protocols import Engine

_NAMES = {IDS: "input_ids", POSITIONS: "position_ids", MASK: "attention_mask", BEAM: "beam_idx"}
"""Inputs as the transformation expects them to be called."""

_FIRST = 8

KEEP = 2048
"""Tokens that there is room for before texts that are over are forgotten."""


def paged(graph: Any) -> Any:
    """The graph with paged attention in the place of its variables. Raises RuntimeError if that cannot be."""
    for given in graph.inputs:
        name = _NAMES.get(given.get_any_name())
        if name is not None:
            given.get_tensor().set_names({name})
            given.get_node().set_friendly_name(name)
    paged_attention_transformation(graph, allow_qq_bias=True)
    return graph


class PagedSequence(OneSequence):
    """One text.

    ids    its tokens, as far as they are held
    table  the blocks that they lie in, in order
    plain  whether only rows are kept that are plain decoding's to the last bit
    """

    def __init__(self, engine: Engine, pool: Pool, ids: list[int], table: list[int], *, plain: bool) -> None:
        """One that holds `ids` already, in blocks of others."""
        super().__init__(engine)
        self.plain = plain
        self.ids, self.table = ids, table
        self.length = len(ids)
        self.last: Rows | None = None
        self._pool = pool

    def commit(self, path: Sequence[int]) -> None:
        """Keep the rows of these nodes; where all must be plain decoding's, those that lie where it puts them."""
        if path and self.last is not None:
            rows = self.last.places[list(path)]
            if self.plain:
                rows = rows[rows == self.last.text + np.arange(len(rows))]
            self._pool.move(self, (rows - self.last.text).tolist())
            self.ids += self.last.tokens[rows].tolist()
            self.length = len(self.ids)
        self.last = None

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        super().rewind(length)
        del self.ids[length:]
        self.last = None
        self._pool.shorten(self)

    def close(self) -> None:
        """Give the blocks back; what fills one whole serves texts that begin alike."""
        if not self.closed:
            self._pool.free(self)
        super().close()

    def cached(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Keys and values of every layer, float32[1, heads, length, dim]."""
        return self._pool.cached(self)


class Pool:
    """The blocks, and the graph that reads and writes them."""

    least = 2
    """Rows of a sequence below which the kernels take other ways: from two rows on, each is scored in the same
    arithmetic, to the last bit, however many there are, of whatever sequences. That a row more takes hardly any time
    makes it worth while."""

    plain = False
    """Whether only rows are kept that are plain decoding's to the last bit; the others are scored again."""

    def __init__(self, compiled: Any) -> None:
        """An empty pool for a compiled graph that `paged` made."""
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
        self.blocks = Blocks(self._size)
        self._bound: dict[str, NDArray[Any]] = {}
        self._grow(_FIRST)

    def open(self, engine: Engine, ids: Sequence[int] | Int32, *, reuse: bool) -> PagedSequence:
        """A sequence in the blocks that hold the beginning of `ids` already."""
        table = self.blocks.shared(ids) if reuse else []
        held = [int(token) for token in ids[: len(table) * self._size]]
        return PagedSequence(engine, self, held, table, plain=self.plain)

    def free(self, sequence: PagedSequence) -> None:
        """The sequence is over."""
        self.blocks.remember(sequence.ids, sequence.table)
        self.blocks.release(sequence.table)

    def shorten(self, sequence: PagedSequence) -> None:
        """Let go of blocks after the sequence's text."""
        needed = -(-sequence.length // self._size)
        table = sequence.table
        sequence.table, rest = table[:needed], table[needed:]
        self.blocks.release(rest)

    def _grow(self, blocks: int) -> None:
        """Room for at least `blocks` blocks in all."""
        for kind, names in self._kinds.items():
            heads, size, dim, type_name = kind
            of = getattr(openvino.Type, type_name)
            grown = np.zeros((len(names), blocks, heads, size, dim), dtype=f"u{of.size}")
            if kind in self._buffers:
                grown[:, : self.blocks.count] = self._buffers[kind]
            self._buffers[kind] = grown
            for name, part in zip(names, grown, strict=True):
                self._request.set_tensor(name, openvino.Tensor(part, openvino.Shape(part.shape), of))
        self.blocks.add(blocks - self.blocks.count)

    def _reserve(self, given: Sequence[Rows]) -> None:
        """Blocks of its own for every row that is written."""
        wanted = sum(
            self.blocks.missing(rows.sequence.table, rows.sequence.length + len(rows.tokens)) for rows in given
        )
        wanted += len(given)  # one of each may have to be copied
        count = self.blocks.count
        there = self.blocks.free if count * self._size >= KEEP else self.blocks.empty
        if wanted > there:
            self._grow(count + max(wanted - there, count))
        for rows in given:
            sequence = rows.sequence
            for old, new in self.blocks.own(sequence.table, sequence.length, sequence.length + len(rows.tokens)):
                for buffer in self._buffers.values():
                    buffer[:, new] = buffer[:, old]

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        """Give the graph this input: in memory that it knows already, if one of that shape was given last."""
        bound = self._bound.get(name)
        if bound is not None and bound.shape == array.shape:
            bound[...] = array
            return
        self._bound[name] = array
        self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def score(self, given: Sequence[Rows]) -> list[Logits]:
        """float32[R, V] for each: logits of the `wanted` rows. They hold until the next call.

        The rows come after the texts; those that are text are committed.
        """
        self._reserve(given)
        counts = np.array([len(rows.tokens) for rows in given])
        past = np.array([rows.sequence.length for rows in given], dtype=np.int32)
        tables = [rows.sequence.table[: -(-(rows.sequence.length + len(rows.tokens)) // self._size)] for rows in given]
        bias = [rows.seen.reshape(-1).view(np.uint8) if rows.seen is not None else _NOTHING for rows in given]
        starts = _begins(counts)
        wanted = [rows.wanted + start for rows, start in zip(given, starts[:-1].tolist(), strict=True)]
        scored = np.concatenate(wanted)
        self._bind(_NAMES[IDS], np.concatenate([rows.tokens for rows in given]))
        self._bind(_NAMES[POSITIONS], np.concatenate([rows.where for rows in given]))
        self._bind(ROWS, scored if len(scored) else starts[:1].astype(np.int64))
        self._bind("past_lens", past)
        self._bind("subsequence_begins", starts)
        self._bind("block_indices", np.concatenate([np.array(table, dtype=np.int32) for table in tables]))
        self._bind("block_indices_begins", _begins([len(table) for table in tables]))
        self._bind("qq_bias", np.concatenate(bias))
        self._bind("qq_bias_begins", _begins([len(part) for part in bias]))
        self._bind("max_context_len", np.array((past + counts).max(), dtype=np.int32))
        self._request.infer(share_inputs=True, share_outputs=True)
        logits: Logits = self._request.get_output_tensor(0).data
        for rows in given:
            sequence = rows.sequence
            sequence.ids += rows.tokens[: rows.text].tolist()
            sequence.length = len(sequence.ids)
            sequence.last = rows
            if rows.text > 1:
                self.blocks.remember(sequence.ids, sequence.table)
        return np.split(logits[: len(scored)], np.cumsum([len(part) for part in wanted])[:-1])

    def move(self, sequence: PagedSequence, rows: Sequence[int]) -> None:
        """These of the rows after the text continue it, in order; `rows` ascends."""
        table, length, size = sequence.table, sequence.length, self._size
        for to, at in enumerate(rows):
            if to != at:
                (block, row), (to_block, to_row) = divmod(length + at, size), divmod(length + to, size)
                for buffer in self._buffers.values():
                    buffer[:, table[to_block], :, to_row] = buffer[:, table[block], :, row]

    def cached(self, sequence: PagedSequence) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Keys and values of every layer, float32[1, heads, length, dim]."""
        found = {}
        for (heads, _, dim, type_name), names in self._kinds.items():
            for name, part in zip(names, self._buffers[heads, self._size, dim, type_name], strict=True):
                blocks = part[sequence.table]
                rows = blocks.transpose(1, 0, 2, 3).reshape(1, heads, -1, dim)[:, :, : sequence.length]
                wide = rows.astype(np.uint32) << 16 if type_name == "bf16" else np.ascontiguousarray(rows)
                found[name] = wide.view(np.float32)
        return [(found[f"key_cache.{at}"], found[f"value_cache.{at}"]) for at in range(len(found) // 2)]


_NOTHING = np.empty(0, dtype=np.uint8)


def _begins(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
    """int32[n+1]: where each of n parts begins, and the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
