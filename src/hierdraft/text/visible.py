"""Text as it streams: what is certain, and what a reader may see of it where strings end the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
