"""How likely the target found what it said: log probabilities of a row as the model gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.protocols import Likely


def likely(scores: NDArray[Any], token: int, most: int) -> Likely:
    """Of one row of logits float[V], before penalties, temperature and filters.

    most   how many of the likeliest tokens are told, best first, the lowest id first among equals
    """
    wide = scores.astype(np.float64)
    highest = wide.max()
    wide -= highest + np.log(np.exp(wide - highest).sum())
    count = min(most, len(wide))
    best = np.argpartition(-wide, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
    if count:  # all that are as likely as the last of them, so that the lowest ids are among them
        best = np.flatnonzero(wide >= wide[best].min())
    best = best[np.lexsort((best, -wide[best]))][:count]
    return Likely(float(wide[token]), tuple((int(one), float(wide[one])) for one in best))
