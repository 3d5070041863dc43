"""Tiny random models of many families, past their sliding windows: the same ids as transformers' own generate."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import hierdraft
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.cache import layer_windows
from hierdraft.engines.hf.check import row_spans
from hierdraft.engines.hf.engine import HFEngine, HFSequence
from hierdraft.engines.hf.lean import STACKED, make_lean
from hierdraft.engines.hf.mask import Masks, full_mask, positions
from hierdraft.errors import DraftWarning, UnsupportedModelError
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
from tests.lossless.drafters import HARMLESS, REFUSED
from tests.lossless.harness import check_every_drafter, fresh, kept, opened, run
from tests.lossless.tiny import CONFIGS, VOCABULARY, WINDOW, assert_same, reference, tiny

PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
LIMIT = 5 * WINDOW


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_with_every_drafter(name: str) -> None:
    model = tiny(name)
    truth = reference(model, PROMPT, LIMIT)
    engine = HFEngine(model)
    check_every_drafter(engine, PROMPT, truth, VOCABULARY)
    drafted = HARMLESS["Oracle"](VOCABULARY, PROMPT + truth, 7)
    assert len(run(engine, drafted, PROMPT, Options(LIMIT, budget=FixedBudget(9)))[1]) < len(truth) / 4 + 3


@pytest.mark.filterwarnings("ignore::hierdraft.errors.DraftWarning")
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_broken_drafters_are_harmless(name: str) -> None:
    model = tiny(name, dtype=torch.float32)
    truth = reference(model, PROMPT, 40)
    engine = HFEngine(model)
    for kind in REFUSED.values():
        assert run(engine, kind(VOCABULARY, PROMPT + truth, 3), PROMPT, Options(40, budget=FixedBudget(6)))[0] == truth


@pytest.mark.parametrize("name", CONFIGS)
def test_lean_models_in_float32_say_the_same(name: str) -> None:
    truth = reference(tiny(name, dtype=torch.float32), PROMPT, LIMIT)
    model = tiny(name, dtype=torch.float32)
    assert make_lean(model)
    engine = HFEngine(model)
    assert run(engine, PlainMethod(), PROMPT, Options(LIMIT))[0] == truth
    for kind in ("OracleInATree", "RandomTree", "Oracle"):
        drafter = HARMLESS[kind](VOCABULARY, PROMPT + truth, 7)
        assert run(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(12)))[0] == truth


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral"])
def test_many_rows_of_a_lean_model_are_those_of_the_model(name: str) -> None:
    """Of more rows than are stacked, with and without a text before them."""
    lean = tiny(name, dtype=torch.float32)
    assert make_lean(lean)
    engine, other = HFEngine(lean), HFEngine(tiny(name, dtype=torch.float32))
    text = np.random.default_rng(0).integers(3, VOCABULARY, STACKED + 60)
    sequence = engine.open()
    for start, stop in ((0, 20), (20, STACKED + 50), (STACKED + 50, len(text))):
        found = sequence.prefill(text[start:stop], rows=stop - start)
        wanted = fresh(other, text[:stop], rows=stop - start)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("most", [4, STACKED + 60])
def test_a_mask_is_written_where_the_last_one_was(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what rows see of each other: what a step writes does not depend on how long the text is."""
    model = tiny("llama", dtype=torch.float32)
    masks, chance = Masks(model, [None] * 4, 2), np.random.default_rng(1)
    sequence = HFEngine(model).open()
    made: list[torch.Size] = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, **kind: made.append(torch.Size(size)) or zeros(*size, **kind))
    length, few = 900, 0
    for step in range(60):
        nodes = int(chance.integers(1, 9))
        tree = DraftTree.build([*range(nodes)], [int(chance.integers(-1, node)) for node in range(nodes)])
        text, done = int(chance.integers(max(1, most - 50), most)), int(chance.integers(0, 2))
        part = Part(sequence, np.arange(text, dtype=np.int32), tree)
        where = positions(tree, length, torch.device("cpu"), text)
        few += len(made) if step else 0
        made.clear()
        found = masks.of(part, length, where, done)
        wanted = full_mask(tree, length, torch.float32, torch.device("cpu"), text)[:, :, done:]
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, wanted.repeat(1, 1, 2 if 1 < wanted.shape[2] <= STACKED else 1, 1))
        made.pop()  # that of `full_mask`
        length += int(chance.integers(-3, 9))
    assert few <= 3  # more memory, where there are more rows than ever or the text has outgrown it
    last = Part(sequence, np.array([1], dtype=np.int32), DraftTree.chain([1, 2]))
    masks.of(last, length, positions(last.tree, length, torch.device("cpu")), 0)
    assert len(masks._many._cells) == 0  # what a prompt needed is let go of


