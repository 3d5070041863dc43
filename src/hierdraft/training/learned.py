"""Which rows of a window a head learns from, and what the target found likely there."""

from __future__ import annotations

import torch
from torch import Tensor

from hierdraft.training.windows import Window


class Learned:
    """Row t says token t + 2 + step at a step; all steps up to one before it must have said tokens of an answer too, of
    one piece.

    count, with_top   tokens of answers, and those with likeliest ids
    """

    def __init__(self, window: Window) -> None:
        """Those of one window."""
        size = len(window.ids)
        self._segment = torch.from_numpy(window.segment).long()
        self._says = torch.zeros(size, dtype=torch.bool)  # whether the token after this one is learned, and here
        self._says[torch.from_numpy(window.rows).long()] = True
        self._says[-1] = False
        self._says[:-1] &= self._segment[1:] == self._segment[:-1]
        self._place = torch.full((size,), -1)
        self._top: tuple[Tensor, Tensor] | None = None
        if window.top is not None:
            which, ids, logprobs = window.top
            self._place[torch.from_numpy(window.rows[which]).long()] = torch.arange(len(which))
            self._top = torch.from_numpy(ids).long(), torch.from_numpy(logprobs).float()
        self.count = len(window.rows)
        self.with_top = 0 if window.top is None else len(window.top[0])

    def rows(self) -> Tensor:
        """int64[R]: those that are learned from in the first step."""
        rows = torch.arange(len(self._says))
        return rows[self.kept(rows, 0)]

    def kept(self, rows: Tensor, step: int) -> Tensor:
        """bool[R]: which of these are learned from in a step, as far as that step goes."""
        after = rows + 1 + step
        within = after < len(self._says)
        after = after.clamp(max=len(self._says) - 1)
        return within & self._says[after] & (self._segment[after] == self._segment[rows])

    def top(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """For tokens after these places: which of them have likeliest ids, these ids, and log probabilities."""
        if self._top is None:
            return None
        found = self._place[places]
        which = (found >= 0).nonzero()[:, 0]
        return which, self._top[0][found[which]], self._top[1][found[which]]
