"""A pack: one file that holds one immutable database.

It is a safetensors file (any reader of that format can open it) with three int32 arrays, `tokens`, `suffixes` and
`starts` (see `suffixarray.build`), and metadata that says what it is for and how to check it. Opening reads the
header and maps the rest; `Pack.verify` reads everything.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from hierdraft import errors
from hierdraft.databases.disk import Disk, SharedDisk, write_file
from hierdraft.databases.suffixarray import END, Index
from hierdraft.levels import packed_levels
from hierdraft.tree import Int32

FORMAT = "hierdraft-pack-1"
SUFFIX = ".safetensors"
MAX_HEADER = 1 << 20
_CHUNK = 1 << 22
_ARRAYS = ("starts", "suffixes", "tokens")


@dataclass(frozen=True)
class PackInfo:
    """What a pack says about itself.

    level       `model` (what a model said), `statistics` (what people write), or another one that can be packed
    vocab_size  number of ids of the tokenizer
    tokenizer   fingerprint of the tokenizer; "" for bare ids, which fit any tokenizer of that vocabulary
    model, source, licence, builder   free text
    tokens, documents   how many; document ends are not counted as tokens
    """

    level: str
    vocab_size: int
    tokenizer: str = ""
    model: str = ""
    source: str = ""
    licence: str = ""
    builder: str = ""
    tokens: int = 0
    documents: int = 0
    checksums: dict[str, str] = field(default_factory=dict)


class _Place(NamedTuple):
    start: int
    length: int


class Pack:
    """An open pack. `index` is mapped read only and never trusted; `info` was checked."""

    def __init__(self, path: Path, info: PackInfo, index: Index) -> None:
        self.path = path
        self.info = info
        self.index = index

    @classmethod
    def open(cls, path: Path | str) -> Pack:
        """Read the header and map the arrays. Raises PackError with one sentence if that cannot be done."""
        path = Path(path)
        try:
            header, base, size = _read_header(path)
            info = _read_info(header.pop("__metadata__", None))
            places = {name: _place(name, entry, size - base) for name, entry in header.items()}
            if tuple(sorted(places)) != _ARRAYS:
                raise ValueError(f"it holds the arrays {sorted(places)}, not {list(_ARRAYS)}")
            starts, suffixes, tokens = (_map(path, base, places[name]) for name in _ARRAYS)
            if len(tokens) != len(suffixes) or len(starts) != info.vocab_size + 1:
                raise ValueError("its arrays do not fit together")
        except OSError as error:
            raise errors.PackError(f"The pack {path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, RecursionError, SafetensorError) as error:
            raise errors.PackError(f"{path} is not a usable pack: {error}.") from error
        return cls(path, info, Index(tokens, suffixes, starts))

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
        for name, array in zip(("tokens", "suffixes", "starts"), self.index, strict=True):
            if _checksum(array) != self.info.checksums.get(name):
                raise errors.PackError(f"{self.path} is damaged: its {name} are not what was written.")

    def documents(self) -> Iterator[Int32]:
        """The documents, in order, without the ends between them."""
        yield from split(self.index.tokens)


def split(tokens: Int32) -> Iterator[Int32]:
    """The documents of a text in which `END` stands between (or behind) them; empty ones are left out."""
    start = 0
    for end in [*np.flatnonzero(tokens == END).tolist(), len(tokens)]:
        if end > start:
            yield tokens[start:end]
        start = end + 1


def join(documents: Iterable[Int32]) -> Int32:
    """The text of documents, an `END` behind each."""
    end = np.array([END], dtype=np.int32)
    parts = [part for document in documents for part in (np.asarray(document, dtype=np.int32), end)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def write_pack(path: Path, index: Index, info: PackInfo, disk: Disk | None = None) -> Pack:
    """Write a pack and open it. The same index and info give the same bytes. Raises PackError."""
    ends = int(np.count_nonzero(index.tokens == END))
    arrays = {"starts": index.starts, "suffixes": index.suffixes, "tokens": index.tokens}
    sums = {name: _checksum(array) for name, array in arrays.items()}
    head = header_bytes(
        replace(info, tokens=len(index.tokens) - ends, documents=ends, checksums=sums),
        {name: len(array) for name, array in arrays.items()},
    )
    try:
        write_file(disk or SharedDisk(), path, _bytes_of(head, arrays.values()))
    except OSError as error:
        raise errors.PackError(f"The pack {path} cannot be written: {error.strerror or error}.") from error
    return Pack.open(path)


def _bytes_of(head: bytes, arrays: Iterable[Int32]) -> Iterator[bytes | memoryview]:
    yield head
    for array in arrays:
        for start in range(0, len(array), _CHUNK):
            yield array[start : start + _CHUNK].data


def header_bytes(info: PackInfo, lengths: dict[str, int]) -> bytes:
    """The safetensors header of a pack whose arrays have these lengths, written in order of their names."""
    entries: dict[str, Any] = {"__metadata__": {"format": FORMAT, **_as_text(info)}}
    at = 0
    for name in _ARRAYS:
        end = at + 4 * lengths[name]
        entries[name] = {"dtype": "I32", "shape": [lengths[name]], "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64 + 56)  # the arrays begin at a multiple of 64
    return struct.pack("<Q", len(text)) + text


def _as_text(info: PackInfo) -> dict[str, str]:
    return {name: json.dumps(value, sort_keys=True) for name, value in asdict(info).items()}


def _checksum(array: Int32) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(array), _CHUNK):
        digest.update(array[start : start + _CHUNK].data)
    return digest.hexdigest()


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """(entries, where the arrays begin, file size); the library checks for holes, overlaps and doubles."""
    with path.open("rb") as file:
        prefix = file.read(8)
        size = file.seek(0, 2)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError("it has no safetensors header")
        file.seek(8)
        text = file.read(length)
    with safe_open(path, framework="numpy"):
        header = json.loads(text)
    if not isinstance(header, dict) or 8 + length > size or length % 4:
        raise ValueError("its header is malformed")
    return header, 8 + length, size


def _read_info(metadata: Any) -> PackInfo:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    values: dict[str, Any] = {}
    for known in fields(PackInfo):
        value = json.loads(metadata.get(known.name, "null"))
        wanted = {"vocab_size": int, "tokens": int, "documents": int, "checksums": dict}.get(known.name, str)
        if type(value) is not wanted:
            raise ValueError(f"its {known.name} is missing or wrong")
        values[known.name] = value
    info = PackInfo(**values)
    if info.level not in packed_levels():
        raise ValueError(f"its level is {info.level!r}")
    if not 1 <= info.vocab_size < 2**31 - 1:
        raise ValueError(f"its vocabulary has {info.vocab_size} ids")
    return info


def _place(name: str, entry: Any, available: int) -> _Place:
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    if entry["dtype"] != "I32" or len(shape) != 1 or end - start != 4 * shape[0] or not 0 <= start <= end <= available:
        raise ValueError(f"its {name} are not int32 numbers")
    return _Place(start, shape[0])


def _map(path: Path, base: int, place: _Place) -> Int32:
    if place.length == 0:
        return np.empty(0, dtype=np.int32)
    mapped = np.memmap(path, dtype="<i4", mode="r", offset=base + place.start, shape=(place.length,))
    return np.asarray(mapped)