def check_cache(name: str, engine: HFEngine, other: HFEngine, truth: list[int]) -> None:
    """After every step of drafted decoding the cache holds what a prefill of the same text by `other` does."""
    tokens, sequences = list(PROMPT), opened(engine)
    drafter = HARMLESS["OracleInATree"](VOCABULARY, PROMPT + truth, 1)
    for step in decode(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(15))):
        tokens += step.tokens
        if step.finish:
            break
        length = sequences[0].length
        assert length == len(tokens) - 1
        whole = HFSequence(other)
        whole.prefill(tokens[:length])
        for ours, theirs in zip(sequences[0].cache.layers, whole.cache.layers, strict=True):
            for a, b in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
                assert_same(name, a[:, :, :length], b[:, :, :length])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_equals_a_fresh_prefill_after_every_step(name: str) -> None:
    model = tiny(name)
    truth = reference(model, PROMPT, LIMIT)
    engine = HFEngine(model)
    check_cache(name, engine, engine, truth)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_row_of_a_tree_is_scored_as_its_own_text(name: str) -> None:
    model = tiny(name)
    engine = HFEngine(model)
    rng = np.random.default_rng(3)
    text = rng.integers(3, VOCABULARY, 2 * WINDOW).tolist()
    drafter = HARMLESS["RandomTree"](VOCABULARY, [], 11)
    sequence = engine.open()
    sequence.prefill(text[:-1])
    for _ in range(3):
        tree = drafter.propose(np.array(text, dtype=np.int32), _budget(20))
        logits = sequence.forward(text[-1], tree)
        for node in range(-1, len(tree)):
            path = [int(tree.tokens[n]) for n in tree.path(node)]
            assert_same(name, logits[node + 1], fresh(engine, text + path)[0])
        deepest = tree.path(int(np.argmax(tree.depths()))) if len(tree) else []
        sequence.commit(deepest[:-1] if deepest else [])
        text += [int(tree.tokens[n]) for n in deepest] or [4]


def _budget(nodes: int) -> Any:
    from hierdraft.protocols import Budget

    return Budget(nodes, nodes)


def test_prompt_rows_and_runners_up() -> None:
    engine = HFEngine(tiny("llama"))
    logits = fresh(engine, PROMPT, rows=5)
    assert logits.shape == (5, VOCABULARY)
    for back, row in enumerate(logits.flip(0)):
        assert_same("llama", row, fresh(engine, PROMPT[: len(PROMPT) - back])[0])
    best = engine.top_ids(logits, 4)
    assert best.dtype == np.int32
    assert (best[:, 0] == engine.choices(logits)).all()
    values = np.take_along_axis(logits.numpy(), best.astype(np.int64), axis=1)
    assert (np.diff(values, axis=1) <= 0).all()


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_rewinding(name: str) -> None:
    model = tiny(name)
    truth = reference(model, PROMPT, 50)
    engine = HFEngine(model)
    sequences: list[Any] = []
    run(engine, PlainMethod(), PROMPT, Options(50, keep=kept(sequences)))
    keep = len(PROMPT) + 7
    sequences[0].rewind(keep)
    again = [int(engine.choices(sequences[0].forward(truth[7], _empty()))[0])]
    assert again == truth[8:9]
    with pytest.raises(ValueError, match="rewind"):
        sequences[0].rewind(keep + 10)


