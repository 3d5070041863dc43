"""How far the rows of other branches than the first are from those of plain decoding, measured once for a graph.

From two rows on, the kernels score a row in the same arithmetic whatever is beside it, as long as the rows that it sees
lie where they would lie without the others. Those of other branches lie elsewhere, so sums are added up in another
order. In most rows nothing comes of that, in others a few units in the last place of a half-precision logit.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hierdraft.databases.disk import replace_file
from hierdraft.engines.measure import forward
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.openvino.engine import OpenVINOEngine

_MANY, _FEW = 160, 7
"""Tokens of a text that is read at once, and in pieces of so many."""

_TEXTS, _LENGTH, _PATH, _BESIDE = 8, 96, 6, (1, 3, 7)
_BEST = 8
_SAFETY, _LEAST = 2.0, 0.01
"""The margin is so many times the largest difference seen, and at least this part of the largest logit."""


def margin_of(engine: OpenVINOEngine, file: Path) -> float | None:
    """The margin in `file`; measured, and stored there if that can be, where there is none.

    None where this processor has other arithmetic for few rows than for many, so that no margin makes them alike.
    """
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(file.read_text(encoding="utf-8"))["margin"]
        if stored is None or 0.0 < float(stored) < np.inf:
            return None if stored is None else float(stored)
    margin = measured_margin(engine) if few_rows_are_scored_as_many(engine) else None
    with suppress(OSError):
        replace_file(file, json.dumps({"margin": margin}).encode())
    return margin


def few_rows_are_scored_as_many(engine: OpenVINOEngine) -> bool:
    """Whether a text that is read as a whole and one that is read in pieces say the same to the last bit."""
    length = max(2, min(_MANY, engine.max_length - 2))
    text = np.random.default_rng(1).integers(0, engine.vocab_size, length).astype(np.int32)
    found = []
    for piece in (length, _FEW):
        with closing(engine.open(reuse=None)) as sequence:
            for start in range(0, length, piece):
                logits = forward(engine, sequence, text[start : start + piece])
            found.append(np.array(logits[-1]))
    return np.array_equal(found[0], found[1])


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
