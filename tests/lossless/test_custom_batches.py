"""Several prompts in one `generate` call with `custom_generate`: each row is that of its prompt alone."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.engines.hf.engine import HFSequence
from hierdraft.errors import UsageError
from hierdraft.integrations.transformers import decode
from tests.lossless.drafters import HARMLESS
from tests.lossless.test_custom_arguments import TOKENIZER
from tests.lossless.tiny import VOCABULARY, WINDOW, tiny

FAMILIES = ["llama", "gemma3", "mistral", "gpt2", "qwen2-sliding", "phi3"]
PAD, EOS = 0, [7, 33]
LIMIT = 90
COMPARED = 20_000
"""Tokens of rows that are compared in all."""


def prompts(seed: int, rows: int = 6) -> list[list[int]]:
    """Of different lengths, shorter and longer than windows, with repetitions."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        part = rng.integers(3, VOCABULARY, int(rng.integers(1, WINDOW))).tolist()
        made.append((part * 3)[: int(rng.integers(1, 3 * WINDOW))])
    return made


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Left-padded ids and their mask; the padding is an id that prompts have too."""
    width = max(map(len, rows))
    ids = torch.tensor([[9] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def run(model: Any, given: dict[str, Any], seed: int = 3, **options: Any) -> Any:
    torch.manual_seed(seed)
    usual = {"max_new_tokens": LIMIT, "do_sample": False, "pad_token_id": PAD}
    return model.generate(**{**usual, **options, **given})


def until_end(ids: list[int]) -> list[int]:
    """The answer up to and including its first end-of-sequence id."""
    return ids[: next((place for place, token in enumerate(ids, 1) if token in EOS), len(ids))]


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_rows_are_those_of_their_prompts_alone(name: str) -> None:
    model, custom, compared, seed = tiny(name), decode(budget=9), 0, 0
    lengths = set()
    while compared < COMPARED / len(FAMILIES) / 2:
        rows, seed = prompts(seed), seed + 1
        width = max(map(len, rows))
        ends = run(model, padded(rows))[[0, 1, 2], [width + 12, width + 30, width + 60]].tolist()
        ours = run(model, padded(rows), eos_token_id=ends, custom_generate=custom)
        if seed == 1:
            assert ours.tolist() == run(model, padded(rows), eos_token_id=ends).tolist()
        for row, found in zip(rows, ours[:, width:].tolist(), strict=True):
            alone = run(model, padded([row]), eos_token_id=ends)[0, len(row) :].tolist()
            assert found == alone + [PAD] * (len(found) - len(alone))
            compared += len(alone)
            lengths.add(len(alone))
    assert len(lengths) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_sampled_rows_are_those_of_their_prompts_alone(name: str) -> None:
    """A row's seed is drawn from torch's generator, in order: alone it is sampled after the draws of those before."""
    model, custom, plain = tiny(name), decode(budget=9), decode("none")
    options = {"do_sample": True, "temperature": 0.7, "top_k": 8, "eos_token_id": EOS}
    compared = seed = 0
    while compared < COMPARED / len(FAMILIES) / 2:
        rows, seed = prompts(seed), seed + 1
        ours = run(model, padded(rows), seed, **options, custom_generate=custom)
        width = max(map(len, rows))
        for place, (row, found) in enumerate(zip(rows, ours[:, width:].tolist(), strict=True)):
            torch.manual_seed(seed)
            for _ in range(place):
                torch.randint(1 << 62, (1,))
            alone = model.generate(
                **padded([row]), **options, max_new_tokens=LIMIT, pad_token_id=PAD, custom_generate=plain
            )[0, len(row) :].tolist()
            assert found == alone + [PAD] * (len(found) - len(alone))
            assert until_end(found) == alone
            compared += len(alone)


@pytest.mark.parametrize("kind", ["Oracle", "OracleInATree", "RandomTree", "OracleWithOneError"])
def test_any_drafter(kind: str) -> None:
    model, rows = tiny("gemma3"), prompts(5)
    plain = run(model, padded(rows))
    drafter = HARMLESS[kind](VOCABULARY, rows[0] + plain[0, max(map(len, rows)) :].tolist(), 3)
    assert run(model, padded(rows), custom_generate=decode(drafter, budget=7)).tolist() == plain.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_in_float32_too(name: str) -> None:
    model, given = tiny(name, dtype=torch.float32), padded(prompts(4))
    assert run(model, given, custom_generate=decode(budget=7)).tolist() == run(model, given).tolist()


def test_prompts_of_one_length_need_no_mask() -> None:
    model, ids = tiny("llama"), torch.tensor([[5, 9, 11, 5, 9], [60, 61, 5, 60, 61], [3, 3, 3, 3, 3]])
    ours = run(model, {"input_ids": ids}, custom_generate=decode(budget=6))
    assert ours.tolist() == run(model, {"input_ids": ids}).tolist()


def test_rows_share_forwards() -> None:
    model, calls = tiny("llama"), []
    custom = decode("none")
    run(model, padded(prompts(1)), custom_generate=custom, max_new_tokens=2)
    model.register_forward_pre_hook(lambda _, args, given: calls.append(len(given["input_ids"])), with_kwargs=True)
    run(model, padded(prompts(1)), custom_generate=custom, max_new_tokens=30)
    assert calls.count(6) >= 29


class Counts(t.LogitsProcessor):
    """Keeps a state per text: bans a token that depends on how often it was called, and on all of the text."""

    def __init__(self) -> None:
        self.called = 0
        self.lock = threading.Lock()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.called += 1
        scores = scores.clone()
        banned = (input_ids.sum(dim=1) * 7 + self.called) % VOCABULARY
        scores[torch.arange(len(scores)), banned] = -torch.inf
        scores[torch.arange(len(scores)), scores.argmax(dim=-1)] -= 3.0 * (self.called % 2)
        return scores


NEGATIVE = torch.arange(3, 21).reshape(6, 3)

PROCESSORS: dict[str, Callable[[], dict[str, Any]]] = {
    "repetition_penalty": lambda: {"repetition_penalty": 1.3},
    "no_repeat_ngram_size": lambda: {"no_repeat_ngram_size": 2},
    "encoder_repetition_penalty": lambda: {"encoder_repetition_penalty": 1.2},
    "encoder_no_repeat_ngram_size": lambda: {"encoder_no_repeat_ngram_size": 2},
    "min_length": lambda: {"min_length": 60},
    "min_new_tokens": lambda: {"min_new_tokens": 25},
    "forced": lambda: {"forced_eos_token_id": 7, "forced_bos_token_id": 5},
    "begin_suppress_tokens": lambda: {"begin_suppress_tokens": list(range(50))},
    "exponential_decay": lambda: {"exponential_decay_length_penalty": (5, 1.2), "eos_token_id": 7},
    "bad_words_ids": lambda: {"bad_words_ids": [[k] for k in range(9, 40)] + [[60, 61]]},
    "sequence_bias": lambda: {"sequence_bias": {(10,): 2.0, (11, 12): -4.0}},
    "guidance": lambda: {"guidance_scale": 1.5, "negative_prompt_ids": NEGATIVE},
    "guidance without a prompt": lambda: {"guidance_scale": 1.5},
    "watermark": lambda: {"watermarking_config": t.WatermarkingConfig(bias=2.5, seeding_scheme="selfhash")},
    "prefix": lambda: {
        "prefix_allowed_tokens_fn": lambda row, ids: [int(ids[-1] * 3 + k * (row + 1)) % VOCABULARY for k in range(9)]
    },
    "prompts ignored": lambda: {
        "logits_processor": t.LogitsProcessorList(
            [t.RepetitionPenaltyLogitsProcessor(1.4, torch.tensor([3, 9, 1, 0, 30, 5]))]
        )
    },
    "with a state": lambda: {"logits_processor": t.LogitsProcessorList([Counts()])},
    "synthid": lambda: {
        "logits_processor": t.LogitsProcessorList(
            [t.SynthIDTextWatermarkLogitsProcessor(3, [654, 400, 836], 64, 0, 64, torch.device("cpu"))]
        )
    },
    "stop_strings": lambda: {"stop_strings": ["d", "9", "*("], "tokenizer": TOKENIZER},
    "max_length": lambda: {"max_length": 40, "max_new_tokens": None},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_and_criteria_see_each_row_as_in_plain_generate(name: str, ends: bool) -> None:
    model, given = tiny("llama"), padded(prompts(2))
    more = {"eos_token_id": EOS} if ends else {}
    plain = run(model, given, **{**more, **PROCESSORS[name]()})
    for method in ("hierarchy", "none", HARMLESS["OracleInATree"](VOCABULARY, plain[0].tolist(), 3)):
        ours = run(model, given, **{**more, **PROCESSORS[name]()}, custom_generate=decode(method, budget=7))
        assert ours.tolist() == plain.tolist()


class EndsWhere(t.StoppingCriteria):
    """Rows end at their own places, which depend on their text."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return (input_ids[:, -4:].sum(dim=1) % 11 == 0) & (input_ids.shape[1] > 40)


