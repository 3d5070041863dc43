"""The transformers engine on CUDA: what holds on a CPU holds there. Skipped where there is no such device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.integrations.transformers import decode
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import check_every_drafter, fresh, run
from tests.lossless.test_custom_batches import EOS, LIMIT, PAD, padded, prompts
from tests.lossless.tiny import CONFIGS, TOLERANCE, VOCABULARY, reference, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cuda(name: str, dtype: torch.dtype = torch.float64) -> Any:
    return tiny(name, dtype=dtype).to("cuda")


def given(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    return {name: tensor.cuda() for name, tensor in padded(rows).items()}


def said(model: Any, rows: list[list[int]], **options: Any) -> list[list[int]]:
    torch.manual_seed(3)
    usual = {"max_new_tokens": LIMIT, "do_sample": False, "pad_token_id": PAD}
    out = model.generate(**given(rows), **{**usual, **options})
    return [row[max(map(len, rows)) :] for row in out.tolist()]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_drafter_says_what_plain_generate_says(name: str) -> None:
    model = on_cuda(name)
    prompt = prompts(1)[0]
    truth = said(model, [prompt])[0]
    check_every_drafter(HFEngine(model), prompt, truth, VOCABULARY)
    assert truth == reference(tiny(name), prompt, LIMIT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CONFIGS)
def test_rows_of_a_batch_are_those_of_their_prompts_alone(name: str, dtype: torch.dtype) -> None:
    model, rows = on_cuda(name, dtype), prompts(2)
    ours = said(model, rows, eos_token_id=EOS, custom_generate=decode(budget=9))
    for row, found in zip(rows, ours, strict=True):
        alone = said(model, [row], eos_token_id=EOS)[0]
        assert found == alone + [PAD] * (len(found) - len(alone))


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_seed_draws_the_same_whatever_is_drafted(name: str) -> None:
    engine, prompt = HFEngine(on_cuda(name)), prompts(1)[0]
    found = []
    for method, nodes in (("RandomTree", 0), ("RandomTree", 9), ("OracleInATree", 9)):
        truth = found[0] if found else []
        drafter = HARMLESS[method](VOCABULARY, prompt + truth, 3)
        options = Options(LIMIT, FixedBudget(nodes))
        options.verifier = Sampler(engine.values, Sampling(temperature=0.8, top_k=20).filters(), 11)
        found.append(run(engine, drafter, prompt, options)[0])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_by_themselves_are_the_whole(name: str) -> None:
    engine, allowed = HFEngine(on_cuda(name)), TOLERANCE.get(name, 1e-9)
    tree = DraftTree.build([7, 8, 9, 10], [-1, 0, -1, 1])
    text, last = np.arange(5, 40, dtype=np.int32), np.array([5], dtype=np.int32)
    whole, pieces = engine.open(reuse=None), engine.open(reuse=None)
    for sequence in (whole, pieces):
        sequence.prefill(text)
    scored = engine.forward([Part(whole, last, tree, hidden=(1,))])[0]
    early = engine.forward_layers(Part(pieces, last, tree), 0, 1)
    torch.testing.assert_close(early, scored.hidden[1], rtol=allowed, atol=allowed)
    late = engine.forward_layers(Part(pieces, last, tree), 1, len(engine.layers), early)
    torch.testing.assert_close(engine.head(late), scored.logits, rtol=allowed, atol=allowed)
    pieces.commit([0, 1])
    after = fresh(engine, [*text.tolist(), 5, 7, 8, 9])
    torch.testing.assert_close(pieces.forward(9, DraftTree.empty()), after, rtol=allowed, atol=allowed)
