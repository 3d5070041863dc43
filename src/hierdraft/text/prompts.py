"""From what a caller gives to token ids: prompts, earlier turns, references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierdraft.errors import UsageError
from hierdraft.tree import Int32


def encode_prompt(tokenizer: Any, prompt: str, history: Sequence[tuple[str, str]] = (), *, chat: bool) -> list[int]:
    """Token ids of a prompt, as a user's turn of the model's chat template where `chat` is set and it has one.

    history   earlier turns, each what was asked and what was answered

    Raises UsageError for an empty prompt.
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
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        return [int(token) for token in ids]
    whole = "\n\n".join([*(text for turn in history for text in turn), prompt])
    return [int(token) for token in tokenizer(whole)["input_ids"]]


def encode_references(tokenizer: Any, reference: str | Sequence[str | Sequence[int]], vocab_size: int) -> list[Int32]:
    """Texts that an answer may repeat as int32[L] each, without special tokens; empty ones are left out.

    Raises UsageError for ids outside the vocabulary.
    """
    texts: list[Int32] = []
    for text in [reference] if isinstance(reference, str) else reference:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] if isinstance(text, str) else text
        found = np.asarray(ids, dtype=np.int64).ravel()
        if len(found) and (found.min() < 0 or found.max() >= vocab_size):
            raise UsageError(f"A reference has a token id outside the vocabulary of {vocab_size}.")
        if len(found):
            texts.append(found.astype(np.int32))
    return texts
