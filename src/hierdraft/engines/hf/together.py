"""Several sequences in one call of the model: who shares a call, and what the model is given then.

Every sequence keeps a cache of its own. For a call of several, each layer writes the new rows into those caches and
lays the texts side by side in one buffer, which all layers share. That is a copy of the texts per call. Calls that are
captured in CUDA graphs find the texts by the numbers of their rows instead (`slots.py`, `static.py`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from hierdraft.engines.hf.cache import TreeCache
from hierdraft.engines.hf.mask import full_mask, positions, sliding_mask
from hierdraft.engines.sequences import known_rows, new_rows
from hierdraft.protocols import Part, Scored

_CALL = {"cpu": 16.0}
_CALL_ELSEWHERE = 256.0
"""A call of the model costs as much as this many rows more in one that is made anyway."""

_COLUMNS = 256
"""Laying this many positions of a text beside others costs as much as a row."""


Price = Callable[[int, int, int], float]
"""What a call costs, in rows: of so many texts, the longest with so many rows and so many positions in all."""


def price_on(device: str) -> Price:
    """Of calls of the model as it is."""
    call = _CALL.get(device.partition(":")[0], _CALL_ELSEWHERE)
    return lambda count, rows, width: call + count * (rows + (width / _COLUMNS if count > 1 else 0.0))


def calls(parts: Sequence[Part], price: Price) -> list[list[int]]:
    """Which parts share a call: places in `parts`, so that rows, padding and calls together cost the least.

    A prompt beside small trees is a call of its own: every tree would be padded to its length.
    """
    order = sorted(range(len(parts)), key=lambda place: -new_rows(parts[place]))
    rows = [new_rows(parts[place]) for place in order]
    widths = [
        parts[place].sequence.length + known_rows(parts[place]) + count
        for place, count in zip(order, rows, strict=True)
    ]
    best, cuts = [0.0], [0]
    for end in range(1, len(order) + 1):
        found, width = (float("inf"), 0), 0
        for start in reversed(range(end)):
            width = max(width, widths[start])
            found = min(found, (best[start] + price(end - start, rows[start], width), start))
        best.append(found[0])
        cuts.append(found[1])
    bounds = [len(order)]
    while bounds[-1] > 0:
        bounds.append(cuts[bounds[-1]])
    return [order[start:end] for start, end in pairwise(reversed(bounds))]


class SideBySide(Cache):  # type: ignore[misc]
    """The caches of B sequences, as one for a call of T rows each, of which a sequence may have fewer."""

    def __init__(self, caches: Sequence[TreeCache], rows: Sequence[int]) -> None:
        """`rows`: how many each sequence has; what is beyond them in the call is padding and kept nowhere."""
        self.caches = caches
        self.rows = rows
        self.lengths = [cache.length + cache.layers[0].ahead for cache in caches]
        self.width = max(length + count for length, count in zip(self.lengths, rows, strict=True))
        self._buffers: dict[tuple[Any, ...], torch.Tensor] = {}
        super().__init__(layers=[_SharedLayer(self, index) for index in range(len(caches[0].layers))])

    def beside(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values [B, heads, T, dim]; all of it as [B, heads, width, dim]."""
        texts = [
            cache.layers[index].update(keys[place : place + 1, :, :count], values[place : place + 1, :, :count])
            for place, (cache, count) in enumerate(zip(self.caches, self.rows, strict=True))
        ]
        if not any(self.lengths):  # texts that begin lie side by side already
            return keys, values
        return self._laid("keys", [text[0] for text in texts]), self._laid("values", [text[1] for text in texts])

    def _laid(self, kind: str, texts: Sequence[torch.Tensor]) -> torch.Tensor:
        _, heads, _, dim = texts[0].shape
        key = kind, heads, dim, texts[0].dtype, texts[0].device
        if key not in self._buffers:  # zeros after each text stay: whatever is masked must at least be a number
            self._buffers[key] = texts[0].new_zeros(len(texts), heads, self.width, dim)
        buffer = self._buffers[key]
        for place, text in enumerate(texts):
            buffer[place, :, : text.shape[2]] = text[0]
        return buffer


