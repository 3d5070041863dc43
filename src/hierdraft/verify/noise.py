"""Randomness that belongs to a place in the text: the same seed and position give the same noise, always.

So a sampled token depends on the seed, its position and the target's distribution there, and on nothing that was
drafted, batched or restarted.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import UsageError
from hierdraft.kernels import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53
_WORD = (1 << 64) - 1

RACE, DICE = 1, 2
"""What noise is for: tokens drawn from the target, and the decisions of rejection sampling."""


@njit()
def _mix(x: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@njit()
def _uniform(state: np.uint64, number: int) -> float:
    """The `number`-th uniform of a stream, in steps of 2^-53, never 0 or 1."""
    return (np.float64(_mix(state + np.uint64(number + 1) * _GOLDEN) >> _11) + 0.5) * _UNIT


@njit()
def _race(scores: NDArray[np.floating], state: np.uint64) -> int:
    best = -np.inf
    winner = -1
    for token in range(len(scores)):
        score = np.float64(scores[token])
        if not score > -np.inf:
            continue
        uniform = _uniform(state, token)
        gap = best - score
        # noise above `gap` needs uniform <= 1 - exp(-exp(-gap)) < exp(-gap) < 1 / (1 + gap + gap^2 / 2)
        if gap > 0.0 and uniform * (1.0 + gap + 0.5 * gap * gap) >= 1.0:
            continue
        value = score - np.log(-np.log1p(-uniform))
        if value > best:
            best = value
            winner = token
    return winner


def stream(seed: int, position: int, use: int) -> np.uint64:
    """The start of the noise of one position, a hash of all three numbers."""
    state = 0
    for part in (seed, position, use):
        state = _mixed((state ^ part) + int(_GOLDEN))
    return np.uint64(state)


def _mixed(x: int) -> int:
    """`_mix` of a Python integer."""
    x &= _WORD
    x = (x ^ (x >> 30)) * int(_FIRST) & _WORD
    x = (x ^ (x >> 27)) * int(_SECOND) & _WORD
    return x ^ (x >> 31)


def race(scores: NDArray[np.floating], seed: int, position: int) -> int:
    """A token drawn from softmax(`scores` float[V]): the highest score after Gumbel noise (Gumbel-max; the same as
    the earliest of exponential clocks with rates exp(score)). Scores of -inf are never drawn.

    Raises UsageError where nothing is left to draw.
    """
    token = int(_race(scores, stream(seed, position, RACE)))
    if token < 0:
        raise UsageError(f"No token is allowed at position {position}: loosen the bans, filters or grammar.")
    return token


def gumbel(seed: int, position: int, size: int) -> NDArray[np.float64]:
    """float64[size]: the noise that `race` adds to each token's score, for looking at how close a draw was."""
    state = stream(seed, position, RACE)
    with np.errstate(over="ignore"):
        x = state + np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN
        x = (x ^ (x >> _30)) * _FIRST
        x = (x ^ (x >> _27)) * _SECOND
        uniform = (((x ^ (x >> _31)) >> _11).astype(np.float64) + 0.5) * _UNIT
    return -np.log(-np.log1p(-uniform))


class Dice(Protocol):
    """Where the decisions of rejection sampling come from."""

    def accept(self, probability: float) -> bool:
        """True with this probability."""
        ...

    def draw(self, law: NDArray[np.float64]) -> int:
        """An index drawn from `law` float64[V], which sums to 1."""
        ...


class KeyedDice:
    """Dice for one step: the n-th decision of the step at a position is always the same."""

    def __init__(self, seed: int, position: int) -> None:
        self._state = stream(seed, position, DICE)
        self._used = 0

    def _next(self) -> float:
        self._used += 1
        return float(_uniform(self._state, self._used))

    def accept(self, probability: float) -> bool:
        """True with this probability."""
        return self._next() < probability

    def draw(self, law: NDArray[np.float64]) -> int:
        """By the inverse of the cumulative distribution; never an index of probability zero."""
        sums = np.cumsum(law)
        place = int(np.searchsorted(sums, self._next() * sums[-1], side="right"))
        return min(place, int(np.flatnonzero(law)[-1]))
