"""The rows of a cache that an engine only lets grow: which are still part of the text, and what a new row may see.

Rejected rows stay where they are and are masked out, until there are enough of them that moving the others together
is cheaper than carrying them along.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.float32]


class RowTable:
    """Positions of the rows in a cache. `length`: rows of the text; `count`: rows that there are."""

    def __init__(self) -> None:
        """An empty cache."""
        self.length = 0
        self.count = 0
        self._written = 0
        self._where = np.full(256, -1, dtype=np.int64)
        self._open = np.full(256, -np.inf, dtype=np.float32)

    @property
    def dropped(self) -> int:
        """Rows that are no longer part of the text."""
        return self.count - self.length

    def masks(self, where: NDArray[np.int64], seen: NDArray[np.bool_], window: int | None) -> tuple[Mask, Mask]:
        """What T new rows may attend to, additive: without a window, and with one.

        where    int64[T]: their positions
        seen     bool[T, T]: which of each other they see
        window   positions that a row sees at most, itself included; None: the second mask is the first

        Returns two float32[1, 1, T, count + T], 0 or -inf. They may be views that the next call changes.
        """
        rows, count = len(where), self.count
        self._reserve(count + rows)
        if rows == 1:
            self._open[count] = 0.0
            full = self._open[None, None, None, : count + 1]
        else:
            full = np.empty((1, 1, rows, count + rows), dtype=np.float32)
            full[..., :count] = self._open[:count]
            full[..., count:] = np.where(seen, np.float32(0.0), np.float32(-np.inf))
        if window is None or where.max() < window:
            return full, full
        columns = np.concatenate([self._where[:count], where])
        near = np.where(columns[None] <= where[:, None] - window, np.float32(-np.inf), np.float32(0.0))
        return full, full + near

    def _reserve(self, rows: int) -> None:
        more = max(rows, 2 * len(self._where)) - len(self._where)
        if rows > len(self._where):
            self._where = np.append(self._where, np.full(more, -1, dtype=np.int64))
            self._open = np.append(self._open, np.full(more, -np.inf, dtype=np.float32))

    def add(self, rows: int) -> None:
        """`rows` rows were written after the others; none is part of the text before `keep`."""
        self._reserve(self.count + rows)
        self._where[self.count : self.count + rows] = -1
        self._open[self.count : self.count + rows] = -np.inf
        self.count += rows
        self._written = rows

    def keep(self, rows: Sequence[int]) -> None:
        """These of the rows written last continue the text, in order; `rows` ascends."""
        first = self.count - self._written
        for row in rows:
            self._where[first + row] = self.length
            self._open[first + row] = 0.0
            self.length += 1

    def rewind(self, length: int) -> None:
        """Only the first `length` positions are still part of the text."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        gone = np.flatnonzero(self._where[: self.count] >= length)
        self._where[gone] = -1
        self._open[gone] = -np.inf
        self.length = length

    def gather(self) -> NDArray[np.int64]:
        """The rows that are still part of the text, in order: from now on they are all that there are."""
        kept = np.flatnonzero(self._where[: self.count] >= 0)
        self.count = self.length
        self._where[: self.count] = np.arange(self.count)
        self._open[: self.count] = 0.0
        self._where[self.count :] = -1
        self._open[self.count :] = -np.inf
        return kept
