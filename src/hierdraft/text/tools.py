"""Tools: how a model is told of them, how it calls them, and the calls in what it says, as it says them.

Models were taught one of a few ways to write a call. Which one stands in the chat template; where a template knows
nothing of tools, a system message tells of them, in the way that most models know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hierdraft.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOLD = "</tool_response>"
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As most models were taught; spaces at will would let a small one write nothing else."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def check(self) -> None:
        """Raises UsageError for a name or a schema that cannot be used."""
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"A tool's name must be 1 to 64 letters, digits, _, . and -, not {self.name!r}.")
        if self.parameters.get("type", "object") != "object":
            raise UsageError(f"The parameters of the tool {self.name} must be a schema of an object.")

    def as_template(self) -> dict[str, Any]:
        """As chat templates expect it."""
        told = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": told}


@dataclass(frozen=True, slots=True)
class Convention:
    """How calls are written: `begin` {"name": ..., `key`: {...}} `end`; without a beginning the answer is the call."""

    name: str
    begin: str
    end: str
    key: str

    def head(self, tool: str) -> str:
        """What a call of this tool begins with, up to its arguments."""
        return f'{self.begin}{{"name": {json.dumps(tool)}, "{self.key}": '

    @property
    def tail(self) -> str:
        """What a call ends with, after its arguments."""
        return f"}}{self.end}"


HERMES = Convention("hermes", "<tool_call>\n", "\n</tool_call>", "arguments")
LLAMA = Convention("llama", "", "", "parameters")
PLAIN = Convention("json", "", "", "arguments")


def convention_of(template: str | None) -> Convention:
    """The way of the model with this chat template."""
    if template is None or "tools" not in template or "<tool_call>" in template:
        return HERMES
    return LLAMA if '"parameters"' in template or "ipython" in template else PLAIN


def knows_tools(template: str | None) -> bool:
    """Whether the template tells the model of tools by itself."""
    return template is not None and "tools" in template


def by_hand(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], convention: Convention
) -> list[dict[str, Any]]:
    """Messages for a template that knows nothing of tools: what they are, calls and results stand in the texts."""
    turns = list[dict[str, Any]]()
    for message in messages:
        turn = _told_in_text(dict(message), convention)
        tells = message["role"] == "tool" or (turns and turns[-1].get("content", "").endswith(_TOLD))
        if tells and turns and turns[-1]["role"] == turn["role"] == "user":  # one turn, as most templates want
            turns[-1]["content"] += f"\n{turn['content']}"
        else:
            turns.append(turn)
    if not tools:
        return turns
    listed = "\n".join(json.dumps(tool.as_template()) for tool in tools)
    told = (
        "You may call one or more functions to help with the user's request. They are described here, one JSON object "
        f"each:\n{listed}\nTo call one, write exactly\n{convention.head('NAME')}ARGUMENTS{convention.tail}\nwith the "
        "function's name and a JSON object of its arguments."
    )
    if turns and turns[0]["role"] == "system":
        turns[0]["content"] = f"{turns[0]['content']}\n\n{told}"
        return turns
    return [{"role": "system", "content": told}, *turns]


def _told_in_text(turn: dict[str, Any], convention: Convention) -> dict[str, Any]:
    calls = turn.pop("tool_calls", None) or ()
    written = [
        f"{convention.head(call['function']['name'])}{json.dumps(call['function']['arguments'])}{convention.tail}"
        for call in calls
    ]
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{turn['content']}\n{_TOLD}"}
    if written:
        turn["content"] = "\n".join([*filter(None, [turn.get("content")]), *written])
    return turn


def grammar(tools: Sequence[Tool], convention: Convention, *, free: bool, several: bool) -> str:
    """A Lark grammar of answers, as llguidance reads it: calls alone, one or `several`, or in free text."""
    calls = []
    for number, tool in enumerate(tools):
        schema = json.dumps({"type": "object", **tool.parameters, "x-guidance": _SPACING})
        head, tail = json.dumps(convention.head(tool.name).removeprefix(convention.begin)), json.dumps(convention.tail)
        calls.append(f"call{number}: {head} args{number} {tail}\nargs{number}: %json {schema}")
    one = " | ".join(f"call{number}" for number in range(len(tools)))
    begin = convention.begin
    text = "TEXT: /(.|\\n)*/"
    if not begin:  # an answer that begins like a call is one
        free_text = r'TEXT: /(.|\n)*/ & ~/\s*\{\s*"name"\s*:(.|\n)*/'
        lines = ["start: call | TEXT", free_text] if free else ["start: call"]
    elif free:
        mark, rest = json.dumps(begin.strip()), json.dumps(begin[len(begin.rstrip()) :])
        whole = "start: (marked call)* TEXT" if several else "start: marked call | TEXT"
        lines = [whole, f"marked: mark {rest}" if begin != begin.strip() else "marked: mark",
                 f"mark[lazy]: TEXT {mark}", text]  # fmt: skip
    else:
        first = json.dumps(begin)
        lines = [f'start: {first} call ("\\n" {first} call)*' if several else f"start: {first} call"]
    return "\n".join([*lines, f"call: {one}", *calls])


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of an answer: text, the beginning of a call (`name`), or more of the arguments of the call `number`."""

    kind: Literal["text", "call", "arguments"]
    text: str
    number: int = -1