@pytest.mark.parametrize("eos", [None, EOS])
@pytest.mark.parametrize("kind", ["hierarchy", "OracleInATree", "none"])
def test_rows_that_end_by_a_criterion(eos: Any, kind: str) -> None:
    """Without an end-of-sequence id plain generate lets all rows continue until the last ends."""
    model, given = tiny("llama"), padded(prompts(2))
    options: dict[str, Any] = {"stopping_criteria": [EndsWhere()], "eos_token_id": eos}
    plain = run(model, given, **options)
    assert plain.shape[1] < given["input_ids"].shape[1] + LIMIT
    method = HARMLESS[kind](VOCABULARY, plain[1].tolist(), 3) if kind in HARMLESS else kind
    assert run(model, given, **options, custom_generate=decode(method, budget=7)).tolist() == plain.tolist()


@pytest.mark.parametrize("eos", [None, EOS])
@pytest.mark.parametrize("criterion", [True, False])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_what_is_returned_beside_the_ids(name: str, eos: Any, criterion: bool) -> None:
    model, given = tiny(name), padded(prompts(2))
    options: dict[str, Any] = {
        "return_dict_in_generate": True, "output_scores": True, "output_logits": True, "repetition_penalty": 1.1,
        "eos_token_id": eos, "stopping_criteria": [EndsWhere()] if criterion else [],
    }  # fmt: skip
    plain = run(model, given, **options)
    for method in ("hierarchy", HARMLESS["Oracle"](VOCABULARY, plain.sequences[0].tolist(), 3)):
        ours = run(model, given, **options, custom_generate=decode(method, budget=7))
        assert ours.sequences.tolist() == plain.sequences.tolist()
        for kind in ("scores", "logits"):
            for mine, theirs in zip(ours[kind], plain[kind], strict=True):
                torch.testing.assert_close(mine, theirs)
        same_caches(ours.past_key_values, plain.past_key_values, given["attention_mask"])
    less = run(model, given, return_dict_in_generate=True, eos_token_id=eos, custom_generate=decode(budget=7))
    assert less.scores is None
    assert less.past_key_values.get_seq_length() == less.sequences.shape[1] - 1


