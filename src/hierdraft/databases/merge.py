"""Merging packs on disk: only pages of the inputs and the output are ever in memory, never whole arrays."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hierdraft.databases.pack import Pack, PackInfo, write_pack
from hierdraft.databases.suffixarray import END, MOST_TOKENS, Index
from hierdraft.databases.suffixsort import merge_some
from hierdraft.errors import PackError
from hierdraft.tree import Int32

Report = Callable[[int, int], None]
_CHUNK = 1 << 20


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
