"""The cache's memory: how it grows, what is kept, and which models are refused a cache at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.cache_utils import DynamicCache

from hierdraft.engines.hf import cache as kvcache
from hierdraft.engines.hf.cache import TreeCache, layer_windows
from hierdraft.errors import UnsupportedModelError

HEADS, DIM = 2, 4


def filled(length: int, room: int) -> tuple[TreeCache, torch.Tensor]:
    """A cache of two layers after a prefill, and the first layer's keys."""
    cache = TreeCache(2)
    keys = torch.arange(HEADS * length * DIM, dtype=torch.float32).reshape(1, HEADS, length, DIM)
    for layer in cache.layers:
        layer.update(keys, -keys)
    cache.settle(room)
    cache.hold(length)
    return cache, keys


def capacity(cache: TreeCache) -> int:
    return int(cache.layers[0].keys.shape[2])


def test_room_is_used_to_the_last_position() -> None:
    cache, _ = filled(5, 3)
    assert capacity(cache) == 8
    before = cache.layers[0].keys.data_ptr()
    cache.reserve(3)
    assert cache.layers[0].keys.data_ptr() == before
    cache.reserve(4)
    assert cache.layers[0].keys.data_ptr() != before


@pytest.mark.parametrize(
    ("length", "room", "rows", "grown"),
    [(5, 3, 4, 5 + 4 + 256), (1990, 10, 20, 1990 + 20 + 1000), (600, 0, 1, 601 + 300)],
)
def test_the_cache_grows_by_half_and_keeps_what_it_holds(length: int, room: int, rows: int, grown: int) -> None:
    cache, keys = filled(length, room)
    cache.reserve(rows)
    assert capacity(cache) == grown
    assert cache.layers[1].values.shape[2] == grown
    for layer in cache.layers:
        assert torch.equal(layer.keys[:, :, :length], keys)
        assert torch.equal(layer.values[:, :, :length], -keys)


def test_accepted_rows_move_together() -> None:
    cache, keys = filled(3, 5)
    new = torch.randn(1, HEADS, 4, DIM)
    for layer in cache.layers:
        layer.update(new, 2 * new)
    cache.keep([0, 2, 3])
    assert cache.length == cache.layers[0].get_seq_length() == 6
    wanted = torch.cat([keys, new[:, :, [0, 2, 3]]], dim=2)
    for layer in cache.layers:
        assert torch.equal(layer.keys[:, :, :6], wanted)
        assert torch.equal(layer.values[:, :, 3:6], 2 * new[:, :, [0, 2, 3]])
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=f"cannot rewind from 6 to {wrong} positions"):
            cache.rewind(wrong)
    cache.rewind(0)
    assert cache.length == 0
    assert cache.layers[0].get_max_length() == -1, "transformers' word for: no bound"


class Fake:
    """A model that is nothing but its configuration."""

    def __init__(self, stateful: bool | None = None, **config: Any) -> None:
        self.config = SimpleNamespace(**config)
        self.config.get_text_config = lambda decoder=None: LlamaConfig(**config.get("text", {})) if decoder else None
        if stateful is not None:
            self._is_stateful = stateful


class Conveyor:
    """A layer's cache of some other kind."""


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            Fake(is_encoder_decoder=True),
            "Fake is an encoder-decoder model; hierdraft verifies drafts on decoder-only models.",
        ),
        (
            Fake(stateful=True),
            "Fake keeps a recurrent state that cannot be rewound, so drafts cannot be verified; use its plain "
            "generate().",
        ),
        (
            Fake(text={"layer_types": ["chunked_attention"] * 32}),
            "Fake uses chunked attention, which hierdraft does not support yet.",
        ),
        (
            Fake(),
            "Fake has a layer with a cache of kind Conveyor, which cannot be rewound to a position, so drafts cannot "
            "be verified; use its plain generate().",
        ),
    ],
)
def test_models_that_cannot_rewind_are_told_why(model: Fake, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvcache, "DynamicCache", lambda config: SimpleNamespace(layers=[Conveyor()]))
    with pytest.raises(UnsupportedModelError) as told:
        layer_windows(model)
    assert str(told.value) == sentence


def test_windows_are_those_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model says nothing about being stateful or an encoder, it is neither."""
    config = LlamaConfig(num_hidden_layers=3, sliding_window=7)
    config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    monkeypatch.setattr(kvcache, "DynamicCache", lambda config: DynamicCache(config=config.text))
    assert layer_windows(_silent(config)) == [None, 7, None]


def _silent(config: LlamaConfig) -> Any:
    return SimpleNamespace(config=SimpleNamespace(text=config, get_text_config=lambda decoder=None: config))
