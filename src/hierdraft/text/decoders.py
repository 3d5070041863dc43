"""How each kind of tokenizer turns ids into text, one id at a time: text is given out once no later id can change it.

Byte-level tokenizers (GPT-2, Llama 3, Qwen) are read byte by byte. All others decode the last few ids anew, after a
few that came before them, because a piece may depend on its neighbours: whether it begins a word, whether a run of
byte pieces is valid UTF-8.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_FAR = 32
"""Ids that are decoded again for every new one while nothing is certain; beyond, the looks become rarer."""

_LOST = "\ufffd"

_EARLY = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "WordPiece", "BPEDecoder"}
"""Decoders of the tokenizers library that change no text of complete tokens when more follow."""


class Pieces(Protocol):
    """Text of ids that come one by one; special ids and such that the tokenizer does not know never come."""

    def push(self, token: int) -> str:
        """The text that has become certain with `token`."""
        ...

    def open(self) -> str:
        """How the text would continue if it ended here, without an unfinished character."""
        ...

    def flush(self) -> str:
        """At the end: the rest, as the tokenizer shows it."""
        ...


def pieces_of(tokenizer: Any) -> Pieces:
    """What fits the tokenizer: a transformers one, fast or slow."""
    if not _is_plain(tokenizer):
        return _slow(tokenizer)
    fast = tokenizer._tokenizer
    steps = _steps(fast)
    if steps == ["ByteLevel"]:
        return BytePieces(fast.id_to_token)

    def decode(ids: list[int]) -> str:
        text: str = fast.decode(ids, skip_special_tokens=True)
        return text

    early = set(steps) <= _EARLY and "Replace" not in steps[steps.index("Fuse") if "Fuse" in steps else len(steps) :]
    return WindowPieces(decode, fast.id_to_token if "ByteFallback" in steps else None, late=not early)


def _is_plain(tokenizer: Any) -> bool:
    """Whether it decodes as the tokenizers library does, without steps of its own."""
    if getattr(tokenizer, "_tokenizer", None) is None:
        return False
    owner = getattr(getattr(type(tokenizer), "_decode", None), "__module__", "")
    outer = getattr(getattr(type(tokenizer), "decode", None), "__module__", "")
    if not owner:
        return True
    return owner == "transformers.tokenization_utils_tokenizers" and outer == "transformers.tokenization_utils_base"


def _slow(tokenizer: Any) -> Pieces:
    def decode(ids: list[int]) -> str:
        text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    return WindowPieces(decode, None, late=True)


def _steps(fast: Any) -> list[str]:
    """Names of the steps of a tokenizer's decoder, in order."""
    if fast.decoder is None:
        return []
    found: Mapping[str, Any] = json.loads(fast.decoder.__getstate__())
    return [step["type"] for step in found.get("decoders", [found])]


def _alphabet() -> dict[str, int]:
    """GPT-2's: the characters that bytes are written as; most stand for themselves."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = sorted({*range(256)} - {*shown})
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTES = _alphabet()


class BytePieces:
    """Every character of a token stands for a byte."""

    def __init__(self, token_text: Callable[[int], str | None]) -> None:
        """`token_text`: the characters of an id, None for one without any."""
        self._token_text = token_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that are complete with `token`."""
        return self._decoder.decode(self.bytes_of(token))

    def bytes_of(self, token: int) -> bytes:
        """What an id stands for."""
        text = self._token_text(token) or ""
        try:
            return bytes([_BYTES[c] for c in text])
        except KeyError:  # an added token, in plain characters
            return text.encode()

    def open(self) -> str:
        """Nothing: what is not certain is an unfinished character."""
        return ""

    def flush(self) -> str:
        """The replacement for an unfinished character."""
        return self._decoder.decode(b"", final=True)


