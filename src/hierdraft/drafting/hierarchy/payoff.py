"""What a second opinion is worth: how much of a tree pays, and what asking about trees like it has brought."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_EDGES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Tokens that a tree of look-ups promises, between kinds of trees: the less it does, the more there is to be won."""

_HOPE = 0.15
RATE = 0.05
"""How soon what is new counts for what was."""

_SOON, _RARELY = 16, 512
_EXPLORED = 0.01
"""Share of the target's time that is spent on asking where it does not seem to pay."""


class Best(NamedTuple):
    """The best first nodes of a tree: how many, and tokens, seconds and tokens a second of a forward with them."""

    nodes: int
    tokens: float
    seconds: float
    rate: float


def best_size(prob: NDArray[np.float32], cost: Callable[[int], float]) -> Best:
    """How much of a tree pays.

    prob  float32[n]: path probabilities, falling
    cost  rows -> seconds of a forward; 0.0: not known, and all nodes are best, at no seconds
    """
    tokens = 1.0 + np.concatenate(([0.0], np.cumsum(prob, dtype=np.float64)))
    seconds = np.array([cost(1 + n) for n in range(len(tokens))])
    if seconds.min() <= 0.0:
        return Best(len(prob), float(tokens[-1]), 0.0, 0.0)
    best = int(np.argmax(tokens / seconds))
    return Best(best, float(tokens[best]), float(seconds[best]), float(tokens[best] / seconds[best]))


class OpinionWorth:
    """What asking has brought lately for trees that promised as much: tokens a second more, as a share.

    It begins with some hope, so that an opinion is sought where it costs less than that, and is seen to be worth it or
    not. Where it is not, it is sought now and then all the same, ever more rarely.
    """

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._gain, self._learned = np.full(len(_EDGES) + 1, _HOPE), np.ones(len(_EDGES) + 1)
        self._since = 0.0
        self._left, self._patience = [_SOON] * (len(_EDGES) + 1), [_SOON] * (len(_EDGES) + 1)

    def pays(self, tokens: float, seconds: float, price: float) -> bool:
        """Whether to ask; told once for every tree that could be asked about.

        tokens   that the best part of the tree promises, with the target's own
        seconds  of the target's forward for it, 0.0: not known
        price    seconds that asking takes
        """
        kind = bisect_right(_EDGES, tokens - 1.0)
        if seconds <= 0.0 or self._gain[kind] * seconds > price:
            return True
        self._left[kind] -= 1
        self._since += seconds
        if self._left[kind] > 0 or _EXPLORED * self._since < price:
            return False
        self._since = 0.0
        self._patience[kind] = min(_RARELY, 2 * self._patience[kind])
        self._left[kind] = self._patience[kind]
        return True

    def learn(self, tokens: float, before: float, after: float) -> None:
        """A tree that promised `tokens` was asked about: its tokens a second before and after, asking not counted."""
        if before <= 0.0:
            return
        kind = bisect_right(_EDGES, tokens - 1.0)
        self._learned[kind] += 1.0
        self._gain[kind] += max(RATE, 1.0 / self._learned[kind]) * (after / before - 1.0 - self._gain[kind])
        if self._gain[kind] > _HOPE:
            self._patience[kind] = _SOON
