"""What the target makes of the documents: it reads them once, and what it thought is kept in the cache.

Written in shards as it goes, so that what was interrupted continues, and every further training has it, also on more
data: a document is known by its own hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from hierdraft.corpus.kept import Float16
from hierdraft.databases.disk import SharedDisk, write_file
from hierdraft.drafting.heads.text import numbers
from hierdraft.drafting.models.laws import likeliest
from hierdraft.errors import TrainingError
from hierdraft.protocols import Engine, Part, Scored
from hierdraft.training.documents import Document
from hierdraft.training.states import STATES, States, opened
from hierdraft.tree import DraftTree, Int32

FOLDER = "readings"
"""Below the cache folder."""

SHARD = 1 << 15
"""Tokens that are written together."""

_VALUES = 1 << 25
"""Logits that are looked at together, at most."""

_TEXT = 1024
"""Tokens that are read in a forward, where no document is longer."""

Top = tuple[Int32, Float16]


@dataclass(frozen=True)
class Asked:
    """What is kept of a reading.

    k        the target's likeliest ids at every token of the answers; 0: none
    layers   whose hidden states, at every token that another one follows, as `Part.hidden` names them
    """

    k: int = 0
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Read:
    """What is known of one document: see `Document`."""

    top: Top | None
    states: States | None


@dataclass(frozen=True)
class _Fresh:
    """The same, while it is not written yet. `states`: float16[L - 1, D]"""

    top: Top | None
    states: Float16 | None
    tokens: int


def with_reading(
    engine: Engine, documents: Sequence[Document], asked: Asked, folder: Path,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Document]:  # fmt: skip
    """The documents, each with what was asked for.

    Those that have as many likeliest ids already keep theirs; those that the target cannot read whole have nothing.

    folder   the shards of this target and this question

    Raises TrainingError where a shard cannot be written or read.
    """
    known = _read(folder, asked)
    names = [_name(one) for one in documents]
    wanted = [
        number for number, one in enumerate(documents)
        if names[number] not in known and len(one.ids) <= engine.max_length and (asked.layers or not _has(one, asked.k))
    ]  # fmt: skip
    total = sum(len(documents[number].ids) for number in wanted)
    done, fresh = 0, dict[bytes, _Fresh]()
    for some in _together(documents, wanted, max(1, _VALUES // engine.vocab_size)):
        report(done, total)
        found = _scored(engine, [documents[number] for number in some], asked)
        fresh |= zip((names[number] for number in some), found, strict=True)
        done += sum(len(documents[number].ids) for number in some)
        if sum(one.tokens for one in fresh.values()) >= SHARD or done == total:
            path = folder / f"{hashlib.sha256(b''.join(fresh)).hexdigest()[:24]}.safetensors"
            _write(path, fresh)  # named after what it holds: another training, or one before, has others
            known, fresh = known | _shard(path, asked), {}
    report(total, total)
    return [_told(one, known.get(name), asked) for name, one in zip(names, documents, strict=True)]


def _name(document: Document) -> bytes:
    """What a document's reading is known by."""
    start = document.start.to_bytes(8, "little")
    return hashlib.sha256(start + np.ascontiguousarray(document.ids, dtype="<i4").tobytes()).digest()


def _told(document: Document, read: Read | None, asked: Asked) -> Document:
    if read is None:
        return document
    top = document.top if _has(document, asked.k) else read.top
    return replace(document, top=top, states=read.states)


def _has(document: Document, k: int) -> bool:
    return k == 0 or (document.top is not None and document.top[0].shape[1] >= k)


def _together(documents: Sequence[Document], wanted: Sequence[int], rows: int) -> Iterator[list[int]]:
    """The numbers of those that are read in one forward each: with few enough rows and tokens, or one by itself."""
    some: list[int] = []
    scored = text = 0
    for number in wanted:
        one = documents[number]
        own = len(one.ids) - one.start
        if some and (scored + own > rows or text + len(one.ids) > _TEXT):
            yield some
            some, scored, text = [], 0, 0
        some, scored, text = [*some, number], scored + own, text + len(one.ids)
    if some:
        yield some


def _scored(engine: Engine, documents: Sequence[Document], asked: Asked) -> list[_Fresh]:
    """What the target thinks of each."""
    sequences = [engine.open(reuse=None) for _ in documents]
    try:
        parts = [
            Part(sequence, one.ids[:-1].copy(), DraftTree.empty(), len(one.ids) - one.start if asked.k else 0,
                 asked.layers)
            for sequence, one in zip(sequences, documents, strict=True)
        ]  # fmt: skip
        return [
            _kept(engine, scored, asked, len(part.tokens))
            for scored, part in zip(engine.forward(parts), parts, strict=True)
        ]
    finally:
        for sequence in sequences:
            sequence.close()


def _kept(engine: Engine, scored: Scored, asked: Asked, tokens: int) -> _Fresh:
    top = states = None
    if asked.k:
        ids, logprobs = likeliest(engine, scored.logits, asked.k)
        top = ids, logprobs.astype(np.float16)
    if asked.layers:
        found = [numbers(scored.hidden[layer]) for layer in asked.layers]
        states = np.concatenate(found, axis=1).astype(np.float16)
    return _Fresh(top, states, tokens)


def _write(path: Path, found: Mapping[bytes, _Fresh]) -> None:
    """A shard. Raises TrainingError."""
    held = [*found.values()]
    tensors: dict[str, Any] = {
        "documents": np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32),
        "tokens": np.array([one.tokens for one in held], np.int32),
    }
    tops = [one.top for one in held if one.top is not None]
    if tops:
        tensors["counts"] = np.array([len(ids) for ids, _ in tops], dtype=np.int32)
        tensors["ids"], tensors["logprobs"] = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    states = [one.states for one in held if one.states is not None]
    if states:
        tensors[STATES] = np.concatenate(states)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(SharedDisk(), path, [save(tensors)])
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror or error}): make room.") from error


def _read(folder: Path, asked: Asked) -> dict[bytes, Read]:
    """What all shards hold, by the names of documents. Raises TrainingError."""
    found: dict[bytes, Read] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= _shard(path, asked)
    return found


def _shard(path: Path, asked: Asked) -> dict[bytes, Read]:
    """What one holds. Raises TrainingError."""
    with opened(path) as file:
        names, tokens = [one.tobytes() for one in file.get_tensor("documents")], file.get_tensor("tokens")
        tops: list[Top | None] = [None] * len(names)
        states: list[States | None] = [None] * len(names)
        if asked.k:
            ends = np.cumsum(file.get_tensor("counts"))[:-1]
            ids, logprobs = (np.split(file.get_tensor(name), ends) for name in ("ids", "logprobs"))
            tops = [*zip(ids, logprobs, strict=True)]
        if asked.layers:
            if file.get_slice(STATES).get_shape()[0] != tokens.sum():
                raise ValueError("it does not hold all states")
            states = [States(path, first) for first in (np.cumsum(tokens) - tokens).tolist()]
        return {
            name: Read(top, one) for name, top, one in zip(names, tops, states, strict=True)
        }  # fmt: skip
