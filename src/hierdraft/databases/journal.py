"""The append-only record of what a model has said since the last pack was made.

A file is a header line of JSON and records: length and CRC-32 of the payload (two little-endian 32-bit numbers),
then the payload, one finished request's int32 token ids. Reading stops at the first record that is not whole; a
writer cuts the file there before it appends.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hierdraft.databases.disk import Disk, write_file
from hierdraft.tree import Int32

_RECORD = struct.Struct("<II")
_HEADER = {"format": "hierdraft-journal-1"}
Identity = dict[str, str | int]
"""What the ids in a file mean: tokenizer and vocabulary."""

MAX_RECORD = 1 << 26
"""Bytes of the longest record."""


class Replay(NamedTuple):
    """What a journal holds: its whole records, and the length of the file up to the last of them."""

    documents: list[Int32]
    length: int


def header(identity: Identity) -> bytes:
    """The first line of a journal; `identity` says what its ids mean."""
    return json.dumps({**_HEADER, **identity}, sort_keys=True).encode() + b"\n"


def encode(tokens: Int32) -> bytes:
    """A record."""
    payload = np.ascontiguousarray(tokens, dtype="<i4").tobytes()
    return _RECORD.pack(len(payload), zlib.crc32(payload)) + payload


def replay(path: Path, identity: Identity, vocab_size: int, start: int = 0) -> Replay | None:
    """The whole records after byte `start` (0: all); None if the file does not begin with the right header.

    Records with ids outside the vocabulary are left out. Raises OSError.
    """
    data = memoryview(path.read_bytes())
    first = header(identity)
    if bytes(data[: len(first)]) != first:
        return None
    found = _records(data, max(start, len(first)))
    valid = [tokens for tokens in found.documents if tokens.min() >= 0 and tokens.max() < vocab_size]
    return Replay(valid, found.length)


def documents_in(path: Path) -> list[Int32]:
    """The whole records of a journal of any model. Raises OSError."""
    data = path.read_bytes()
    return _records(memoryview(data), data.find(b"\n") + 1).documents


def _records(data: memoryview, at: int) -> Replay:
    documents: list[Int32] = []
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + length
        if not 0 < length <= MAX_RECORD or length % 4 or end > len(data):  # 0: a block the system only reserved
            break
        payload = data[at + _RECORD.size : end]
        if zlib.crc32(payload) != checksum:
            break
        documents.append(np.frombuffer(payload, dtype="<i4").astype(np.int32))
        at = end
    return Replay(documents, min(at, len(data)))


class Journal:
    """A journal that is being written. Not thread-safe. Every method may raise OSError."""

    def __init__(self, disk: Disk, path: Path, descriptor: int, length: int) -> None:
        self.path = path
        self._disk = disk
        self._descriptor = descriptor
        self._length = length
        self._synced = length

    @classmethod
    def create(cls, disk: Disk, path: Path, identity: Identity) -> Journal:
        """A new, empty journal."""
        first = header(identity)
        write_file(disk, path, [first])
        return cls(disk, path, disk.open(path), len(first))

    @classmethod
    def resume(cls, disk: Disk, path: Path, length: int) -> Journal:
        """Continue after the first `length` bytes of a journal; what comes after them is cut off."""
        descriptor = disk.open(path)
        try:
            if path.stat().st_size > length:
                disk.truncate(descriptor, length)
                disk.sync(descriptor)
        except OSError:
            disk.close(descriptor)
            raise
        return cls(disk, path, descriptor, length)

    @property
    def unsynced(self) -> int:
        """Bytes that a power failure could lose."""
        return self._length - self._synced

    def append(self, tokens: Int32) -> None:
        """Hand a record to the system. If that fails, the file is what it was before."""
        record = encode(tokens)
        if len(record) > MAX_RECORD:
            return  # longer than any model's context; not worth a format of its own
        try:
            self._disk.write(self._descriptor, record)
        except OSError:
            self._disk.truncate(self._descriptor, self._length)
            raise
        self._length += len(record)

    def sync(self) -> None:
        """Return when everything appended is on the device."""
        length = self._length
        if length > self._synced:
            self._disk.sync(self._descriptor)
            self._synced = length

    def close(self) -> None:
        """Sync and let go of the file."""
        try:
            self.sync()
        finally:
            self._disk.close(self._descriptor)