def same_caches(ours: Any, theirs: Any, mask: torch.Tensor) -> None:
    """Equal wherever a row's own text or what fills it lies; what stands for padding in front is never read."""
    assert ours.get_seq_length() == theirs.get_seq_length()
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        width = one.keys.shape[2]
        seen = torch.nn.functional.pad(mask, (0, ours.get_seq_length() - mask.shape[1]), value=1)[:, -width:].bool()
        for a, b in ((one.keys, other.keys), (one.values, other.values)):
            torch.testing.assert_close(a.transpose(1, 2)[seen], b.transpose(1, 2)[seen])


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_returned_cache_can_be_continued(name: str) -> None:
    model, given = tiny(name), padded(prompts(2))
    found = []
    for more in ({}, {"custom_generate": decode(budget=7)}):
        first = run(model, given, return_dict_in_generate=True, max_new_tokens=20, **more)
        mask = torch.nn.functional.pad(given["attention_mask"], (0, 20), value=1)
        told = {"input_ids": first.sequences, "attention_mask": mask, "past_key_values": first.past_key_values}
        found.append(run(model, told, max_new_tokens=30).tolist())
    assert found[0] == found[1]


class Everything(t.LogitsProcessor):
    """Needs to see all rows at once."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + torch.zeros(6, 1)


class All(t.StoppingCriteria):
    """Answers for all rows, whatever it is shown."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(6, dtype=torch.bool)


