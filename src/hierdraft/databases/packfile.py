"""The file of a pack: a safetensors file (any reader of that format can open it) and what its metadata says.

Either `tokens`, `suffixes` and `starts`, int32 each (see `suffixarray.build`), which are mapped; or, a quarter of that,
`tokens` alone, as 16-bit numbers where the vocabulary has so few ids, whose index is built when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from hierdraft.databases.suffixarray import END
from hierdraft.levels import packed_levels
from hierdraft.tree import Int32

FORMAT = "hierdraft-pack-1"
MAX_HEADER = 1 << 20
INDEXED = ("starts", "suffixes", "tokens")
"""Arrays of a pack with its index, in the order in which they lie."""

BARE = ("tokens",)
"""The array of one without."""

CHUNK = 1 << 22
_END16 = 65535
_DTYPES = {"I32": "<i4", "U16": "<u2"}

Arrays = Mapping[str, NDArray[Any]]


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
    dtype: str
    start: int
    length: int


def read_pack(path: Path) -> tuple[PackInfo, dict[str, NDArray[Any]]]:
    """What a file says and its arrays, mapped and read only. Raises OSError, ValueError and SafetensorError."""
    header, base, size = _read_header(path)
    info = _read_info(header.pop("__metadata__", None))
    places = {name: _place(name, entry, size - base) for name, entry in header.items()}
    if tuple(sorted(places)) not in (INDEXED, BARE):
        raise ValueError(f"it holds the arrays {sorted(places)}, not {list(INDEXED)}")
    if set(places) == set(INDEXED) and any(place.dtype != "I32" for place in places.values()):
        raise ValueError("its arrays are not int32 numbers")
    return info, {name: _map(path, base, place) for name, place in places.items()}


def narrow_tokens(tokens: Int32, vocab_size: int) -> NDArray[Any]:
    """As they are stored without an index: uint16 where every id and the end of a document fit."""
    if vocab_size > _END16:
        return tokens
    return np.where(tokens == END, _END16, tokens).astype("<u2")


def wide_tokens(stored: NDArray[Any]) -> Int32:
    """int32 again, with `END` between documents."""
    if stored.dtype == np.int32:
        return np.array(stored)
    tokens = stored.astype(np.int32)
    tokens[stored == _END16] = END
    return tokens


def header_bytes(info: PackInfo, arrays: Arrays) -> bytes:
    """The safetensors header of a pack with these arrays, which are written in the order of their names."""
    entries: dict[str, Any] = {"__metadata__": {"format": FORMAT, **_as_text(info)}}
    at = 0
    for name, array in sorted(arrays.items()):
        end = at + array.nbytes
        kind = {4: "I32", 2: "U16"}[array.itemsize]
        entries[name] = {"dtype": kind, "shape": [len(array)], "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64 + 56)  # the arrays begin at a multiple of 64
    return struct.pack("<Q", len(text)) + text


def _as_text(info: PackInfo) -> dict[str, str]:
    return {name: json.dumps(value, sort_keys=True) for name, value in asdict(info).items()}


def checksum(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes."""
    digest = hashlib.sha256()
    for start in range(0, len(array), CHUNK):
        digest.update(array[start : start + CHUNK].data)
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
    shape, (start, end), dtype = entry["shape"], entry["data_offsets"], _DTYPES.get(entry["dtype"])
    if dtype is None or len(shape) != 1 or not 0 <= start <= end <= available:
        raise ValueError(f"its {name} are not int32 numbers")
    if end - start != np.dtype(dtype).itemsize * shape[0]:
        raise ValueError(f"its {name} are not int32 numbers")
    return _Place(entry["dtype"], start, shape[0])


def _map(path: Path, base: int, place: _Place) -> NDArray[Any]:
    dtype = _DTYPES[place.dtype]
    if place.length == 0:
        return np.empty(0, dtype=dtype)
    mapped = np.memmap(path, dtype=dtype, mode="r", offset=base + place.start, shape=(place.length,))
    return np.asarray(mapped)