def _empty() -> Any:
    from hierdraft.tree import DraftTree

    return DraftTree.empty()


def test_the_context_is_never_overrun() -> None:
    """GPT-2 has no embedding for position 256: a draft that reached it would raise."""
    model = tiny("gpt2")
    prompt = np.random.default_rng(0).integers(3, VOCABULARY, 240).tolist()
    engine = HFEngine(model)
    truth, _ = run(engine, PlainMethod(), prompt, Options(100))
    assert len(truth) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        got, steps = run(
            engine,
            HARMLESS["Oracle"](VOCABULARY, prompt + truth, 0),
            prompt,
            Options(100, budget=FixedBudget(40)),
        )
    assert got == truth
    assert steps[-1].finish == "context"


def test_a_cache_that_grows_keeps_its_text() -> None:
    model = tiny("llama")
    model.config.max_position_embeddings = 4096
    engine = HFEngine(model)
    truth, _ = run(engine, PlainMethod(), PROMPT, Options(700))
    sequences: list[Any] = []
    options = Options(700, keep=kept(sequences))
    got, _ = run(engine, HARMLESS["OracleInATree"](VOCABULARY, PROMPT + truth, 0), PROMPT, options)
    assert got == truth
    assert sequences[0].cache.length == len(PROMPT) + 699


def test_measured_costs_feed_the_budget() -> None:
    engine = HFEngine(tiny("llama"))
    assert engine.cost(8) == 0.0
    costs = engine.measure_costs()
    assert set(costs.as_dict()) == {1, 2, 4, 8, 16, 32, 64}
    assert engine.cost(100) >= engine.cost(64) > 0.0
    truth = reference(engine.model, PROMPT, 60)
    assert run(engine, HierarchyMethod(), PROMPT, Options(60, budget=AutoBudget()))[0] == truth


REFUSALS: dict[str, tuple[Any, str]] = {
    "recurrent-gemma": (
        lambda: t.RecurrentGemmaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
            lru_width=16,
        ),
        "recurrent",
    ),
    "bloom": (lambda: t.BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2), "Bloom"),
    "llama4": (
        lambda: t.Llama4TextConfig(
            vocab_size=50, hidden_size=16, intermediate_size=16, intermediate_size_mlp=16, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_local_experts=2, attention_chunk_size=8,
        ),
        "chunked",
    ),
    "gpt-neo": (
        lambda: t.GPTNeoConfig(
            vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, window_size=256, intermediate_size=16,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=512,
        ),
        "does not follow",
    ),
    "xlm": (lambda: t.XLMConfig(vocab_size=50, emb_dim=16, n_layers=1, n_heads=2, causal=True), "more than the text"),
    "xlnet": (lambda: t.XLNetConfig(vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=16), "XLNet"),
    "prophetnet": (
        lambda: t.ProphetNetConfig(
            vocab_size=50, hidden_size=16, num_encoder_layers=1, num_decoder_layers=1, num_encoder_attention_heads=2,
            num_decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, is_encoder_decoder=False,
            is_decoder=True, ngram=2,
        ),
        "ProphetNet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_models_that_cannot_rewind_are_refused_by_name(name: str) -> None:
    config, words = REFUSALS[name]
    model = t.AutoModelForCausalLM.from_config(config()).eval()
    with pytest.raises(UnsupportedModelError, match=words) as caught:
        HFEngine(model)
    assert type(model).__name__ in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_local_layer_of_many_is_refused_in_every_number_type(dtype: torch.dtype) -> None:
    config = t.GPTNeoConfig(
        vocab_size=50, hidden_size=16, num_layers=12, num_heads=2, window_size=256, intermediate_size=16,
        attention_types=[[["global"], 11], [["local"], 1]], max_position_embeddings=512,
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="does not follow"):
        HFEngine(t.AutoModelForCausalLM.from_config(config, dtype=dtype).eval())


def test_encoder_decoder_models_are_refused_by_name() -> None:
    config = t.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        HFEngine(t.T5ForConditionalGeneration(config).eval())


def test_attention_that_takes_no_mask_is_refused_by_name() -> None:
    model = tiny("llama")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedModelError, match="flex_attention"):
        HFEngine(model)


