"""From what a caller gives to token ids: texts, chat messages, ids in any container, references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import UsageError
from hierdraft.tree import Int32

Prompt: TypeAlias = Any
"""A text; chat messages (mappings with `role` and `content`); or token ids: a list, a numpy array or torch tensor of
shape [L] or [1, L], or what a tokenizer returns (a mapping with `input_ids`)."""

_BESIDE_IDS = ("attention_mask", "token_type_ids", "position_ids", "special_tokens_mask", "offset_mapping", "length")


def prompt_ids(tokenizer: Any, prompt: Prompt, *, chat: bool | str = True) -> NDArray[Any]:
    """Token ids of a prompt, int[L]: of a text or messages as the tokenizer makes them, others as they are.

    chat   put a text into the model's chat template, where it has one; a text: the name of one of its templates

    Raises UsageError, in one sentence, for what is no prompt.
    """
    if isinstance(prompt, str):
        return np.asarray(encode_prompt(tokenizer, prompt, chat=chat))
    if isinstance(prompt, Sequence) and len(prompt) and all(isinstance(part, Mapping) for part in prompt):
        if not chat:
            raise UsageError("Messages are put into the chat template: leave out chat=False, or give one text.")
        return np.asarray(encode_messages(tokenizer, prompt, template=chat if isinstance(chat, str) else None))
    return token_ids(prompt, "prompt")


def are_prompts(given: Any) -> bool:
    """Whether this is a list of prompts: of texts, of lists of messages, or of lists or arrays of token ids."""
    if not isinstance(given, list | tuple) or not given:
        return False
    return isinstance(given[0], str | list | tuple | np.ndarray) or hasattr(given[0], "detach")


def encode_prompt(
    tokenizer: Any, prompt: str, history: Sequence[tuple[str, str]] = (), *, chat: bool | str
) -> list[int]:
    """Token ids of a prompt, as a user's turn of the model's chat template where `chat` is set and it has one.

    history   earlier turns, each what was asked and what was answered
    chat      a text: the name of one of several templates

    Raises UsageError for an empty prompt, or a template that cannot be filled.
    """
    if not prompt.strip():
        raise UsageError("The prompt is empty: give some text.")
    if chat and getattr(tokenizer, "chat_template", None):
        turns = [
            {"role": role, "content": text}
            for asked, answered in history
            for role, text in (("user", asked), ("assistant", answered))
        ]
        turns.append({"role": "user", "content": prompt})
        return encode_messages(tokenizer, turns, template=chat if isinstance(chat, str) else None)
    if isinstance(chat, str):
        raise UsageError(f"This model has no chat template, so none is called {chat!r}: leave the name out.")
    whole = "\n\n".join([*(text for turn in history for text in turn), prompt])
    check_text(whole, "prompt")
    return [int(token) for token in tokenizer(whole)["input_ids"]]


def encode_messages(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, template: str | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[int]:  # fmt: skip
    """Token ids of a conversation in the model's chat template, where the next answer begins.

    messages  mappings with `role` (user, assistant, system, tool or what the template knows) and `content`: a text, or
              parts like {"type": "text", "text": ...}; what else a template reads, such as `tool_calls`, is passed on.
              If the last one is the assistant's, the answer continues it
    template  the name of one of several templates; None: the default one
    tools     that the template tells the model of, each {"type": "function", "function": {...}}

    Raises UsageError where there is no template, the messages are not such, or the template refuses them.
    """
    turns = [_turn(message, place) for place, message in enumerate(messages, start=1)]
    known = getattr(tokenizer, "chat_template", None)
    if not known:
        raise UsageError("This model has no chat template to put messages into: give the prompt as one text.")
    names = sorted(known) if isinstance(known, Mapping) else []
    if template is not None and template not in names:
        there = f"there are {', '.join(names)}" if names else "it has one without a name"
        raise UsageError(f"This model has no chat template {template!r}: {there}.")
    if template is None and names and "default" not in names:
        raise UsageError(
            f"This model has several chat templates and no default: name one with chat={names[0]!r} (or --template on "
            f"the command line); there are {', '.join(names)}."
        )
    goes_on = turns[-1]["role"] == "assistant"
    options: dict[str, Any] = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
    if template is not None:
        options["chat_template"] = template
    if tools:
        options["tools"] = list(tools)
    source = known[template or "default"] if isinstance(known, Mapping) else known
    ids = _filled(tokenizer, turns, options, knows_parts="type" in source)
    return [int(token) for token in ids]


def _filled(
    tokenizer: Any, turns: list[dict[str, Any]], options: dict[str, Any], *, knows_parts: bool
) -> Sequence[int]:
    """`knows_parts`: the template may be one, as of vision models, that shows nothing of a content that is one text."""
    from jinja2 import TemplateError

    try:
        if knows_parts:
            only_shown = {**options, "continue_final_message": False, "tokenize": False}
            text: str = tokenizer.apply_chat_template(turns, **only_shown)
            if str(turns[-1].get("content", "")).strip() not in text:
                turns = [{**turn, "content": [{"type": "text", "text": turn.get("content") or ""}]} for turn in turns]
        ids: Sequence[int] = tokenizer.apply_chat_template(turns, return_dict=False, **options)
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ImportError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UsageError(
            f"The model's chat template cannot be filled with these messages ({reason}): give other ones, the finished "
            "prompt as text with chat=False (--raw on the command line), or the ids of apply_chat_template."
        ) from error
    return ids


def _turn(message: Any, place: int) -> dict[str, Any]:
    """A message with its content as one text. Raises UsageError."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UsageError(f"Message {place} must be a mapping with a role and a content, not {_shown(message)}.")
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = "".join(_part(part, place) for part in content)
    if content is None and message.get("tool_calls"):
        return dict(message)
    if not isinstance(content, str):
        raise UsageError(f"The content of message {place} must be a text or parts of text, not {_shown(content)}.")
    check_text(content, f"content of message {place}")
    return {**message, "content": content}


