"""Layers that are gone through several times: training, the composed model, and several tokens at different depths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from hierdraft.engines.hf.looped import Looped
from hierdraft.errors import ModelError, UsageError
from hierdraft.models.named import resolve
from hierdraft.training.settings import Limits, Training
from hierdraft.training.train import Job, train_drafter
from tests.unit.test_training import rows_of, save_target, write


def model_of(loops: int, count: int = 2, seed: int = 0) -> LlamaForCausalLM:
    """Random, of `count` layers that come `loops` times."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=23, hidden_size=32, intermediate_size=48, num_hidden_layers=loops * count, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double().eval()
    for number in range(count, loops * count):
        model.model.layers[number].load_state_dict(model.model.layers[number % count].state_dict())
    return model


@torch.inference_mode()
def plain(model: Any, prompt: list[int], limit: int) -> list[int]:
    text = [*prompt]
    for _ in range(limit):
        text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("loops", [2, 3, 5])
def test_pipelined_is_sequential_is_the_model(loops: int) -> None:
    drafted = right = 0
    for seed in range(4):
        model = model_of(loops, 1 + seed % 2, seed)
        prompt = np.random.default_rng(seed).integers(0, 23, 1 + 4 * seed).tolist()
        expected = plain(model, prompt, 25)
        one = Looped(model, loops).sequential(prompt, 25)
        assert one.ids == expected
        assert (one.calls, one.drafted) == (25 * loops, 0)
        for early in range(1, loops):
            found = Looped(model, loops).pipelined(prompt, 25, early)
            assert found.ids == expected, (seed, early)
            assert found.calls <= 25 * loops
            drafted, right = drafted + found.drafted, right + found.right
    assert drafted > right > 0


def test_drafts_that_are_always_right_take_a_call_each() -> None:
    """A layer that changes nothing says at once what it says at last."""
    model = model_of(4, 1)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    for early in (1, 2, 3):
        found = Looped(model, 4).pipelined([3, 5], 20, early)
        assert found.ids == plain(model, [3, 5], 20)
        assert found.right == found.drafted == 19
        assert found.calls == 4 + 19 * early


def test_a_looped_drafter_is_trained_and_is_an_ordinary_model(tmp_path: Path) -> None:
    target = save_target(tmp_path / "base")
    data = write(tmp_path / "said.jsonl", rows_of(120))
    training = Training(layers=1, loops=3, rows=60, window=64, batch=4, learning_rate=1e-2, held_out=0.2, init="random")
    job = Job(str(target), [data], tmp_path / "looped", training, Limits(steps=40), every=0.0, threads=1)
    found = train_drafter(job, tmp_path / "cache")
    assert found is not None
    assert found["curve"][-1]["loss"] < found["curve"][0]["loss"]
    assert found["held_out"]["agreement"]["1"]["top1"] > 0.15
    folder = resolve(str(tmp_path / "looped"), tmp_path / "cache").path
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    assert len(model.model.layers) == 3
    prompt = rows_of(1)[0]["prompt_ids"]
    expected = plain(model, prompt, 12)
    assert Looped(model, 3).sequential(prompt, 12).ids == expected
    assert Looped(model, 3).pipelined(prompt, 12, 1).ids == expected
    config = tmp_path / "looped" / "config.json"
    config.write_text(config.read_text().replace('"loops": 3', '"loops": 0'))
    with pytest.raises(ModelError, match="how often the layers are gone through"):
        resolve(str(tmp_path / "looped"), tmp_path / "cache")


def test_what_is_not_looped_is_refused() -> None:
    model = model_of(2)
    for loops in (1, 3):
        with pytest.raises(UsageError, match="times the same ones"):
            Looped(model, loops)
    with pytest.raises(UsageError, match="early must be"):
        Looped(model, 2).pipelined([1], 3, 2)
    with pytest.raises(UsageError, match="--loops must be"):
        Training(loops=0).check()
