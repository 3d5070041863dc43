"""A preallocated key/value cache for transformers models: write in place, keep a path, refuse what cannot rewind.

A forward of T rows writes its keys and values after the kept ones, and after what other forwards wrote there and still
counts, and attends to all through views; nothing is concatenated. Committing gathers the accepted rows into place. All
layers of one shape share one block of memory, so a gather is two operations however many layers there are.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from hierdraft.engines.hf.slots import Block, Shape, Slots
from hierdraft.errors import UnsupportedModelError

GROWTH = 256
"""Positions that are added at least whenever the cache is full."""


class RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values [1, heads, capacity, dim], of which the first `owner.length` positions are kept.

    ahead   how many rows after those were written and still count
    """

    is_sliding = False

    def __init__(self, owner: TreeCache) -> None:
        super().__init__()
        self._owner = cast("TreeCache", weakref.proxy(owner))  # without a cycle the memory goes with the cache, at once
        self.ahead = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the first forward's keys and values as they are; `TreeCache.settle` moves them into a block."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [1, heads, T, dim] after the rows that count; all of them are returned as views."""
        start = self._owner.length + self.ahead
        stop = start + key_states.shape[2]
        self.ahead += key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        self.keys[:, :, start:stop] = key_states
        self.values[:, :, start:stop] = value_states
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(positions attended to, offset of the first)."""
        return self._owner.length + query_length, 0

    def get_seq_length(self) -> int:
        """Positions kept."""
        return self._owner.length

    def get_max_length(self) -> int:
        """No bound: the cache grows."""
        return -1


class TreeCache(Cache):  # type: ignore[misc]
    """The cache of one request."""

    def __init__(self, layers: int, slots: Slots | None = None) -> None:
        """`layers`: how many attention layers the model has; `slots`: where it lies once it is settled, if anywhere."""
        self.length = 0
        self._slots = slots
        self._blocks: list[Block] = []
        self._capacity = 0
        super().__init__(layers=[RowLayer(self) for _ in range(layers)])

    def settle(self, room: int) -> None:
        """After the first forward: move all layers into shared blocks with `room` more positions."""
        if not self._blocks:
            self._move(max((layer.ahead for layer in self.layers), default=0) + room)

    def hold(self, rows: int) -> None:
        """Keep the next `rows` of the rows that count."""
        self.length += rows
        for layer in self.layers:
            layer.ahead -= rows

    def written(self) -> list[int]:
        """Of every layer, how many rows after the kept positions count."""
        return [layer.ahead for layer in self.layers]

    def count(self, ahead: Sequence[int]) -> None:
        """Of every layer, no more than so many rows after the kept positions count."""
        for layer, rows in zip(self.layers, ahead, strict=True):
            layer.ahead = rows

    def add(self, rows: int) -> None:
        """Of every layer, so many more rows count: they were written elsewhere than through `update`."""
        for layer in self.layers:
            layer.ahead += rows

    def drop(self) -> None:
        """None of the rows after the kept positions count."""
        for layer in self.layers:
            layer.ahead = 0

    def reserve(self, rows: int) -> None:
        """Make sure that `rows` rows fit after the kept positions; a cache without blocks takes any number."""
        if self._blocks and self.length + rows > self._capacity:
            self._move(self.length + rows + max(GROWTH, self._capacity // 2))

    def drop_unsettled(self) -> None:
        """After a forward that failed: let go of rows that some layers of an empty cache have taken, and others not."""
        if self.length == 0 and not self._blocks:
            self.layers[:] = [RowLayer(self) for _ in self.layers]

    def _move(self, capacity: int) -> None:
        shapes: dict[Shape, list[int]] = {}
        for index, layer in enumerate(self.layers):
            if layer.is_initialized:
                k, v = layer.keys, layer.values
                shapes.setdefault((k.shape[1], k.shape[3], v.shape[3], k.dtype, k.device), []).append(index)
        blocks = self._slots.take(self, shapes, capacity) if self._slots is not None else None
        if blocks is None:
            blocks = [_block(shape, members, capacity) for shape, members in shapes.items()]
        for keys, values, members in blocks:
            for place, index in enumerate(members):
                layer = self.layers[index]
                used = self.length + layer.ahead
                keys[place, :, :, :used] = layer.keys[:, :, :used]
                values[place, :, :, :used] = layer.values[:, :, :used]
        self.lie_in(blocks)  # now that there was memory for all
        self._capacity = blocks[0][0].shape[3] if blocks else capacity

    def lie_in(self, blocks: Sequence[Block]) -> None:
        """From now on the rows are these, which hold what the others hold."""
        for keys, values, members in blocks:
            for place, index in enumerate(members):
                self.layers[index].keys, self.layers[index].values = keys[place], values[place]
        self._blocks = [*blocks]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these of the rows that count, in order, and no others; `rows` must ascend."""
        start, stop = self.length, self.length + len(rows)
        if list(rows) != list(range(len(rows))):
            for keys, values, _ in self._blocks:
                index = torch.tensor(rows, device=keys.device) + start
                keys[:, :, :, start:stop] = keys.index_select(3, index)
                values[:, :, :, start:stop] = values.index_select(3, index)
        self.length = stop
        self.drop()

    def rewind(self, length: int) -> None:
        """Keep only the first `length` positions."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        self.length = length
        self.drop()


def _block(shape: Shape, members: list[int], capacity: int) -> Block:
    """Memory of its own for layers of one shape."""
    heads, key_dim, value_dim, dtype, device = shape
    keys = torch.zeros(len(members), 1, heads, capacity, key_dim, dtype=dtype, device=device)
    values = torch.zeros(len(members), 1, heads, capacity, value_dim, dtype=dtype, device=device)
    return keys, values, members


def layer_windows(model: Any) -> list[int | None]:
    """For each layer its attention window in positions, None for full attention.

    Raises UnsupportedModelError, naming the reason, for a model whose cache cannot be rewound to a position.
    """
    config, name = model.config, model.__class__.__name__  # of the model, where it is a weak proxy
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder model; hierdraft verifies drafts on decoder-only models."
        )
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModelError(
            f"{name} keeps a recurrent state that cannot be rewound, so drafts cannot be verified; "
            "use its plain generate()."
        )
    text_config = config.get_text_config(decoder=True)
    if "chunked_attention" in (getattr(text_config, "layer_types", None) or ()):
        raise UnsupportedModelError(f"{name} uses chunked attention, which hierdraft does not support yet.")
    windows: list[int | None] = []
    for layer in DynamicCache(config=config).layers:
        if type(layer) is DynamicLayer:
            windows.append(None)
        elif type(layer) is DynamicSlidingWindowLayer:
            windows.append(int(layer.sliding_window))
        else:
            raise UnsupportedModelError(
                f"{name} has a layer with a cache of kind {type(layer).__name__}, which cannot be rewound to a "
                "position, so drafts cannot be verified; use its plain generate()."
            )
    return windows
