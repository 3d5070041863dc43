"""Prompts in every container, options of every type: they work, or one sentence says what to pass instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.generation import LanguageModel
from hierdraft.text import encode_messages, encode_prompt
from hierdraft.verify.sampling import Sampling
from tests.unit.byte_tokenizer import Bytes
from tests.unit.tokenizer_kinds import byte_level


def model() -> LanguageModel:
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy")


MESSAGE = {"role": "user", "content": "hi"}
WRONG: dict[str, list[Any]] = {
    "prompt": [
        None, b"bytes", bytearray(b"x"), 3, 2.5, True, object(), len, {1, 2}, iter([1, 2]), (i for i in [1]),
        [], {}, "", " \n", "lone \ud800", ["two", "prompts"], [["a"]], [1, "a"], [1, None], [1.5], [True, False],
        [[1, 2], [3, 4]], [[1, 2], [3]], [[[1]]], [[]], [2**70], [-1], [257],
        np.zeros((2, 3), dtype=int), np.array(7.5),
        np.array([]), torch.zeros(2, 2, dtype=torch.long), torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([], dtype=torch.long), MESSAGE, {"ids": [1]}, {"input_ids": None}, {"input_ids": [[1], [2]]},
        {"input_ids": [1], "pixel_values": 3}, {"input_ids": [[1, 2]], "attention_mask": [[0, 1]]},
        {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 0]])},
        [MESSAGE, "a"], [{"content": "hi"}], [{"role": 3, "content": "hi"}], [{"role": "user"}], [{}],
        [{"role": "user", "content": 3}], [{"role": "user", "content": b"hi"}],
        [{"role": "user", "content": [{"type": "image", "url": "x"}]}], [{"role": "user", "content": [3]}],
        [{"role": "user", "content": "\udcff"}], [[MESSAGE]],
    ],
    "method": [None, 3, b"none", object(), LanguageModel, ["none"], "", "telepathy", "hierarchy:levels"],
    "max_new_tokens": ["5", 2.5, True, [5], 0, -3, b"5", float("nan"), np.float64(3)],
    "budget": [None, 2.5, True, "5", [4], -1, 10**9, b"auto", float("inf")],
    "stop": [3, 2.5, True, b"x", ["a", 3], [None], [["a"]], "", ["a", ""], {"a": 1}, "\ud800", object()],
    "chat": [None, 1, "", [], "no such template", b"a"],
    "ignore_eos": [None, 1, "yes", []],
    "background": [None, 1, "yes", []],
    "logprobs": ["3", 2.5, True, -1, [1]],
    "trace": [None, 1, "yes", []],
    "unread": ["3", 2.5, True, 0, -1, [1]],
    "namespace": [None, 3, b"default", ["a"]],
    "reference": [3, 2.5, True, b"x", {"a": 1}, [None], [3], [b"x"], [["a"]], [[1.5]], [[257]], [[-1]], ["\ud800"],
                  [[[1], [2]]], object()],
    "schema": [3, True, ["object"], b"{}", Path("x.json"), object(), "{", {"type": object()}],
    "lenient": [None, 1, "yes", [], True],
    "schema_folders": [None, 3, "here", b"x", [3], [None], ["."], {"a": 1}],
    "constraint": [3, "a+", object(), len],
    "processors": [3, "x", len, [3], [int], {"a": len}, t.TemperatureLogitsWarper(0.5)],
    "temperature": ["hot", -1, float("nan"), float("inf"), True, [1.0], 1j, b"1"],
    "top_k": ["5", 2.5, -1, True, [5]],
    "top_p": ["x", 0, 1.5, True, float("nan")],
    "min_p": ["x", -0.1, 1.5, True],
    "repetition_penalty": ["x", 0, -1, True, float("inf")],
    "presence_penalty": ["x", True, float("nan")],
    "frequency_penalty": ["x", True, float("nan")],
    "logit_bias": [3, "x", [1, 2], {1: "x"}, {"a": 1.0}, {257: 1.0}, {1: float("nan")}, {1.5: 1.0}, {True: 1.0}],
    "banned": [3, "x", [257], [-1], ["a"], [1.5], [True], 2.5, [[1]]],
    "seed": [1.5, "1", True, -1, 1 << 64, [1]],
}  # fmt: skip


def test_the_table_has_every_parameter() -> None:
    """A new parameter needs a row: what happens when it is given something else?"""
    names = [p.name for p in inspect.signature(LanguageModel.stream).parameters.values() if p.kind is not p.VAR_KEYWORD]
    assert set(WRONG) == {*names[1:], *(field.name for field in fields(Sampling))}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_refused_in_one_sentence(name: str) -> None:
    toy = model()
    for value in WRONG[name]:
        options = {} if name == "prompt" else {name: value}
        with pytest.raises(UsageError) as error:
            toy.stream(value if name == "prompt" else "ok", **options)
        text = str(error.value)
        assert "\n" not in text, value
        assert text.endswith((".", "?")), (value, text)
        assert len(text) < 400, value
    assert len(toy.generate("ok", max_new_tokens=2).token_ids) == 2


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="'temprature'"):
        model().stream("ok", temprature=1.0)


IDS = [104, 105, 33]
HELD: dict[str, Callable[[], Any]] = {
    "list": lambda: IDS,
    "tuple": lambda: tuple(IDS),
    "range": lambda: range(104, 107),
    "array": lambda: np.array(IDS),
    "array of one row": lambda: np.array([IDS], dtype=np.uint16),
    "array that is read only": lambda: np.frombuffer(np.array(IDS), dtype=np.int64),
    "tensor": lambda: torch.tensor(IDS),
    "tensor of one row": lambda: torch.tensor([IDS], dtype=torch.int32),
    "tensor with a gradient's sibling": lambda: torch.tensor([IDS]).requires_grad_(False),
    "batch encoding": lambda: t.BatchEncoding({"input_ids": [IDS], "attention_mask": [[1, 1, 1]]}),
    "batch encoding of tensors": lambda: t.BatchEncoding(
        {"input_ids": [IDS], "attention_mask": [[1, 1, 1]]}, tensor_type="pt"
    ),
    "encoding": lambda: Bytes()._tokenizer.encode("hi!"),
    "mapping": lambda: {"input_ids": IDS, "token_type_ids": [0, 0, 0]},
}


@pytest.mark.parametrize("name", HELD)
def test_ids_are_taken_from_every_container(name: str) -> None:
    given = HELD[name]()
    same = [104, 105, 106] if name == "range" else Bytes()("hi!")["input_ids"] if name == "encoding" else IDS
    plain = model().generate(same, max_new_tokens=12, method="none")
    run = model().generate(given, max_new_tokens=12, budget=4)
    assert (run.token_ids, run.prompt_tokens) == (plain.token_ids, 3)
    assert model().encode(given) == same


@pytest.mark.parametrize(
    "options",
    [
        {"stop": None, "reference": None, "processors": None, "temperature": None, "seed": None},
        {"max_new_tokens": np.int64(9), "budget": np.int32(3), "seed": np.uint8(3), "top_k": np.int64(5)},
        {"temperature": np.float32(0.7), "top_p": np.float64(0.9)},
        {"reference": [np.array([1, 2]), torch.tensor([[3, 4]]), "text", []], "stop": ("never in there",)},
        {"banned": np.array([3]), "logit_bias": {np.int64(3): np.float32(1.0)}},
        {"stop": {"never in there"}, "banned": {3}},
    ],
)
def test_numbers_and_containers_of_other_libraries_work(options: dict[str, Any]) -> None:
    assert len(model().generate("ok", **{"max_new_tokens": 9, **options}).token_ids) == 9


@pytest.mark.parametrize("temperature", [1e-38, 5e-324, 1e-6, 9e-6])
def test_the_coldest_temperatures_are_greedy(temperature: float) -> None:
    plain = model().generate("ok", max_new_tokens=40, method="none")
    for dtype in ("float32", "float64"):
        cold = model()
        cold.engine.values = lambda logits, row, dtype=dtype: logits[row].astype(dtype)  # type: ignore[method-assign]
        with np.errstate(all="raise"):
            run = cold.generate("ok", max_new_tokens=40, temperature=temperature, top_p=0.9, seed=3)
        assert run.token_ids == plain.token_ids


@pytest.mark.parametrize("temperature", [1e-5, 1e-3])
def test_cold_temperatures_divide_without_overflow(temperature: float) -> None:
    drafted = model().generate("ok", max_new_tokens=40, temperature=temperature, seed=3)
    plain = model().generate("ok", max_new_tokens=40, temperature=temperature, seed=3, method="none")
    assert drafted.token_ids == plain.token_ids


CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "up?"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": {}}}]},
    {"role": "tool", "content": "the sky"},
    {"role": "user", "content": "So?"},
]


def with_template(template: Any) -> Any:
    tokenizer = byte_level()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHATML, PARTS, {"default": CHATML, "other": "x"}])
def test_messages_are_put_into_the_template(template: Any) -> None:
    tokenizer = with_template(template)
    ids = encode_messages(tokenizer, TURNS)
    assert tokenizer.decode(ids) == (
        "<|system|>Be brief.\n<|user|>What is up?\n<|assistant|>\n<|tool|>the sky\n<|user|>So?\n<|assistant|>"
    )
    assert encode_prompt(tokenizer, "So?", [("a", "b")], chat=True) == encode_messages(
        tokenizer, [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "So?"))]
    )
    goes_on = encode_messages(tokenizer, [*TURNS, {"role": "assistant", "content": "So it is"}])
    assert tokenizer.decode(goes_on).endswith("<|user|>So?\n<|assistant|>So it is")


def test_generate_takes_messages_and_what_apply_chat_template_returns() -> None:
    tokenizer = with_template(CHATML)
    toy = LanguageModel(ToyEngine(3, len(tokenizer), memory=1), tokenizer, "toy")
    want = toy.generate(encode_messages(tokenizer, TURNS[:2]), max_new_tokens=20, method="none").token_ids
    joined = [TURNS[0], {"role": "user", "content": "What is up?"}]
    for given in (
        TURNS[:2],
        tuple(TURNS[:2]),
        tokenizer.apply_chat_template(joined, add_generation_prompt=True),
        tokenizer.apply_chat_template(joined, add_generation_prompt=True, return_dict=False),
        tokenizer.apply_chat_template(joined, add_generation_prompt=True, return_tensors="pt"),
        tokenizer.apply_chat_template(joined, add_generation_prompt=True, return_tensors="pt", return_dict=False),
        tokenizer.apply_chat_template(joined, add_generation_prompt=True, return_tensors="np"),
    ):
        assert toy.generate(given, max_new_tokens=20).token_ids == want


@pytest.mark.parametrize(
    ("template", "messages", "options", "words"),
    [
        (None, TURNS, {}, "no chat template"),
        (None, "hi", {"chat": "tool_use"}, "tool_use"),
        (CHATML, TURNS, {"chat": False}, "leave out chat=False"),
        (CHATML, "hi", {"chat": "a"}, "'a'"),
        ({"a": CHATML, "b": CHATML}, "hi", {}, "chat='a'.*a, b"),
        ({"a": CHATML, "b": CHATML}, TURNS, {"chat": "c"}, "'c'.*a, b"),
        ("{{ raise_exception('No system role here') }}", TURNS[:2], {}, "No system role here"),
        ("{{ tools[0].name + 1 }}", "hi", {}, "cannot be filled.*apply_chat_template"),
        ("{{ messages | sum(attribute='content') }}", "hi", {}, "cannot be filled"),
        ("{% if %}", "hi", {}, "cannot be filled"),
        ("{{ date.strftime('%Y') }}", "hi", {}, "cannot be filled.*date"),
        ("{{ 1 / 0 }}", "hi", {}, "cannot be filled"),
    ],
)
def test_a_template_that_cannot_be_filled_is_one_sentence(
    template: Any, messages: Any, options: dict[str, Any], words: str
) -> None:
    toy = LanguageModel(ToyEngine(3, 334, memory=1), with_template(template), "toy")
    with pytest.raises(UsageError, match=words) as error:
        toy.stream(messages, **options)
    assert "\n" not in str(error.value)


def test_one_of_several_templates_is_chosen_by_name() -> None:
    tokenizer = with_template({"a": "A{{ messages[0]['content'] }}", "b": CHATML})
    assert tokenizer.decode(encode_prompt(tokenizer, "hi", chat="a")) == "Ahi"
    assert tokenizer.decode(encode_messages(tokenizer, [MESSAGE], template="b")) == "<|user|>hi\n<|assistant|>"


def test_a_template_with_a_date_works() -> None:
    tokenizer = with_template("{{ strftime_now('%Y') }}: {{ messages[0]['content'] }}")
    assert tokenizer.decode(encode_prompt(tokenizer, "hi", chat=True))[4:] == ": hi"


@pytest.mark.parametrize("vocab_size", [120, 400])
def test_a_tokenizer_larger_or_smaller_than_the_model(vocab_size: int) -> None:
    """Ids that the model does not have are named; ids that the tokenizer does not have add nothing to the text."""
    tokenizer = byte_level()
    toy = LanguageModel(ToyEngine(3, vocab_size, memory=1), tokenizer, "toy")
    if vocab_size < len(tokenizer):
        with pytest.raises(UsageError, match="outside the vocabulary of 120"):
            toy.stream("the quick brown fox")
        return
    run = toy.generate("the quick brown fox", max_new_tokens=60, stop="never in there")
    assert run.text == tokenizer.decode([i for i in run.token_ids if i < len(tokenizer)], skip_special_tokens=True)
    assert any(i >= len(tokenizer) for i in run.token_ids)
