"""Chat logs of every known form, through the model's template, to documents; what is none of them is one sentence."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Environment
from jinja2.exceptions import TemplateError

from hierdraft.corpus import records
from hierdraft.corpus.chats import Conversation, read_chats
from hierdraft.corpus.records import read_values
from hierdraft.corpus.rendering import documents_of
from hierdraft.corpus.streams import STANDARD_INPUT, Reading
from hierdraft.corpus.tokens import Answer
from hierdraft.errors import CorpusError

U, A, S = "user", "assistant", "system"
END = "<end>"
CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.function.name }} "
    "{{ c.function.arguments.x }}]{% endfor %}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def templated(source: str = CHATML, eos: str = "<end>") -> Any:
    """What of a transformers tokenizer a chat template needs."""

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def apply(messages: list[Any], **given: Any) -> str:
        assert given.pop("tokenize") is False
        template = Environment(autoescape=False).from_string(source, {"raise_exception": refuse})  # noqa: S701
        return template.render(messages=messages, **given)

    return SimpleNamespace(chat_template=source, eos_token=eos, apply_chat_template=apply)


def read(path: Path, *rows: Any, text: str | None = None, **options: Any) -> tuple[list[Conversation], Reading]:
    path.write_text(text if text is not None else "".join(json.dumps(row) + "\n" for row in rows))
    reading = Reading(skip_option="; --skip-bad leaves such things out", **options)
    return list(read_chats([path], reading)), reading


def turns(chat: Conversation) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in chat.messages]


QA = [(U, "Hi"), (A, "Hello")]
FORMS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "ShareGPT": ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, QA),
    "ShareGPT with system": (
        {"system": "Be", "conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello"}]},
        [(S, "Be"), *QA],
    ),
    "ShareGPT, old": ({"items": [{"from": "human", "value": "Hi"}, {"from": "bard", "value": "Hello"}]}, QA),
    "messages": ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}, QA),
    "messages, parts": (
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "B"}, {"type": "text", "text": "e"}]},
                      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        [(S, "Be"), *QA],
    ),
    "a list of messages": ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], QA),
    "Alpaca": ({"instruction": "Hi", "input": "", "output": "Hello"}, QA),
    "Alpaca with input": ({"instruction": "Add", "input": "1 2", "output": "3"}, [(U, "Add\n\n1 2"), (A, "3")]),
    "Alpaca with history": (
        {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"},
        [(S, "s"), (U, "a"), (A, "b"), (U, "c"), (A, "d")],
    ),
    "prompt and response": ({"prompt": "Hi", "response": "Hello"}, QA),
    "prompt and completion": ({"prompt": "Hi", "completion": "Hello", "id": 3}, QA),
    "prompt and completion as messages": (
        {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]}, QA,
    ),
    "question and answer": ({"question": "Hi", "answer": "Hello"}, QA),
    "Dolly": ({"instruction": "Hi", "context": "", "response": "Hello"}, QA),
    "input and output": ({"input": "Hi", "output": "Hello"}, QA),
    "a prompt alone": ({"prompt": "Hi"}, QA[:1]),
    "a question of Spec-Bench": (
        {"question_id": 1, "category": "x", "turns": ["a", "c"]}, [(U, "a"), (U, "c")],
    ),
    "question and answer of Spec-Bench": (
        {"question_id": 1, "turns": ["a", "c"], "choices": [{"turns": ["b", "d"]}]},
        [(U, "a"), (A, "b"), (U, "c"), (A, "d")],
    ),
    "an answer of Spec-Bench": ({"question_id": 1, "choices": [{"index": 0, "turns": ["b"]}]}, [(A, "b")]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("layout", ["lines", "array", "pretty array", "pretty"])
def test_every_form_is_read_in_every_layout(name: str, layout: str, tmp_path: Path) -> None:
    row, wanted = FORMS[name]
    text = {
        "lines": json.dumps(row) + "\n\n" + json.dumps(row),
        "array": json.dumps([row, row]) if isinstance(row, dict) else json.dumps(row) + json.dumps(row),
        "pretty array": json.dumps([row, row], indent=2) if isinstance(row, dict) else json.dumps(row, indent=1) * 2,
        "pretty": "\ufeff" + (json.dumps(row, indent=2) + "\n") * 2,
    }[layout]
    chats, reading = read(tmp_path / "c.json", text=text)
    assert [turns(chat) for chat in chats] == [wanted, wanted]
    assert not reading.notes


def test_plain_text_is_a_document(tmp_path: Path) -> None:
    chats, reading = read(tmp_path / "c.jsonl", {"text": "once"}, {"text": "twice", "url": "x"})
    for wanted in ("assistant", "all"):
        assert list(documents_of(templated(), chats, wanted, reading)) == ["once", "twice"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": 1, "b": 2}, "no form of conversation that is known has these keys: a, b; known are ShareGPT"),
        ({}, "no keys"),
        (3, "a record must be an object, not int"),
        ({"output_ids": [1]}, "token ids: give the file with --ids"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "the role 'alien' is not one of user"),
        ({"conversations": ["x"]}, "a turn must be an object"),
        ({"conversations": [{"from": "gpt", "value": {"a": 1}}]}, "content must be text, not dict"),
        ({"conversations": []}, "without any text"),
        ({"messages": [{"role": "user", "content": "  "}]}, "without any text"),
        ({"messages": [{"role": "user"}]}, "neither text nor a call of a tool"),
        ({"turns": [1]}, "turns must be lists of texts"),
        ({"prompt": None, "response": "x"}, "prompt must be text, not NoneType"),
    ],
)
def test_what_is_no_conversation_is_a_sentence_or_left_out(row: Any, words: str, tmp_path: Path) -> None:
    good = {"prompt": "Hi", "response": "Hello"}
    with pytest.raises(CorpusError, match=rf"c.jsonl, line 1: .*{words}.*--skip-bad") as error:
        read(tmp_path / "c.jsonl", row, good, good)
    assert "\n" not in str(error.value)
    chats, reading = read(tmp_path / "c.jsonl", row, good, good, skip_bad=True)
    assert [turns(chat) for chat in chats] == [QA, QA]
    assert len(reading.skipped) == 1
    assert "--skip-bad" not in reading.skipped[0]


def test_a_file_has_one_form(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "response": "Hello"}, {"messages": [{"role": "user", "content": "x"}]}]
    with pytest.raises(CorpusError, match="line 2: this record is OpenAI messages, the file began with pairs"):
        read(tmp_path / "c.jsonl", *rows)
    chats, reading = read(tmp_path / "c.jsonl", *rows, skip_bad=True)
    assert (len(chats), len(reading.skipped)) == (1, 1)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ('{"prompt": "x', "line 2: not JSON"),
        ("{prompt: 1}", "line 2: not JSON .Expecting property name"),
        ('{"prompt": ' + "[" * 100_000, "line 2: not JSON .nested too deeply"),
        ('{"prompt": 1' + "0" * 5_000 + "}", "line 2: not JSON .Exceeds the limit"),
        ("nonsense", "line 2: not JSON"),
    ],
)
def test_broken_lines_are_named_or_left_out(broken: str, words: str, tmp_path: Path) -> None:
    good = '{"prompt": "Hi", "response": "Hello"}\n'
    with pytest.raises(CorpusError, match=words):
        read(tmp_path / "c.jsonl", text=good + broken + "\n" + good)
    chats, reading = read(tmp_path / "c.jsonl", text=good + broken + "\n" + good, skip_bad=True)
    assert len(chats) == 2
    assert len(reading.skipped) == 1
    with pytest.raises(CorpusError, match="not JSON"):
        read(tmp_path / "c.json", text=f"[{good}, {broken}]", skip_bad=True)
    with pytest.raises(CorpusError, match="not JSON"):
        read(tmp_path / "c.json", text=f"[{good}")


def test_values_are_found_across_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    rows = [{"prompt": 'é\\"\n' * rng.randrange(40), "n": [rng.random(), None, True]} for _ in range(40)] + [12, "x"]
    for text in ("\n".join(map(json.dumps, rows)), json.dumps(rows, indent=rng.choice([None, 3]))):
        for size in (1, 2, 7, 64):
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
            monkeypatch.setattr(records, "read_chunks", lambda *_, pieces=pieces: iter(pieces))
            assert [value for _, value in read_values(tmp_path, Reading())] == rows


def test_a_value_without_end_is_refused_before_memory_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_LINE", 1 << 22)
    with pytest.raises(CorpusError, match=r"line 1: not JSON \(a value of more than 4 million characters"):
        read(tmp_path / "c.json", text='{"data": [' + '{"prompt": "x"},' * 600_000)


def test_halves_of_characters_and_parts_without_text_are_noted(tmp_path: Path) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "cut \ud83d"}]
    chats, reading = read(tmp_path / "c.jsonl", {"messages": [{"role": "user", "content": parts}]})
    assert turns(chats[0]) == [(U, "cut �")]
    assert sorted(reading.notes.values()) == [1, 1]


def test_standard_input_and_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BufferedReader(io.BytesIO(b'{"prompt": "Hi", "response": "Hello"}'))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    assert [turns(chat) for chat in read_chats([STANDARD_INPUT], Reading())] == [QA]
    path = tmp_path / "c.jsonl"
    path.write_text('{"prompt": "Hi", "response": "Hello"}\n' * 100_000)
    told: list[tuple[int, int]] = []
    assert sum(1 for _ in read_chats([path], Reading(report=lambda *done: told.append(done)))) == 100_000
    assert len(told) > 3
    assert told[-1] == (path.stat().st_size,) * 2


def chat(*messages: tuple[str, str], tools: list[Any] | None = None) -> Conversation:
    return Conversation("f, line 9", [{"role": role, "content": text} for role, text in messages], tools)


def test_answers_are_what_the_model_would_have_said() -> None:
    reading = Reading()
    talk = chat((S, "s"), (U, "a"), (A, "b"), (U, "c"), (A, "d"))
    assert list(documents_of(templated(), [talk], "assistant", reading)) == [
        Answer("<system>s<end>\n<user>a<end>\n<assistant>", "b<end>"),
        Answer("<system>s<end>\n<user>a<end>\n<assistant>b<end>\n<user>c<end>\n<assistant>", "d<end>"),
    ]
    whole = "<system>s<end>\n<user>a<end>\n<assistant>b<end>\n<user>c<end>\n<assistant>d<end>\n"
    assert list(documents_of(templated(), [talk], "all", reading)) == [whole]
    plain = SimpleNamespace(chat_template=None, eos_token=END)
    assert list(documents_of(plain, [talk], "assistant", reading))[1] == Answer("s\n\na\n\nb\n\nc\n\n", "d")
    assert list(documents_of(plain, [talk], "all", reading)) == ["s\n\na\n\nb\n\nc\n\nd"]
    assert [what.split(",")[0] for what in reading.notes] == ["conversations joined by empty lines"]


def test_calls_of_tools_are_what_the_model_said(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 5}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "6", "tool_call_id": "1"}
    chats, reading = read(tmp_path / "c.jsonl", {"messages": [{"role": "user", "content": "q"}, said, result]})
    (answer,) = documents_of(templated(), chats, "assistant", reading)
    assert answer == Answer("<user>q<end>\n<assistant>", "[f 5]<end>")


def test_a_template_that_writes_earlier_turns_otherwise() -> None:
    thinking = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    (answer,) = documents_of(templated(thinking), [chat((U, "a"), (A, "b"))], "assistant", Reading())
    assert answer == Answer("[a]<think>", "b<end>")


def test_what_a_template_refuses_is_a_sentence_or_left_out() -> None:
    strict = (
        "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}{{ raise_exception('no system role.') }}"
        "{% endif %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
        "{% endif %}{{ m.content }}<end>{% endfor %}"
    )
    reading = Reading(skip_bad=True)
    talks = [chat((S, "s"), (U, "a"), (A, "b")), chat((A, "first")), chat((U, "a"), (A, "b")), chat((U, "alone"))]
    assert list(documents_of(templated(strict), talks, "assistant", reading)) == [
        Answer("s\n\na<end>", "b<end>"), Answer("a<end>", "b<end>"),
    ]  # fmt: skip
    assert len(reading.notes) == 1
    assert "f, line 9: the chat template refuses it (roles must alternate)." in reading.skipped
    assert any("no turn of the assistant" in reason for reason in reading.skipped)
    with pytest.raises(CorpusError, match=r"f, line 9: the chat template refuses it \(roles must alternate\)"):
        list(documents_of(templated(strict), [chat((A, "first"))], "all", Reading()))
