"""The likeliest chain below a text: what a serving engine verifies in place of a tree."""

from __future__ import annotations

from typing import Any

from numba import njit

from hierdraft.databases.hashchain import ORDERS, longest_before
from hierdraft.drafting.evidence import Weights
from hierdraft.drafting.grow import Sources, Space, begin, expand, extend_suffix
from hierdraft.tree import LEVELS

SURE = 0.8
"""Probability from which a chain runs on in the text without asking, where its last `ORDERS` tokens stand there."""

_CONTEXT = LEVELS.index("context")


@njit(cache=True, nogil=True)
def best_chain(sources: Sources, suffix: Any, weights: Weights, space: Space, depth: int, least: float) -> int:
    """Go on with the likeliest candidate, row by row; returns the length of the chain."""
    begin(sources, suffix, space.rows)
    evidence = space.evidence
    reach = 1.0
    for made in range(depth):
        if made > 0:
            extend_suffix(space.rows, made - 1, made, space.tokens[made - 1])
        expand(sources, space, weights, made, made)
        best = 0
        for slot in range(1, evidence.held[made]):
            if evidence.prob[made, slot] > evidence.prob[made, best]:
                best = slot
        if evidence.held[made] == 0 or reach * evidence.prob[made, best] < least:
            return made
        prob = evidence.prob[made, best]
        reach *= prob
        _append(space, made, evidence.token[made, best], reach, evidence.level[made, best])
        if prob >= SURE and made + 1 < depth:
            ran = _run_on(sources, space, made + 1, depth, reach, prob, least)
            if ran > made + 1:
                return ran
    return depth


@njit(cache=True, nogil=True, forceinline=True)
def _append(space: Space, made: int, token: int, reach: float, level: int) -> None:
    space.tokens[made] = token
    space.parents[made] = made - 1
    space.prob[made] = reach
    space.level[made] = level
    space.depth[made] = made + 1


@njit(cache=True, nogil=True)
def _run_on(sources: Sources, space: Space, made: int, depth: int, reach: float, prob: float, least: float) -> int:
    """Where the last `ORDERS` tokens stand in the text already, go on as it did; returns the length of the chain.

    prob   of the last token; each of these is taken to be as likely, which no level is asked about
    """
    rows, text = space.rows, sources.context
    extend_suffix(rows, made - 1, made, space.tokens[made - 1])
    position = longest_before(text, rows.suffix[made]) if rows.known[made] == ORDERS else -1
    while position >= 0 and made < depth and reach * prob >= least:
        reach *= prob
        behind = position - sources.length  # a text that repeats itself runs on into what is drafted
        token = space.tokens[behind] if behind >= 0 else text.tokens[position]
        _append(space, made, token, reach, _CONTEXT)
        made += 1
        position += 1
    return made
