"""What a forward costs by its number of rows, as measured and stored; and what a serving engine's step costs."""

from __future__ import annotations

import contextlib
import json
import statistics
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.disk import replace_file

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows at which the cost is measured; linear between them, and beyond the last with the last slope."""

PATIENCE = 10.0
"""Seconds that a measurement takes at most, nearly, in which every size has its turn once."""

_DEAR = 12.0
_LIMIT = 512
_TICK = 1e-9  # some clocks stand still for a whole forward
_FADE = 0.98
_FIRST_SLOPE = 1 / 64
_STIFFNESS = 0.05
_ENOUGH = 4.0
_OTHER = 0.25
_FORGET = 0.1
_FOLLOW = 0.25


class StepCosts:
    """Seconds per forward as a function of its rows.

    `change`: seconds more for a forward that has another number of rows than the one before.
    """

    def __init__(self, seconds: dict[int, float] | None = None, change: float = 0.0) -> None:
        """`seconds` per measured size; None: nothing is known yet, and every cost is 0."""
        self.change = change
        self._sizes = sorted(seconds or {})
        self._seconds = [(seconds or {})[size] for size in self._sizes]

    @classmethod
    def measure(
        cls, run: Callable[[int], float], repeats: int = 5, sizes: tuple[int, ...] = SIZES, *, again: bool = False
    ) -> StepCosts:
        """Time `run(rows)`, which returns the seconds of one forward: the least of `repeats` after one warm-up.

        repeats   fewer where that would take longer than `PATIENCE`
        sizes     up to the first that costs so much that no draft of its size would pay
        again     run each size twice in a row; the second time counts, and what the first takes more is `change`

        The sizes take turns, so that a change in the machine's speed touches them alike; and other work on the
        machine only ever adds time, so the least is the best estimate of the ratios that matter.
        """
        warm: dict[int, float] = {}
        for rows in sizes:
            warm[rows] = run(rows)
            if warm[rows] > _DEAR * warm[sizes[0]] and len(warm) > 1:
                break
        sizes = tuple(warm)
        fitting = PATIENCE / max(_TICK, (1 + again) * sum(warm.values()))
        repeats = max(1, min(repeats, int(fitting)))
        rounds = [{rows: [run(rows) for _ in range(1 + again)] for rows in sizes} for _ in range(repeats)]
        least = {rows: [min(times) for times in zip(*(once[rows] for once in rounds), strict=True)] for rows in sizes}
        more = statistics.median(times[0] - times[-1] for times in least.values())
        return cls({rows: max(_TICK, times[-1]) for rows, times in least.items()}, max(0.0, more))

    @classmethod
    def read(cls, file: Path) -> StepCosts | None:
        """The costs in a file that `write` made; None where there is none, or none that makes sense."""
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            change = float(stored.pop("change", 0.0))
            seconds = {int(rows): float(took) for rows, took in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        usable = len(seconds) > 1 and all(0 < n <= _LIMIT and 0.0 < s < 1e4 for n, s in seconds.items())
        if not usable or not 0.0 <= change < 1e4:
            return None
        return cls(seconds, change)

    def write(self, file: Path) -> None:
        """Store the costs for the next start, complete or not at all. A cache that cannot be written is no error."""
        with contextlib.suppress(OSError):
            replace_file(file, json.dumps({**self.as_dict(), "change": self.change}).encode())

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return len(self._sizes) > 0

    def __call__(self, rows: int, plain: int = 1) -> float:  # noqa: ARG002 - nothing is to be found out
        """Seconds of a forward of `rows` >= 1 rows, for deciding how many it gets; 0.0 while nothing is known."""
        return self.seconds(rows)

    def seconds(self, rows: int) -> float:
        """Seconds of a forward of `rows` >= 1 rows; 0.0 while nothing is known."""
        if not self.known:
            return 0.0
        left, weight = self._between(rows)
        if weight == 0.0:
            return self._seconds[left]
        first, second = self._seconds[left : left + 2]
        return (
            first + weight * (second - first) if weight <= 1.0 else second + (weight - 1.0) * max(0.0, second - first)
        )

    @property
    def must_be_plain(self) -> bool:
        """Whether the next forward has to have as few rows as possible, to learn what that costs."""
        return False

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """A forward was timed: what was measured stays as it is."""

    def record_change(self, rows: int, seconds: float, plain: int = 1) -> None:
        """A forward with another number of rows than the one before was timed: the same."""

    def _between(self, rows: int) -> tuple[int, float]:
        """(the measured size to the left, how far `rows` is on the way to the next: beyond the last, more than 1)."""
        sizes = self._sizes
        if rows <= sizes[0] or len(sizes) == 1:
            return 0, 0.0
        left = min(bisect_right(sizes, rows), len(sizes) - 1) - 1
        return left, (rows - sizes[left]) / (sizes[left + 1] - sizes[left])

    def as_dict(self) -> dict[int, float]:
        """Seconds per measured size, as they stand now."""
        return dict(zip(self._sizes, self._seconds, strict=True))


class RunningCosts:
    """Seconds of a serving engine's step by its tokens, learned from the steps themselves.

    A straight line, and what any drafts at all cost on top of it: kernels that take rows in blocks are slow from one
    block to the next. Both come from neighbouring steps, the slope by least squares of the change in seconds over the
    change in tokens: a machine that has become slower as a whole does not bend it. While steps hardly differ in size,
    the slope known before stays. The level is a mean. Older steps count less and less, and those with another number
    of requests hardly at all.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._sums = np.zeros(5)
        self._slope = self._jump = 0.0
        self._last = (0, 0, 0.0)

    def record(self, rows: int, tokens: int, seconds: float) -> None:
        """A step of `rows` requests that scored `tokens` took `seconds`; one outlier counts at most fourfold.

        A step that scored nothing, as engines have while requests come and go, says nothing and is left out.
        """
        if rows < 1 or tokens < 1:
            return
        if self._sums[0] == 0.0:
            self._slope, self._last = _FIRST_SLOPE * seconds / tokens, (rows, tokens, seconds)
        else:
            seconds = min(seconds, 4.0 * float(self._curve(rows, tokens)[-1]))
        before, fewer, shorter = self._last
        self._last = (rows, tokens, seconds)
        more, longer = tokens - fewer, seconds - shorter
        drafted, drafted_before = int(tokens > rows), int(fewer > before)
        if abs(rows - before) > _OTHER * before:
            self._sums[3:] *= _FORGET
        self._sums *= _FADE
        if drafted == drafted_before:
            self._sums[3:] += more * more, more * longer
            stiff = (_STIFFNESS * tokens) ** 2
            self._slope = max(0.0, float((self._sums[4] + stiff * self._slope) / (self._sums[3] + stiff)))
        else:
            seen = (drafted - drafted_before) * (longer - self._slope * more)
            self._jump = max(0.0, self._jump + _FOLLOW * (seen - self._jump))
        self._sums[:3] += 1.0, tokens, seconds - drafted * self._jump

    def __call__(self, rows: int, tokens: int) -> NDArray[np.float64]:
        """float64[tokens - rows + 1]: seconds of a step of `rows` requests that scores rows..tokens tokens.

        Zeros while nothing is known.
        """
        if self._sums[0] < _ENOUGH:
            return np.zeros(tokens - rows + 1)
        return self._curve(rows, tokens)

    def _curve(self, rows: int, tokens: int) -> NDArray[np.float64]:
        mean, level = self._sums[1:3] / self._sums[0]
        line = level + self._slope * (np.arange(rows, tokens + 1) - mean)
        line[1:] += self._jump
        found: NDArray[np.float64] = np.maximum(line, 1e-9)
        return found
