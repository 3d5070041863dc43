"""The requests in flight of a serving engine, recognised by their texts.

The engine shows its rows and how many tokens each has just gained, no more: no request ids, no ends, and rows change
places. A row continues a request exactly if what it held before the step is what that request held after its last one.
Two requests of one text are one and the same here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, UNWRITTEN, Chains, insert, make_chains
from hierdraft.databases.suffixarray import LONGEST, Shelf
from hierdraft.drafting.hierarchy.batch_rows import check_rows, follow, make_pool, make_texts, same_text
from hierdraft.drafting.hierarchy.scans import BLOCK, SHORT, is_bare
from hierdraft.tree import Int32

_ROOM = 64
_FIRST = 16


class Slots:
    """A place for every request: its text and index, its prompt's length, and when it was last seen.

    shelf   the packs
    texts   see `batch_rows.Texts`
    pool    see `batch_rows.Pool`
    begun   requests that were ever begun
    """

    def __init__(self, depth: int, shelf: Shelf, threads: int = 1) -> None:
        """`depth`: longest chain that is drafted; `shelf`: the packs; `threads`: how many draft at once."""
        self._depth, self._threads = depth, threads
        self._chains: list[Chains | None] = []
        self._prompts: list[int] = []
        self._seen = np.zeros(0, dtype=np.int64)
        self._rows = np.zeros(0, dtype=np.int64)
        self.shelf = shelf
        self.texts = make_texts(0)
        self.pool = make_pool(0, threads, depth, len(shelf.length))
        self.begun = 0
        self._add(_FIRST)

    @property
    def spare(self) -> int:
        """The first slot that is no request's: there is one for each thread."""
        return len(self._chains)

    def __len__(self) -> int:
        """Requests that are known."""
        return sum(chains is not None for chains in self._chains)

    def recognise(
        self, ids: Int32, lengths: NDArray[np.int64], fresh: NDArray[np.int64], step: int
    ) -> NDArray[np.int64]:
        """The slot of every row, with room for its text; -1 for rows that have gained nothing.

        ids      int32[>= rows, longest text]
        lengths  int64[rows]: tokens in each row
        fresh    int64[rows]: how many of them came with this step
        """
        rows = len(lengths)
        slots = np.full(rows, -1, dtype=np.int64)
        known = min(rows, len(self._rows))
        slots[:known] = self._rows[:known]
        slots[fresh == 0] = -1
        before = lengths - fresh
        check_rows(self.texts, slots, ids, before)
        for row in np.flatnonzero((slots < 0) & (fresh > 0)).tolist():
            slots[row] = self._find(slots, ids[row], int(before[row]))
        used = np.flatnonzero(slots >= 0)
        for row in used[lengths[used] > self.texts.capacity[slots[used]]].tolist():
            self._grow(int(slots[row]), int(lengths[row]))
        self._seen[slots[used]] = step
        self._rows = slots
        return slots

    def _find(self, taken: NDArray[np.int64], row: Int32, length: int) -> int:
        """A slot that holds the first `length` tokens of `row` and serves no other row; else a new one."""
        for slot in np.flatnonzero(self.texts.length == length).tolist():
            if self._chains[slot] is not None and slot not in taken and same_text(self.texts, slot, row, length):
                return int(slot)
        free = [slot for slot, chains in enumerate(self._chains) if chains is None]
        if not free:
            self._add(len(self._chains))
            return self._find(taken, row, length)
        slot = free[0]
        self.begun += 1
        self._prompts[slot] = length
        self._put(slot, _chains_for(length + _ROOM))
        self.texts.length[slot] = 0
        self.pool.made[slot] = -1
        self.pool.low[slot] = self.pool.high[slot] = 0
        return slot

    def _put(self, slot: int, chains: Chains) -> None:
        self._chains[slot] = chains
        texts = self.texts
        texts.tokens[slot], texts.heads[slot], texts.prev[slot] = (array.ctypes.data for array in chains)
        texts.capacity[slot], texts.buckets[slot] = len(chains.tokens), chains.heads.shape[1]

    def _grow(self, slot: int, needed: int) -> None:
        old, length = self._chains[slot], int(self.texts.length[slot])
        capacity = max(needed, 2 * int(self.texts.capacity[slot]))
        chains = _chains_for(min(capacity, SHORT) if needed <= SHORT else capacity)
        if old is not None:
            chains.tokens[:length] = old.tokens[:length]
            if not is_bare(chains):
                insert(chains, 0, length)
        self._put(slot, chains)

    def _add(self, more: int) -> None:
        """`more` further slots."""
        count = len(self._chains)
        self._chains += [None] * more
        self._prompts += [0] * more
        self._seen = np.append(self._seen, np.zeros(more, dtype=np.int64))
        texts = make_texts(count + more)
        for new, old in zip(texts, self.texts, strict=True):
            new[:count] = old
        self.texts = texts
        self._new_pool()

    def change(self, shelf: Shelf) -> None:
        """Other packs: every request is looked up in them anew."""
        self.shelf = shelf
        self._new_pool()

    def _new_pool(self) -> None:
        self.pool = make_pool(len(self._chains), self._threads, self._depth, len(self.shelf.length))
        for slot, chains in enumerate(self._chains):
            if chains is not None:
                length = int(self.texts.length[slot])
                tail = chains.tokens[max(0, length - LONGEST) : length]
                follow(self.shelf, self.pool.low[slot], self.pool.high[slot], tail)

    def unseen(self, since: int) -> list[int]:
        """Slots of requests that were not seen after step `since`."""
        return [slot for slot, chains in enumerate(self._chains) if chains is not None and self._seen[slot] <= since]

    def release(self, slot: int) -> tuple[Int32, Int32]:
        """A request is over: its prompt and its answer; its slot is free."""
        chains, length, prompt = self._chains[slot], int(self.texts.length[slot]), self._prompts[slot]
        self._chains[slot] = None
        self.texts.length[slot] = 0
        tokens = chains.tokens[:length].copy() if chains is not None else np.zeros(0, dtype=np.int32)
        return tokens[:prompt], tokens[prompt:]


def _chains_for(capacity: int) -> Chains:
    """Room for a text, with an index where it can be long."""
    if capacity > SHORT:
        return make_chains(capacity)
    none = np.zeros((ORDERS, 0), dtype=np.int32)
    return Chains(np.full(max(BLOCK, capacity), UNWRITTEN, dtype=np.int32), none, none)
