"""The ids of the highest logits of a row in one pass: several times faster on a CPU than a general top-k."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit

from hierdraft.tree import Int32


def top_ids(rows: Iterable[Any], count: int, k: int) -> Int32:
    """int32[count, k]: the ids of the k highest logits of each of `count` rows float[V], best first."""
    ids = np.empty((count, k), dtype=np.int32)
    best = np.empty(k)
    for row, found in zip(rows, ids, strict=True):
        best_ids(row, best, found)
    return ids


@njit(cache=True, nogil=True)
def best_ids(row: Any, best: Any, ids: Any) -> None:
    """The k highest values of float[V] and their places, highest first, the lowest place first among equals.

    best   float[k], V >= k >= 1
    ids    int32[k]
    """
    k = len(ids)
    held = 0
    for place in range(len(row)):
        value = row[place]
        if held == k and not value > best[k - 1]:
            continue
        at = held if held < k else k - 1
        while at > 0 and value > best[at - 1]:
            best[at] = best[at - 1]
            ids[at] = ids[at - 1]
            at -= 1
        best[at] = value
        ids[at] = place
        held = min(held + 1, k)
