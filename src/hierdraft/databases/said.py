"""Whether the model has said a text before: what the model level held at one moment, asked afterwards."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from hierdraft.databases.hashchain import Chains
from hierdraft.databases.levels import LEAD, Shelves
from hierdraft.databases.suffixarray import Index


class SaidBefore:
    """The model level as it is now; what is learned later does not count."""

    def __init__(self, shelves: Shelves) -> None:
        """`shelves`: what `Databases.open` gives for a namespace."""
        self._indexes = [pack.index for pack in shelves.packs if pack.info.level == "model"]
        self._recent = [_written(chains) for chains in shelves.texts]

    def holds(self, tokens: Sequence[int]) -> bool:
        """Whether all of `tokens` stands there in one piece; of fewer than `LEAD` nothing is said."""
        if len(tokens) < LEAD:
            return False
        wanted = np.asarray(tokens, dtype=np.int32).tobytes()
        return any(_occurs(text, wanted) for text in self._recent) or any(
            _in_index(index, list(tokens)) for index in self._indexes
        )


def _written(chains: Chains) -> bytes:
    """A copy: the arrays keep growing, and places that are not written hold no token."""
    return chains.tokens.tobytes()


def _occurs(text: bytes, wanted: bytes) -> bool:
    """Whether int32 tokens occur among int32 tokens."""
    place = text.find(wanted)
    while place >= 0 and place % 4:
        place = text.find(wanted, place + 1)
    return place >= 0


def _in_index(index: Index, wanted: list[int]) -> bool:
    """A binary search. A damaged index gives a wrong answer at worst: slices never reach outside."""

    def passage(start: int) -> list[int]:
        found: list[int] = index.tokens[max(0, start) : max(0, start) + len(wanted)].tolist()
        return found

    rank = bisect_left(index.suffixes, wanted, key=passage)
    return rank < len(index.suffixes) and passage(int(index.suffixes[rank])) == wanted
