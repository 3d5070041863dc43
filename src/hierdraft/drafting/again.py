"""What is scored again because it was not kept: its price, and the plain step that ends it.

An engine that offers chains only keeps a forward as a whole or not at all: if a chain was accepted in part, its forward
leaves nothing behind but what was said, and the next one begins with that again. As long as chains are accepted in part
the rows that are scored again become more with every step. A step without drafts ends that: all its rows are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MOST = 32
"""Most tokens that are scored again beside a draft, whatever that costs."""

_LOSS = 0.5
"""A plain step is taken to lose this part of its time: it brings one token where one with drafts may bring more."""

_AHEAD = 8


class CatchingUp:
    """Decides for one request when its next step has to do without drafts.

    It does once the time that went into rows which had been scored before is what a plain step loses. Rows that are
    scored again grow by about the same number in every step; then no other place for the plain step is better.
    """

    def __init__(self) -> None:
        self._wasted = 0.0

    def due(self, again: int, cost: Callable[[int], float]) -> bool:
        """Whether the next step is to be plain; asked before each.

        again  committed tokens before the last one that it has to score again
        cost   seconds of a forward without drafts that has so many rows; 0.0: not known
        """
        if again == 0:
            self._wasted = 0.0
            return False
        self._wasted += cost(1 + again) - cost(1)
        return again >= MOST or self._wasted > _LOSS * cost(1) > 0.0


def rows_again(gain: NDArray[np.float64], tokens: int | None) -> NDArray[np.float64]:
    """float64[n]: by how many rows that the next forward has to score again each node of a chain adds to the others.

    gain    of each node, the chance that it is accepted; falling
    tokens  that are scored with the chain and are lost with it, the last committed one included; None: nothing is

    With m nodes, j of them are accepted with chance gain[j] - gain[j + 1], and cost tokens + j rows unless j = m.
    """
    if tokens is None or len(gain) == 0:
        return np.zeros(len(gain))
    kept = np.minimum(gain, 1.0)
    count = np.arange(1, len(kept) + 1)
    lost = np.cumsum(kept) - count * kept + tokens * (1.0 - kept)
    return np.diff(lost, prepend=0.0)


def row_price(cost: Callable[[int], float], rows: int) -> float:
    """Seconds of one row more in a forward of `rows` rows; 0.0 where drafts cannot be scored or nothing is known."""
    price = (cost(rows + _AHEAD) - cost(rows)) / _AHEAD
    return max(0.0, price) if np.isfinite(price) else 0.0
