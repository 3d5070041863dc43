"""Keys and values of any number of sequences in one pool of blocks, for OpenVINO's paged attention.

One call of the graph scores rows of many sequences, each against its own blocks, wherever in the pool these lie. A
rejected row costs nothing here: the next forward writes over it. Accepted rows that lie apart are moved together.
Models with sliding windows cannot be served this way: the kernel counts a window in rows, and the rows of a tree are
more than its positions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.blocks import Blocks
from hierdraft.engines.openvino.branches import Branch, Grown, branches_of
from hierdraft.engines.openvino.compiled import Compiled, features_of, orders_of
from hierdraft.engines.openvino.files import FEATURES
from hierdraft.engines.openvino.pagedgraph import LEAST, inputs
from hierdraft.engines.openvino.pagedsequence import PagedSequence
from hierdraft.engines.openvino.rows import Found, Logits, Rows, rows_of
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.engines.sequences import known_rows
from hierdraft.tree import Int32

if TYPE_CHECKING:
    from hierdraft.protocols import Engine, Part

_FIRST = 8

KEEP = 2048
"""Tokens that there is room for before texts that are over are forgotten."""

ASIDE = 1 << 16
"""Tokens that addresses are set aside for at the start, as far as a quarter of the memory would do: growing into them
moves nothing, while to move what a pool holds stops all of its requests for tenths of a second."""


class Pool:
    """The blocks, and the graph that reads and writes them."""

    plain = False
    """Whether only rows are kept that are plain decoding's to the last bit; the others are scored again."""

    def __init__(self, compiled: Compiled, least: int = LEAST) -> None:
        """An empty pool for a graph.

        least  rows that a call has, and a sequence in its attention, where a single row comes twice: see `LEAST`
        """
        self.least, self._compiled = least, compiled
        self.threads, self.layers, self.features = compiled.threads, compiled.layers, compiled.features
        self._kinds: dict[tuple[Any, ...], list[str]] = {}  # inputs of one shape and type share a buffer
        self._memory: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._buffers: dict[tuple[Any, ...], NDArray[Any]] = {}  # of it, what is in use
        self._aside = 0
        for given in compiled.inputs:
            name, shape = given.get_any_name(), given.get_partial_shape()
            if name.startswith(("key_cache.", "value_cache.")):
                sizes = tuple(shape[axis].get_length() for axis in (1, 2, 3))
                self._kinds.setdefault((*sizes, given.get_element_type().get_type_name()), []).append(name)
        self._size = next(iter(self._kinds))[1]
        self.blocks = Blocks(self._size)
        self._bound: dict[str, NDArray[Any]] = {}
        self._grow(_FIRST)

    def open(self, engine: Engine, ids: Sequence[int] | Int32, namespace: str | None) -> PagedSequence:
        """A sequence in the blocks that hold the beginning of `ids` already, of texts of this namespace."""
        table, keys = self.blocks.shared(ids, namespace) if namespace is not None else ([], [])
        held = [int(token) for token in ids[: len(table) * self._size]]
        return PagedSequence(engine, self, held, table, keys, namespace)

    def free(self, sequence: PagedSequence) -> None:
        """The sequence is over."""
        self._remember(sequence, again=True)
        self.blocks.release(sequence.table)

    def _remember(self, sequence: PagedSequence, *, again: bool = False) -> None:
        if sequence.namespace is not None:
            self.blocks.remember(sequence.ids, sequence.table, sequence.namespace, sequence.keys, again=again)

    def shorten(self, sequence: PagedSequence) -> None:
        """Let go of blocks after the sequence's text."""
        needed = -(-sequence.length // self._size)
        table = sequence.table
        sequence.table, rest = table[:needed], table[needed:]
        del sequence.keys[sequence.length // self._size :]
        self.blocks.release(rest)

    def _grow(self, blocks: int) -> None:
        """Room for at least `blocks` blocks in all, in the memory that was set aside as long as it lasts."""
        if blocks > self._aside:
            try:
                self._set_aside(max(blocks, 2 * self._aside, self._affordable()))
            except MemoryError:  # where memory counts before it is used
                self._set_aside(blocks)
        for kind, names in self._kinds.items():
            self._buffers[kind] = self._memory[kind][:, :blocks]
            for name, part in zip(names, self._buffers[kind], strict=True):
                of = getattr(openvino.Type, kind[-1])
                self._compiled.request.set_tensor(name, openvino.Tensor(part, openvino.Shape(part.shape), of))
        self.blocks.add(blocks - self.blocks.count)

    def _set_aside(self, blocks: int) -> None:
        """Memory for so many blocks; what is in use moves there. Raises MemoryError, and nothing has changed."""
        memory = {
            kind: np.zeros((len(names), blocks, *kind[:3]), dtype=f"u{getattr(openvino.Type, kind[-1]).size}")
            for kind, names in self._kinds.items()
        }
        for kind, used in self._buffers.items():
            memory[kind][:, : self.blocks.count] = used
        self._memory, self._aside = memory, blocks

    def _affordable(self) -> int:
        """Blocks whose memory can be set aside at once: where it costs nothing until it is used."""
        if sys.platform == "win32":
            return 0
        each = sum(
            len(names) * heads * size * dim * int(getattr(openvino.Type, type_name).size)
            for (heads, size, dim, type_name), names in self._kinds.items()
        )
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return int(min(ASIDE // self._size, memory // 4 // each))

    def _reserve(self, given: Sequence[Rows]) -> None:
        """Blocks of its own for every row that is written."""
        self._make_room(
            sum(self.blocks.missing(rows.sequence.table, rows.sequence.length + len(rows.tokens)) for rows in given)
            + len(given)  # one of each may have to be copied
        )
        for rows in given:
            self._own(rows.sequence.table, rows.sequence.length, rows.sequence.length + len(rows.tokens))

    def _own(self, table: list[int], start: int, stop: int) -> None:
        """Make a table's blocks free to be written to from token `start` on, with room for `stop` tokens."""
        for old, new in self.blocks.own(table, start, stop):
            for buffer in self._buffers.values():
                buffer[:, new] = buffer[:, old]

    def _make_room(self, wanted: int) -> None:
        """So many blocks that can be taken."""
        count = self.blocks.count
        there = self.blocks.free if count * self._size >= KEEP else self.blocks.empty
        if wanted > there:
            self._grow(count + max(wanted - there, count))

    def _bind(self, name: str, array: NDArray[Any]) -> None:
        """Give the graph this input: in memory that it knows already, if one of that shape was given last."""
        bound = self._bound.get(name)
        if bound is not None and bound.shape == array.shape:
            bound[...] = array
            return
        self._bound[name] = array
        self._compiled.request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def _show(self, layers: set[int]) -> None:
        made = self._compiled.made
        try:
            self._compiled.show(layers)
        finally:
            if self._compiled.made != made:
                self._bound.clear()
                self._grow(self.blocks.count)

    def score(self, parts: Sequence[Part], size: int) -> list[Found]:
        """What the graph says of each part, whose tokens are committed.

        size  rows that the call has, at least as many as the parts have

        Raises UnsupportedModelError where hidden states are asked for that cannot be shown.
        """
        self._show({layer for part in parts for layer in part.hidden})
        branches: list[list[Branch]] = []
        try:
            branches.extend(map(self._branches, parts))
            return self._score(parts, branches, size)
        finally:
            for branch in (one for several in branches for one in several):
                self.blocks.release(branch.table)

    def _score(self, parts: Sequence[Part], branches: Sequence[Sequence[Branch]], size: int) -> list[Found]:
        given = [self._rows(part, several) for part, several in zip(parts, branches, strict=True)]
        every = [rows for some in given for rows in some]
        self._reserve(every)
        orders = orders_of(branches, given)
        for name, array in inputs(every, size, self._size, self.least).items():
            self._bind(name, array)
        if self.features:
            self._bind(FEATURES, features_of(parts, orders, size, self.features))
        self._compiled.request.infer(share_inputs=True, share_outputs=True)
        logits = self._compiled.logits()
        found, start = list[Found](), 0
        for part, several, some, order in zip(parts, branches, given, orders, strict=True):
            end = start + sum(len(rows.wanted) for rows in some)
            hold = self._hold_branches if several else self._hold
            found.append(hold(part, several, some, logits[start:end]))
            start = end
            found[-1].hidden = {layer: self._compiled.states(layer)[order] for layer in part.hidden}
        return found

    def _rows(self, part: Part, branches: Sequence[Branch]) -> list[Rows]:
        if branches:
            return [branch.rows(part.tree, self.least) for branch in branches]
        return [rows_of(part, max(0, self.least - len(part.tokens) - len(part.tree)))]

    def _hold(
        self, part: Part, branches: Sequence[Branch], given: Sequence[Rows], logits: Logits  # noqa: ARG002
    ) -> Found:  # fmt: skip
        """The tokens of a part are committed."""
        sequence: Any = part.sequence
        rows = given[0]
        sequence.ids += rows.tokens[: rows.text].tolist()
        sequence.length = len(sequence.ids)
        sequence.hold(part.tree, Grown.of(rows))
        if rows.text > 1:
            self._remember(sequence)
        return Found(rows.plain, logits)

    def _branches(self, part: Part) -> list[Branch]:
        """What a part without tokens goes on with, each branch in blocks of its own after those of the text."""
        if len(part.tokens):
            return []
        sequence: Any = part.sequence
        length, first = sequence.length, sequence.length // self._size
        found = branches_of(part.tree, known_rows(part), length)
        ends = [branch.length + max(self.least, len(branch.nodes)) for branch in found]
        self._make_room(sum(-(-end // self._size) - first for end in (*ends, length + len(part.tree))) + len(found))
        self._own(sequence.table, length, length + len(part.tree))
        for branch, end in zip(found, ends, strict=True):
            branch.table = self.blocks.share(sequence.table[:first])
            self._own(branch.table, length, end)
            if length % self._size:
                self._copy(sequence.table, branch.table, np.arange(first * self._size, length))
            offsets = sequence.grown.offsets[branch.path]
            self._copy(sequence.table, branch.table, length + offsets, length + np.arange(len(offsets)))
        return found

    def _hold_branches(self, part: Part, branches: Sequence[Branch], given: Sequence[Rows], logits: Logits) -> Found:
        """The new nodes of a part lie after those that it goes on from."""
        sequence: Any = part.sequence
        known = known_rows(part)
        grown = sequence.grown.and_then(part.tree, branches, given)
        for branch, rows in zip(branches, given, strict=True):
            places = np.concatenate([[0], rows.places])
            to = sequence.length + grown.offsets[branch.nodes]
            self._copy(branch.table, sequence.table, branch.length + places, to)
        nodes = [node for branch in branches for node in branch.nodes]
        if nodes != sorted(nodes):
            logits = logits[np.argsort(nodes)]
        sequence.hold(part.tree, grown)
        return Found(grown.sure[known:], logits)

    def _copy(
        self, table: Sequence[int], to_table: Sequence[int], rows: NDArray[np.int64],
        to: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        """Keys and values of these rows of one table into those of another; `to`: the same."""
        to = rows if to is None else to
        blocks, others = np.array(table)[rows // self._size], np.array(to_table)[to // self._size]
        for buffer in self._buffers.values():
            buffer[:, others, :, to % self._size] = buffer[:, blocks, :, rows % self._size]

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
