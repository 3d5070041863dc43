"""Some layers of a forward at a time: what was begun in the first ones, and a forward that finishes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hierdraft.engines.hf.sequence import HFSequence, as_before_if_it_fails
from hierdraft.protocols import Part, Scored

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine


def run_layers(engine: HFEngine, part: Part, first: int, last: int, hidden: torch.Tensor | None) -> torch.Tensor:
    """See `Layered.forward_layers`; what comes out of the last one, and of those that the part wants, is kept."""
    tuples = engine.check_layers()
    sequence: HFSequence = part.sequence  # type: ignore[assignment]
    done = sequence.rows_done(part, first, last, None if hidden is None else len(hidden))
    wanted = {layer for layer in part.hidden if first < layer < last}
    with as_before_if_it_fails([sequence]), engine.layers.showing(wanted) as shown:
        found = engine.layers.run(
            lambda: engine.run(engine.inputs(part, done)), first, last,
            hidden if hidden is None else hidden[None], tuples=tuples,
        )[0]  # fmt: skip
    for layer, states in {**{layer: rows[0] for layer, rows in shown.items()}, last: found}.items():
        before = [sequence.come[layer]] if layer in sequence.come else []
        sequence.come[layer] = torch.cat([*before, states])
    sequence.begun = part
    if last == len(engine.layers):
        sequence.hold(part)
    return found


def finished_part(engine: HFEngine, part: Part) -> Scored | None:
    """A part that was begun in some layers, with what these have made of its rows; None: nothing was begun."""
    sequence: HFSequence = part.sequence  # type: ignore[assignment]
    layer = sequence.goes_on(part) if engine.chains is None else 0
    if layer == 0:
        return None
    rows, done = len(part.tokens) + len(part.tree), sequence.written()[0]
    if rows < done:
        sequence.shorten(part)
    elif rows > done:
        run_layers(engine, part, 0, layer, None)
    found = run_layers(engine, part, layer, len(engine.layers), sequence.come[layer])
    wanted = part.rows + len(part.tree)
    return Scored(
        engine.head(found[len(found) - wanted :]), hidden={number: sequence.come[number] for number in part.hidden}
    )
