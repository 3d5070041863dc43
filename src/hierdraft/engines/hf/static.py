"""A forward of fixed sizes: whatever it reads and writes lies where it always lies, so that it can be captured.

What differs from one forward to the next is told in one small buffer, copied to the device at once: ids, positions,
where rows are written, how long the texts are, and which new rows see which. Everything else, the masks too, is made of
it on the device. Rows and texts that are not there are made up so that nobody sees them: rows repeat their text's last
one and are written where nothing is read, texts see one row of zeros.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from hierdraft.engines.hf.mask import of_layers, seen_rows
from hierdraft.engines.hf.slots import UNREAD, ZEROS, Slots
from hierdraft.protocols import Part


@dataclass(frozen=True, slots=True)
class Size:
    """How many texts a forward has, how many rows each, and how many positions of their texts these attend to."""

    texts: int
    rows: int
    width: int


class _Told:
    """What a forward is told, as views of one buffer of bytes.

    ids, positions, written   int64[B, T]; `written`: numbers of the slots' rows
    first, held, end          int64[B]: a slot's first row; positions held before this forward; and with it
    seen                      bool[B, T, T]: whether a row sees a new one. All see the first
    """

    def __init__(self, buffer: torch.Tensor, size: Size) -> None:
        count, each = size.texts * size.rows, size.texts
        numbers = buffer[: 8 * 3 * (count + each)].view(torch.int64)
        self.ids, self.positions, self.written = numbers[: 3 * count].view(3, size.texts, size.rows)
        self.first, self.held, self.end = numbers[3 * count :].view(3, each)
        self.seen = buffer[8 * 3 * (count + each) :].view(torch.bool).view(size.texts, size.rows, size.rows)

    @staticmethod
    def bytes(size: Size) -> int:
        """How many it takes."""
        return 8 * 3 * size.texts * (size.rows + 1) + size.texts * size.rows**2


class StaticForward:
    """A forward of one size; calling it runs the model over what it was told last: logits [B, T, V]."""

    def __init__(self, model: Any, windows: Sequence[int | None], slots: Slots, size: Size) -> None:
        """`windows`: see `layer_windows`; `slots`: where the texts lie."""
        self.size = size
        self._model, self._windows, self._slots = model, windows, slots
        device: torch.device = model.device
        there = device.type == "cuda"
        self._buffer = torch.zeros(_Told.bytes(size), dtype=torch.uint8, pin_memory=there)
        self._copy = torch.zeros(_Told.bytes(size), dtype=torch.uint8, device=device)
        self._copied = torch.cuda.Event() if there else None  # type: ignore[no-untyped-call]
        self._host, self._told = _Told(self._buffer, size), _Told(self._copy, size)
        self._columns = torch.arange(size.width, device=device)

    def tell(self, parts: Sequence[Part]) -> None:
        """What the next call is about: at most B parts of at most T rows, whose caches lie in the slots."""
        if self._copied is not None:
            self._copied.synchronize()
        host = self._host
        for field in (host.ids, host.positions, host.first, host.held, host.end, host.seen):
            field.zero_()
        host.written.fill_(UNREAD)
        host.seen[:, :, 0] = True
        for place, part in enumerate(parts):
            self._tell(place, part)
        self._copy.copy_(self._buffer, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def _tell(self, place: int, part: Part) -> None:
        host, tree, text, length = self._host, part.tree, len(part.tokens), part.sequence.length
        rows, first = text + len(tree), self._slots.first(part.sequence.cache)  # type: ignore[attr-defined]
        ids, positions = host.ids[place].numpy(), host.positions[place].numpy()
        ids[:text], ids[text:rows] = part.tokens, tree.tokens
        positions[:text] = np.arange(length, length + text)
        positions[text:rows] = tree.depths() + (length + text - 1)
        host.written[place].numpy()[:rows] = np.arange(first + length, first + length + rows)
        host.first[place], host.held[place], host.end[place] = first, length, length + rows
        seen = host.seen[place].numpy()
        seen[:rows, :rows] = seen_rows(tree, text)
        for line in (ids, positions, seen):
            line[rows:] = line[rows - 1]

    def __call__(self) -> torch.Tensor:
        """See the class. Nothing here depends on the values of a tensor."""
        told = self._told
        read = torch.where(self._columns < told.end[:, None], told.first[:, None] + self._columns, ZEROS)
        cache = _SlotCache(self._slots, len(self._windows), self.size, told.written.view(-1), read.view(-1))
        with torch.no_grad():
            logits: torch.Tensor = self._model(
                input_ids=told.ids, position_ids=told.positions, attention_mask=self._masks(),
                past_key_values=cache, use_cache=True,
            ).logits  # fmt: skip
        return logits

    def _masks(self) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive [B, 1, T, width]: a row sees what is held, as it sees the first new row, and new rows as told."""
        told, rows = self._told, self.size.rows
        new = self._columns - told.held[:, None]
        place = new.clamp(0, rows - 1)
        seen = told.seen.gather(2, place[:, None].expand(-1, rows, -1)) & (new < rows)[:, None]
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=seen.device)
        full = mask.masked_fill(~seen, float("-inf"))

        def near(window: int) -> torch.Tensor:
            position = torch.where(new < 0, self._columns, told.positions.gather(1, place))
            far = position[:, None] <= told.positions[:, :, None] - window
            return full.masked_fill(far, float("-inf"))[:, None]

        return of_layers(self._windows, full[:, None], near)


class _SlotCache(Cache):  # type: ignore[misc]
    """The slots of B texts as the cache of a call; `written`, `read`: numbers of rows, [B*T] and [B*width]."""

    def __init__(self, slots: Slots, layers: int, size: Size, written: torch.Tensor, read: torch.Tensor) -> None:
        self.slots, self.size, self.written, self.read = slots, size, written, read
        super().__init__(layers=[_SlotLayer(self, index) for index in range(layers)])


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of them."""

    is_sliding = False

    def __init__(self, owner: _SlotCache, index: int) -> None:
        super().__init__()
        self._owner = cast("_SlotCache", weakref.proxy(owner))
        self._index = index

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The slots are there."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Write the new rows [B, heads, T, dim]; those of all texts and the new ones as [B, heads, width, dim]."""
        keys, values = self._owner.slots.layer(self._index)
        return self._written(keys, key_states), self._written(values, value_states)

    def _written(self, rows: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        owner, shape = self._owner, rows.shape[1:]
        rows.index_copy_(0, owner.written, new.transpose(1, 2).reshape(-1, *shape))
        flat = rows.flatten(1)
        words = torch.int64 if flat.shape[1] * flat.itemsize % 8 == 0 else flat.dtype  # whole words are sooner copied
        read = flat.view(words).index_select(0, owner.read).view(flat.dtype)
        return read.view(owner.size.texts, owner.size.width, *shape).transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """(positions attended to, offset of the first)."""
        return self._owner.size.width, 0

    def get_seq_length(self) -> int:
        """More than any text has: a model that counts on it is found out by what it says."""
        return self._owner.size.width

    def get_max_length(self) -> int:
        """No bound."""
        return -1
