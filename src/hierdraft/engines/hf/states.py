"""The cache of a model with recurrent states: rows where layers attend, and states that stand for the whole text.

Rows can be cut anywhere. A state cannot: once a token has gone into it, it is there. So the states are copied before
every forward, which costs little since they are small, and the copy is put back where the forward does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    DummyLayer,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from hierdraft.engines.hf.cache import RowLayer, TreeCache
from hierdraft.errors import UnsupportedModelError


class Kind(NamedTuple):
    """What a layer keeps: whether rows, and how many pairs of a convolution's and a recurrent state."""

    rows: bool
    states: int


_KINDS: dict[type, bool] = {
    DynamicLayer: True, LinearAttentionLayer: False, LinearAttentionAndFullAttentionLayer: True, DummyLayer: False,
}  # fmt: skip


def state_layout(model: Any) -> tuple[Kind, ...] | None:
    """What each layer keeps of a model some of whose layers keep states; None for any other model.

    Raises UnsupportedModelError where such a model has layers of other kinds besides.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    layers = DynamicCache(config=model.config).layers
    if not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        return None
    other = next((type(layer).__name__ for layer in layers if type(layer) not in _KINDS), None)
    if other is not None:
        raise UnsupportedModelError(
            f"{model.__class__.__name__} has a layer with a cache of kind {other} beside recurrent states, which "
            "hierdraft does not support yet; use its plain generate()."
        )
    return tuple(Kind(_KINDS[type(layer)], getattr(layer, "number_of_states", 0)) for layer in layers)


class StateLayer(LinearAttentionLayer):  # type: ignore[misc]
    """One layer's states."""

    ahead = 0
    is_initialized = False
    """It has no rows, so nothing of it lies in the blocks that layers share."""


class StateRowLayer(StateLayer, RowLayer):
    """One layer's states, and its rows beside them."""

    def __init__(self, owner: StateCache, states: int) -> None:
        RowLayer.__init__(self, owner)
        LinearAttentionLayer.__init__(self, number_of_states=states)

    def lazy_initialization(self, *rows: torch.Tensor, **states: Any) -> None:
        """The first keys and values, or the first states."""
        if rows:
            RowLayer.lazy_initialization(self, *rows)
        else:
            LinearAttentionLayer.lazy_initialization(self, **states)


class _NoLayer(DummyLayer):  # type: ignore[misc]
    """Of a layer that keeps nothing."""

    ahead = 0

    def __init__(self) -> None:
        super().__init__()
        self.is_initialized = False


class StateCache(TreeCache):
    """The cache of one text: its rows, its states, and the states as they were before the last forward."""

    def __init__(self, layout: Sequence[Kind]) -> None:
        """An empty one."""
        super().__init__(0)
        self._layout = layout
        self._clear()

    def _clear(self) -> None:
        self.length = 0
        self._blocks, self._capacity = [], 0
        self.layers = [self._layer(kind) for kind in self._layout]
        self._states: list[torch.Tensor | None] = []
        self._begun: list[dict[int, bool]] = []
        self._before: int | None = None

    def _layer(self, kind: Kind) -> Any:
        if not kind.states:
            return RowLayer(self) if kind.rows else _NoLayer()
        return StateRowLayer(self, kind.states) if kind.rows else StateLayer(number_of_states=kind.states)

    @property
    def states(self) -> list[torch.Tensor | None]:
        """The states themselves, of all layers in order; None for those that do not exist yet."""
        return [held[number] for held, number in self._places()]

    def _places(self) -> list[tuple[dict[int, torch.Tensor | None], int]]:
        return [
            (held, number)
            for layer in self._with_states()
            for held in (layer.conv_states, layer.recurrent_states)
            for number in held
        ]

    def _with_states(self) -> list[StateLayer]:
        return [layer for layer in self.layers if isinstance(layer, StateLayer)]

    def hold(self, rows: int) -> None:
        """Keep the next `rows` of the rows that count."""
        self.length += rows
        for layer in self.layers:
            if isinstance(layer, RowLayer):
                layer.ahead -= rows

    def amplify(self, times: float) -> None:
        """Make the recurrent states louder."""
        for layer in self._with_states():
            for state in layer.recurrent_states.values():
                if state is not None:
                    state.mul_(times)

    def save(self) -> None:
        """Copy the states: a forward is about to write to them, in place."""
        kept = self._states or [None] * len(self._places())
        copied: list[torch.Tensor | None] = []
        for state, spare in zip(self.states, kept, strict=True):
            if state is None:
                copied.append(None)
            elif spare is None or spare.shape != state.shape:
                copied.append(state.clone())
            else:
                copied.append(spare.copy_(state))
        self._states, self._before = copied, self.length
        self._begun = [dict(layer.has_previous_state) for layer in self._with_states()]

    def restore(self) -> None:
        """Put everything back as it was before the last forward."""
        if self._before is None:
            raise RuntimeError("there are no states to put back")
        for place, (held, number) in enumerate(self._places()):
            if self._states[place] is not None:
                held[number], self._states[place] = self._states[place], held[number]
        for layer, begun in zip(self._with_states(), self._begun, strict=True):
            layer.has_previous_state.update(begun)
        self.length, self._before = self._before, None
        self.drop()

    def drop_unsettled(self) -> None:
        """After a forward that failed: everything is as it was before."""
        if self._before == 0 and not self._blocks:
            self._clear()
        elif self._before is not None:
            self.restore()

    def rewind(self, length: int) -> None:
        """Keep at most the first `length` positions: as many as there are states for."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        if length < self.length and self._before is not None:
            self.restore()
        if length < self.length:
            self._clear()
        self.drop()

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Positions kept; transformers' own word, which it does not answer where no layer has rows."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        """(positions attended to, offset of the first)."""
        return self.length + query_length, 0


def held_text(cache: Cache) -> int:
    """How many positions any cache holds; -1 where it holds states of a text and nobody knows how long that is."""
    layers = getattr(cache, "layers", ())
    if isinstance(cache, StateCache) or not layers or any(hasattr(layer, "get_seq_length") for layer in layers):
        length: int = cache.get_seq_length()
        return length
    return -1 if cache.has_previous_state() else 0


def join_states(into: Any, layers: Sequence[Any]) -> None:
    """Put the states of one layer of several texts side by side into one of transformers' own layers."""
    for kind in ("conv_states", "recurrent_states"):
        for number, first in getattr(layers[0], kind).items():
            if first is None:
                continue
            joined = torch.cat([getattr(layer, kind)[number] for layer in layers])
            into.lazy_initialization(**{kind: joined, "state_idx": number})
            getattr(into, kind)[number].copy_(joined)
            into.has_previous_state[number] = True
