"""The requests in flight of a serving engine, recognised by their texts.

The engine shows its rows and how many tokens each has just gained, no more: no request ids, no ends, and rows change
places. A row continues a request exactly if what it held before the step is what that request held after its last one.
Two requests of one text are one and the same here. Each is a session of the method, like any other's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.memory import view
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.hierarchy.session import HierarchySession
from hierdraft.kernels import njit
from hierdraft.protocols import Request
from hierdraft.tree import Int32

_ROOM = 64
"""Tokens that room is made for when a request begins."""

_NEVER = np.iinfo(np.int64).max
"""When a slot without a request was seen."""

_PART = 256
"""Tokens that are compared at a time."""


class BatchRequests:
    """The sessions behind an engine's rows, and when each was last seen.

    rows    int64[rows]: the slot of each row of the last step, -1: none
    begun   requests that were ever begun
    """

    def __init__(self, method: HierarchyMethod, namespace: str) -> None:
        """Sessions are opened in one namespace of `method`."""
        self._method, self._namespace = method, namespace
        self._sessions: dict[int, HierarchySession] = {}
        self._seen = np.zeros(0, dtype=np.int64)
        self.rows = np.zeros(0, dtype=np.int64)
        self.begun = 0

    def __len__(self) -> int:
        """Requests that are known."""
        return len(self._sessions)

    def recognise(
        self, ids: Int32, lengths: NDArray[np.int64], fresh: NDArray[np.int64], step: int
    ) -> NDArray[np.int64]:
        """The slot of every row; -1 for rows that have gained nothing.

        ids      int32[>= rows, longest text]
        lengths  int64[rows]: tokens in each row
        fresh    int64[rows]: how many of them came with this step
        """
        rows = len(lengths)
        slots = np.full(rows, -1, dtype=np.int64)
        known = min(rows, len(self.rows))
        slots[:known] = self.rows[:known]
        slots[fresh == 0] = -1
        before = lengths - fresh
        requests = self._method.slots.requests
        check_rows(requests.own.tokens, requests.known, slots, ids, before)
        for row in np.flatnonzero((slots < 0) & (fresh > 0)).tolist():
            slots[row] = self._find(slots, ids[row], int(before[row]))
        self._seen[slots[slots >= 0]] = step
        self.rows = slots
        return slots

    def _find(self, taken: NDArray[np.int64], row: Int32, length: int) -> int:
        """A slot that holds the first `length` tokens of `row` and serves no other row; else a new one."""
        requests = self._method.slots.requests
        for slot in np.flatnonzero(requests.known == length).tolist():
            if slot in self._sessions and slot not in taken and same_text(requests.own.tokens[slot], row, length):
                return int(slot)
        session = self._method.open(Request(row[:length].copy(), _ROOM, self._namespace))
        self._sessions[session.slot] = session
        more = len(self._method.slots) - len(self._seen)
        self._seen = np.append(self._seen, np.full(max(0, more), _NEVER))
        self.begun += 1
        return session.slot

    def unseen(self, since: int) -> list[int]:
        """Slots of requests that were not seen after step `since`."""
        return [int(slot) for slot in np.flatnonzero(self._seen <= since)]

    def release(self, slot: int) -> tuple[Int32, Int32]:
        """A request is over: its prompt and its answer; its slot is free."""
        requests = self._method.slots.requests
        length, prompt = int(requests.known[slot]), int(requests.begun[slot])
        tokens = self._method.slots.holding(slot).own.tokens[:length].copy()
        self._sessions.pop(slot).finish(tokens)
        self._seen[slot] = _NEVER
        self.rows[self.rows == slot] = -1
        return tokens[:prompt], tokens[prompt:]


@njit(nogil=True)
def same_text(text: int, row: Any, length: int) -> bool:
    """Whether the first `length` tokens of a text int32[>= length], by its address, are those of `row`."""
    tokens = view(text, length)
    stop = length
    while stop > 0:  # what differs, differs at the end as a rule; a part is compared without a branch for each token
        start = max(0, stop - _PART)
        ours, theirs = tokens[start:stop], row[start:stop]
        different = np.int32(0)
        for place in range(len(ours)):
            different |= np.int32(ours[place] ^ theirs[place])
        if different != 0:
            return False
        stop = start
    return True


@njit(nogil=True)
def check_rows(texts: Any, known: Any, slots: Any, ids: Any, before: Any) -> None:
    """slots int64[rows]: set to -1 where the slot's text is not what the row held before this step.

    texts, known   int64[slots]: addresses of the texts, and their lengths
    ids            int32[rows, longest text]
    before         int64[rows]: tokens of each row before this step
    """
    for row in range(len(slots)):
        slot = slots[row]
        if slot >= 0 and (known[slot] != before[row] or not same_text(texts[slot], ids[row], before[row])):
            slots[row] = -1


@njit(nogil=True)
def made_rows(made: Any, probs: Any, slots: Any, prob: Any, lengths: Any) -> None:
    """What was drafted: path probabilities float32[rows, depth] and lengths int64[rows], 0 where there is no chain.

    made, probs   int64[slots], float32[slots, nodes]: the same for all slots
    """
    for row in range(len(slots)):
        lengths[row] = max(0, made[slots[row]]) if slots[row] >= 0 else 0
        for place in range(lengths[row]):
            prob[row, place] = probs[slots[row], place]


@njit(nogil=True)
def send_rows(levels: Any, probs: Any, slots: Any, sent: Any, proposed: Any) -> float:
    """Count what is sent of each chain; returns the lowest path probability that is, 1 where nothing is.

    levels, probs   uint8, float32 [slots, nodes]
    sent            int64[rows]
    proposed        int64[levels]: counts of sent tokens by level, added to
    """
    lowest = 1.0
    for row in range(len(slots)):
        for place in range(sent[row] if slots[row] >= 0 else 0):
            proposed[levels[slots[row], place]] += 1
            lowest = min(lowest, probs[slots[row], place])
    return lowest
