"""Drafting for a serving engine: one chain for every row of its batch, in one step for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.levels import Databases
from hierdraft.drafting.budget import BatchBudget
from hierdraft.drafting.hierarchy.batch_requests import BatchRequests, made_rows, send_rows
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.hierarchy.serve import Asks, Manner
from hierdraft.drafting.hierarchy.slots import Slots
from hierdraft.levels import CODES
from hierdraft.protocols import Offers, Setup
from hierdraft.tree import Int32

PATIENCE = 4
"""Steps after which a request that was not seen is taken to be over."""

TEACHERS = 2
"""Most rows of a step that the calibration learns from: more tokens than a request of its own would teach."""

MANY = 24
"""Rows beyond which time is short: chains then end early, run on without asking, and fewer questions are asked."""

UNLIKELY = 0.5
"""Chains end where they are less likely than this part of what was sent at last, or than this where nothing was."""

BatchCost = Callable[[int, int], NDArray[np.float64]]
"""(first, last) -> float64[last - first + 1]: seconds of steps that score first..last tokens; zeros while not known."""


@dataclass
class Counts:
    """What was drafted so far: tokens sent and accepted by level, steps, those without drafts, seconds of drafting."""

    proposed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))
    accepted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))
    steps: int = 0
    undrafted: int = 0
    seconds: float = 0.0


class BatchDrafter:
    """Best paths for many requests at once, from context, model and statistics (no logits reach it).

    method     drafts for them, each a session of its own
    requests   which of them the engine's rows are
    """

    def __init__(
        self, depth: int, databases: Databases | None = None, namespace: str | None = None, *, threads: int = 1,
        least: float = 0.02, budget: BatchBudget | None = None,
    ) -> None:  # fmt: skip
        """`depth`: longest chain. `namespace` None: requests are strangers, nothing of one is kept for another.

        least    path probability below which nothing is drafted
        budget   decides how much of the chains is sent; None: all of it
        """
        given = databases or Databases()
        self.depth = depth
        self.counts = Counts()
        self.method = HierarchyMethod(least=least)
        self.method.slots = Slots(depth, threads, bare=True)
        self.method.attach(Setup(given if namespace is not None else Databases(given.packs), Offers(scores=False)))
        self.requests = BatchRequests(self.method, namespace or "")
        self.counts.accepted = self.method.slots.accepted
        self._namespace = namespace
        self._shared = self.method.share(namespace or "")
        self._least = self._likely = least
        self._budget = budget

    def propose(
        self, ids: Int32, lengths: NDArray[np.int64], fresh: NDArray[np.int64], room: NDArray[np.int64], cost: BatchCost
    ) -> list[list[int]]:
        """A draft for every row, next token first; empty where nothing is worth its while.

        ids      int32[>= rows, longest text]: each row's text so far
        lengths  int64[rows]: tokens in each row
        fresh    int64[rows]: how many of them came with this step; 0: the row's prompt is not complete, no draft
        room     int64[rows]: most tokens that can be drafted
        """
        started = perf_counter()
        self.counts.steps += 1
        if ids.dtype != np.int32 or ids.strides[-1] != ids.itemsize:
            ids = np.ascontiguousarray(ids, dtype=np.int32)
        slots = self.requests.recognise(ids, lengths, fresh, self.counts.steps)
        self._draft(slots, ids, lengths, np.clip(room, 0, self.depth))
        sent = self._share(slots, cost, perf_counter() - started)
        drafts = self.method.slots.pool.space.tokens[slots].tolist()
        result = [draft[:n] for draft, n in zip(drafts, sent.tolist(), strict=True)]
        self._let_go(self.counts.steps - PATIENCE)
        self.counts.seconds += perf_counter() - started
        return result

    def _draft(
        self, slots: NDArray[np.int64], ids: Int32, lengths: NDArray[np.int64], depths: NDArray[np.int64]
    ) -> None:
        """Compare what was drafted with what came, and draft a chain for every row."""
        requests, rows, used = self.method.slots.requests, len(slots), slots >= 0
        requests.came[slots[used]] = lengths[used] - requests.known[slots[used]]
        every = max(1, -(-rows // TEACHERS))
        hurried = rows > MANY
        least = self._likely if hurried else self._least
        manner = Manner(least, True, hurried, every, self.counts.steps % every)
        starts = ids.ctypes.data + ids.strides[0] * np.arange(rows, dtype=np.int64)
        before = self.counts.accepted.sum()
        self.method.slots.serve(self._shared, Asks(slots, starts, lengths, depths, depths), manner)
        if self._budget is not None:
            self._budget.learn(int(self.counts.accepted.sum() - before))

    def _share(self, slots: NDArray[np.int64], cost: BatchCost, drafting: float) -> NDArray[np.int64]:
        """How much of each row's chain is sent."""
        space, requests = self.method.slots.pool.space, self.method.slots.requests
        prob, made = np.zeros((len(slots), self.depth), dtype=np.float32), np.zeros(len(slots), dtype=np.int64)
        made_rows(requests.made, space.prob, slots, prob, made)
        sent = made if self._budget is None else self._budget.share(prob, made, cost, drafting)
        lowest = send_rows(space.level, space.prob, slots, sent, self.counts.proposed)
        self.counts.undrafted += int(not sent.any())
        all_sent = np.array_equal(sent, made)
        self._likely = max(self._least, UNLIKELY * (self._likely if all_sent else lowest))
        return sent

    def _let_go(self, since: int) -> None:
        """Requests that were not seen after step `since` are over: learn their answers and forget their texts."""
        for slot in self.requests.unseen(since):
            prompt, answer = self.requests.release(slot)
            if self._namespace is not None:
                self.method.databases.learn(self._namespace, prompt, answer)

    def close(self) -> None:
        """All requests are over; put what was learned on the device. Raises StoreError."""
        self._let_go(self.counts.steps)
        self.method.close()
        self.method.databases.close()


def warm_up() -> None:
    """Load the compiled kernels, or compile them, which takes most of a minute the first time on a machine."""
    drafter = BatchDrafter(2)
    ids = np.array([[1, 2, 1, 2, 1]], dtype=np.int32)
    for length in (4, 5):
        one = np.ones(1, dtype=np.int64)
        drafter.propose(ids, length * one, one, 2 * one, lambda first, last: np.zeros(last - first + 1))
    drafter.close()
