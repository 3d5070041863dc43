"""What a forward costs by its number of rows, learned from decoding itself.

The logarithms of the costs are one Gaussian vector: they share a level (how fast the machine is), and neighbouring
sizes deviate from the expected shape together. What is expected at first are the costs of an earlier process, or the
usual shape. Every timed forward is a measurement with noise, and what was not measured for long becomes uncertain
again. A size is taken to cost what an optimist says (now and then a bold one), so it is tried where it promises
something, and known then: costs that were stored by a busy machine are put right where that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.costs import SIZES, StepCosts

_USUAL = {
    "cpu": (1.0, 1.1, 1.2, 1.45, 1.9, 2.7, 4.3),
    "other": (1.0, 1.02, 1.05, 1.1, 1.15, 1.3, 1.5),
}
"""Cost over that of one row for each of SIZES (`benchmarks/forward-cost.json`)."""

_LEVEL, _SHAPE = 1.0, 0.2
_REACH = 1.5
_COLD, _NOISE = 0.7, 0.1
_LEVEL_DRIFT, _SHAPE_DRIFT = 0.02, 0.01
_OUTLIER = 3.0
_OPTIMISM, _BOLD = 0.4, 2.0
"""Standard deviations of logarithms: what is not known at first of the level and of each size; how far (in doublings of
the rows) deviations hang together; the noise of the first timings, and of others; what is forgotten from one forward to
the next; how many deviations one timing counts at most; and how many are taken off an uncertain price, as a rule and
now and then. Chosen by simulation as in `tests/unit/test_learned_costs.py`; the optimum is flat."""

_PLAIN = 2
_LOOK, _BOLD_LOOK = 64, 8
_CHANGE, _EASE, _USUAL_CHANGE = 0.05, 0.005, 0.2
_WORTH_KEEPING = 32
_FOLLOW, _JUMP = 0.5, 4.0
"""Of the price of a row beyond the last size: how fast it follows, and how many times itself, or the mean price of a
row in the last size, a timing makes it at most."""


class LearnedCosts(StepCosts):
    """Seconds of a forward by its rows, from the forwards that were timed so far: a Kalman filter of their logarithms.

    Where everything is drafted, nothing says what plain decoding would cost: so a forward with the fewest rows is asked
    for when there was none for long, ever more rarely.
    """

    def __init__(
        self, device: str, stored: StepCosts | None = None, sizes: Sequence[int] = SIZES, file: Path | None = None
    ) -> None:
        """Begin with what is known.

        device  `cpu` or any other
        stored  costs of an earlier process, or just measured
        sizes   rows whose cost is kept; linear between them. Beyond the last a row costs what it did in forwards of
                more that were timed, and before there was one, what it costs between the last two
        file    where `keep` writes what was learned
        """
        most = stored.seconds(sizes[0]) if stored is not None else 0.0
        super().__init__(dict.fromkeys(sizes, 1.0), min(most, stored.change) if stored is not None else 0.0)
        doublings = np.log2(sizes)
        if stored is not None:
            self._mean = np.log([stored.seconds(size) for size in sizes])
        else:
            usual = _USUAL["cpu" if device == "cpu" else "other"]
            self._mean = np.log(np.interp(doublings, np.log2(SIZES), usual))
        together = np.exp(-np.abs(np.subtract.outer(doublings, doublings)) / _REACH)
        self._prior = _LEVEL**2 + _SHAPE**2 * together
        self._drift = _LEVEL_DRIFT**2 + _SHAPE_DRIFT**2 * together
        self._spread = self._prior.copy()
        self._has_level = stored is not None
        self._plain = _PLAIN if stored is not None else 0
        self._timed = self._since = 0
        self._patience, self._next_bold = _LOOK, _BOLD_LOOK
        self._file = file
        self._beyond: float | None = None
        self._settle()

    @classmethod
    def begin(cls, device: str, file: Path | None, sizes: Sequence[int] = SIZES) -> LearnedCosts:
        """With the costs in `file`, where there are any."""
        return cls(device, StepCosts.read(file) if file is not None else None, sizes, file)

    @property
    def must_be_plain(self) -> bool:
        """Whether the next forward has to have as few rows as possible, to learn what that costs."""
        return self._plain < _PLAIN or self._since > self._patience

    def keep(self) -> None:
        """Write what was learned to the file that it began with, where there is one and decoding has taught enough."""
        if self._file is not None and self._timed >= _WORTH_KEEPING:
            self.write(self._file)

    def __call__(self, rows: int, plain: int = 1) -> float:
        """Seconds of a forward of `rows` rows; infinite for more than the fewest where the next must be plain.

        plain  rows that it has without drafts
        """
        if rows > max(plain, self._sizes[0]) and self.must_be_plain:
            return math.inf
        return self.seconds(rows)

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Learn from a forward that was just timed; `plain`: rows that it would have had without drafts."""
        if seconds <= 0.0:
            return
        if rows > self._sizes[-1]:
            self._learn_beyond(rows, seconds)
            self._look(plain=rows <= plain)
            return
        if self._beyond is not None:  # one that is too dear is never made: in time the last slope is believed again
            self._beyond += _EASE * (self._last_slope() - self._beyond)
        share = self._share(rows)
        error = math.log(seconds) - float(share @ self._mean)
        if not self._has_level:
            self._mean += error
            self._has_level, error = True, 0.0
        self._learn(share, error)
        self._look(plain=rows <= plain or bool(share[0] > 0.5))
        if self.change:  # one that is too dear is never made: in time it is taken to cost what is usual
            self.change += _EASE * (_USUAL_CHANGE * math.exp(self._mean[0]) - self.change)
        if self._timed >= self._next_bold:
            self._next_bold *= 2
        self._timed += 1
        self._settle()

    def _share(self, rows: int) -> NDArray[np.float64]:
        """float64[sizes]: which sizes a forward of `rows` tells of, and how much; at most the largest."""
        left, weight = self._between(min(rows, self._sizes[-1]))
        share = np.zeros(len(self._sizes))
        share[left : left + 2] = (1.0 - weight, weight)[: len(share) - left]
        return share

    def _learn(self, share: NDArray[np.float64], error: float) -> None:
        """A timing of a size that is mixed of sizes by `share` was off by `error`."""
        self._spread += self._drift
        least = np.sqrt(np.minimum(1.0, np.diag(self._prior) / np.diag(self._spread)))
        self._spread *= np.outer(least, least)  # no less certain than at the start; it stays a covariance
        toward = self._spread @ share
        noise = _COLD if self._timed < _PLAIN else _NOISE
        variance = float(share @ toward) + noise**2
        most = _OUTLIER * math.sqrt(variance)
        self._mean += toward * (max(-most, min(most, error)) / variance)
        self._spread -= np.outer(toward, toward) / variance

    def seconds(self, rows: int) -> float:
        """Seconds of a forward of `rows` >= 1 rows; 0.0 while nothing is known."""
        last = self._sizes[-1]
        if self._beyond is None or rows <= last:
            return super().seconds(rows)
        return super().seconds(last) + (rows - last) * self._beyond

    def _last_slope(self) -> float:
        """Seconds that a row more costs between the last two sizes."""
        last = self._sizes[-1]
        return (super().seconds(2 * last) - super().seconds(last)) / last

    def _learn_beyond(self, rows: int, seconds: float) -> None:
        """A forward of more rows than are kept says what a row costs there, the better the more there were."""
        last = self._sizes[-1]
        if not self._has_level:
            self._mean += math.log(seconds / super().seconds(rows))
            self._has_level = True
            self._settle()
        over = rows - last
        found = max(0.0, seconds - super().seconds(last)) / over
        first, known = self._beyond is None, self._last_slope() if self._beyond is None else self._beyond
        most = _JUMP * max(known, super().seconds(last) / last)
        self._beyond = known + (min(found, most) - known) * (1.0 if first else _FOLLOW) * over / (over + last)

    def _look(self, *, plain: bool) -> None:
        if not plain:
            self._since += 1
            return
        self._plain += 1
        if self._since > self._patience:
            self._patience *= 4
        self._since = 0

    def record_change(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Learn from a forward that had another number of rows than the one before."""
        if rows > self._sizes[-1]:
            self.record(rows, seconds, plain)
            return
        usual = math.exp(float(self._share(rows) @ self._mean))
        before = min(self.change, 0.5 * seconds)
        self.change += _CHANGE * (min(max(0.0, seconds - usual), usual) - self.change)
        self.record(rows, seconds - before, plain)

    def _settle(self) -> None:
        """The optimist's price of every size: by how uncertain it is against the size that is known best."""
        own = np.diag(self._spread)
        best = int(own.argmin())
        apart = np.maximum(0.0, own + own[best] - 2.0 * self._spread[best])
        optimism = _BOLD if self._timed >= self._next_bold else _OPTIMISM
        self._seconds = np.exp(self._mean - optimism * np.sqrt(apart)).tolist()

    def as_dict(self) -> dict[int, float]:
        """Seconds per size, as expected; empty before anything is known."""
        return dict(zip(self._sizes, np.exp(self._mean).tolist(), strict=True)) if self._has_level else {}
