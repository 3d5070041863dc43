"""How far the rows of other branches than the first are from those of plain decoding, measured once for a graph.

From two rows on, the kernels score a row in the same arithmetic whatever is beside it, as long as the rows that it sees
lie where they would lie without the others. Those of other branches lie elsewhere, so sums are added up in another
order. In most rows nothing comes of that, in others a few units in the last place of a half-precision logit.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.disk import replace_file
from hierdraft.engines.measure import forward
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.openvino.engine import OpenVINOEngine

_FEW, _MANY = 7, (160, 64, 32, 16)
"""Tokens of a text that is read in pieces of so many, and of others, the first of which is all of it."""

_TEXTS, _LENGTH, _PATH, _BESIDE = 8, 96, 6, (1, 3, 7)
_BEST = 8
_SAFETY, _LEAST = 2.0, 0.01
"""The margin is so many times the largest difference seen, and at least this part of the largest logit."""


class Promise(NamedTuple):
    """What makes the rows of trees plain decoding's.

    margin  by which a choice has to lead at a row of another branch
    rows    that a call has at most, because more are computed in another way; 0: any number
    """

    margin: float
    rows: int


def promise_of(engine: OpenVINOEngine, file: Path) -> Promise | None:
    """What is in `file`; measured, and stored there if that can be, where there is nothing.

    None where this processor has other arithmetic for every number of rows, so that nothing makes them alike.
    """
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["margin"] is None:
            return None
        if 0.0 < float(stored["margin"]) < np.inf and stored["rows"] in (0, *_MANY[1:]):
            return Promise(float(stored["margin"]), stored["rows"])
    rows = rows_scored_alike(engine)
    promise = None
    if rows is not None:
        engine.bound_rows(rows)
        promise = Promise(measured_margin(engine), rows)
    with suppress(OSError):
        replace_file(file, json.dumps(promise._asdict() if promise else {"margin": None}).encode())
    return promise


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