def moved(given: dict[str, torch.Tensor]) -> torch.Tensor:
    return given["attention_mask"].cumsum(dim=1)


REFUSALS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, Any]], str]] = {
    "right padding": (lambda given: {"attention_mask": given["attention_mask"].flip(1)}, "padding on the right"),
    "holes": (lambda given: {"attention_mask": holes(given["attention_mask"])}, "holes"),
    "nothing": (lambda given: {"attention_mask": given["attention_mask"] * torch.tensor([[0], *[[1]] * 5])}, "whole"),
    "numbers": (lambda given: {"attention_mask": given["attention_mask"] * 2}, "0 or 1"),
    "positions": (lambda given: {"position_ids": moved(given)}, "position_ids"),
    "num_return_sequences": (lambda _: {"num_return_sequences": 2, "do_sample": True}, "num_return_sequences"),
    "streamer": (lambda _: {"streamer": t.TextStreamer(TOKENIZER)}, "a streamer for several prompts"),
    "processor": (lambda _: {"logits_processor": t.LogitsProcessorList([Everything()])}, "6 rows of scores"),
    "criterion": (lambda _: {"stopping_criteria": [All()]}, "several prompts where it was asked about one"),
    "token": (lambda given: {"input_ids": given["input_ids"] + 80 * given["attention_mask"]}, "outside the vocabulary"),
}


def holes(mask: torch.Tensor) -> torch.Tensor:
    mask = mask.clone()
    mask[int(mask.sum(dim=1).argmax()), 1] = 0
    return mask


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_honoured_is_refused_by_name(name: str) -> None:
    change, words = REFUSALS[name]
    given: dict[str, Any] = padded(prompts(2))
    custom = decode(budget=6)
    model = tiny("llama")
    with pytest.raises(UsageError, match=words):
        run(model, {**given, **change(given)}, custom_generate=custom)
    assert run(model, given, custom_generate=custom).tolist() == run(model, given).tolist()


def test_a_streamer_of_the_object_is_refused_too() -> None:
    streamer = t.TextIteratorStreamer(TOKENIZER, timeout=20)
    with pytest.raises(UsageError, match="a streamer for several prompts"):
        run(tiny("llama"), padded(prompts(2)), custom_generate=decode(streamer=streamer))
    assert list(streamer) == [""]


class Breaks(t.StoppingCriteria):
    """A bug of somebody else's."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if input_ids.shape[1] > 45:
            raise ZeroDivisionError
        return torch.zeros(len(input_ids), dtype=torch.bool)


def test_an_error_in_one_row_ends_all_and_leaves_nothing_open() -> None:
    model, custom, given = tiny("llama"), decode(budget=6), padded(prompts(2))
    with pytest.raises(ZeroDivisionError):
        run(model, given, stopping_criteria=[Breaks()], custom_generate=custom)
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, HFSequence) and not one.closed and one.length]
    assert run(model, given, custom_generate=custom).tolist() == run(model, given).tolist()


def test_lengths_that_exceed_the_context_are_counted_without_padding() -> None:
    model, rows = tiny("gpt2"), [[5, 9] * 100, [7, 8, 9]]
    ours = run(model, padded(rows), max_new_tokens=56, custom_generate=decode(budget=6))
    assert ours.tolist() == run(model, padded(rows), max_new_tokens=56).tolist()
    with pytest.raises(UsageError, match="200 prompt and 57 new tokens"):
        run(model, padded(rows), max_new_tokens=57, custom_generate=decode(budget=6))


def test_what_rows_say_is_learned() -> None:
    model, custom = tiny("llama"), decode(budget=6, learn=True)
    first = run(model, padded(prompts(2)), custom_generate=custom)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert run(model, padded(prompts(2)), custom_generate=custom).tolist() == first.tolist()
    assert len(calls) < LIMIT
