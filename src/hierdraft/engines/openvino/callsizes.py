"""How many rows a call of a graph has: as many as are needed, and useless ones where another number would cost more."""

from __future__ import annotations

import math
from bisect import bisect_left

from hierdraft.engines.costs import StepCosts

SIZES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Rows that forwards have. OpenVINO prepares every kernel anew when their number changes, which takes a third of a
step, so a forward gets useless rows beside those that count where that is cheaper than another number of rows."""

_PIECE = 32
"""Forwards of more rows than the last size have a multiple of this: as many as ever came would each be prepared."""

_SHARE = 0.6
"""How much of a change's cost is laid on the step that makes it; those that follow have the benefit too."""


class CallSizes:
    """Numbers of rows, what they cost, and which one the last call had: `last`, 0 before the first."""

    def __init__(self, least: int, most: int = 0) -> None:
        """No call has less than `least` rows, or more than `most`, 0 for any number."""
        self.least, self.most, self.last = least, most, 0
        self.costs = StepCosts()
        self.sizes = tuple(size for size in SIZES if least <= size <= (most or SIZES[-1]))
        self._prices: list[float] = []
        self._wasted = 0.0

    def call(self, count: int) -> bool:
        """A call that needs `count` rows is made, with `last` rows; returns whether the one before had others."""
        before, self.last = self.last, self.rows_for(count)
        self.forget()
        return self.last != before

    def forget(self) -> None:
        """Costs have changed."""
        self._prices = []

    def rows_for(self, count: int) -> int:
        """How many rows a call has that needs `count`."""
        least = self.sizes[0]
        if not self.costs.known or (count <= least and self.costs.must_be_plain):
            return max(count, least)
        if count > self.sizes[-1]:
            return self._many(count)
        change, place = self.costs.change, bisect_left(self.sizes, count)
        size, best = (self._cheapest(price)[place][1] for price in (change, 0.0))
        if size == best or size != self.last:
            self._wasted = 0.0
            return size
        self._wasted += self.costs.seconds(size) - self.costs.seconds(best)
        if self._wasted <= change:
            return size
        self._wasted = 0.0  # forwards of fewer rows seem to be the rule now: the change would have paid
        return best

    def price(self, rows: int, plain: int) -> float:
        """Seconds of a forward of `rows` rows now, `plain` of them without drafts; 0.0 while nothing is known."""
        if self.costs.must_be_plain:
            return self.costs(rows, plain)
        if rows > self.sizes[-1]:
            return self.costs(self._many(rows)) + _SHARE * self.costs.change
        if not self._prices:
            found = self._cheapest(_SHARE * self.costs.change)
            self._prices = [found[bisect_left(self.sizes, count)][0] for count in range(self.sizes[-1] + 1)]
        return self._prices[rows]

    def _many(self, rows: int) -> int:
        """How many rows a call has that needs more than the last size."""
        return rows if self.most else -(-rows // _PIECE) * _PIECE

    def _cheapest(self, change: float) -> list[tuple[float, int]]:
        """For each size, the cheapest forward with that many rows or more: (seconds, rows).

        change   seconds that another number of rows than before costs
        """
        found = [(math.inf, 0)]
        for size in reversed(self.sizes):
            found.append(min(found[-1], (self.costs.seconds(size) + (change if size != self.last else 0.0), size)))
        return found[:0:-1]
