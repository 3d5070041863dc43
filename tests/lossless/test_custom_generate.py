"""`model.generate(custom_generate=...)`: everything generate offers is honoured, or refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

import hierdraft
from hierdraft.errors import EngineBusyError, UnsupportedModelError, UsageError
from hierdraft.integrations.transformers import decode
from tests.lossless.drafters import HARMLESS
from tests.lossless.tiny import CONFIGS, VOCABULARY, reference, tiny

PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
IDS = torch.tensor([PROMPT])
MASK = torch.ones_like(IDS)


def both(model: Any, drafter: Any = "hierarchy", **options: Any) -> tuple[Any, Any]:
    """(transformers' own result, ours) for the same call."""
    options = {"attention_mask": MASK, "max_new_tokens": 60, "do_sample": False, **options}
    plain = model.generate(IDS, **copy.deepcopy(options))
    ours = model.generate(IDS, **copy.deepcopy(options), custom_generate=decode(drafter, budget=9))
    return plain, ours


@pytest.fixture
def model() -> Any:
    return tiny("llama")


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2", "gpt-oss"])
@pytest.mark.parametrize("kind", ["hierarchy", "OracleInATree", "RandomTree", "Oracle"])
def test_the_same_ids(name: str, kind: str) -> None:
    model = tiny(name)
    truth = PROMPT + reference(model, PROMPT, 60)
    drafter = kind if kind == "hierarchy" else HARMLESS[kind](VOCABULARY, truth, 3)
    plain, ours = both(model, drafter)
    assert ours.tolist() == plain.tolist()
    assert ours.dtype == plain.dtype


class Forbid(t.LogitsProcessor):
    """Bans the token that follows the prefix's sum, so that a wrong prefix bans a wrong token."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        banned = (input_ids.sum(dim=1) * 7 + input_ids.shape[1]) % VOCABULARY
        scores = scores.clone()
        scores[0, banned] = -torch.inf
        best = scores.argmax(dim=-1)
        if int(input_ids[0, -1]) % 3 == 0:
            scores[0, best] = -torch.inf
        return scores


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[7], [9, 11]]},
        {"min_new_tokens": 25, "eos_token_id": [7, 60, 61, 33]},
        {"suppress_tokens": [3, 4, 5, 60]},
        {"forced_eos_token_id": 2, "eos_token_id": 2},
        {"encoder_repetition_penalty": 1.2},
        {"sequence_bias": {(10,): 2.0, (11, 12): -4.0}},
        {"logits_processor": t.LogitsProcessorList([Forbid()])},
        {"prefix_allowed_tokens_fn": lambda _, ids: [int(ids[-1] * 3 + k) % VOCABULARY for k in range(9)]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_logits_processors_see_their_own_prefix(model: Any, options: dict[str, Any]) -> None:
    truth = model.generate(IDS, attention_mask=MASK, max_new_tokens=60, do_sample=False, **copy.deepcopy(options))
    for kind in ("OracleInATree", "RandomTree", "OracleWithOneError"):
        plain, ours = both(model, HARMLESS[kind](VOCABULARY, truth[0].tolist(), 3), **options)
        assert ours.tolist() == plain.tolist() == truth.tolist()


def test_several_end_of_sequence_ids(model: Any) -> None:
    free = reference(model, PROMPT, 60)
    ends = [free[17], free[30]]
    plain, ours = both(model, HARMLESS["Oracle"](VOCABULARY, PROMPT + free, 0), eos_token_id=ends, pad_token_id=0)
    assert ours.tolist() == plain.tolist()
    assert int(ours[0, -1]) in ends


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 31])
def test_lengths(model: Any, limit: int) -> None:
    truth = PROMPT + reference(model, PROMPT, 60)
    plain, ours = both(model, HARMLESS["Oracle"](VOCABULARY, truth, 0), max_new_tokens=limit)
    assert ours.tolist() == plain.tolist()
    plain, ours = both(
        model, HARMLESS["Oracle"](VOCABULARY, truth, 0), max_new_tokens=None, max_length=len(PROMPT) + limit
    )
    assert ours.tolist() == plain.tolist()


class StopAt(t.StoppingCriteria):
    """Stops at a length, and counts how often it was asked."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.asked.append(input_ids.shape[1])
        return torch.tensor([input_ids.shape[1] >= self.length])


def test_stopping_criteria_are_asked_after_every_token(model: Any) -> None:
    truth = PROMPT + reference(model, PROMPT, 60)
    stop = StopAt(len(PROMPT) + 23)
    ours = model.generate(
        IDS, attention_mask=MASK, max_new_tokens=60, do_sample=False, stopping_criteria=[stop],
        custom_generate=decode(HARMLESS["Oracle"](VOCABULARY, truth, 0), budget=7),
    )  # fmt: skip
    assert ours[0].tolist() == truth[: len(PROMPT) + 23]
    assert stop.asked == list(range(len(PROMPT) + 1, len(PROMPT) + 24))


class Collector:
    """A streamer that keeps what it was given."""

    def __init__(self) -> None:
        self.put_values: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.put_values.append(value.reshape(-1).tolist())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("through_generate", [True, False])
def test_streamers(model: Any, through_generate: bool) -> None:
    reference_stream, ours = Collector(), Collector()
    options: dict[str, Any] = {"attention_mask": MASK, "max_new_tokens": 30, "do_sample": False}
    model.generate(IDS, **options, streamer=reference_stream)
    if through_generate:
        model.generate(IDS, **options, streamer=ours, custom_generate=decode())
    else:
        model.generate(IDS, **options, custom_generate=decode(streamer=ours))
    assert ours.put_values == reference_stream.put_values
    assert ours.ended == reference_stream.ended == 1


def test_return_dict(model: Any) -> None:
    options = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
        "max_new_tokens": 24,
    }
    truth = PROMPT + reference(model, PROMPT, 60)
    plain, ours = both(model, HARMLESS["OracleInATree"](VOCABULARY, truth, 5), repetition_penalty=1.1, **options)
    assert ours.sequences.tolist() == plain.sequences.tolist()
    assert len(ours.scores) == len(plain.scores) == len(ours.logits) == 24
    for mine, theirs in zip((*ours.scores, *ours.logits), (*plain.scores, *plain.logits), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert ours.past_key_values.get_seq_length() == plain.past_key_values.get_seq_length()
    for mine, theirs in zip(ours.past_key_values.layers, plain.past_key_values.layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys)
    plain, ours = both(model, return_dict_in_generate=True)
    assert ours.scores is None
    assert ours.sequences.tolist() == plain.sequences.tolist()


def test_return_dict_when_the_end_lies_inside_a_draft(model: Any) -> None:
    free = reference(model, PROMPT, 60)
    options = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "eos_token_id": free[12],
        "pad_token_id": 0,
    }
    plain, ours = both(model, HARMLESS["Oracle"](VOCABULARY, PROMPT + free, 0), **options)
    assert ours.sequences.tolist() == plain.sequences.tolist()
    assert len(ours.scores) == len(plain.scores)
    assert ours.past_key_values.get_seq_length() == plain.past_key_values.get_seq_length()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"use_cache": False}, "use_cache"),
        ({"return_dict_in_generate": True, "output_attentions": True}, "output_attentions"),
        ({"return_dict_in_generate": True, "output_hidden_states": True}, "output_hidden_states"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"attention_mask": torch.cat([MASK[:, :1] * 0, MASK[:, 1:]], dim=1)}, "attention_mask"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_what_cannot_be_honoured_is_refused_by_name(model: Any, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        model.generate(
            IDS, **{"attention_mask": MASK, "max_new_tokens": 5, "do_sample": False, **options},
            custom_generate=decode(),
        )  # fmt: skip


def test_a_cache_that_holds_text_is_refused(model: Any) -> None:
    cache = t.DynamicCache(config=model.config)
    model(IDS, past_key_values=cache)
    with pytest.raises(UsageError, match="past_key_values"):
        model.generate(
            torch.cat([IDS, IDS], dim=1), attention_mask=torch.cat([MASK, MASK], dim=1), max_new_tokens=5,
            do_sample=False, past_key_values=cache, custom_generate=decode(),
        )  # fmt: skip


def test_one_object_serves_many_calls_and_leaves_the_model_alone(model: Any) -> None:
    before = {name: id(child) for name, child in model.named_modules()}
    attention = model.config._attn_implementation
    custom = hierdraft.hf.decode()
    first = model.generate(IDS, attention_mask=MASK, max_new_tokens=40, do_sample=False, custom_generate=custom)
    second = model.generate(IDS, attention_mask=MASK, max_new_tokens=40, do_sample=False, custom_generate=custom)
    assert first.tolist() == second.tolist()
    assert custom.engine(model) is custom.engine(model)
    assert {name: id(child) for name, child in model.named_modules()} == before
    assert model.config._attn_implementation == attention


def test_settings_that_break_between_two_calls_do_not_take_the_answer(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = hierdraft.hf.decode()
    ids = torch.tensor([PROMPT])
    options = {"max_new_tokens": 40, "do_sample": False, "custom_generate": custom}
    first = model.generate(ids, **options)
    broken = tmp_path / "config.toml"
    broken.write_text("threads = 0")
    monkeypatch.setenv("HIERDRAFT_CONFIG", str(broken))
    assert model.generate(ids, **options).tolist() == first.tolist()


def test_narrow_ids_become_wide_as_in_plain_generate(model: Any) -> None:
    ids = torch.tensor([PROMPT], dtype=torch.int32)
    plain = model.generate(ids, max_new_tokens=4, do_sample=False)
    ours = model.generate(ids, max_new_tokens=4, do_sample=False, custom_generate=hierdraft.hf.decode())
    assert ours.dtype == plain.dtype
    assert ours.tolist() == plain.tolist()


def test_the_engine_does_not_keep_a_model_alive() -> None:
    import gc
    import weakref

    model = tiny("llama")
    custom = decode(budget=4)
    model.generate(IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False, custom_generate=custom)
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("budget", ["all", -1, 2.5])
def test_bad_budgets(budget: Any) -> None:
    with pytest.raises(UsageError, match="budget"):
        decode(budget=budget)


def test_unknown_methods_are_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'hierarchy'"):
        decode("hierachy")


def test_a_second_thread_is_told_to_make_its_own(model: Any) -> None:
    custom = decode(budget=4)

    class Nested(t.StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            with pytest.raises(EngineBusyError, match="each thread"):
                model.generate(IDS, attention_mask=MASK, max_new_tokens=2, do_sample=False, custom_generate=custom)
            return torch.tensor([True])

    model.generate(
        IDS, attention_mask=MASK, max_new_tokens=9, do_sample=False, stopping_criteria=[Nested()],
        custom_generate=custom,
    )  # fmt: skip
    assert model.generate(
        IDS, attention_mask=MASK, max_new_tokens=3, do_sample=False, custom_generate=custom
    ).shape == (1, len(PROMPT) + 3)


def test_models_that_cannot_rewind_are_refused_by_name() -> None:
    config = t.RecurrentGemmaConfig(
        vocab_size=97, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, lru_width=16
    )
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UnsupportedModelError, match="RecurrentGemmaForCausalLM"):
        model.generate(IDS, max_new_tokens=3, do_sample=False, custom_generate=decode())


def test_beyond_the_context_as_generate_does(model: Any) -> None:
    model.config.max_position_embeddings = 20
    truth = PROMPT + reference(model, PROMPT, 60)
    plain, ours = both(model, HARMLESS["OracleInATree"](VOCABULARY, truth, 0))
    assert ours.tolist() == plain.tolist() == [truth]


@pytest.mark.parametrize("name", ["gpt2", "longrope"])
def test_lengths_beyond_a_hard_limit_are_refused(name: str) -> None:
    if name == "gpt2":
        model, limit = tiny("gpt2"), 256
    else:
        rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 64, "factor": 4.0}  # fmt: skip
        config = CONFIGS["phi3"]()
        config.original_max_position_embeddings = 64
        config.rope_parameters = rope
        model, limit = t.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval(), 64
        model.generation_config.eos_token_id = None
    fits = limit - len(PROMPT)
    options = {"attention_mask": MASK, "do_sample": False}
    assert model.generate(IDS, **options, max_new_tokens=fits, custom_generate=decode()).shape == (1, limit)
    with pytest.raises(UsageError, match=f"{limit} positions"):
        model.generate(IDS, **options, max_new_tokens=fits + 1, custom_generate=decode())
