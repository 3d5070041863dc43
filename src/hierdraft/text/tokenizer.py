"""A transformers tokenizer as far as decoding needs it, without transformers: that takes seconds to import.

It is written beside a converted model once, and only if it gives what transformers gives. Whatever it is asked for
beyond texts, ids and plain chat messages, it asks transformers' own tokenizer, which it loads then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hierdraft.text.written import BACKEND, backend_of, facts_of

_FACTS = "tokenizer_facts.json"
_OWN = {
    "transformers.tokenization_utils_tokenizers",
    "transformers.tokenization_utils_base",
    "transformers.tokenization_python",
}
_METHODS = ("__call__", "encode", "_encode_plus", "decode", "_decode", "apply_chat_template", "get_chat_template")
_TEXTS = (
    "",
    " ",
    "Why is the sky blue?",
    "  two  spaces\n\n\tand a tab ",
    "naïve café — Straße, Привет, שלום, नमस्ते, こんにちは, 안녕하세요, สวัสดี 👩‍👩‍👧 🇩🇪",
    "def f(x): return x[1:] # 3.14e-7 don't",
)
_CHATS = (
    [("user", "Hello, you.")],
    [("user", "Hello."), ("assistant", "Hi!\n"), ("user", " Why? ")],
    [("system", "Be brief."), ("user", "Hello.")],
)


class StoredTokenizer:
    """What `store` kept of a tokenizer."""

    def __init__(self, folder: Path, whole: Callable[[], Any]) -> None:
        """
        folder   where `store` wrote it
        whole    loads the transformers tokenizer that it was made of

        Raises OSError, ValueError, KeyError or TypeError for damaged files.
        """
        from tokenizers import Tokenizer

        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        self._load, self._loaded = whole, None
        self._tokenizer = Tokenizer.from_file(str(folder / BACKEND))
        self._length = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.chat_template: str | dict[str, str] | None = facts["chat_template"]
        self.special_tokens_map: dict[str, Any] = facts["special_tokens_map"]
        self.all_special_tokens: list[str] = facts["all_special_tokens"]
        self.all_special_ids: list[int] = facts["all_special_ids"]
        self.eos_token: str | None = facts["eos_token"]
        self.eos_token_id: int | None = facts["eos_token_id"]
        self.pad_token_id: int | None = facts["pad_token_id"]
        self.clean_up_tokenization_spaces: bool = facts["clean_up_tokenization_spaces"]

    def __len__(self) -> int:
        """Size of the vocabulary, added tokens included."""
        return int(self._length)

    def __call__(self, text: Any, *, add_special_tokens: bool = True, **others: Any) -> Any:
        """`input_ids` and `attention_mask` of a text; what else transformers' own takes, it gets."""
        if others or not isinstance(text, str):
            return self.whole(text, add_special_tokens=add_special_tokens, **others)
        ids = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    def encode(self, text: Any, *, add_special_tokens: bool = True, **others: Any) -> Any:
        """Token ids of a text."""
        if others or not isinstance(text, str):
            return self.whole.encode(text, add_special_tokens=add_special_tokens, **others)
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Any, skip_special_tokens: bool = False, **others: Any) -> Any:
        """The text of token ids."""
        plain = isinstance(ids, Sequence) and all(isinstance(token, int) for token in ids)
        if others or not plain or self.clean_up_tokenization_spaces:
            return self.whole.decode(ids, skip_special_tokens=skip_special_tokens, **others)
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def convert_ids_to_tokens(self, ids: Any, **others: Any) -> Any:
        """How ids are written."""
        if others:
            return self.whole.convert_ids_to_tokens(ids, **others)
        return self._tokenizer.id_to_token(ids) if isinstance(ids, int) else list(map(self._tokenizer.id_to_token, ids))

    def apply_chat_template(
        self,
        conversation: Any,
        *,
        tools: Sequence[Any] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        **others: Any,
    ) -> Any:
        """The ids, or the text, of a conversation. Raises jinja2.TemplateError, and what transformers' own raises."""
        from hierdraft.text.templates import fill, is_plain

        messages = [dict(turn) for turn in conversation if isinstance(turn, Mapping)]
        template = self._template(chat_template)
        simple = len(messages) == len(conversation) > 0 and is_plain(messages) and is_plain(list(tools or ()))
        if continue_final_message:
            simple = simple and not add_generation_prompt and isinstance(messages[-1].get("content"), str)
        if others or template is None or not simple or (tokenize and return_dict):
            return self.whole.apply_chat_template(
                conversation, tools=tools, chat_template=chat_template, add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message, tokenize=tokenize, return_dict=return_dict, **others,
            )  # fmt: skip
        messages = [{name: value for name, value in turn.items() if value is not None} for turn in messages]
        text = fill(
            template, messages, tools, continues=continue_final_message, add_generation_prompt=add_generation_prompt,
            **self.special_tokens_map,
        )  # fmt: skip
        return self._tokenizer.encode(text, add_special_tokens=False).ids if tokenize else text

    def _template(self, chosen: str | None) -> str | None:
        """The template meant, None where transformers' own has to find out."""
        if isinstance(self.chat_template, dict):
            return self.chat_template.get(chosen or "default")
        return self.chat_template if chosen is None else None

    @property
    def whole(self) -> Any:
        """The transformers tokenizer. Raises ModelError, MissingDependencyError."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __getattr__(self, name: str) -> Any:
        """What is not kept here, transformers' own tokenizer knows."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.whole, name)