class _SharedLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of all sequences of a call."""

    is_sliding = False

    def __init__(self, owner: SideBySide, index: int) -> None:
        super().__init__()
        self._owner = cast("SideBySide", weakref.proxy(owner))  # without a cycle buffers go when the call is over
        self._index = index

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The sequences' own layers take what comes."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """See `SideBySide.beside`."""
        return self._owner.beside(self._index, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """(positions attended to, offset of the first)."""
        return self._owner.width, 0

    def get_seq_length(self) -> int:
        """Positions of the longest text."""
        longest: int = max(self._owner.lengths)
        return longest

    def get_max_length(self) -> int:
        """No bound: the caches grow."""
        return -1


class Inputs:
    """What the model is given for a call of several parts, each row of them at the front of its own line."""

    def __init__(self, parts: Sequence[Part], windows: Sequence[int | None], dtype: torch.dtype, device: Any) -> None:
        """Room is made in the caches; nothing else changes."""
        self.parts = parts
        self.rows = max(map(new_rows, parts))
        self._device = device
        caches: list[TreeCache] = [part.sequence.cache for part in parts]  # type: ignore[attr-defined]
        for cache, part in zip(caches, parts, strict=True):
            cache.reserve(known_rows(part) + new_rows(part))
        self.cache = SideBySide(caches, [*map(new_rows, parts)])
        self._window = min((window for window in windows if window is not None), default=None)
        self._mixed = None in windows
        self._dtype = dtype

    def given(self) -> dict[str, Any]:
        """Ids and positions [B, T], the additive mask or masks [B, 1, T, width], and the cache."""
        ids = torch.stack([self._padded(_ids(part)) for part in self.parts]).to(self._device)
        if not any(self.cache.lengths) and not any(len(part.tree) for part in self.parts):
            # Texts that begin: each row sees what is before it, so that the model's own mask serves, padding included.
            where = torch.arange(self.rows).expand(len(self.parts), -1).to(self._device)
            return {"input_ids": ids, "position_ids": where, "past_key_values": self.cache, **self._features()}
        cpu = torch.device("cpu")
        where_each = [positions(part.tree, _length(part), cpu, len(part.tokens)) for part in self.parts]
        new = [self._padded(where[0, known_rows(part) :]) for part, where in zip(self.parts, where_each, strict=True)]
        return {
            "input_ids": ids,
            "position_ids": torch.stack(new).to(self._device),
            "attention_mask": self._masks(where_each),
            "past_key_values": self.cache,
            **self._features(),
        }

    def _features(self) -> dict[str, torch.Tensor]:
        """What goes in beside ids, [B, T, F], where anything does."""
        given = [self._padded(torch.from_numpy(part.features)) for part in self.parts if part.features is not None]
        return {"features": torch.stack(given).to(self._device)} if given else {}

    def _padded(self, line: torch.Tensor) -> torch.Tensor:
        """A line of T rows: those that are missing repeat the last one, see what it sees, and are seen by none."""
        return torch.cat([line, line[-1:].expand(self.rows - len(line), *line.shape[1:])])

    def _masks(self, where: Sequence[torch.Tensor]) -> torch.Tensor | dict[str, torch.Tensor]:
        cpu = torch.device("cpu")
        full = [
            full_mask(part.tree, _length(part), self._dtype, cpu, len(part.tokens), part.among) for part in self.parts
        ]
        if self._window is None:
            return self._wide(full)
        sliding = [
            sliding_mask(mask, own, _length(part), self._window)
            for part, mask, own in zip(self.parts, full, where, strict=True)
        ]
        if not self._mixed:
            return self._wide(sliding)
        return {"full_attention": self._wide(full), "sliding_attention": self._wide(sliding)}

    def _wide(self, masks: Sequence[torch.Tensor]) -> torch.Tensor:
        made = torch.full((len(masks), 1, self.rows, self.cache.width), float("-inf"), dtype=self._dtype)
        for place, (part, mask) in enumerate(zip(self.parts, masks, strict=True)):
            made[place, 0, :, : mask.shape[3]] = self._padded(mask[0, 0, known_rows(part) :])
        return made.to(self._device)

    def scored(self) -> torch.Tensor:
        """int64[k]: which of the T rows have logits in any part, ascending."""
        seen = np.zeros(self.rows, dtype=bool)
        for part in self.parts:
            seen[len(part.tokens) - part.rows : new_rows(part)] = True
        return torch.from_numpy(np.flatnonzero(seen) if seen.any() else np.array([self.rows - 1]))

    def split(self, logits: torch.Tensor, scored: torch.Tensor, hidden: Mapping[int, torch.Tensor]) -> list[Scored]:
        """Each part's own of logits [B, k, V] of the rows `scored`, and of hidden states [B, T, dim]."""
        found = []
        for place, part in enumerate(self.parts):
            first, end = len(part.tokens) - part.rows, new_rows(part)
            start = int(torch.searchsorted(scored, first))
            own = {number: hidden[number][place, :end] for number in part.hidden}
            found.append(Scored(logits[place, start : start + end - first], hidden=own))
        return found


def _ids(part: Part) -> torch.Tensor:
    ids = np.concatenate([part.tokens, part.tree.tokens])[known_rows(part) :]
    return torch.from_numpy(ids.astype(np.int64))


def _length(part: Part) -> int:
    """Tokens that its sequence holds."""
    length: int = part.sequence.length
    return length
