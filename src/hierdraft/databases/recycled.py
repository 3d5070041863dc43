"""The recycled level: after which text the target thought of which tokens, its runner-ups included.

Token recycling (Luo et al., arXiv 2408.08696) keeps, for every token, the ids with the highest logits the last time
it was scored, wherever that was: prompt, accepted or rejected draft. This keeps them for the last two tokens as
well. A table has a fixed number of places; where two keys want the same one, the newer has it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.kernels import njit

TOP = 8
"""Ids kept for a key, best first."""

SLOTS = 1 << 16
"""Keys of one table; 2.7 MB."""

TABLES = 8
"""Namespaces whose tables are kept, the most recently used ones."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 16)


class Successors(NamedTuple):
    """One table: keys int64[SLOTS] (-1: free), ids int32[SLOTS, TOP], confirmed uint8[SLOTS].

    `confirmed`: the best id was the best one the time before too.
    """

    keys: NDArray[np.int64]
    ids: NDArray[np.int32]
    confirmed: NDArray[np.uint8]


def make_successors(slots: int = SLOTS) -> Successors:
    """An empty table; with 0 slots, one that never knows anything."""
    return Successors(
        np.full(slots, -1, dtype=np.int64), np.zeros((slots, TOP), dtype=np.int32), np.zeros(slots, dtype=np.uint8)
    )


@njit(nogil=True, forceinline=True)
def _key(previous: Any, token: Any) -> Any:
    """The key of a pair of tokens; of one token, if `previous` is -1."""
    return ((np.int64(previous) + 1) << 32) | np.int64(token)


@njit(nogil=True, forceinline=True)
def _slot(key: Any) -> Any:
    return np.int64((np.uint64(key) * _MULTIPLIER) >> _SHIFT)


@njit(nogil=True, forceinline=True)
def place_of(table: Successors, previous: int, token: int) -> int:
    """Where the successors of a pair, or of one token (`previous` -1), are; -1 if they are not known."""
    if len(table.keys) == 0:
        return -1
    key = _key(previous, token)
    slot = _slot(key)
    return int(slot) if table.keys[slot] == key else -1


@njit(nogil=True)
def note_successors(table: Successors, last: Any, nodes: Any, tokens: Any, parents: Any, ids: Any) -> None:
    """The target's best ids after each row of several steps; a step has one row more than its tree has nodes.

    last      int32[steps, 2]: the last two tokens of the text that the step scored a tree after, -1 for none
    nodes     int64[steps]: nodes of its tree
    tokens, parents   int32[all nodes]: those of all trees, one after another; a parent counts from its tree's first
    ids       int32[steps + all nodes, TOP], best first
    """
    row = first = 0
    for step in range(len(nodes)):
        _note(table, last[step, 0], last[step, 1], ids[row])
        row += 1
        for node in range(first, first + nodes[step]):
            parent = parents[node]
            _note(table, last[step, 1] if parent < 0 else tokens[first + parent], tokens[node], ids[row])
            row += 1
        first += nodes[step]


@njit(nogil=True, forceinline=True)
def _note(table: Successors, before: int, token: int, ids: Any) -> None:
    """What the target thought of after a pair of tokens (`before` -1: after one), and after the second alone."""
    for order in (1, 2):
        if order == 2 and before < 0:
            continue
        key = _key(before if order == 2 else -1, token)
        slot = _slot(key)
        table.confirmed[slot] = 1 if table.keys[slot] == key and table.ids[slot, 0] == ids[0] else 0
        table.keys[slot] = key
        table.ids[slot] = ids


class RecycledLevel:
    """A table per namespace, in memory only: what one namespace was told is not known in another."""

    name = "recycled"

    def __init__(self) -> None:
        self._tables: OrderedDict[str, Successors] = OrderedDict()

    def table(self, namespace: str) -> Successors:
        """The table of a namespace; the one that was unused for longest goes when there are too many."""
        if namespace not in self._tables:
            self._tables[namespace] = make_successors()
        self._tables.move_to_end(namespace)
        if len(self._tables) > TABLES:
            self._tables.popitem(last=False)
        return self._tables[namespace]

    def match(self, namespace: str, tokens: list[int]) -> dict[int, list[int]]:
        """For the last one and two of `tokens`, where known: the ids that the target thought of, best first."""
        table = self.table(namespace)
        places = {
            order: place_of(table, tokens[-2] if order == 2 else -1, tokens[-1])
            for order in range(1, min(2, len(tokens)) + 1)
        }
        return {order: table.ids[place].tolist() for order, place in places.items() if place >= 0}
