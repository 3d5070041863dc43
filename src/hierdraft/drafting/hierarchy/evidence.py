"""One probability from many looks: a softmax over the candidates of a row, its weights learned while running.

Every look in which a candidate was found adds its cell's log odds, weighted by the kind of look; what several looks
say together, how recently the token was used in this request and which token it is add to that. "None of them" is
one more outcome with a score of its own. The probability of a candidate is its softmax, so candidates compete, and
each weight follows the gradient of the log likelihood of what the target then chose (multinomial logistic
regression by stochastic gradient; the mixing in the logistic domain is that of PAQ, Mahoney 2005).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS
from hierdraft.drafting.hierarchy.cells import CELLS, PER_LOOK, SHARES, SKIP, SOURCES, STRENGTHS, source_of, strength_of
from hierdraft.kernels import njit
from hierdraft.levels import code_of

BRANCHES = 48
"""Most different continuations of one row that are considered."""

LOOKS = 16
"""Most looks that count for one candidate."""

RANKS = 2
"""Looks of one source at one row, the longest suffix first."""

FLOOR = 3.0
"""Log odds of -FLOOR are worth nothing; a cell's evidence is what it has above that."""

AGES = 16
"""How long ago a token was last used, in powers of two; the last value: not in this request."""

TOKENS = (1 << 16) - 1
"""The weight of a token is that of its last 16 bits."""

MASKS = 1 << (SKIP + 1)
"""Sets of sources that a candidate can be found in: a bit for each level, and one for all skip looks."""

LOOK_TYPE = np.min_scalar_type(-RANKS * CELLS)
"""Holds RANKS * cell + rank for every cell."""

_RATE_LOOK = 0.005
_RATE_PAIR = 0.02
_RATE_TOKEN = 0.02
_RATE_MIX = 0.05
_CONTEXT, _MODEL, _STATISTICS = (code_of(name) for name in ("context", "model", "statistics"))


class Weights(NamedTuple):
    """What is learned besides the cells; all float32.

    evidence  [CELLS]: log odds of each cell, above -FLOOR
    look      [RANKS * SOURCES * ORDERS]: what a look counts for
    mask      [MASKS]: by the sources that know it
    mix       [SHARES * MASKS * AGES]: by its share in the first of them, the sources, and its age
    pair      [3, STRENGTHS, STRENGTHS]: context and model, context and statistics, model and statistics
    none      [(ORDERS + 1)²]: by the longest suffixes found in this request's text and in packs
    token     [TOKENS + 1]: what the token itself counts for
    """

    evidence: NDArray[np.float32]
    look: NDArray[np.float32]
    mask: NDArray[np.float32]
    mix: NDArray[np.float32]
    pair: NDArray[np.float32]
    none: NDArray[np.float32]
    token: NDArray[np.float32]


class Evidence(NamedTuple):
    """The candidates of every row, and what is known about each.

    token, score, prob   int32, float32, float32 [rows, BRANCHES]
    best, level          float32, uint8 [rows, BRANCHES]: the strongest look's contribution, and its level
    age, used            uint8 [rows, BRANCHES]: see AGES; how many looks there are in `looks`
    looks                LOOK_TYPE[rows, BRANCHES, LOOKS]: RANKS * cell + rank
    held                 int32[rows]: how many candidates there are; -1: the row was not expanded
    none, none_prob      int32, float32 [rows]: index of the weight of "none of them", and its probability
    """

    token: NDArray[np.int32]
    score: NDArray[np.float32]
    prob: NDArray[np.float32]
    best: NDArray[np.float32]
    level: NDArray[np.uint8]
    age: NDArray[np.uint8]
    used: NDArray[np.uint8]
    looks: NDArray[np.signedinteger[Any]]
    held: NDArray[np.int32]
    none: NDArray[np.int32]
    none_prob: NDArray[np.float32]


def make_evidence(rows: int) -> Evidence:
    """Room for `rows` rows."""

    def room(kind: type[np.generic], *more: int) -> NDArray[Any]:
        return np.zeros((rows, BRANCHES, *more), dtype=kind)

    return Evidence(
        room(np.int32), room(np.float32), room(np.float32), room(np.float32), room(np.uint8), room(np.uint8),
        room(np.uint8), room(LOOK_TYPE.type, LOOKS), np.full(rows, -1, dtype=np.int32), np.zeros(rows, dtype=np.int32),
        np.zeros(rows, dtype=np.float32),
    )  # fmt: skip


def initial_weights() -> dict[str, NDArray[np.float32]]:
    """The weights, but `evidence` and `token`, before anything was learned."""
    look = np.full((RANKS, SOURCES, ORDERS), 0.4, dtype=np.float32)
    look[:, SKIP:] = 0.2
    return {
        "look": look.ravel(),
        "mask": np.zeros(MASKS, dtype=np.float32),
        "mix": np.zeros(AGES * MASKS * SHARES, dtype=np.float32),
        "pair": np.zeros((3, STRENGTHS, STRENGTHS), dtype=np.float32),
        "none": np.full((ORDERS + 1) ** 2, 2.0, dtype=np.float32),
    }


