"""Memory for the keys and values of many texts that stays where it is, for forwards that always use the same memory.

All texts lie in one block for each shape of layers, [layers, rows, heads, dim]: a text has a range of its rows, its
slot, and whoever comes next has what is free. A forward finds rows by their numbers, so that nothing it was made of
changes when texts come, grow and go. Two rows at the front belong to nobody: one of zeros, which is read in place of
rows that a text does not have, and one that is written in place of rows that nobody wants and is never read. What is
left of earlier texts is thus never looked at, not even multiplied by zero.

Only where there is not room enough the block moves, to one twice as large, as long as memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

Shape = tuple[Any, ...]
"""heads, dimension of keys, dimension of values, number type, device."""

Block = tuple[torch.Tensor, torch.Tensor, list[int]]
"""Keys and values [layers, 1, heads, capacity, dim] of one text, and which layers these are."""

ZEROS, UNREAD = 0, 1
_FRONT = 2
_STEP = 256
_FIRST = 2048
_SHARE = 0.5
"""Rows that belong to nobody; slots have a multiple of so many rows, the first block so many; and a new block may take
this share of the memory that is free."""


class Holder(Protocol):
    """What has a slot."""

    def lie_in(self, blocks: Sequence[Block]) -> None:
        """From now on its rows are these."""


class Slots:
    """One block for each shape of layers, and who has which rows of it."""

    def __init__(self, free: Callable[[], int]) -> None:
        """`free`: bytes that could be taken now."""
        self.moved = 0
        self._free = free
        self._rows = 0
        self._shapes: dict[Shape, list[int]] = {}
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._places: dict[int, tuple[int, int]] = {}
        self._held: WeakKeyDictionary[Any, range] = WeakKeyDictionary()

    def __contains__(self, holder: object) -> bool:
        return holder in self._held

    def first(self, holder: Holder) -> int:
        """The number of its first row."""
        return self._held[holder].start

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows of a layer: keys and values [rows, heads, dim]."""
        block, place = self._places[index]
        return self._keys[block][place], self._values[block][place]

    def take(self, holder: Holder, shapes: Mapping[Shape, list[int]], capacity: int) -> list[Block] | None:
        """Room for `capacity` rows or a few more; None where there is none. What it has already lies where it lay.

        shapes   which layers have keys and values of which shape; the same for all
        """
        if not self._shapes:
            self._shapes = {shape: [*members] for shape, members in shapes.items()}
        if not shapes or shapes != self._shapes:
            return None
        rows = -(-capacity // _STEP) * _STEP
        start = self._gap(rows)
        if start + rows > self._rows and not self._grow(start + rows):
            self._held.pop(holder, None)
            return None
        self._held[holder] = range(start, start + rows)
        return self._blocks(self._held[holder])

    def _gap(self, rows: int) -> int:
        """Where so many rows are free, if only beyond the end."""
        start = _FRONT
        for held in sorted(self._held.values(), key=lambda one: one.start):
            if held.start - start >= rows:
                break
            start = held.stop
        return start

    def _grow(self, least: int) -> bool:
        """Move to larger blocks; False where memory does not allow it."""
        each = sum(
            len(members) * heads * (key_dim + value_dim) * dtype.itemsize
            for (heads, key_dim, value_dim, dtype, _), members in self._shapes.items()
        )
        most = int(_SHARE * self._free()) // max(1, each)
        rows = min(max(least, 2 * self._rows, _FIRST), most)
        if rows < least:
            return False
        try:
            keys = [self._larger(rows, shape, 1) for shape in self._shapes]
            values = [self._larger(rows, shape, 2) for shape in self._shapes]
        except torch.OutOfMemoryError:
            return False
        for new, old in [*zip(keys, self._keys, strict=False), *zip(values, self._values, strict=False)]:
            new[:, : old.shape[1]] = old
        self._keys, self._values, self._rows = keys, values, rows
        self._places = {
            index: (block, place)
            for block, members in enumerate(self._shapes.values())
            for place, index in enumerate(members)
        }
        self.moved += 1
        for holder, held in [*self._held.items()]:
            holder.lie_in(self._blocks(held))
        return True

    def _larger(self, rows: int, shape: Shape, dim: int) -> torch.Tensor:
        layers, (heads, *_, dtype, device) = len(self._shapes[shape]), shape
        return torch.zeros(layers, rows, heads, shape[dim], dtype=dtype, device=device)

    def _blocks(self, held: range) -> list[Block]:
        found = []
        for keys, values, members in zip(self._keys, self._values, self._shapes.values(), strict=True):
            mine = [block[:, None, held.start : held.stop].transpose(2, 3) for block in (keys, values)]
            found.append((mine[0], mine[1], members))
        return found


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on a CUDA device, what torch keeps for later included."""
    with torch.cuda.device(device):
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + kept
