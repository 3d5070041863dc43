"""Between text and token ids: chat prompts, text as it streams, stop strings. The core never sees text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from hierdraft.errors import UsageError
from hierdraft.protocols import Finish
from hierdraft.tree import Int32


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """64 hex digits that two tokenizers share if their ids mean the same: vocabulary, merges, special ids.

    `tokenizer`: a fast transformers tokenizer.
    """
    whole = json.loads(tokenizer._tokenizer.to_str())
    model = whole["model"]
    parts = {
        "type": model.get("type"),
        "vocab": model.get("vocab"),
        "merges": [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []],
        "added": sorted([token["id"], token["content"], token["special"]] for token in whole["added_tokens"]),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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


class TextStream:
    """Token ids in, text out as soon as it is certain; special tokens are left out."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a fast transformers tokenizer."""
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer._tokenizer
        self._decode = tokenizer.decode
        self._stream = DecodeStream(ids=[], skip_special_tokens=True)
        self._ids: list[int] = []
        self.text = ""

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is unfinished."""
        self._ids.append(token)
        piece: str = self._stream.step(self._tokenizer, token) or ""
        self.text += piece
        return piece

    def flush(self) -> str:
        """At the end: what is left of an unfinished character, as the tokenizer shows it."""
        whole: str = self._decode(self._ids, skip_special_tokens=True)
        rest = whole[len(self.text) :] if whole.startswith(self.text) else ""
        self.text += rest
        return rest


def token_texts(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the text; one that ends within a character adds nothing, the next one all of it."""
    stream = TextStream(tokenizer)
    found = [stream.push(token) for token in tokens]
    if found:
        found[-1] += stream.flush()
    return found


class StopStrings:
    """Ends a request at the token that completes one of several strings, wherever the token borders lie."""

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        """`strings`: none of them empty (UsageError)."""
        if any(not string for string in strings):
            raise UsageError("A stop string must not be empty.")
        self._stream = TextStream(tokenizer)
        self._strings = tuple(strings)
        self._reach = max((len(string) for string in strings), default=0)
        self.cut_at: int | None = None
        """Where in the request's text the stop string begins, once it is complete."""

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:  # noqa: ARG002
        """`stop` once the text ends with or holds one of the strings."""
        piece = self._stream.push(int(tokens[-1]))
        if not piece:
            return None
        text = self._stream.text
        start = max(0, len(text) - len(piece) - self._reach + 1)
        found = [place for place in (text.find(string, start) for string in self._strings) if place >= 0]
        if not found:
            return None
        self.cut_at = min(found)
        return "stop"


class VisibleText:
    """What a reader may see so far: held back where it could still turn out to be a stop string."""

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._stream = TextStream(tokenizer)
        self._strings = tuple(strings)
        self._waiting: list[tuple[str, int]] = []
        self._shown = 0

    def push(self, token: int, level: int) -> list[tuple[str, int]]:
        """(text, level) pieces that have become certain with `token`."""
        piece = self._stream.push(token)
        if piece:
            self._waiting.append((piece, level))
        return self._release(len(self._stream.text) - self._held())

    def finish(self, cut_at: int | None) -> list[tuple[str, int]]:
        """The rest, up to `cut_at` where a stop string begins."""
        rest = self._stream.flush()
        if rest:
            self._waiting.append((rest, self._waiting[-1][1] if self._waiting else 255))
        return self._release(len(self._stream.text) if cut_at is None else cut_at)

    def _held(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        text = self._stream.text
        longest = 0
        for string in self._strings:
            for size in range(min(len(string), len(text)), longest, -1):
                if text.endswith(string[:size]):
                    longest = size
                    break
        return longest

    def _release(self, until: int) -> list[tuple[str, int]]:
        pieces: list[tuple[str, int]] = []
        while self._waiting and self._shown < until:
            text, level = self._waiting.pop(0)
            fits = until - self._shown
            if len(text) > fits:
                self._waiting.insert(0, (text[fits:], level))
                text = text[:fits]
            pieces.append((text, level))
            self._shown += len(text)
        return pieces
