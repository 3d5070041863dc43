"""The ids of the highest logits of a row in one pass: several times faster on a CPU than a general top-k."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from hierdraft.kernels import njit
from hierdraft.tree import Int32


def top_ids(rows: Iterable[Any], count: int, k: int) -> Int32:
    """int32[count, k]: the ids of the k highest logits of each of `count` rows float[V], best first."""
    ids = np.empty((count, k), dtype=np.int32)
    best = np.empty(k)
    for row, found in zip(rows, ids, strict=True):
        best_ids(row, best, found)
    return ids


_STRIP = 64
"""Values that are compared with the worst kept one together; few strips of a row hold any that is higher."""


@njit(nogil=True)
def best_ids(row: Any, best: Any, ids: Any) -> None:
    """The k highest values of float[V] and their places, highest first, the lowest place first among equals.

    best   float[k], V >= k >= 1
    ids    int32[k]
    """
    k = len(ids)
    held = 0
    for start in range(0, len(row), _STRIP):
        strip = row[start : start + _STRIP]
        if held == k:
            worst, higher = row[ids[k - 1]], np.int32(0)
            for place in range(len(strip)):
                higher += np.int32(strip[place] > worst)
            if higher == 0:
                continue
        for place in range(len(strip)):
            value = strip[place]
            if held == k and not value > best[k - 1]:
                continue
            at = held if held < k else k - 1
            while at > 0 and value > best[at - 1]:
                best[at] = best[at - 1]
                ids[at] = ids[at - 1]
                at -= 1
            best[at] = value
            ids[at] = start + place
            held = min(held + 1, k)
