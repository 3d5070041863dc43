"""The transformers engine on CUDA, its forwards captured as graphs and not. Skipped where there is no such device.

What `test_graphs.py` shows of fixed sizes on a CPU is not shown again, only what capturing may change. Short, since
launching a kernel can take long: no drafter that is compiled, few tokens, few families where one stands for others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf import graphs
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.errors import SlowerWarning
from hierdraft.integrations.transformers import decode
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import fresh, run
from tests.lossless.test_custom_batches import EOS, PAD, padded, prompts
from tests.lossless.tiny import CONFIGS, TOLERANCE, VOCABULARY, reference, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LIMIT = 30
PROMPT = prompts(1)[0]
NOTHING = DraftTree.empty()
DENSE = [name for name in CONFIGS if name != "gpt-oss"]


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Nothing runs as always that should be captured."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowerWarning)
        yield


def on_cuda(name: str, dtype: torch.dtype = torch.float64) -> Any:
    return tiny(name, dtype=dtype).to("cuda")


def said(model: Any, rows: list[list[int]], **options: Any) -> list[list[int]]:
    torch.manual_seed(3)
    usual = {"max_new_tokens": LIMIT, "do_sample": False, "pad_token_id": PAD}
    given = {name: tensor.cuda() for name, tensor in padded(rows).items()}
    out = model.generate(**given, **{**usual, **options})
    return [row[max(map(len, rows)) :] for row in out.tolist()]


def decoded(engine: HFEngine, truth: list[int], kind: str = "OracleInATree", nodes: int = 9) -> list[int]:
    drafter = HARMLESS[kind](VOCABULARY, PROMPT + truth, 7)
    return run(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(nodes)))[0]


def captured(engine: HFEngine) -> list[graphs.Size]:
    assert engine.graphs is not None
    return [*engine.graphs._captured]


@pytest.mark.parametrize("name", DENSE)
def test_graphs_say_what_plain_generate_says(name: str) -> None:
    truth = reference(tiny(name), PROMPT, LIMIT)
    engine = HFEngine(on_cuda(name))
    assert run(engine, PlainMethod(), PROMPT, Options(LIMIT))[0] == truth
    assert decoded(engine, truth) == decoded(engine, truth, "RandomTree", 5) == truth
    assert {size.rows for size in captured(engine)} > {1}


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt-oss"])
@pytest.mark.filterwarnings("ignore::hierdraft.errors.SlowerWarning")
def test_without_graphs_and_with_experts(name: str) -> None:
    warnings.simplefilter("ignore", SlowerWarning)  # routing may wait for the device, which cannot be captured
    model = on_cuda(name)
    truth = said(model, [PROMPT])[0]
    for engine in (HFEngine(model, graphs=False), HFEngine(model)):
        assert decoded(engine, truth) == decoded(engine, truth, "RandomTree", 5) == truth


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_float32_too(name: str) -> None:
    model = on_cuda(name, torch.float32)
    truth = said(model, [PROMPT])[0]
    assert decoded(HFEngine(model), truth) == truth


@pytest.mark.parametrize(
    ("name", "dtype"), [("llama", torch.bfloat16), ("llama", torch.float16), ("qwen3", torch.bfloat16)]
)
def test_half_precision_is_as_near_as_it_is_without(name: str, dtype: torch.dtype) -> None:
    model = on_cuda(name, dtype)
    tree = DraftTree.build([7, 8, 9, 10], [-1, 0, -1, 1])
    found = []
    for engine in (HFEngine(model, graphs=False), HFEngine(model), HFEngine(model)):
        sequence = engine.open()
        sequence.prefill(PROMPT)
        for _ in range(2):  # captured, and replayed
            sequence.rewind(len(PROMPT))
            logits = sequence.forward(5, tree)
        found.append(logits.float())
    scale = float(found[0].abs().max())
    assert float((found[0] - found[1]).abs().max()) < 0.05 * scale
    assert torch.equal(found[1], found[2])


@pytest.mark.parametrize(
    ("name", "dtype"), [("llama", torch.float64), ("gemma3", torch.float64), ("gpt2", torch.float32)]
)
def test_rows_of_a_batch_are_those_of_their_prompts_alone(name: str, dtype: torch.dtype) -> None:
    model, rows = on_cuda(name, dtype), prompts(2, 3)
    custom = decode(HARMLESS["RandomTree"](VOCABULARY, [], 3), budget=5)
    ours = said(model, rows, eos_token_id=EOS, custom_generate=custom)
    assert max(size.texts for size in captured(custom.engine(model))) > 1
    for row, found in zip(rows, ours, strict=True):
        alone = said(model, [row], eos_token_id=EOS)[0]
        assert found == alone + [PAD] * (len(found) - len(alone))


def test_a_seed_draws_the_same_whatever_is_drafted() -> None:
    engine = HFEngine(on_cuda("llama"))
    found = list[list[int]]()
    for method, nodes in (("RandomTree", 0), ("RandomTree", 9), ("OracleInATree", 9)):
        drafter = HARMLESS[method](VOCABULARY, PROMPT + (found[0] if found else []), 3)
        options = Options(LIMIT, FixedBudget(nodes))
        options.verifier = Sampler(engine.values, Sampling(temperature=0.8, top_k=20).filters(), 11)
        found.append(run(engine, drafter, PROMPT, options)[0])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["llama", "gemma3"])
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
    torch.testing.assert_close(pieces.forward(9, NOTHING), after, rtol=allowed, atol=allowed)


def test_a_slot_is_used_again_and_grows_and_the_memory_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_NARROWEST", 16)
    model = on_cuda("llama")
    truth = reference(tiny("llama"), PROMPT, LIMIT)
    engine = HFEngine(model)
    assert engine.graphs is not None
    slots = engine.graphs.slots
    assert decoded(engine, truth) == truth
    sizes = captured(engine)
    assert len({size.width for size in sizes}) > 1
    assert decoded(engine, truth) == truth
    assert captured(engine)[-1] in sizes
    assert len(sizes) == len(captured(engine))
    beside = engine.open()
    beside.prefill(PROMPT)
    assert slots.moved == 1
    others = [engine.open() for _ in range(3)]
    for one in others:
        one.prefill(np.arange(5, 85, dtype=np.int32).repeat(8))  # 640 tokens each
    assert slots.moved > 1
    first = beside.forward(truth[0], NOTHING)
    torch.testing.assert_close(first, fresh(engine, [*PROMPT, truth[0]]), rtol=1e-9, atol=1e-9)
    assert decoded(engine, truth) == truth


def test_weights_that_change_in_place_or_are_replaced() -> None:
    model, second = on_cuda("llama"), tiny("llama", seed=5)
    engine, truth = HFEngine(model), reference(second, PROMPT, LIMIT)
    decoded(engine, truth)
    with torch.no_grad():
        for one, other in zip(model.parameters(), second.parameters(), strict=True):
            one.copy_(other)
    assert decoded(engine, truth) == truth
    third = tiny("llama", seed=6)
    second.lm_head = third.lm_head
    model.lm_head.weight = torch.nn.Parameter(third.lm_head.weight.detach().cuda())
    truth = reference(second, PROMPT, LIMIT)
    assert decoded(engine, truth) == truth


def test_memory_goes_with_the_engine() -> None:
    model = on_cuda("llama")
    truth = reference(tiny("llama"), PROMPT, LIMIT)
    for _ in range(2):
        decoded(HFEngine(model), truth)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        decoded(HFEngine(model), truth)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + 1_000_000


class Looks(t.LlamaForCausalLM):
    """Waits for the device in every forward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        if out.logits.abs().max().item() < 0:
            raise ValueError("never")
        return out


def test_what_cannot_be_captured_runs_as_always_and_others_are_still_captured() -> None:
    torch.manual_seed(0)
    looks = Looks(CONFIGS["llama"]()).double().eval()
    looks.generation_config.eos_token_id = None
    truth = reference(looks, PROMPT, LIMIT)
    engine = HFEngine(looks.to("cuda"))
    with pytest.warns(SlowerWarning, match="cannot be captured in CUDA graphs") as told:
        assert decoded(engine, truth) == truth
    assert len(told) == 1
    assert decoded(engine, truth, "RandomTree") == truth
    other, said_by_other = HFEngine(on_cuda("llama")), reference(tiny("llama"), PROMPT, LIMIT)
    assert decoded(other, said_by_other) == said_by_other
    assert captured(other)