class IgnoresPositions(t.LlamaForCausalLM):
    """A model that accepts positions and does not use them, as a wrapper with a bug would."""

    def forward(self, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def test_a_model_that_ignores_positions_is_found_out() -> None:
    torch.manual_seed(0)
    model = IgnoresPositions(CONFIGS["llama"]()).eval()
    with pytest.raises(UnsupportedModelError, match="does not follow"):
        HFEngine(model)


class CountsRows(t.LlamaForCausalLM):
    """A model with a window inside that counts rows of the cache, as GPT-Neo's local layers do."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.local_window = config.local_window

    def forward(self, *args: Any, attention_mask: Any = None, past_key_values: Any = None, **kwargs: Any) -> Any:
        rows, seen = kwargs["input_ids"].shape[1], past_key_values.get_seq_length() if past_key_values else 0
        place = torch.arange(seen + rows)
        far = place[None, :] <= place[seen:, None] - self.local_window
        later = place[None, :] > place[seen:, None]
        if attention_mask is None:
            attention_mask = torch.zeros(1, 1, rows, seen + rows, dtype=self.dtype).masked_fill(later, -torch.inf)
        mask = attention_mask.masked_fill(far, -torch.inf)
        return super().forward(*args, attention_mask=mask, past_key_values=past_key_values, **kwargs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [7, 60, 500, 4096])
def test_a_window_that_counts_rows_is_found_out_however_long_it_is(window: int, dtype: torch.dtype) -> None:
    config = CONFIGS["llama"]()
    config.local_window, config.max_position_embeddings = window, 8192
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match="does not follow"):
        HFEngine(CountsRows(config).to(dtype).eval())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["mistral", "gemma3", "qwen2-sliding", "phi3"])
def test_long_windows_are_checked_in_two_forwards(name: str, dtype: torch.dtype) -> None:
    config = CONFIGS[name]()
    config.sliding_window, config.max_position_embeddings = 4096, 8192
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, args, given: rows.append(given["input_ids"].numel()), with_kwargs=True)
    HFEngine(model)
    assert rows == [8, 9]
    assert row_spans(model, layer_windows(model))[-1] == 4096


def test_positions_are_those_that_generate_gives() -> None:
    """RoBERTa's own positions begin after its padding id; generate gives others, and so does the engine."""
    config = t.RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=256, is_decoder=True, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    truth = reference(model, PROMPT, 30, eos_token_id=None, no_repeat_ngram_size=2)
    ids = torch.tensor([PROMPT])
    drafts = hierdraft.hf.decode(HARMLESS["OracleInATree"](VOCABULARY, PROMPT + truth, 7), budget=9)
    options = {"max_new_tokens": 30, "do_sample": False, "eos_token_id": None, "no_repeat_ngram_size": 2}
    ours = model.generate(ids, attention_mask=torch.ones_like(ids), **options, custom_generate=drafts)
    assert ours[0, len(PROMPT) :].tolist() == truth


def test_a_mask_that_a_model_keeps_is_read() -> None:
    config = REFUSALS["gpt-neo"][0]()
    model = t.AutoModelForCausalLM.from_config(config).eval()
    del config.window_size
    assert 256 in row_spans(model, [None])


def test_a_cache_goes_back_to_any_length_it_had() -> None:
    sequence = HFEngine(tiny("llama")).open()
    sequence.prefill([1, 2, 3, 4])
    cache = sequence.cache
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=f"from 4 to {wrong} positions"):
            cache.rewind(wrong)
    cache.rewind(4)
    assert cache.length == 4
    cache.rewind(0)
    assert cache.length == 0