class WindowPieces:
    """Decodes the ids whose text is not certain yet, after some whose text is."""

    def __init__(
        self, decode: Callable[[list[int]], str], token_text: Callable[[int], str | None] | None, *, late: bool
    ) -> None:
        """
        decode      the text of ids, which need not begin where the whole text does
        token_text  for a tokenizer that falls back to bytes: an id's piece, <0x41> for the byte 0x41. A run of them
                    is read as a whole: one wrong byte turns all of it into replacement characters
        late        count text as certain only if it was the same before the last id
        """
        self._decode = decode
        self._token_text = token_text
        self._late = late
        self._ids: list[int] = []
        self._known = 0
        """How many of the ids only serve those after them: their text is out."""
        self._shown = 0
        self._text = ""
        """Of the first `_seen` ids."""
        self._seen = 0
        self._run: _ByteRun | None = None
        self._next_look = 0

    def push(self, token: int) -> str:
        """What is certain with `token`."""
        self._ids.append(token)
        byte = self._byte(token)
        if byte is not None:
            self._run = self._run or _ByteRun()
            self._run.add(byte)
            return ""
        self._run = None
        if len(self._ids) < self._next_look:
            return ""
        text = self._decode(self._ids)
        certain = len(text)
        if self._late:
            certain = _common(self._text, text)
            certain -= _unfinished(text[:certain])
        piece = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        self._forget(text, certain)
        return piece

    def open(self) -> str:
        """The complete characters of a run of bytes; text that awaits a second look."""
        if self._run is not None:
            return self._run.shown(lambda: self._decode(self._ids)[self._shown :])
        if self._seen < len(self._ids):
            return ""
        return self._text[self._shown : len(self._text) - _unfinished(self._text)]

    def flush(self) -> str:
        """The rest of the whole."""
        text = self._decode(self._ids)
        piece = text[self._shown :]
        self._text, self._seen, self._shown = text, len(self._ids), len(text)
        return piece

    def _byte(self, token: int) -> int | None:
        return as_byte(self._token_text(token)) if self._token_text else None

    def _forget(self, text: str, certain: int) -> None:
        """Drop ids in front whose text is out, but for those that the next ones need before them."""
        whole, border = (self._text, self._seen) if self._late else (text, len(self._ids))
        kept = self._ids[self._known : border]
        base = self._decode(kept) if kept and certain == len(whole) == self._shown else ""
        if base:  # some of the text is left in front, so what is special at the beginning of a text stays there
            self._ids = self._ids[self._known :]
            self._known, self._shown = len(kept), len(base)
            self._next_look = 0
            text = self._decode(self._ids) if self._late else base
        elif len(self._ids) > _FAR:
            self._next_look = len(self._ids) + len(self._ids) // 8
        self._text, self._seen = text, len(self._ids)


class _ByteRun:
    """Byte pieces in a row."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._valid = True
        self._text = ""
        self._front: tuple[str, int] | None = None

    def add(self, byte: int) -> None:
        """One more."""
        if self._valid:
            try:
                self._text += self._decoder.decode(bytes([byte]))
            except UnicodeDecodeError:
                self._valid = False

    def shown(self, decoded: Callable[[], str]) -> str:
        """The run's text where it is complete characters, else nothing.

        decoded   what the tokenizer shows of it, and before it; asked once, as only the front of a text is special
        """
        if not self._valid or self._decoder.getstate()[0]:
            return ""
        if self._front is None:
            text = decoded()
            more = len(text) - len(self._text)
            self._front = text[: max(0, more)], max(0, -more)
        before, left_out = self._front
        return before + self._text[left_out:]


def as_byte(piece: str | None) -> int | None:
    """The byte that a piece such as <0x41> stands for."""
    if piece is None or len(piece) != 6 or not piece.startswith("<0x") or not piece.endswith(">"):
        return None
    try:
        return int(piece[3:5], 16)
    except ValueError:
        return None


def _common(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    if second.startswith(first):
        return len(first)
    return next(
        (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), len(second)
    )


def _unfinished(text: str) -> int:
    """How many characters at the end may become another one: an unfinished one has up to three bytes."""
    return min(3, len(text) - len(text.rstrip(_LOST)))


class Cleaner:
    """What transformers' `clean_up_tokenization` makes of a text, one piece at a time.

    It takes out spaces before punctuation and contractions. Every pattern begins with a space and has four characters
    at most; only the one for a lone apostrophe has a space within. So a text can be cut, and its parts cleaned alone,
    after three characters without a space, and before a space that has neither a space nor an apostrophe before it
    and no apostrophe after it.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._text = ""

    def push(self, piece: str) -> str:
        """The cleaned text up to the last place where it can be cut."""
        known = max(1, len(self._text) - 1)
        self._text += piece
        for place in range(len(self._text), known - 1, -1):
            pair = self._text[place : place + 2]
            before = len(pair) == 2 and pair[0] == " " and "'" not in pair and self._text[place - 1] not in " '"
            if before or (place >= 3 and " " not in self._text[place - 3 : place]):
                done, self._text = self._text[:place], self._text[place:]
                return self._clean(done)
        return ""

    def open(self, piece: str) -> str:
        """How the text would continue if it ended with `piece`."""
        return self._clean(self._text + piece)

    def flush(self, piece: str) -> str:
        """The rest."""
        done, self._text = self._text + piece, ""
        return self._clean(done)
