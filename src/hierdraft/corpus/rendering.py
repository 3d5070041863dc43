"""Conversations as the model sees them: through its chat template, whole or answer by answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from hierdraft.corpus.chats import BadRecordError, Conversation, Message
from hierdraft.corpus.streams import Reading
from hierdraft.corpus.tokens import Answer

Turns = Literal["assistant", "all"]


def documents_of(
    tokenizer: Any, chats: Iterable[Conversation], turns: Turns, reading: Reading
) -> Iterator[str | Answer]:
    """What `tokenize` makes documents of: every answer of the model by itself, or whole conversations.

    tokenizer   a transformers tokenizer; where it has no chat template, turns are joined by empty lines
    turns       assistant: each turn of the model, as it would have generated it, with the text before it;
                all: one text per conversation. A record of plain text is one text in both.

    Conversations that the template refuses, or without an answer where answers are wanted, raise CorpusError with
    their place, or are noted if `reading` may leave them out.
    """
    for chat in chats:
        try:
            if chat.text:
                yield chat.text
            elif turns == "all":
                yield render(tokenizer, chat.messages, reading, tools=chat.tools)
            else:
                found = list(_answers(tokenizer, chat, reading))
                if not found:
                    raise BadRecordError(
                        "no turn of the assistant: take all with --turns all, or have them answered with --generate"
                    )
                yield from found
        except BadRecordError as error:
            reading.bad(f"{chat.place}: {error}")


def _answers(tokenizer: Any, chat: Conversation, reading: Reading) -> Iterator[Answer]:
    for number, message in enumerate(chat.messages):
        if message["role"] != "assistant" or not (message["content"].strip() or "tool_calls" in message):
            continue
        asked = chat.messages[:number]
        before = render(tokenizer, asked, reading, tools=chat.tools, to_answer=True) if asked else ""
        after = render(tokenizer, [*asked, message], reading, tools=chat.tools)
        yield Answer(before, _said(tokenizer, before, after, message["content"]))


def _said(tokenizer: Any, before: str, after: str, content: str) -> str:
    """What the model generated after `before`: up to the end of its turn, as the template writes it."""
    end = getattr(tokenizer, "eos_token", None) or ""
    templated = bool(getattr(tokenizer, "chat_template", None))
    if not before or not after.startswith(before):  # templates that write an earlier turn in another way than the last
        return content + (end if templated else "")
    said = after[len(before) :]
    place = said.rfind(end) if end else -1
    return said[: place + len(end)] if place >= 0 else said


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    reading: Reading,
    *,
    tools: list[Any] | None = None,
    to_answer: bool = False,
) -> str:
    """The text of a conversation, with the beginning of the model's turn where `to_answer` is set.

    A system message that the template refuses becomes the beginning of the first question. Raises BadRecordError with
    the template's own words where it refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        reading.note("conversations joined by empty lines, since the tokenizer has no chat template")
        return "\n\n".join([*(message["content"] for message in messages if message["content"]), *[""] * to_answer])
    try:
        return _templated(tokenizer, messages, tools, to_answer)
    except BadRecordError:
        folded = _without_system(messages)
        if folded is None:
            raise
    reading.note("conversations with a system prompt that the chat template refuses, put before the first question")
    return _templated(tokenizer, folded, tools, to_answer)


def _templated(tokenizer: Any, messages: Sequence[Message], tools: list[Any] | None, to_answer: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=to_answer
        )
    # Whatever a template does with a message it does not expect: refuse it, look for a key, add text to nothing.
    except (TemplateError, TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise BadRecordError(f"the chat template refuses it ({str(error).rstrip('.')})") from error
    return text


def _without_system(messages: Sequence[Message]) -> list[Message] | None:
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]
