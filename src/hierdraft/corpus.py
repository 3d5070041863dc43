"""From files to documents of token ids: text, ids as JSONL or .npy, and the n-gram counts of the paper's public code.

Every function raises CorpusError with the file, and the line where there is one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.answers import read_jsonl
from hierdraft.databases.pack import split
from hierdraft.databases.suffixarray import END
from hierdraft.errors import CorpusError
from hierdraft.tree import Int32

Report = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_PIECE = 1 << 16
_BATCH = 1 << 22
_MOST_COPIES = 64


def find_files(paths: Sequence[Path], patterns: Sequence[str], excluded: Sequence[str]) -> list[Path]:
    """The files named, and those in named folders whose names match one of `patterns`, sorted.

    Folders called as one of `excluded` are not searched.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            matching = {file for pattern in patterns for file in path.rglob(pattern) if file.is_file()}
            inside = [file for file in matching if not set(file.relative_to(path).parts[:-1]) & set(excluded)]
            if not inside:
                raise CorpusError(f"{path} holds no files named {' or '.join(patterns)}.")
            found += sorted(inside)
        else:
            found.append(path)
    return found


def read_texts(files: Sequence[Path], *, skip_bad: bool, skipped: list[str], report: Report) -> Iterator[str]:
    """The text of every UTF-8 file. A file that is none raises, or is noted in `skipped` if `skip_bad`."""
    sizes = []
    for file in files:
        try:
            sizes.append(file.stat().st_size)
        except OSError as error:
            raise CorpusError(f"{file} cannot be read: {error.strerror or error}.") from error
    done = 0
    for file, size in zip(files, sizes, strict=True):
        try:
            yield _read_text(file)
        except CorpusError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
        done += size
        report(done, sum(sizes))


def _read_text(file: Path) -> str:
    try:
        data = file.read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{file}, line {line}: not UTF-8 ({error.reason}, byte {data[error.start]:#04x}); "
            "convert the file, or leave such files out with --skip-bad."
        ) from error
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror or error}.") from error


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


def read_ids(path: Path, field: str, vocab_size: int) -> Iterator[Int32]:
    """Documents of a .npy or JSONL file of token ids.

    .npy   one-dimensional integers; the largest value of an unsigned type, or -1 of a signed one, ends a document
    JSONL  one document a line, a list of ids under `field`
    """
    if path.suffix == ".npy":
        yield from _read_npy(path, vocab_size)
        return
    for number, row in read_jsonl(path):
        ids = row.get(field)
        if not isinstance(ids, list) or any(type(token) is not int for token in ids):
            raise CorpusError(f"{path}, line {number}: a row needs a list of token ids under {field!r}.")
        if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            wrong = next(token for token in ids if not 0 <= token < vocab_size)
            raise CorpusError(f"{path}, line {number}: id {wrong} is outside the vocabulary of {vocab_size}.")
        yield np.array(ids, dtype=np.int32)


def _read_npy(path: Path, vocab_size: int) -> Iterator[Int32]:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
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
        counts = json.loads(path.read_bytes())
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}.") from error
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