class CallReader:
    """Text of an answer in, pieces of text and of calls out, each as soon as it is certain."""

    def __init__(self, convention: Convention, names: Sequence[str]) -> None:
        """`names`: of the tools that there are; what calls another one is text."""
        self._convention = convention
        self._names = frozenset(names)
        self._begin = convention.begin.strip()
        self._head = re.compile(
            re.escape(self._begin) + r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*'
        )
        self._text = self._space = ""
        self._value: _Value | None = None
        self._said = False
        self.calls = 0

    @property
    def within(self) -> bool:
        """Whether a call has begun and is not complete."""
        return self._value is not None

    def push(self, more: str) -> Iterator[Spoken]:
        """Pieces that have become certain with `more`."""
        self._text += more
        while self._text:
            before = len(self._text)
            yield from self._within() if self._value is not None else self._between()
            if len(self._text) == before:
                return

    def flush(self) -> Iterator[Spoken]:
        """At the end: what was held back. Spaces after a call are nothing that is said."""
        rest = self._space + self._text if self._value is None else ""
        self._text = self._space = ""
        if rest.strip() or (rest and not self.calls):
            yield Spoken("text", rest)

    def _say(self, text: str) -> Iterator[Spoken]:
        """Text; spaces at its end wait for what follows, since those before a call are left out."""
        whole = self._space + text
        said = whole.rstrip()
        self._space = whole[len(said) :]
        if said:
            self._said = True
            yield Spoken("text", said)

    def _between(self) -> Iterator[Spoken]:
        """Text, up to where a call begins or may begin."""
        place = self._text.find(self._begin) if self._begin else (-1 if self._said or self.calls else 0)
        if place > 0 or place < 0:
            sure = place if place > 0 else len(self._text) - _overlap(self._text, self._begin)
            said, self._text = self._text[:sure], self._text[sure:]
            yield from self._say(said)
            return
        found = self._head.match(self._text) if self._begin else self._head.match(self._text.lstrip())
        if found is None and self._may_begin():
            return
        if found is None or found[1] not in self._names:
            said, self._text = self._text, ""
            yield from self._say(said)
            return
        lead = len(self._text) - len(self._text.lstrip()) if not self._begin else 0
        self._text = self._text[lead + found.end() :]
        self._value, self._space = _Value(), ""
        self.calls += 1
        yield Spoken("call", found[1], self.calls - 1)

    def _may_begin(self) -> bool:
        """Whether this can still become the head of a call."""
        shape = re.sub(r"\s", "", self._text)
        wanted = re.sub(r"\s", "", self._begin) + '{"name":"'
        return wanted.startswith(shape) or (shape.startswith(wanted) and len(shape) < len(wanted) + 100)

    def _within(self) -> Iterator[Spoken]:
        """Arguments, up to where their object ends; then what closes the call."""
        value = self._value
        if value is None:
            return
        if not value.over:
            if not value.begun:
                self._text = self._text.lstrip()
            taken = value.read(self._text)
            said, self._text = self._text[:taken], self._text[taken:]
            if said:
                yield Spoken("arguments", said, self.calls - 1)
            if not value.over:
                return
        end = self._convention.end.strip()
        closing = re.match(r"\s*\}\s*" + re.escape(end), self._text)
        if closing is not None:
            self._text = self._text[closing.end() :]
            self._value = None


class _Value:
    """Follows one JSON object to its end."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = self._escaped = False
        self.begun = self.over = False

    def read(self, text: str) -> int:
        """How many characters of `text` belong to it."""
        self.begun = self.begun or bool(text)
        for place, character in enumerate(text):
            if self._in_text:
                self._in_text = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.over = True
                    return place + 1
        return len(text)


def _overlap(text: str, begin: str) -> int:
    """How many of the last characters of a text may be the beginning of `begin`."""
    return next((count for count in range(min(len(text), len(begin) - 1), 0, -1) if text.endswith(begin[:count])), 0)
