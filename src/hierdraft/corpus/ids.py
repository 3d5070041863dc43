"""Documents of token ids: JSONL or .npy, and the n-gram counts of the paper's public code.

Every function raises CorpusError with the file, and the line where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hierdraft.corpus.records import ids_of, read_jsonl
from hierdraft.corpus.streams import Reading, read_chunks
from hierdraft.databases.pack import split
from hierdraft.databases.suffixarray import END
from hierdraft.errors import CorpusError
from hierdraft.tree import Int32

_MOST_COPIES = 64


def read_ids(path: Path, field: str, vocab_size: int) -> Iterator[Int32]:
    """Documents of a .npy or JSONL file of token ids.

    .npy   one-dimensional integers; the largest value of an unsigned type, or -1 of a signed one, ends a document
    JSONL  one document a line, a list of ids under `field`; the first line of a run of `bench run` is passed over
    """
    if path.suffix == ".npy":
        yield from _read_npy(path, vocab_size)
        return
    for number, row in read_jsonl(path):
        if number == 1 and isinstance(row.get("run"), dict):
            continue
        yield np.array(ids_of(row, field, f"{path}, line {number}", vocab_size), dtype=np.int32)


def _read_npy(path: Path, vocab_size: int) -> Iterator[Int32]:
    try:
        ids = np.load(path, allow_pickle=False)  # not mapped: a file cut meanwhile would kill the process
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise CorpusError(f"{path} cannot be read as a .npy file: {error}.") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise CorpusError(f"{path} holds {ids.dtype} of shape {ids.shape}, not a row of token ids.")
    end = np.iinfo(ids.dtype).max if ids.dtype.kind == "u" else END
    outside = (ids != end) & ((ids >= vocab_size) | (ids < 0))
    if outside.any():
        place = int(outside.argmax())
        raise CorpusError(f"{path}: id {ids[place]} at {place} is outside the vocabulary of {vocab_size}.")
    text = ids.astype(np.int32)
    text[ids == end] = END
    yield from split(text)


def read_ngrams(path: Path, vocab_size: int) -> Iterator[Int32]:
    """The n-grams of a JSON object {"id/id/...": count}, each as many times as it was counted, at most 64 times.

    This is the file that the public code of arXiv 2502.05609 builds its model database from.
    """
    try:
        counts = json.loads("".join(read_chunks(path, Reading())))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is not JSON: {error}.") from error
    if not isinstance(counts, dict):
        raise CorpusError(f"{path} is not an object of n-grams and counts.")
    for key, count in counts.items():
        try:
            ids = [int(part) for part in key.split("/")]
        except ValueError as error:
            raise CorpusError(f"{path}: {key!r} is not an n-gram of ids joined by /.") from error
        if type(count) is not int or count < 1:
            raise CorpusError(f"{path}: {key!r} has the count {count!r}.")
        if not 0 <= min(ids) <= max(ids) < vocab_size:
            raise CorpusError(f"{path}: {key!r} has an id outside the vocabulary of {vocab_size}.")
        document = np.array(ids, dtype=np.int32)
        for _ in range(min(count, _MOST_COPIES)):
            yield document
