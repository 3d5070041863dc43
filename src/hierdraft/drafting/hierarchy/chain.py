"""The likeliest chain below a text: what a serving engine verifies in place of a tree."""

from __future__ import annotations

from typing import Any

from hierdraft.databases.hashchain import ORDERS, longest_before
from hierdraft.databases.memory import view
from hierdraft.databases.suffixarray import Shelf, token_at
from hierdraft.drafting.hierarchy.evidence import Weights
from hierdraft.drafting.hierarchy.grow import Sources, Space, begin, expand, extend_suffix
from hierdraft.drafting.hierarchy.lookups import longest_in_pack
from hierdraft.drafting.hierarchy.scans import is_bare, look, newest_behind_all
from hierdraft.kernels import njit
from hierdraft.levels import code_of

SURE = 0.8
"""Probability from which a hurried chain runs on without asking."""

_CONTEXT = code_of("context")


@njit(nogil=True)
def best_chain(
    sources: Sources, suffix: Any, weights: Weights, space: Space, depth: int, least: float, hurried: bool
) -> int:
    """Continue with the likeliest candidate, row by row; returns the length of the chain.

    hurried   ask each row less; and after a token of probability `SURE` run on without asking, as a text that
              holds the last `ORDERS` tokens did
    """
    begin(sources, suffix, space)
    evidence, text, rows = space.evidence, sources.context, space.rows
    bare = is_bare(text)
    if bare and not hurried:  # the row above the first is for skip looks
        look(text.tokens, sources.length, rows.suffix[0], rows.known[0] - 1, space.near, 1)
    if bare:
        look(text.tokens, sources.length, rows.suffix[0], rows.known[0], space.near, 0)
    reach = 1.0
    for made in range(depth):
        expand(sources, space, weights, made, made, hurried)
        best = 0
        for slot in range(1, evidence.held[made]):
            if evidence.prob[made, slot] > evidence.prob[made, best]:
                best = slot
        if evidence.held[made] == 0 or reach * evidence.prob[made, best] < least:
            return made
        prob = evidence.prob[made, best]
        reach *= prob
        _append(space, made, evidence.token[made, best], reach, evidence.level[made, best])
        if made + 1 == depth:
            break
        extend_suffix(space, made, made + 1, space.tokens[made])
        if bare:
            look(text.tokens, sources.length, rows.suffix[made + 1], rows.known[made + 1], space.near, made + 1)
        if hurried and prob >= SURE:
            ran = _run_on(sources, space, made + 1, depth, reach, prob, least)
            if ran > made + 1:
                return ran
    return depth


@njit(nogil=True, forceinline=True)
def _append(space: Space, made: int, token: int, reach: float, level: int) -> None:
    space.tokens[made] = token
    space.parents[made] = made - 1
    space.prob[made] = reach
    space.level[made] = level
    space.depth[made] = made + 1


@njit(nogil=True)
def _run_on(sources: Sources, space: Space, made: int, depth: int, reach: float, prob: float, least: float) -> int:
    """Where the last `ORDERS` tokens stand in the text already, or in a pack, continue as it did there.

    prob   of the last token; each of these is taken to be as likely, which no level is asked about

    Returns the length of the chain.
    """
    text = sources.context
    position = -1
    if is_bare(text):
        position = newest_behind_all(space.near, made)
    elif space.rows.known[made] == ORDERS:
        position = longest_before(text, space.rows.suffix[made])
    if position < 0:
        return _run_on_in_packs(sources.shelf, space, made, depth, reach, prob, least)
    while made < depth and reach * prob >= least:
        reach *= prob
        after = position - sources.length  # a text that repeats itself runs on into what is drafted
        token = space.tokens[after] if after >= 0 else text.tokens[position]
        _append(space, made, token, reach, _CONTEXT)
        made += 1
        position += 1
    return made


@njit(nogil=True)
def _run_on_in_packs(shelf: Shelf, space: Space, made: int, depth: int, reach: float, prob: float, least: float) -> int:
    """Continue as the first pack that holds the last `ORDERS` tokens does, as long as all its occurrences agree."""
    rows, start = space.rows, made
    for pack in range(len(shelf.length)):
        order, _ = longest_in_pack(shelf, pack, rows, made, space.parents)
        if order < ORDERS:
            continue
        tokens, suffixes = view(shelf.tokens[pack], shelf.length[pack]), view(shelf.suffixes[pack], shelf.length[pack])
        first, last = rows.low[made, pack, order], rows.high[made, pack, order] - 1
        while made < depth and reach * prob >= least:
            token = token_at(tokens, suffixes, first, order + made - start)
            if token < 0 or token >= shelf.vocab[pack]:
                break
            if token != token_at(tokens, suffixes, last, order + made - start):
                break  # they are sorted, so what lies between differs too
            reach *= prob
            _append(space, made, token, reach, shelf.level[pack])
            made += 1
        return made
    return made