def _part(part: Any, place: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise UsageError(f"Message {place} has a part of type {kind!r}: only text is understood here.")


def check_text(text: str, what: str) -> None:
    """Raise UsageError for a text with half of a character, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The {what} has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, "
            "which is no text: take it out, or decode the bytes it came from as they were encoded."
        ) from None


def token_ids(given: Any, what: str) -> NDArray[Any]:
    """Token ids int[L] of a list, array, tensor or tokenizer's output. Raises UsageError, naming `what`, for others."""
    if isinstance(given, Mapping):
        given = _input_ids(given, what)
    elif hasattr(given, "ids") and hasattr(given, "offsets"):  # an `Encoding` of the tokenizers library
        given = given.ids
    if given is None or isinstance(given, bytes | bytearray | set | frozenset | int | float):
        hint = "decode it first" if isinstance(given, bytes | bytearray) else "give a text, messages or token ids"
        raise UsageError(f"The {what} is {_shown(given)}: {hint}.")
    if hasattr(given, "detach"):  # a tensor, on any device and of any number type
        given = given.detach().tolist()
    elif not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
        raise UsageError(f"The {what} is {_shown(given)}: give a text, messages or token ids.")
    try:
        ids = np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"The {what} is no list of token ids: its parts are of different lengths or kinds.") from error
    if ids.ndim == 2 and len(ids) == 1:
        ids = ids[0]
    if ids.ndim > 1:
        raise UsageError(f"The {what} has the shape {list(ids.shape)}: give one row of token ids at a time.")
    if ids.dtype.kind in "UO" and ids.size:
        raise UsageError(f"The {what} must be one text or token ids, not a list with {_shown(_odd(given))}.")
    return np.atleast_1d(ids)


def _odd(given: Any) -> Any:
    """The first member of a list that is no number."""
    return next((part for part in given if isinstance(part, bool) or not isinstance(part, int | np.integer)), given[0])


def _input_ids(given: Mapping[str, Any], what: str) -> Any:
    if "input_ids" not in given:
        hint = "messages are a list of such mappings" if "role" in given else "give a text, messages or token ids"
        raise UsageError(f"The {what} is a mapping without input_ids: {hint}.")
    others = [str(name) for name in given if name != "input_ids" and name not in _BESIDE_IDS]
    if others:
        raise UsageError(f"The {what} has {', '.join(others)} beside its input_ids, which this cannot read.")
    mask = given.get("attention_mask")
    if mask is not None and not np.asarray(mask.tolist() if hasattr(mask, "tolist") else mask).all():
        raise UsageError(f"The {what} is padded (its attention_mask has zeros): give the ids without padding.")
    return given["input_ids"]


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}" if value is not None else "None"


def encode_references(tokenizer: Any, reference: Any, vocab_size: int) -> list[Int32]:
    """Texts that an answer may repeat as int32[L] each, without special tokens; empty ones are left out.

    reference   a text, or several texts or rows of token ids; None: none

    Raises UsageError for ids outside the vocabulary, and for what is neither.
    """
    if reference is None:
        return []
    if not isinstance(reference, str) and (
        not hasattr(reference, "__iter__") or isinstance(reference, Mapping | bytes)
    ):
        raise UsageError(f"reference must be a text, or a list of texts or of rows of ids, not {_shown(reference)}.")
    texts: list[Int32] = []
    for text in [reference] if isinstance(reference, str) else reference:
        if isinstance(text, str):
            check_text(text, "reference")
            text = tokenizer(text, add_special_tokens=False)["input_ids"]
        found = token_ids(text, "reference")
        if len(found) and not np.issubdtype(found.dtype, np.integer):
            raise UsageError(f"A reference must hold token ids, not {found.dtype.name} values.")
        if len(found) and (found.min() < 0 or found.max() >= vocab_size):
            raise UsageError(f"A reference has a token id outside the vocabulary of {vocab_size}.")
        if len(found):
            texts.append(found.astype(np.int32))
    return texts
