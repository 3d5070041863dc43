"""The rows of a tree's forward in depth-first order, in one compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierdraft.kernels import njit


@njit(nogil=True)
def depth_first(parents: Any, places: Any, depths: Any, seen: Any) -> None:
    """Order the rows so that each is followed by all that hangs below it, its first child first; row 0 stays first.

    parents  int32[n], as in a `DraftTree`
    places   int64[1+n] out: where each row stands in that order
    depths   int64[T], T >= 1+n, out, by place: 0 for row 0, 1 for its children, ...
    seen     bool[T, T], all false but its diagonal; out, by place: a row sees itself and its ancestors
    """
    n = len(parents)
    child, sibling = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    for row in range(n, 0, -1):
        above = parents[row - 1] + 1
        sibling[row], child[above] = child[above], row
    places[0], depths[0] = 0, 0
    row, place = child[0], 1
    while row:
        at = places[parents[row - 1] + 1]
        places[row], depths[place] = place, depths[at] + 1
        for column in range(at + 1):
            seen[place, column] = seen[at, column]
        place += 1
        if child[row]:
            row = child[row]
            continue
        while row and not sibling[row]:
            row = parents[row - 1] + 1
        row = sibling[row]