def stored_in(folder: Path) -> bool:
    """Whether `store` wrote a tokenizer there."""
    return (folder / _FACTS).is_file()


def store_written(source: Path, folder: Path) -> None:
    """Write what decoding needs of the tokenizer files in `source`. Raises ModelError, OSError."""
    backend = backend_of(source)
    facts = facts_of(source, backend)
    (folder / BACKEND).write_text(backend.to_str(), encoding="utf-8")
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def store(tokenizer: Any, folder: Path) -> bool:
    """Write what decoding needs of a transformers tokenizer; nothing, and False, if that would not be equal.

    Raises OSError.
    """
    if not _is_ordinary(tokenizer):
        return False
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer._tokenizer.to_str())  # the caller's keeps its truncation and padding
    backend.no_truncation()
    backend.no_padding()
    (folder / BACKEND).write_text(backend.to_str(), encoding="utf-8")
    names = (
        "chat_template", "special_tokens_map", "all_special_tokens", "all_special_ids", "eos_token", "eos_token_id",
        "pad_token_id",
    )  # fmt: skip
    facts = {name: getattr(tokenizer, name) for name in names}
    facts["clean_up_tokenization_spaces"] = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
    facts["special_tokens_map"] = {name: _written(token) for name, token in facts["special_tokens_map"].items()}
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    if _same(StoredTokenizer(folder, lambda: None), tokenizer):
        return True
    for name in (BACKEND, _FACTS):
        (folder / name).unlink()
    return False


def _written(token: Any) -> Any:
    return [str(one) for one in token] if isinstance(token, list | tuple) else str(token)


def _is_ordinary(tokenizer: Any) -> bool:
    """Whether the library's tokenizer is all there is: no steps of a class of its own."""
    if getattr(tokenizer, "_tokenizer", None) is None or getattr(tokenizer, "split_special_tokens", False):
        return False
    owners = {getattr(getattr(type(tokenizer), name, None), "__module__", "") for name in _METHODS}
    return owners <= _OWN


def _same(light: StoredTokenizer, whole: Any) -> bool:
    """Whether both give the same for texts of many scripts, their ids, and conversations."""
    for text in _TEXTS:
        for special in (True, False):
            ids = whole(text, add_special_tokens=special)["input_ids"]
            if light(text, add_special_tokens=special)["input_ids"] != list(ids):
                return False
            if not light.clean_up_tokenization_spaces and light.decode(ids) != whole.decode(ids):
                return False
    templates = whole.chat_template
    if not templates:
        return True
    return all(
        _filled(light, chat, name, prompts) == _filled(whole, chat, name, prompts)
        for chat in _CHATS
        for name in (templates if isinstance(templates, dict) else [None])
        for prompts in (True, False)
    )


def _filled(tokenizer: Any, chat: Sequence[tuple[str, str]], name: str | None, prompts: bool) -> Any:
    """What a template makes of a conversation; the kind of its refusal, where it refuses."""
    from jinja2 import TemplateError

    turns = [{"role": role, "content": text} for role, text in chat]
    try:
        return tokenizer.apply_chat_template(
            turns, chat_template=name, add_generation_prompt=prompts, tokenize=False, return_dict=False
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        return type(error).__name__
