"""How far the rows of other branches than the first are from those of plain decoding, measured once for a graph.

From a few rows on, two with most kernels, five with others, a row is scored in the same arithmetic whatever is beside
it, as long as the rows that it sees lie where they would lie without the others. Those of other branches lie elsewhere,
so sums are added up in another order. In most rows nothing comes of that, in others a few units in the last place of a
half-precision logit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.disk import replace_file
from hierdraft.engines.measure import forward
from hierdraft.engines.openvino.pagedgraph import LEAST
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.openvino.engine import OpenVINOEngine

_LEAST_ROWS, _CHAIN, _ALONE = (2, 3, 4, 5, 6, 8, 12, 16), 24, 8
"""Numbers of rows that may be the first to be scored as more are; nodes of a chain whose rows are compared with rows in
calls of so few, and how many of its nodes."""

_FEW, _MANY = 7, (160, 64, 32, 16)
"""Tokens of a text that is read in pieces of so many, and of others, the first of which is all of it."""

_TEXTS, _LENGTH, _PATH, _BESIDE = 8, 96, 6, (1, 3, 7)
_BEST = 8
_SAFETY, _LEAST = 2.0, 0.01
"""The margin is so many times the largest difference seen, and at least this part of the largest logit."""


class Promise(NamedTuple):
    """What makes the rows of trees plain decoding's.

    margin  by which a choice has to lead at a row of another branch
    least   rows that a call has at least, because fewer are computed in another way
    rows    that a call has at most, because more are computed in another way; 0: any number
    """

    margin: float
    least: int
    rows: int


def promise_of(engine: OpenVINOEngine, file: Path) -> Promise | None:
    """What is in `file`; measured, and stored there if that can be, where there is nothing.

    None where this processor has other arithmetic for every number of rows, so that nothing makes them alike.
    """
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["margin"] is None:
            return None
        possible = stored["least"] in _LEAST_ROWS and stored["rows"] in (0, *_MANY[1:])
        if possible and 0.0 < float(stored["margin"]) < np.inf:
            return Promise(float(stored["margin"]), stored["least"], stored["rows"])
    least = fewest_scored_alike(engine)
    rows = rows_scored_alike(engine) if least else None
    promise = None
    if least and rows is not None:
        engine.bound_rows(least, rows)
        promise = Promise(measured_margin(engine), least, rows)
    with suppress(OSError):
        replace_file(file, json.dumps(promise._asdict() if promise else {"margin": None}).encode())
    return promise


def least_that_pays(engine: OpenVINOEngine, file: Path) -> int:
    """How many rows a call has at least where nothing is promised: two where that makes rows alike, one where not.

    What is in `file`; found out, and stored there if that can be, where there is nothing.
    """
    with suppress(OSError, ValueError):
        if (stored := int(file.read_text(encoding="utf-8"))) in (1, LEAST):
            return stored
    least = fewest_scored_alike(engine, (LEAST,)) or 1
    with suppress(OSError):
        replace_file(file, str(least).encode())
    return least


def fewest_scored_alike(engine: OpenVINOEngine, tried: Sequence[int] = _LEAST_ROWS) -> int | None:
    """From how many rows on a call scores each in the same arithmetic, to the last bit; the engine keeps to it.

    None where there is no such number among those that are tried.
    """
    nodes = min(_CHAIN, engine.max_length - 2)
    text = np.random.default_rng(2).integers(0, engine.vocab_size, nodes + 1).astype(np.int32)
    for least in tried:
        engine.bound_rows(least, 0)
        with closing(engine.open(reuse=None)) as sequence:
            many = np.array(forward(engine, sequence, text[:1], DraftTree.chain(text[1:])))
            alone = [np.array(forward(engine, sequence, [token])[0]) for token in text[1 : _ALONE + 1].tolist()]
        if np.array_equal(many[1 : _ALONE + 1], np.stack(alone)):
            return least
    return None


def rows_scored_alike(engine: OpenVINOEngine) -> int | None:
    """Up to how many rows are scored in the same arithmetic, to the last bit: 0 where many are scored as few.

    None where that holds for small numbers only.
    """
    few = _last_row(engine, _FEW)
    for piece in _MANY:
        if np.array_equal(_last_row(engine, piece), few):
            return piece if piece != _MANY[0] else 0
    return None


def _last_row(engine: OpenVINOEngine, piece: int) -> NDArray[np.float32]:
    """float32[V]: the logits after a text that is read in pieces."""
    length = max(2, min(_MANY[0], engine.max_length - 2))
    text = np.random.default_rng(1).integers(0, engine.vocab_size, length).astype(np.int32)
    with closing(engine.open(reuse=None)) as sequence:
        for start in range(0, length, piece):
            logits = forward(engine, sequence, text[start : start + piece])
        return np.array(logits[-1])


def measured_margin(engine: OpenVINOEngine) -> float:
    """By how much a choice has to lead at a row of another branch to be plain decoding's."""
    chance = np.random.default_rng(0)
    length = max(1, min(_LENGTH, engine.max_length - _PATH - max(_BESIDE) - 2))
    most = scale = 0.0
    for number in range(_TEXTS):
        more = number if length == _LENGTH else 0  # texts that end at other places in a block
        text = chance.integers(0, engine.vocab_size, length + more + 1).astype(np.int32)
        path = chance.integers(0, engine.vocab_size, _PATH).tolist()
        with closing(engine.open(reuse=None)) as sequence:
            forward(engine, sequence, text[:-1])
            held = sequence.length
            plain = np.array(forward(engine, sequence, text[-1:], DraftTree.chain(path))[1:])
            scale = max(scale, float(np.abs(plain).max()))
            for beside in _BESIDE:
                sequence.rewind(held)
                parents = [*range(-1, beside - 1), -1, *range(beside, beside + _PATH - 1)]
                tree = DraftTree.build([*chance.integers(0, engine.vocab_size, beside).tolist(), *path], parents)
                moved = forward(engine, sequence, text[-1:], tree)[beside + 1 :] - plain
                best = np.argpartition(-plain, _BEST, axis=1)[:, :_BEST]
                most = max(most, float(np.ptp(np.take_along_axis(moved, best, axis=1), axis=1).max()))
    return max(_SAFETY * most, _LEAST * scale)
