"""Chat logs as people have them, to conversations: who said what, in order.

Known forms: ShareGPT, OpenAI messages, Alpaca, Spec-Bench, pairs such as `prompt` and `response`, and plain `text`.
The first record that is known decides which one a file has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.corpus.records import read_values
from hierdraft.corpus.streams import Reading
from hierdraft.errors import CorpusError

Message = dict[str, Any]
"""`role` (system, user, assistant, tool) and `content` (text), and what else the chat template may use."""

Row = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "claude", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("function_call",), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "function_response", "observation", "ipython"), "tool"),
}
_ASKED = ("prompt", "question", "query", "instruction", "problem", "input", "user", "human")
_ANSWERED = ("response", "completion", "answer", "output", "solution", "assistant", "gpt")
_KNOWN = (
    "known are ShareGPT (conversations), OpenAI (messages), Alpaca (instruction, input, output), Spec-Bench (turns, "
    "choices), pairs such as prompt and response or question and answer, and text"
)
_LONE = re.compile("[\ud800-\udfff]")


@dataclass
class Conversation:
    """place: file and line; messages: in order; tools: that the model could call; text: of a record without roles."""

    place: str
    messages: list[Message] = field(default_factory=list)
    tools: list[Any] | None = None
    text: str = ""


class BadRecordError(CorpusError):
    """A record that is no conversation: what is wrong with it, without the place."""


def read_chats(files: Sequence[Path], reading: Reading) -> Iterator[Conversation]:
    """The conversations of JSON and JSONL files, in order.

    Records that are not chats, and records of another form than the file's first, raise CorpusError with file and line,
    or are noted if `reading` may leave them out.
    """
    reading.expect(files)
    for file in files:
        name = ""
        for place, value in read_values(file, reading):
            try:
                form, read = _form(value)
                if name and form != name:
                    raise BadRecordError(f"this record is {form}, the file began with {name}: make a file of each")
                chat = read(value, place, reading)
            except BadRecordError as error:
                reading.bad(f"{place}: {error}")
            else:
                name = form
                yield chat
        reading.finish(file)


def _form(value: Any) -> tuple[str, Callable[[Any, str, Reading], Conversation]]:
    """The form's name and its reader."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "a list of messages", lambda row, place, reading: _of_messages({"messages": row}, place, reading)
    if not isinstance(value, dict):
        raise BadRecordError(f"a record must be an object, not {type(value).__name__}")
    if isinstance(value.get("messages"), list):
        return "OpenAI messages", _of_messages
    if any(isinstance(value.get(key), list) for key in ("conversations", "conversation", "items")):
        return "ShareGPT", _of_sharegpt
    if isinstance(value.get("turns"), list) or isinstance(value.get("choices"), list):
        return "Spec-Bench", _of_turns
    asked = next((key for key in _ASKED if key in value), None)
    if "instruction" in value and "output" in value:
        return "Alpaca", _of_pair
    if asked:
        return f"pairs of {asked} and answer", _of_pair
    if isinstance(value.get("text"), str):
        return "text", lambda row, place, reading: Conversation(place, text=_clean(row["text"], reading))
    if "output_ids" in value or "run" in value:
        raise BadRecordError("this is a record of token ids: give the file with --ids")
    keys = ", ".join(map(str, list(value)[:6])) or "no keys"
    raise BadRecordError(f"no form of conversation that is known has these keys: {keys}; {_KNOWN}")


def _of_messages(row: Row, place: str, reading: Reading) -> Conversation:
    messages = [_message(one, reading) for one in row["messages"]]
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = _json(tools)
    return _filled(Conversation(place, messages, tools if isinstance(tools, list) and tools else None))


def _of_sharegpt(row: Row, place: str, reading: Reading) -> Conversation:
    key = next(key for key in ("conversations", "conversation", "items") if isinstance(row.get(key), list))
    messages = [_message(one, reading) for one in row[key]]
    if isinstance(row.get("system"), str) and row["system"].strip() and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": _clean(row["system"], reading)})
    return _filled(Conversation(place, messages))


