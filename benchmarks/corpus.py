"""Text of any length with natural repetition, from what every machine has: Python's own library.

Its sources are tokenised once. Longer corpora follow them and jump, every fifth token or so, to another place where
the same two tokens stand: locally natural text that repeats itself as text does, the same for the same seed.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from hierdraft.cli.db_build import load_tokenizer
from hierdraft.corpus.files import find_files, read_texts
from hierdraft.corpus.streams import Reading
from hierdraft.corpus.tokens import tokenize
from hierdraft.databases.pack import join
from hierdraft.tree import Int32

MODEL = "smollm2-135m"
JUMP = 0.2


def library_texts() -> list[str]:
    """Python's library, a text per file."""
    files = find_files([Path(sysconfig.get_path("stdlib"))], ["*.py"], ["site-packages", "test"])
    return ["".join(pieces) for pieces in read_texts(files, Reading(skip_bad=True))]


def library_tokens(work: Path) -> tuple[Int32, int]:
    """(its tokens with document ends, vocabulary size), kept in `work`."""
    path, size = work / "library.npy", work / "vocabulary"
    if not size.exists():
        tokenizer = load_tokenizer(MODEL)
        np.save(path, join(tokenize(tokenizer, library_texts())))
        size.write_text(str(len(tokenizer)))
    return np.load(path), int(size.read_text())


def corpus(work: Path, size: int, seed: int) -> Path:
    """A file with `size` tokens."""
    path = work / f"corpus-{size}-{seed}.npy"
    if not path.exists():
        base, _ = library_tokens(work)
        np.save(path, _wander(base, *_places(base), size, JUMP, seed))
    return path


def _places(base: Int32) -> tuple[Any, Any, Any, Any]:
    """Positions sorted by the two tokens before them, each position's rank, and its group's range of ranks."""
    pair = np.zeros(len(base), dtype=np.int64)
    pair[2:] = (base[:-2].astype(np.int64) + 1 << 32) + base[1:-1] + 1
    order = np.argsort(pair, kind="stable")
    ranks = np.empty(len(base), dtype=np.int64)
    ranks[order] = np.arange(len(base))
    new = np.flatnonzero(np.diff(pair[order], prepend=-1))
    group = np.searchsorted(new, np.arange(len(base)), side="right") - 1
    return order, ranks, new[group], np.append(new[1:], len(base))[group]


@njit(cache=True)
def _wander(base: Any, order: Any, ranks: Any, low: Any, high: Any, size: int, jump: float, seed: int) -> Any:
    np.random.seed(seed)  # noqa: NPY002 - what compiled code has
    out = np.empty(size, dtype=np.int32)
    at = np.random.randint(2, len(base))  # noqa: NPY002
    for i in range(size):
        out[i] = base[at]
        at = 2 if at + 1 >= len(base) else at + 1
        if np.random.random() < jump:  # noqa: NPY002
            rank = ranks[at]
            at = order[np.random.randint(low[rank], high[rank])]  # noqa: NPY002
    out[size - 1] = -1
    return out
