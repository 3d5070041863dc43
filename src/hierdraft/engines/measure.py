"""What is found out about any engine when it starts: whether it scores trees as told, and what a forward costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.costs import PATIENCE, SIZES, StepCosts
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.protocols import Array, Engine, EngineSequence, Part
from hierdraft.tree import DraftTree, Int32

_NOTHING = DraftTree.empty()

_PIECE = 32
"""Tokens that a text to measure behind is read in at once."""

CHECK = 1
"""Number of the check below, which is remembered: raise it whenever the check becomes stricter."""


def attends_as_told(engine: Engine) -> bool:
    """Whether a tiny tree's rows are scored as each row's own text is."""
    a, b, c, d = (engine.vocab_size * part // 7 for part in (1, 2, 4, 5))
    tree = DraftTree.build([b, c, d], [-1, -1, 0])  # siblings b and c, and d below b
    wanted = np.stack([_alone(engine, [a, b], path) for path in ([c], [c, c], [c, b, d])]).astype(np.float64)
    with closing(engine.open(reuse=None)) as sequence:
        forward(engine, sequence, [a, b])
        logits = forward(engine, sequence, [c], tree)
        rows = np.stack([engine.values(logits, row) for row in (0, 2, 3)])
    scale = float(np.abs(wanted).max()) + 1e-6
    return bool(np.abs(rows - wanted).max() <= scale * (1e-3 if engine.exact else 6e-2))


def _alone(engine: Engine, prompt: list[int], path: list[int]) -> NDArray[Any]:
    """float[V]: the logits after a path, scored in steps of one token."""
    with closing(engine.open(reuse=None)) as sequence:
        forward(engine, sequence, prompt)
        for token in path:
            row = engine.values(forward(engine, sequence, [token]), 0)
    return row


def forward(
    engine: Engine, sequence: EngineSequence, tokens: Sequence[int] | Int32, tree: DraftTree = _NOTHING
) -> Array:
    """A forward of one sequence alone: logits[1+n, V] of the last of `tokens` and of every node below it.

    Where features go in beside tokens, they are zeros.
    """
    given, width = np.asarray(tokens, dtype=np.int32), engine.offers.features
    features = np.zeros((len(given) + len(tree), width), dtype=np.float32) if width else None
    return engine.forward([Part(sequence, given, tree, features=features)])[0].logits


def measured_costs(
    engine: Engine, stored: Path | None = None, context: int = 256, sizes: tuple[int, ...] = SIZES, *,
    again: bool = False, device: str = "cpu",
) -> LearnedCosts:  # fmt: skip
    """Time forwards of 1 to 64 rows after `context` cached positions, or fewer where reading them takes long.

    stored  a file that keeps the costs between starts. What is there is taken without a look, since looking takes
            longer than many an answer, but only as a beginning: see `LearnedCosts`
    sizes, again   see `StepCosts.measure`
    device  `cpu` or any other
    """
    known = LearnedCosts.begin(device, stored, sizes)
    if known.as_dict():
        return known
    length = max(1, min(context, engine.max_length // 2))
    fitting = tuple(n for n in sizes if length + n <= engine.max_length)
    if not fitting:
        return known  # a context of one or two tokens: nothing can be drafted anyway
    with closing(engine.open(reuse=None)) as sequence:
        length = _read(engine, sequence, length)

        def run(rows: int) -> float:
            sequence.rewind(length)
            started = perf_counter()
            tree = DraftTree.chain(np.arange(1, rows, dtype=np.int32) % engine.vocab_size)
            engine.choices(forward(engine, sequence, [0], tree))
            return perf_counter() - started

        measured = StepCosts.measure(run, sizes=fitting, again=again)
    if stored:
        measured.write(stored)
    return LearnedCosts(device, measured, sizes, stored)


def _read(engine: Engine, sequence: EngineSequence, length: int) -> int:
    """Read a text of `length` tokens, or as much of it as `PATIENCE` allows; returns how much that was."""
    started, text = perf_counter(), np.arange(length, dtype=np.int32) % engine.vocab_size
    for start in range(0, length, _PIECE):
        forward(engine, sequence, text[start : start + _PIECE])
        if perf_counter() - started > PATIENCE / 4:
            break
    return sequence.length