def _of_turns(row: Row, place: str, reading: Reading) -> Conversation:
    """Spec-Bench's questions (`turns`) and answers (`choices`, of which the first counts)."""
    asked = row.get("turns") or []
    choices = row.get("choices") or [{}]
    said = choices[0].get("turns") if isinstance(choices[0], dict) else None
    said = [said] if isinstance(said, str) else said or []
    if not all(isinstance(text, str) for text in [*asked, *said]):
        raise BadRecordError("turns must be lists of texts")
    messages: list[Message] = []
    for number in range(max(len(asked), len(said))):
        for role, texts in (("user", asked), ("assistant", said)):
            if number < len(texts):
                messages.append({"role": role, "content": _clean(texts[number], reading)})
    return _filled(Conversation(place, messages))


def _of_pair(row: Row, place: str, reading: Reading) -> Conversation:
    """A question and its answer, with a system prompt, more text for the question and turns before where there are."""
    asked = next(key for key in _ASKED if key in row)
    answered = next((key for key in _ANSWERED if key in row and key != asked), None)
    messages: list[Message] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages.append({"role": "system", "content": _clean(row["system"], reading)})
    for pair in row.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRecordError("history must be a list of [question, answer]")
        messages += [
            {"role": r, "content": _text(t, reading)} for r, t in zip(("user", "assistant"), pair, strict=True)
        ]
    for key, role in ((asked, "user"), (answered, "assistant")):
        if key is None:
            continue
        if isinstance(row[key], list) and row[key] and all(isinstance(one, dict) and "role" in one for one in row[key]):
            messages += [_message(one, reading) for one in row[key]]
            continue
        parts = [_text(row[key], reading, key)]
        if role == "user":
            more = [row.get(name) for name in ("input", "context") if name not in (asked, answered)]
            parts += [_clean(text, reading) for text in more if isinstance(text, str)]
        messages.append({"role": role, "content": "\n\n".join(part for part in parts if part.strip())})
    return _filled(Conversation(place, messages))


def _message(one: Any, reading: Reading) -> Message:
    if not isinstance(one, dict):
        raise BadRecordError("a turn must be an object with from and value, or role and content")
    said = one.get("role", one.get("from"))
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise BadRecordError(f"the role {said!r} is not one of {', '.join(ROLES)}")
    content = one["content"] if "content" in one else one.get("value", one.get("text"))
    message: Message = {"role": role, "content": _text(content, reading) if content is not None else ""}
    calls = one.get("tool_calls")
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [_call(call) for call in calls]
    elif content is None and isinstance(one.get("function_call"), dict):
        message["tool_calls"] = [_call({"type": "function", "function": one["function_call"]})]
    elif content is None:
        raise BadRecordError("a turn has neither text nor a call of a tool")
    return {**message, **{key: one[key] for key in ("name", "tool_call_id") if isinstance(one.get(key), str)}}


def _call(call: Any) -> Any:
    """A call of a tool with its arguments as an object, which chat templates expect; OpenAI sends them as text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise BadRecordError("a call of a tool must be an object with a function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _json(arguments) if isinstance(_json(arguments), dict) else arguments
    return {**call, "function": {**function, "arguments": arguments}}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(content: Any, reading: Reading, key: str = "content") -> str:
    """The text of a turn, or of those of its parts that are text."""
    if isinstance(content, str):
        return _clean(content, reading)
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content)
    if not isinstance(content, list):
        raise BadRecordError(f"{key} must be text, not {type(content).__name__}")
    texts = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            texts.append(_clean(text, reading))
        else:
            reading.note("parts of turns that are no text (images, files, ...) left out")
    return "".join(texts)


def _clean(text: str, reading: Reading) -> str:
    """A text without halves of characters, which JSON can say (`\\ud800`) and no tokenizer reads."""
    if text.isascii() or not _LONE.search(text):
        return text
    reading.note("texts with half a character (a lone surrogate) in them, read as U+FFFD")
    return _LONE.sub("�", text)


def _filled(chat: Conversation) -> Conversation:
    if not any(message["content"].strip() or "tool_calls" in message for message in chat.messages):
        raise BadRecordError("a conversation without any text")
    return chat
