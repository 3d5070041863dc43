"""Strings that end an answer, and what a reader may see of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.errors import UsageError
from hierdraft.levels import TARGET
from hierdraft.protocols import Finish
from hierdraft.text.visible import TextStream, special_tokens
from hierdraft.tree import Int32


class StopStrings:
    """Ends a request at the token that completes one of several strings, wherever the token borders lie.

    That is the first token after which the text so far, as the tokenizer shows it, holds a string. Special tokens are
    not shown, but a string may hold them: `</s>` ends the request where that token comes, and where it is spelled out.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        """`strings`: none of them empty (UsageError)."""
        if any(not string for string in strings):
            raise UsageError("A stop string must not be empty.")
        self._stream = TextStream(tokenizer)
        self._special = special_tokens(tokenizer) if strings else {}
        with_special = [string for string in strings if any(name in string for name in self._special.values())]
        self._shown = _Searched([string for string in strings if string not in with_special])
        self._raw = _Searched(with_special)
        self._length = self._read = 0
        self.cut_at: int | None = None
        """Where in the request's text the stop string begins, once it is complete."""
        self.matched: str | None = None
        """Which of the strings that is."""

    @property
    def until(self) -> int:
        """How far the text may be shown: not into a stop string, nor into what may become one."""
        if self.cut_at is not None:
            return self.cut_at
        return min(searched.end(self._length) for searched in (self._shown, self._raw))

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:  # noqa: ARG002
        """`stop` once the text ends with or holds one of the strings."""
        token = int(tokens[-1])
        piece = self._stream.push(token)
        rest = self._stream.open()
        start = self._length
        self._length += len(piece)
        shown = piece + rest
        found = [self._shown.find(shown, start)]
        self._shown.keep(piece, start)
        found.append(self._check_raw(shown, start, self._special.get(token)))
        ends = [one for one in found if one is not None]
        if not ends:
            return None
        self.cut_at, self.matched = min(ends)
        return "stop"

    def _check_raw(self, shown: str, start: int, name: str | None) -> tuple[int, str] | None:
        """The same in the text with special tokens. `shown` begins at `start`, `name` is a special token after it."""
        new, first = shown[max(0, self._read - start) :], max(start, self._read)
        if name is None:
            found = self._raw.find(new, first)
            self._raw.keep(new[: max(0, self._length - first)], first)
            self._read = max(self._read, self._length)
            return found
        self._raw.keep(new, first)  # also what is open: it stands before the special token
        self._read = start + len(shown)
        found = self._raw.find(name, self._read, stands=False)
        self._raw.keep(name, self._read, stands=False)
        return found


class _Searched:
    """The end of a growing text in which strings are looked for; every character knows its place in what is shown."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._reach = max((len(string) for string in strings), default=1) - 1
        self._text = ""
        self._places: list[int] = []

    def find(self, more: str, first: int, *, stands: bool = True) -> tuple[int, str] | None:
        """Where the first of the strings begins, if `more` completes one, and which it is. See `keep`."""
        text = self._text + more
        found = [(text.find(string), string) for string in self._strings if string in text]
        if not found:
            return None
        place, string = min(found)
        return (self._places + _places(more, first, stands))[place], string

    def keep(self, more: str, first: int, *, stands: bool = True) -> None:
        """`more` has become certain: text from place `first` on, or a special token there, which is not shown."""
        cut = max(0, len(self._text) + len(more) - self._reach)
        self._text = (self._text + more)[cut:]
        self._places = (self._places + _places(more, first, stands))[cut:]

    def end(self, length: int) -> int:
        """Where the longest end of the text that begins a string begins, in a text of `length` characters."""
        for first, place in enumerate(self._places):
            if any(string.startswith(self._text[first:]) for string in self._strings):
                return place
        return length


def _places(text: str, first: int, stands: bool) -> list[int]:
    return list(range(first, first + len(text))) if stands else [first] * len(text)


class VisibleText:
    """What a reader may see so far, in pieces with the level that drafted them."""

    def __init__(self, tokenizer: Any, stop: StopStrings | None = None) -> None:
        """`stop`: has been asked about every token before it is pushed here; nothing after its `until` is shown."""
        self._stream = TextStream(tokenizer)
        self._stop = stop
        self._waiting: list[tuple[str, int]] = []
        self._shown = 0
        self._level = TARGET

    def push(self, token: int, level: int) -> list[tuple[str, int]]:
        """(text, level) pieces that have become certain with `token`."""
        self._level = level
        piece = self._stream.push(token)
        if piece:
            self._waiting.append((piece, level))
        return self._release(None if self._stop is None else self._stop.until)

    def finish(self) -> list[tuple[str, int]]:
        """The rest, up to where a stop string begins."""
        rest = self._stream.flush()
        if rest:
            self._waiting.append((rest, self._level))
        return self._release(None if self._stop is None else self._stop.cut_at)

    def _release(self, until: int | None) -> list[tuple[str, int]]:
        pieces: list[tuple[str, int]] = []
        while self._waiting and (until is None or self._shown < until):
            text, level = self._waiting.pop(0)
            if until is not None and self._shown + len(text) > until:
                fits = until - self._shown
                self._waiting.insert(0, (text[fits:], level))
                text = text[:fits]
            pieces.append((text, level))
            self._shown += len(text)
        return pieces
