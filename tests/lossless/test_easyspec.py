"""Drafts of layers that attend from the same input: what comes out of them, and that answers are what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.models.easyspec import EasySpecMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.pairs import in_groups
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.protocols import Part, Request
from hierdraft.tree import DraftTree
from tests.lossless.drafters import with_model
from tests.lossless.harness import run
from tests.lossless.test_draft_model import SIZE
from tests.lossless.tiny import VOCABULARY, tiny


@torch.inference_mode()
def twin(model: Any, ids: torch.Tensor, size: int, ends: int) -> torch.Tensor:
    """Logits of a Llama whose groups of layers attend from one input, written out."""
    body = model.model
    states, positions = body.embed_tokens(ids), torch.arange(ids.shape[1])[None]
    turned, depth = body.rotary_emb(states, positions), len(body.layers)
    mask = torch.full((ids.shape[1],) * 2, -torch.inf, dtype=states.dtype).triu(1)[None, None]
    given = states
    for number, layer in enumerate(body.layers):
        place = number - ends
        inside = place >= 0 and number < depth - ends
        if not inside or place % size == 0:
            given = states
        attended, _ = layer.self_attn(layer.input_layernorm(given), position_embeddings=turned, attention_mask=mask)
        states = states + attended
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    found: torch.Tensor = model.lm_head(body.norm(states))
    return found


@pytest.mark.parametrize(("size", "ends"), [(1, 0), (2, 0), (2, 1), (3, 0), (4, 0), (9, 0), (2, 2)])
def test_groups_against_layers_written_out(size: int, ends: int) -> None:
    model = tiny("llama")
    ids = torch.tensor([[5, 9, 3, 7, 11]])
    with torch.inference_mode(), in_groups(model.model.layers, size, ends):
        found = model(ids).logits
    torch.testing.assert_close(found, twin(model, ids, size, ends))
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, twin(model, ids, 1, 0), msg="nothing of it stays")
    with pytest.raises(UnsupportedModelError, match="no norm of their own"), in_groups([torch.nn.Identity()], 2, 0):
        pass


@pytest.mark.parametrize("settings", [{}, {"calibrate": False}, {"group": 4}, {"group": 1}])
def test_it_drafts_for_itself_and_changes_nothing(settings: dict[str, Any]) -> None:
    engine, accepted = HFEngine(tiny("llama"), threads=1), 0
    for seed in range(3):
        prompt = np.random.default_rng(seed).integers(0, VOCABULARY, 5).tolist()
        expected, _ = run(engine, PlainMethod(), prompt, Options(31))
        drafter = HFEngine(tiny("llama"), threads=1)
        method = with_model(drafter, EasySpecMethod, width=(1,), depth=4, ends=0, **settings)
        got, steps = run(engine, method, prompt, Options(31, FixedBudget(4)))
        assert got == expected
        accepted += sum(step.accepted for step in steps)
        if settings.get("group") == 1:
            assert [step.accepted for step in steps[1:-1]] == [4] * (len(steps) - 2)
            exact, _ = run(engine, with_model(drafter, DraftModelMethod, width=(1,), depth=4), prompt, Options(31))
            assert exact == expected
    assert accepted > 0


def test_what_was_accepted_is_read_again() -> None:
    """With it, the text's keys are those of the model as it is; without, they are not."""
    ids, more = np.array([5, 9, 3], dtype=np.int32), np.array([5, 9, 3, 7, 4, 8], dtype=np.int32)
    exact = HFEngine(tiny("llama"), threads=1)
    held: Any = exact.open(reuse=None)
    exact.forward([Part(held, more, DraftTree.empty())])
    for calibrate in (True, False):
        engine = HFEngine(tiny("llama"), threads=1)
        method = with_model(engine, EasySpecMethod, ends=0, calibrate=calibrate)
        text: Any = method.text(Request(ids, 9))
        for tokens in (ids, more):
            reading = text.read(tokens, 1)
            (scored,) = method.scored([next(reading)])
            with pytest.raises(StopIteration):
                reading.send([scored.logits])
            if tokens is ids:
                method.scored([text.further(DraftTree.build([7, 4], [-1, 0]))])
                text.settle([0, 1], len(ids))
        for number, (ours, theirs) in enumerate(zip(text._sequence.cache.layers, held.cache.layers, strict=True)):
            same = torch.allclose(ours.keys[:, :, : len(more)], theirs.keys[:, :, : len(more)], atol=1e-9)
            assert same or not (calibrate or number == 0)
            assert not same or calibrate or number == 0


def test_what_cannot_be_done_is_said_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="--engine hf"):
        with_model(ToyEngine(3, SIZE), EasySpecMethod)
    with pytest.raises(UsageError, match="group must be"):
        EasySpecMethod("x", group=0)
