"""What a forward costs by its number of rows, learned from decoding itself: nothing is measured before the first token.

It begins with costs of an earlier process, or with the usual shape of the curve and no idea of its height. The first
steps are plain, since without the price of one row no draft can be judged; a size that was never tried is taken to
cost what is usual, so it is tried where it promises something, and known from then on.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hierdraft.engines.costs import SIZES, StepCosts

_USUAL = {
    "cpu": (1.0, 1.1, 1.15, 1.35, 1.7, 2.4, 3.8),
    "other": (1.0, 1.0, 1.02, 1.05, 1.1, 1.2, 1.4),
}
"""Cost over that of one row for each of SIZES: on the cheap side of what was recorded (`benchmarks/forward-cost.json`),
because a price that is too high would never be looked at."""

_PLAIN = 2
_SETTLED = 3
_FOLLOW = 0.1
_LEVEL = 0.05
_OUTLIER = math.log(4.0)
_LOOK_ONE, _LOOK_MANY = 16, 64


class LearnedCosts(StepCosts):
    """Seconds of a forward by its rows, from the forwards that were timed so far.

    The logarithm of each size's cost is a common level and the size's own deviation from it. The least of the first
    three timings counts, since other work only adds time; then the mean of the recent ones. A size that was not tried
    for long is looked at again, ever more rarely: one row where everything is drafted, many where nothing is.
    """

    def __init__(self, device: str, stored: StepCosts | None = None) -> None:
        """`device`: `cpu` or any other; `stored`: costs of an earlier process."""
        known = stored.as_dict() if stored is not None else {}
        self._usual = np.log(np.array(_USUAL["cpu" if device == "cpu" else "other"]))
        self._logs = np.log([known.get(size, 1.0) for size in SIZES])
        self._counts = np.array([_SETTLED if size in known else 0 for size in SIZES])
        self._timed = 0
        self._since = np.zeros(len(SIZES), dtype=int)
        self._patience = np.array([_LOOK_ONE] + [_LOOK_MANY] * (len(SIZES) - 1))
        super().__init__(dict.fromkeys(SIZES, 1.0), stored.change if stored is not None else 0.0)
        self._settle()

    @classmethod
    def begin(cls, device: str, file: Path | None) -> LearnedCosts:
        """With the costs in `file`, where there are any."""
        return cls(device, StepCosts.read(file) if file is not None else None)

    def __call__(self, rows: int) -> float:
        """Seconds of a forward of `rows` rows; infinite for more than one where the next forward must be plain."""
        if rows > 1 and self._must_be_plain:
            return math.inf
        return super().__call__(rows)

    def record(self, rows: int, seconds: float) -> None:
        """Learn from a forward that was just timed."""
        if seconds <= 0.0 or rows > SIZES[-1]:
            return
        left, weight = self._between(rows)
        nearest = left + (weight > 0.5)
        error = math.log(seconds / StepCosts.__call__(self, rows)) if self._timed or self._counts.any() else None
        if error is None:
            self._logs[:] = math.log(seconds)
        elif not self._seen[nearest]:
            self._logs[nearest] = self._estimates[nearest] + error
        else:
            self._follow(nearest, max(-_OUTLIER, min(_OUTLIER, error)))
        if self._since[nearest] > self._patience[nearest]:
            self._patience[nearest] *= 4 if nearest == 0 else 2
        self._since += 1
        self._since[nearest] = 0
        self._counts[nearest] += 1
        self._timed += 1
        self._settle()

    def _follow(self, nearest: int, error: float) -> None:
        """The common level a little, and this size by what is left; early on, only what is faster counts."""
        if self._counts[nearest] < _SETTLED:
            self._logs[nearest] += min(0.0, error)
            return
        common = error * max(_LEVEL, 0.5 ** (1 + self._timed))
        self._logs[self._counts > 0] += common
        self._logs[nearest] += _FOLLOW * (error - common)

    def _settle(self) -> None:
        """Seconds for every size: what is known, and between or beyond that the usual shape."""
        self._seen = seen = self._counts > 0
        seen[1:] &= self._since[1:] <= self._patience[1:]
        self._must_be_plain = self._counts[0] < _PLAIN or bool(self._since[0] > self._patience[0])
        if seen.any():
            places = np.arange(len(SIZES))
            offsets = np.interp(places, places[seen], (self._logs - self._usual)[seen])
            self._estimates = np.where(seen, self._logs, self._usual + offsets)
        else:
            self._estimates = self._usual.copy()
        self._seconds = np.exp(self._estimates).tolist()

    def as_dict(self) -> dict[int, float]:
        """Seconds per size that was ever timed."""
        return {size: math.exp(log) for size, log, n in zip(SIZES, self._logs, self._counts, strict=True) if n}
