"""From text to token ids, on all cores, in pieces, so that memory does not grow with a text.

Texts are cut where a tokenizer cuts them too: before the first word of a line, or between two words. A text that offers
no such place for `MOST_PIECE` characters is cut there all the same, which may change the ids at that place.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from hierdraft.databases.levels import LEAD
from hierdraft.tree import Int32

MOST_PIECE = 1 << 17
MOST_DOCUMENT = 1 << 24
"""Tokens of a document; a longer text becomes several."""

_PIECE = 1 << 16
_BATCH = 1 << 22
_TAIL = 512
_LINE = re.compile(r"\n(?=\S)")
_WORD = re.compile(r"(?<=\S)(?= \S)")


class Answer(NamedTuple):
    """A text as it follows `before`, of which only the last few tokens are kept: what a model said, and where."""

    before: str
    text: str


class _Piece(NamedTuple):
    owner: int
    text: str
    begins: bool
    last: int | None = None


def tokenize(tokenizer: Any, texts: Iterable[str | Iterable[str] | Answer]) -> Iterator[Int32]:
    """One document of ids per text that is not empty, int32[L] each, at most `MOST_DOCUMENT` of them.

    tokenizer   a fast transformers tokenizer
    texts       each whole, in pieces that belong together, or an answer, whose document begins with the last `LEAD`
                tokens before it
    """
    backend = copy.deepcopy(tokenizer._tokenizer)  # the caller's keeps its own truncation and padding
    backend.no_truncation()
    backend.no_padding()
    lead = _lead(backend)
    owner, parts, length = -1, list[Int32](), 0
    for piece, ids in _encoded(backend, lead, _pieces(texts)):
        if parts and (piece.owner != owner or length > MOST_DOCUMENT):
            yield np.concatenate(parts)
            parts, length = [], 0
        owner = piece.owner
        parts.append(ids)
        length += len(ids)
    if parts:
        yield np.concatenate(parts)


def _pieces(texts: Iterable[str | Iterable[str] | Answer]) -> Iterator[_Piece]:
    for owner, text in enumerate(texts):
        if isinstance(text, Answer):
            if text.before:
                yield _Piece(owner, _tail(text.before), True, LEAD)
            yield from (_Piece(owner, part, False) for part in _cut([text.text]))
            continue
        begins = True
        for part in _cut([text] if isinstance(text, str) else text):
            yield _Piece(owner, part, begins)
            begins = False


def _tail(text: str) -> str:
    """The end of a text, from a line's beginning where there is one."""
    end = text[-_TAIL:]
    found = _LINE.search(end, 0, _TAIL // 2) if len(end) < len(text) else None
    return end[found.end() :] if found else end


def _cut(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces of about 64 kB."""
    waiting = ""
    for chunk in chunks:
        waiting += chunk
        start = 0
        while len(waiting) - start > MOST_PIECE:
            end = _place(waiting, start)
            yield waiting[start:end]
            start = end
        waiting = waiting[start:]
    start = 0
    while len(waiting) - start > _PIECE:
        end = _place(waiting, start)
        yield waiting[start:end]
        start = end
    if start < len(waiting):
        yield waiting[start:]


def _place(text: str, start: int) -> int:
    """Where the piece that begins at `start` ends."""
    most = min(len(text), start + MOST_PIECE)
    for border in (_LINE, _WORD):
        found = border.search(text, start + _PIECE, most)
        if found:
            return found.end()
    return most


def _lead(backend: Any) -> tuple[str, int]:
    """What to put before a piece from the middle of a text, and how many ids that adds in front.

    Some tokenizers begin every text with a space of their own. After a newline a piece's ids are those it has in the
    middle, which is tried out here.
    """

    def ids(text: str) -> list[int]:
        found: list[int] = backend.encode(text, add_special_tokens=False).ids
        return found

    for lead in ("", "\n"):
        added = len(ids(lead))
        if all(ids(a + b) == ids(a) + ids(lead + b)[added:] for a, b in (("the\n", "the"), ("the", " the"))):
            return lead, added
    return "", 0


def _encoded(backend: Any, lead: tuple[str, int], pieces: Iterable[_Piece]) -> Iterator[tuple[_Piece, Int32]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= _BATCH:
            yield from _encode(backend, lead, batch)
            batch, size = [], 0
    yield from _encode(backend, lead, batch)


def _encode(backend: Any, lead: tuple[str, int], batch: list[_Piece]) -> Iterator[tuple[_Piece, Int32]]:
    text, added = lead
    texts = [piece.text if piece.begins else text + piece.text for piece in batch]
    for piece, encoding in zip(batch, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        ids = np.array(encoding.ids, dtype=np.int32)
        if piece.last is not None:
            yield piece, ids[-piece.last :]
        else:
            yield piece, ids if piece.begins else ids[added:]
