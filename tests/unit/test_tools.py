"""Calls of tools: told to the model, kept to a grammar, and read from what it says, however it is cut into pieces."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from hierdraft.errors import UsageError
from hierdraft.text.tools import (
    HERMES,
    LLAMA,
    PLAIN,
    CallReader,
    Convention,
    Spoken,
    Tool,
    by_hand,
    convention_of,
    grammar,
    knows_tools,
)  # fmt: skip

ADD = Tool(
    "add",
    "Adds.",
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
)
NOW = Tool("now", "", {"type": "object", "properties": {}, "additionalProperties": False})
CONVENTIONS = [HERMES, LLAMA, PLAIN]


def read(convention: Convention, text: str, cuts: list[int]) -> list[tuple[str, str, int]]:
    """Pieces, those that follow one another joined."""
    reader = CallReader(convention, ["add", "now"])
    spoken: list[Spoken] = []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        spoken += reader.push(text[start:stop])
    spoken += reader.flush()
    found: list[tuple[str, str, int]] = []
    for one in spoken:
        if found and found[-1][0] == one.kind != "call" and found[-1][2] == one.number:
            found[-1] = one.kind, found[-1][1] + one.text, one.number
        else:
            found.append((one.kind, one.text, one.number))
    return found


HARD = '{"a": "}{ \\" ]<tool_call>", "b": [1, {"c": "\\\\"}]}'
OTHER = '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>'
CASES: list[tuple[Convention, str, list[tuple[str, str, int]]]] = [
    (HERMES, "Hello.", [("text", "Hello.", -1)]),
    (HERMES, '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
     [("call", "add", 0), ("arguments", '{"a": 1}', 0)]),
    (HERMES, f'Let me see.\n<tool_call>{{"name":"add","arguments":{HARD}}}</tool_call>',
     [("text", "Let me see.", -1), ("call", "add", 0), ("arguments", HARD, 0)]),
    (HERMES, '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>\n'
             '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
     [("call", "add", 0), ("arguments", "{}", 0), ("call", "now", 1), ("arguments", "{}", 1)]),
    (HERMES, "a < b <tool and <tool_call> of nothing", [("text", "a < b <tool and <tool_call> of nothing", -1)]),
    (HERMES, OTHER, [("text", OTHER, -1)]),
    (HERMES, "ends in <tool_c", [("text", "ends in <tool_c", -1)]),
    (LLAMA, '{"name": "add", "parameters": {"a": 1}}', [("call", "add", 0), ("arguments", '{"a": 1}', 0)]),
    (LLAMA, ' \n{"name": "add", "parameters":  {"a": [{}]}}', [("call", "add", 0), ("arguments", '{"a": [{}]}', 0)]),
    (LLAMA, 'It is {"name": "add", "parameters": {}}', [("text", 'It is {"name": "add", "parameters": {}}', -1)]),
    (PLAIN, '{"name": "now", "arguments": {}}', [("call", "now", 0), ("arguments", "{}", 0)]),
    (PLAIN, '{"names": 3}', [("text", '{"names": 3}', -1)]),
]  # fmt: skip


@pytest.mark.parametrize(("convention", "text", "wanted"), CASES)
def test_calls_are_read_however_the_text_is_cut(
    convention: Convention, text: str, wanted: list[tuple[str, str, int]]
) -> None:
    assert read(convention, text, []) == wanted
    assert read(convention, text, list(range(1, len(text)))) == wanted
    rng = random.Random(0)
    for _ in range(200):
        assert read(convention, text, sorted(rng.sample(range(1, len(text)), min(3, len(text) - 1)))) == wanted


def test_arguments_come_as_they_are_said() -> None:
    reader = CallReader(HERMES, ["add"])
    head = list(reader.push('<tool_call>\n{"name": "add", "arguments": {"a"'))
    assert head == [Spoken("call", "add", 0), Spoken("arguments", '{"a"', 0)]
    assert list(reader.push(": 1")) == [Spoken("arguments", ": 1", 0)]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_grammars_allow_calls_and_no_wrong_ones(convention: Convention, free: bool, several: bool) -> None:
    llguidance = pytest.importorskip("llguidance")
    tokenizer = llguidance.LLTokenizer("byte")
    made = llguidance.LLMatcher.grammar_from_lark(grammar([ADD, NOW], convention, free=free, several=several))

    def allowed(text: str) -> bool:
        matcher = llguidance.LLMatcher(tokenizer, made)
        assert not matcher.is_error(), matcher.get_error()
        tokens = list(text.encode())
        return bool(
            matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens) and matcher.is_accepting()
        )

    right = f'{convention.head("add")}{{"a": 1}}{convention.tail}'
    assert allowed(right)
    assert allowed(f"{convention.head('now')}{{}}{convention.tail}")
    assert not allowed(f'{convention.head("add")}{{"a": "x"}}{convention.tail}')
    assert not allowed(f"{convention.head('other')}{{}}{convention.tail}")
    assert allowed(f"{right}\n{right}") == (several and bool(convention.begin))
    assert allowed("It is late, {a} < b.") == free
    assert allowed('{"answer": 42}') == free
    if convention.begin:
        assert allowed(f"I look.\n{right}") == free


def test_conventions_of_templates() -> None:
    assert convention_of(None) is HERMES
    assert convention_of("{{ messages }}") is HERMES
    assert convention_of("{{ tools }}<tool_call>") is HERMES
    assert convention_of('{{ tools }} {"name": x, "parameters": y}') is LLAMA
    assert convention_of("{{ tools }}") is PLAIN
    assert knows_tools("{{ tools }}")
    assert not knows_tools("{{ messages }}")


def test_templates_without_tools_are_told_in_text() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One and one?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "2"},
    ]  # fmt: skip
    turns = by_hand(messages, [ADD, NOW], HERMES)
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0]["content"].startswith("Be brief.")
    assert json.dumps(ADD.as_template()) in turns[0]["content"]
    assert turns[2] == {
        "role": "assistant",
        "content": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    }
    assert "2" in turns[3]["content"]
    assert messages[2]["tool_calls"], "what was given is as it was"
    assert by_hand(messages[:2], [], HERMES) == messages[:2]
    assert by_hand(messages[1:2], [NOW], HERMES)[0]["role"] == "system"


@pytest.mark.parametrize("tool", [Tool("a b"), Tool(""), Tool("x" * 65), Tool("a", "", {"type": "string"})])
def test_tools_that_cannot_be(tool: Tool) -> None:
    with pytest.raises(UsageError, match="tool"):
        tool.check()
