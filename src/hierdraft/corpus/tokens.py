"""From text to token ids, on all cores, with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hierdraft.tree import Int32

_PIECE = 1 << 16
_BATCH = 1 << 22


def tokenize(tokenizer: Any, texts: Iterable[str]) -> Iterator[Int32]:
    """One document per text, tokenised on all cores.

    tokenizer   a fast transformers tokenizer. Texts are cut at line ends into pieces of about 64 kB.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    backend = tokenizer._tokenizer
    backend.no_truncation()
    backend.no_padding()
    pieces: list[str] = []
    owners: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in _pieces(text):
            pieces.append(piece)
            owners.append(number)
            size += len(piece)
        if size >= _BATCH:
            yield from _encode(backend, pieces, owners)
            pieces, owners, size = [], [], 0
    yield from _encode(backend, pieces, owners)


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 if start + _PIECE < len(text) else len(text)
        end = end or len(text)
        yield text[start:end]
        start = end


def _encode(backend: Any, pieces: list[str], owners: list[int]) -> Iterator[Int32]:
    encoded = backend.encode_batch_fast(pieces, add_special_tokens=False)
    document: list[Int32] = []
    for place, encoding in enumerate(encoded):
        document.append(np.array(encoding.ids, dtype=np.int32))
        if place + 1 == len(owners) or owners[place + 1] != owners[place]:
            yield np.concatenate(document)
            document = []
