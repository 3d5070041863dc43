"""A pack: one file that holds one immutable database (`packfile.py`). Opening it reads the header and maps the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from hierdraft import errors
from hierdraft.databases.disk import Disk, SharedDisk, write_file
from hierdraft.databases.packfile import (
    CHUNK,
    Arrays,
    PackInfo,
    checksum,
    header_bytes,
    narrow_tokens,
    read_pack,
    wide_tokens,
)
from hierdraft.databases.suffixarray import END, Index
from hierdraft.databases.suffixsort import build
from hierdraft.tree import Int32

__all__ = ["SUFFIX", "Pack", "PackInfo", "join", "split", "write_bare", "write_pack"]

SUFFIX = ".safetensors"

MOST_BARE = 1 << 25
"""Tokens of a pack without an index at most: they are sorted in memory when it is opened."""


class Pack:
    """An open pack. `index` is mapped read only and never trusted; `info` was checked."""

    def __init__(self, path: Path, info: PackInfo, index: Index) -> None:
        self.path = path
        self.info = info
        self.index = index

    @classmethod
    def open(cls, path: Path | str, indexes: Path | None = None) -> Pack:
        """Read the header and map the arrays. Raises PackError with one sentence if that cannot be done.

        indexes   folder in which the indexes of packs that come without one are kept; None: they are built anew
        """
        path = Path(path)
        try:
            info, arrays = read_pack(path)
            index = _bare_index(info, arrays["tokens"], indexes) if len(arrays) == 1 else _index(info, arrays)
        except OSError as error:
            raise errors.PackError(f"The pack {path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, RecursionError, SafetensorError) as error:
            raise errors.PackError(f"{path} is not a usable pack: {error}.") from error
        return cls(path, info, index)

    def require(self, *, tokenizer: str, vocab_size: int, name: str) -> None:
        """Raise PackError unless the pack was made for this tokenizer; `name` is what to call it.

        `vocab_size` may be larger than the tokenizer's: models pad their last layer.
        """
        made_for = f"{self.info.model or 'another model'} (tokenizer {self.info.tokenizer[:12] or 'unknown'}"
        made_for += f", {self.info.vocab_size} ids)"
        wanted = f"{name} (tokenizer {tokenizer[:12] or 'unknown'}, {vocab_size} ids)"
        if self.info.tokenizer and tokenizer and self.info.tokenizer != tokenizer:
            raise errors.PackError(f"The pack {self.path} was made for {made_for}, not for {wanted}.")
        if self.info.vocab_size > vocab_size:
            raise errors.PackError(f"The pack {self.path} was made for {made_for}: too many ids for {wanted}.")

    def verify(self) -> None:
        """Read everything and compare with the checksums; raises PackError."""
        try:
            _, arrays = read_pack(self.path)
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            raise errors.PackError(f"{self.path} cannot be read any more ({error}).") from error
        for name, array in arrays.items():
            if checksum(array) != self.info.checksums.get(name):
                raise errors.PackError(f"{self.path} is damaged: its {name} are not what was written.")

    def documents(self) -> Iterator[Int32]:
        """The documents, in order, without the ends between them."""
        yield from split(self.index.tokens)


def _index(info: PackInfo, arrays: Arrays) -> Index:
    """The arrays of a pack with its index. Raises ValueError."""
    index = Index(arrays["tokens"], arrays["suffixes"], arrays["starts"])
    if len(index.tokens) != len(index.suffixes) or len(index.starts) != info.vocab_size + 1:
        raise ValueError("its arrays do not fit together")
    return index


def _bare_index(info: PackInfo, stored: NDArray[Any], indexes: Path | None) -> Index:
    """The index of a pack that has none: from the folder, or built, and put there if that can be done.

    Raises ValueError for tokens that are not what was written.
    """
    if len(stored) > MOST_BARE:
        raise ValueError(f"without an index a pack holds at most {MOST_BARE} tokens")
    found = checksum(stored)
    if found != info.checksums.get("tokens"):
        raise ValueError("its tokens are not what was written")
    kept = indexes / f"{found}-{info.vocab_size}{SUFFIX}" if indexes is not None else None
    if kept is not None and kept.exists():
        with suppress(OSError, ValueError, RecursionError, SafetensorError):  # damaged: it is made again
            there, arrays = read_pack(kept)
            if there == replace(info, checksums=there.checksums):
                return _index(there, arrays)
    index = build(wide_tokens(stored), info.vocab_size)
    if kept is not None:
        with suppress(OSError, errors.PackError):  # a cache that cannot be written is no error
            beside = kept.with_name(f".{kept.name}.{os.getpid()}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_pack(beside, index, info)
            os.replace(beside, kept)  # whichever process is last
            return _index(*read_pack(kept))
    return index


def split(tokens: Int32) -> Iterator[Int32]:
    """The documents of a text in which `END` stands between (or after) them; empty ones are left out."""
    start = 0
    for end in [*np.flatnonzero(tokens == END).tolist(), len(tokens)]:
        if end > start:
            yield tokens[start:end]
        start = end + 1


def join(documents: Iterable[Int32]) -> Int32:
    """The text of documents, an `END` after each."""
    end = np.array([END], dtype=np.int32)
    parts = [part for document in documents for part in (np.asarray(document, dtype=np.int32), end)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def write_pack(path: Path, index: Index, info: PackInfo, disk: Disk | None = None) -> Pack:
    """Write a pack and open it. The same index and info give the same bytes. Raises PackError."""
    return _write(path, {"starts": index.starts, "suffixes": index.suffixes, "tokens": index.tokens}, info, disk)


def write_bare(path: Path, tokens: Int32, info: PackInfo) -> Pack:
    """Write a pack without its index, which is built when it is opened, and open it.

    Raises PackError, and ValueError for ids outside the vocabulary or more than `MOST_BARE` tokens.
    """
    if len(tokens) > MOST_BARE:
        raise ValueError(f"without an index a pack holds at most {MOST_BARE} tokens, not {len(tokens)}")
    if len(tokens) and (tokens.min() < END or tokens.max() >= info.vocab_size):
        raise ValueError(f"an id lies outside the vocabulary of {info.vocab_size}")
    return _write(path, {"tokens": narrow_tokens(tokens, info.vocab_size)}, info, None)


def _write(path: Path, arrays: Arrays, info: PackInfo, disk: Disk | None) -> Pack:
    tokens = wide_tokens(arrays["tokens"]) if arrays["tokens"].itemsize < 4 else arrays["tokens"]
    ends = int(np.count_nonzero(tokens == END))
    sums = {name: checksum(array) for name, array in arrays.items()}
    head = header_bytes(replace(info, tokens=len(tokens) - ends, documents=ends, checksums=sums), arrays)
    try:
        write_file(disk or SharedDisk(), path, _bytes_of(head, arrays))
    except OSError as error:
        raise errors.PackError(f"The pack {path} cannot be written: {error.strerror or error}.") from error
    return Pack.open(path)


def _bytes_of(head: bytes, arrays: Arrays) -> Iterator[bytes | memoryview]:
    yield head
    for _, array in sorted(arrays.items()):
        for start in range(0, len(array), CHUNK):
            yield array[start : start + CHUNK].data
