"""What the target finds likely at every token of the answers: it reads them once, and that is kept in the cache.

Written in shards as it goes, so that what was interrupted continues; every training on the same data has it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hierdraft.corpus.kept import Float16
from hierdraft.databases.disk import SharedDisk, write_file
from hierdraft.drafting.models.laws import likeliest
from hierdraft.errors import TrainingError
from hierdraft.protocols import Engine, Part
from hierdraft.training.documents import Document
from hierdraft.tree import DraftTree, Int32

FOLDER = "likeliest"
"""Below the cache folder."""

SHARD = 1 << 15
"""Tokens of answers that are written together."""

_VALUES = 1 << 25
"""Logits that are looked at together, at most."""

_TEXT = 1024
"""Tokens that are read in a forward, where no document is longer."""

Top = tuple[Int32, Float16]


def with_likeliest(
    engine: Engine, documents: Sequence[Document], k: int, folder: Path,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Document]:  # fmt: skip
    """The documents, each with the target's k likeliest ids and their log probabilities at every token of its answer.

    Those that have as many already keep theirs; those that the target cannot read whole have none.

    folder   the shards of these documents and this target

    Raises TrainingError where a shard cannot be written or read.
    """
    known = _read(folder)
    wanted = [
        number for number, one in enumerate(documents)
        if number not in known and not _has(one, k) and len(one.ids) <= engine.max_length
    ]  # fmt: skip
    total = sum(len(documents[number].ids) for number in wanted)
    done, fresh, shards = 0, dict[int, Top](), len(list(folder.glob("*.safetensors")))
    for numbers in _together(documents, wanted, max(1, _VALUES // engine.vocab_size)):
        report(done, total)
        fresh |= zip(numbers, _scored(engine, [documents[number] for number in numbers], k), strict=True)
        done += sum(len(documents[number].ids) for number in numbers)
        if sum(len(ids) for ids, _ in fresh.values()) >= SHARD:
            _write(folder, shards, fresh)
            known, fresh, shards = known | fresh, {}, shards + 1
    if fresh:
        _write(folder, shards, fresh)
    report(total, total)
    known |= fresh
    return [
        one if _has(one, k) or number not in known else replace(one, top=known[number])
        for number, one in enumerate(documents)
    ]


def _has(document: Document, k: int) -> bool:
    return document.top is not None and document.top[0].shape[1] >= k


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


def _scored(engine: Engine, documents: Sequence[Document], k: int) -> list[Top]:
    """Of each: ids int32[L - start, k] and natural log probabilities float16[L - start, k], best first."""
    sequences = [engine.open(reuse=None) for _ in documents]
    try:
        parts = [
            Part(sequence, one.ids[:-1].copy(), DraftTree.empty(), len(one.ids) - one.start)
            for sequence, one in zip(sequences, documents, strict=True)
        ]
        found = [likeliest(engine, scored.logits, k) for scored in engine.forward(parts)]
        return [(ids, logprobs.astype(np.float16)) for ids, logprobs in found]
    finally:
        for sequence in sequences:
            sequence.close()


def _write(folder: Path, number: int, found: Mapping[int, Top]) -> None:
    """A shard."""
    numbers = np.array(list(found), dtype=np.int32)
    counts = np.array([len(ids) for ids, _ in found.values()], dtype=np.int32)
    ids, logprobs = (np.concatenate(parts) for parts in zip(*found.values(), strict=True))
    path = folder / f"{number:05}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = save({"documents": numbers, "counts": counts, "ids": ids, "logprobs": logprobs})
        write_file(SharedDisk(), path, [data])
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror or error}): make room.") from error


def _read(folder: Path) -> dict[int, Top]:
    """What all shards hold, by the numbers of documents."""
    found: dict[int, Top] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            shard = load_file(path)
            ends = np.cumsum(shard["counts"])[:-1]
            ids, logprobs = np.split(shard["ids"], ends), np.split(shard["logprobs"], ends)
            found |= zip(shard["documents"].tolist(), zip(ids, logprobs, strict=True), strict=True)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(f"{path} is damaged ({error}): remove it, and it is made again.") from error
    return found
