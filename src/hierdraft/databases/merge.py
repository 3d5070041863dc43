"""Merging packs on disk: only pages of the inputs and the output are ever in memory, never whole arrays.

A pack of more documents than should be sorted in memory at once is built in parts and merged.
"""

from __future__ import annotations

import heapq
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hierdraft.databases.pack import MOST_BARE, Pack, PackInfo, join, write_bare, write_pack
from hierdraft.databases.suffixarray import END, MOST_TOKENS, Index
from hierdraft.databases.suffixsort import build, merge_some
from hierdraft.errors import PackError
from hierdraft.tree import Int32

Report = Callable[[int, int], None]
PART = MOST_BARE
"""Tokens that are sorted in memory at once, which takes about 14 bytes each."""

_CHUNK = 1 << 20


def build_pack(path: Path, documents: Iterable[Int32], info: PackInfo, report: Report, part: int = PART) -> Pack:
    """Write a pack of documents, int32[L] each, in memory that does not grow with their number.

    Parts of about `part` tokens are sorted one by one and merged on disk, which takes up to three times the pack's
    size there; a single part needs no merging.

    report  of the merging, as of `merge_packs`

    Raises PackError, and ValueError for ids outside the vocabulary or where there is no token at all.
    """
    parts = _parts(documents, part)
    first = next(parts, None)
    if first is None:
        raise ValueError("there is no text in what was given")
    second = next(parts, None)
    if second is None:
        return write_pack(path, build(first, info.vocab_size), info)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
            packs = []
            for number, tokens in enumerate(itertools.chain((first, second), parts)):
                packs.append(write_pack(Path(folder) / str(number), build(tokens, info.vocab_size), info))
            return merge_packs(packs, path, info, report)
    except OSError as error:
        raise PackError(f"{path} cannot be written: {error.strerror or error}.") from error


def build_bare(path: Path, documents: Iterable[Int32], info: PackInfo) -> Pack:
    """Write a pack of documents, int32[L] each, without an index.

    Raises PackError, and ValueError as `write_bare` does, or where there is no token at all.
    """
    tokens = join(documents)
    if len(tokens) == 0:
        raise ValueError("there is no text in what was given")
    return write_bare(path, tokens, info)


def _parts(documents: Iterable[Int32], part: int) -> Iterator[Int32]:
    held: list[Int32] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if size >= part:
            yield join(held)
            held, size = [], 0
    if size:
        yield join(held)


def merge_packs(packs: Sequence[Pack], path: Path, info: PackInfo, report: Report) -> Pack:
    """Write one pack that holds the documents of all, in any order. Needs twice the result's size on disk.

    packs   of one vocabulary; each is verified first
    report  called with (suffixes merged, suffixes to merge in all)

    Raises PackError.
    """
    total = sum(len(pack.index.tokens) for pack in packs)
    if total >= MOST_TOKENS:
        raise PackError(f"Together the packs have {total} tokens; one pack holds fewer than {MOST_TOKENS}.")
    for pack in packs:
        pack.verify()
        tokens = pack.index.tokens
        if len(tokens) and tokens[-1] != END:
            raise PackError(f"{pack.path} does not end with the end of a document.")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".merge-") as folder:
            return write_pack(path, _merge_all([pack.index for pack in packs], Path(folder), report), info)
    except OSError as error:
        raise PackError(f"{path} cannot be written: {error.strerror or error}.") from error


def _merge_all(indexes: Sequence[Index], folder: Path, report: Report) -> Index:
    """Pairwise, the smallest two first, so that every suffix is moved as seldom as possible."""
    waiting = [(len(index.tokens), number, index) for number, index in enumerate(indexes)]
    heapq.heapify(waiting)
    steps = _suffixes_moved([size for size, _, _ in waiting])
    done = 0
    while len(waiting) > 1:
        (_, _, a), (_, _, b) = heapq.heappop(waiting), heapq.heappop(waiting)
        number = len(indexes) + len(waiting) + done

        def tell(moved: int, before: int = done) -> None:
            report(before + moved, steps)

        merged = _merge_two(a, b, folder, number, tell)
        done += len(merged.tokens)
        heapq.heappush(waiting, (len(merged.tokens), number, merged))
    return waiting[0][2]


def _suffixes_moved(sizes: list[int]) -> int:
    heapq.heapify(sizes)
    moved = 0
    while len(sizes) > 1:
        size = heapq.heappop(sizes) + heapq.heappop(sizes)
        moved += size
        heapq.heappush(sizes, size)
    return moved


def _merge_two(a: Index, b: Index, folder: Path, number: int, tell: Callable[[int], None]) -> Index:
    size = len(a.tokens) + len(b.tokens)
    tokens, suffixes = (_new_file(folder / f"{number}.{kind}", size) for kind in ("tokens", "suffixes"))
    for start in range(0, size, _CHUNK):
        stop = min(size, start + _CHUNK)
        middle = min(max(start, len(a.tokens)), stop)
        tokens[start:middle] = a.tokens[start:middle]
        tokens[middle:stop] = b.tokens[middle - len(a.tokens) : stop - len(a.tokens)]
    at_a = at_b = 0
    for start in range(0, size, _CHUNK):
        out = np.empty(min(_CHUNK, size - start), dtype=np.int32)
        at_a, at_b = merge_some(a.tokens, a.suffixes, at_a, b.tokens, b.suffixes, at_b, len(a.tokens), out)
        suffixes[start : start + len(out)] = out
        tell(start + len(out))
    return Index(np.asarray(tokens), np.asarray(suffixes), a.starts + b.starts)


def _new_file(path: Path, size: int) -> Int32:
    if size == 0:
        return np.empty(0, dtype=np.int32)
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), 4 * size)
    return np.memmap(path, dtype=np.int32, mode="r+", shape=(size,))