@njit(nogil=True, forceinline=True)
def note(evidence: Evidence, weights: Weights, row: int, token: int, cell: int, rank: int) -> None:
    """A look at this row has found a candidate."""
    held = evidence.held[row]
    slot = 0
    while slot < held and evidence.token[row, slot] != token:
        slot += 1
    if slot == held:
        if held == BRANCHES:
            return
        evidence.held[row] = held + 1
        evidence.token[row, slot] = token
        evidence.score[row, slot] = weights.token[token & TOKENS]
        evidence.best[row, slot] = -math.inf
        evidence.used[row, slot] = 0
    used = evidence.used[row, slot]
    if used == LOOKS:
        return
    evidence.looks[row, slot, used] = RANKS * cell + rank
    evidence.used[row, slot] = used + 1
    worth = weights.look[rank * SOURCES * ORDERS + cell // PER_LOOK] * weights.evidence[cell]
    evidence.score[row, slot] += worth
    if worth > evidence.best[row, slot]:
        evidence.best[row, slot] = worth
        evidence.level[row, slot] = source_of(cell) % SKIP


@njit(nogil=True, forceinline=True)
def _together(evidence: Evidence, row: int, slot: int) -> tuple[int, int, int, int]:
    """What a candidate's looks say together: its place in `mix`, and its strength in context, model, statistics."""
    mask = context = model = statistics = 0
    for i in range(evidence.used[row, slot]):
        cell = evidence.looks[row, slot, i] // RANKS
        source = source_of(cell)
        if source >= SKIP:
            mask |= 1 << SKIP
            continue
        mask |= 1 << source
        if source == _CONTEXT and context == 0:
            context = strength_of(cell)
        elif source == _MODEL and model == 0:
            model = strength_of(cell)
        elif source == _STATISTICS and statistics == 0:
            statistics = strength_of(cell)
    share = (evidence.looks[row, slot, 0] // RANKS // 2) % SHARES
    return (share * MASKS + mask) * AGES + evidence.age[row, slot], context, model, statistics


@njit(nogil=True, forceinline=True)
def conclude(evidence: Evidence, weights: Weights, row: int) -> None:
    """Turn the scores of a row's candidates into probabilities."""
    none = weights.none[evidence.none[row]]
    highest = none
    for slot in range(evidence.held[row]):
        mix, context, model, statistics = _together(evidence, row, slot)
        score = evidence.score[row, slot] + weights.mix[mix] + weights.mask[mix // AGES % MASKS]
        score += weights.pair[0, context, model] + weights.pair[1, context, statistics]
        score += weights.pair[2, model, statistics]
        evidence.score[row, slot] = score
        highest = max(highest, score)
    total = math.exp(none - highest)
    evidence.none_prob[row] = total
    for slot in range(evidence.held[row]):
        odds = math.exp(evidence.score[row, slot] - highest)
        evidence.prob[row, slot] = odds
        total += odds
    evidence.none_prob[row] /= total
    for slot in range(evidence.held[row]):
        evidence.prob[row, slot] /= total


@njit(nogil=True)
def teach(evidence: Evidence, weights: Weights, tried: Any, accepted: Any, row: int, choice: int) -> None:
    """The target chose `choice` at this row: one gradient step, and one more trial for every cell involved.

    A row that was not expanded teaches nothing.
    """
    if evidence.held[row] < 0:
        return
    known = False
    for slot in range(evidence.held[row]):
        right = evidence.token[row, slot] == choice
        known = known or right
        error = (1.0 if right else 0.0) - evidence.prob[row, slot]
        mix, context, model, statistics = _together(evidence, row, slot)
        weights.mask[mix // AGES % MASKS] += _RATE_MIX * error
        weights.mix[mix] += _RATE_MIX * error
        weights.pair[0, context, model] += _RATE_PAIR * error
        weights.pair[1, context, statistics] += _RATE_PAIR * error
        weights.pair[2, model, statistics] += _RATE_PAIR * error
        weights.token[evidence.token[row, slot] & TOKENS] += _RATE_TOKEN * error
        for i in range(evidence.used[row, slot]):
            cell, rank = evidence.looks[row, slot, i] // RANKS, evidence.looks[row, slot, i] % RANKS
            look = rank * SOURCES * ORDERS + cell // PER_LOOK
            weights.look[look] += _RATE_LOOK * error * weights.evidence[cell]
            tried[cell] += 1.0
            accepted[cell] += 1.0 if right else 0.0
    for slot in range(evidence.held[row]):
        for i in range(evidence.used[row, slot]):
            cell = evidence.looks[row, slot, i] // RANKS
            weights.evidence[cell] = worth_of(accepted[cell] / tried[cell])
    weights.none[evidence.none[row]] += _RATE_MIX * ((0.0 if known else 1.0) - evidence.none_prob[row])


@njit(nogil=True)
def worth_of(share: float) -> float:
    """Log odds above -FLOOR, for shares between 1e-4 and 1 - 1e-4."""
    share = min(max(share, 1e-4), 1.0 - 1e-4)
    return math.log(share / (1.0 - share)) + FLOOR
