"""Strings that end an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.errors import UsageError
from hierdraft.protocols import Finish
from hierdraft.text.visible import TextStream
from hierdraft.tree import Int32


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
