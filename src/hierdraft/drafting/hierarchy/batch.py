"""Drafting for a serving engine: one chain for every row of its batch, in one step for all of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import make_chains, shelve_texts
from hierdraft.databases.levels import Databases, Shelves
from hierdraft.databases.recycled import make_successors
from hierdraft.drafting.budget import BatchBudget
from hierdraft.drafting.hierarchy.batch_requests import Slots
from hierdraft.drafting.hierarchy.batch_rows import Common, draft_rows, learn_rows, made_rows, send_rows
from hierdraft.drafting.hierarchy.calibration import Calibration
from hierdraft.levels import CODES, code_of
from hierdraft.tree import Int32

PATIENCE = 4
"""Steps after which a request that was not seen is taken to be over."""

TEACHERS = 2
"""Most rows of a step that the calibration learns from: more tokens than a request of its own would teach."""

ALONE = 24
"""Rows that one thread serves before another is worth its while."""

MANY = 24
"""Rows beyond which time is short: chains then end early, run on without asking, and fewer questions are asked."""

UNLIKELY = 0.5
"""Chains end where they are less likely than this part of what was sent at last, or than this where nothing was."""

HEAD_START = 4
"""Rows that the calling thread serves while the others wake up and report back."""

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
    """Best paths for many requests at once, from context, model and statistics (no logits reach it)."""

    def __init__(
        self, depth: int, databases: Databases | None = None, namespace: str | None = None, *, threads: int = 1,
        least: float = 0.02, budget: BatchBudget | None = None,
    ) -> None:  # fmt: skip
        """`depth`: longest chain. `namespace` None: requests are strangers, nothing of one is kept for another.

        least    path probability below which nothing is drafted
        budget   decides how much of the chains is sent; None: all of it
        """
        self.depth = depth
        self.counts = Counts()
        self.calibration = Calibration()
        self.calibration.read_default()
        given = databases or Databases()
        self._databases = given if namespace is not None else Databases(given.packs)
        self._namespace = namespace
        self._weights = self.calibration.weights(namespace or "")
        self._least = least
        self._budget = budget
        self._threads = threads
        self._workers = ThreadPoolExecutor(threads - 1, "hierdraft") if threads > 1 else None
        self._shelves = self._databases.open(namespace or "")
        self._common = _common(self._shelves)
        self._likely = least
        self.slots = Slots(depth, self._shelves.shelf, threads)

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
        slots = self.slots.recognise(ids, lengths, fresh, self.counts.steps)
        self._learn(slots, ids, lengths)
        self._draft(slots, ids, lengths, np.clip(room, 0, self.depth).astype(np.int32))
        sent = self._share(slots, cost, perf_counter() - started)
        drafts = self.slots.pool.space.tokens[slots].tolist()
        result = [draft[:n] for draft, n in zip(drafts, sent.tolist(), strict=True)]
        self._let_go(self.counts.steps - PATIENCE)
        self.counts.seconds += perf_counter() - started
        return result

    def _learn(self, slots: NDArray[np.int64], ids: Int32, lengths: NDArray[np.int64]) -> None:
        """Compare what was drafted with what came."""
        calibration = self.calibration
        kept = learn_rows(
            self.slots.texts, self.slots.pool, self._weights, calibration.tried, calibration.accepted, slots, ids,
            lengths, self.counts.accepted,
        )  # fmt: skip
        if self._budget is not None:
            self._budget.learn(kept)

    def _draft(self, slots: NDArray[np.int64], ids: Int32, lengths: NDArray[np.int64], depths: Int32) -> None:
        """A chain for every row, by several threads where there are many."""
        rows = len(slots)
        parts = min(self._threads, -(-rows // ALONE))
        every = max(1, -(-rows // TEACHERS))
        hurried = rows > MANY
        least = self._likely if hurried else self._least
        given = (
            self.slots.texts, self.slots.pool, self._common, self._weights, slots, ids, lengths, depths, least,
            hurried, every, self.counts.steps % every,
        )  # fmt: skip
        spare = self.slots.spare
        if self._workers is None or parts < 2:
            draft_rows(*given, 0, rows, spare)
            return
        bounds = [0, *np.linspace(HEAD_START, rows, parts + 1).astype(int).tolist()[1:]]
        shares = [(*given, bounds[i], bounds[i + 1], spare + i) for i in range(parts)]
        others = [self._workers.submit(draft_rows, *share) for share in shares[1:]]
        draft_rows(*shares[0])
        for other in others:
            other.result()

    def _share(self, slots: NDArray[np.int64], cost: BatchCost, drafting: float) -> NDArray[np.int64]:
        """How much of each row's chain is sent."""
        pool = self.slots.pool
        prob, made = np.zeros((len(slots), self.depth), dtype=np.float32), np.zeros(len(slots), dtype=np.int64)
        made_rows(pool, slots, prob, made)
        sent = made if self._budget is None else self._budget.share(prob, made, cost, drafting)
        lowest = send_rows(pool, slots, sent, self.counts.proposed)
        self.counts.undrafted += int(not sent.any())
        all_sent = np.array_equal(sent, made)
        self._likely = max(self._least, UNLIKELY * (self._likely if all_sent else lowest))
        return sent

    def _let_go(self, since: int) -> None:
        """Requests that were not seen after step `since` are over: learn their answers and forget their texts."""
        over = self.slots.unseen(since)
        for slot in over:
            prompt, answer = self.slots.release(slot)
            if self._namespace is not None:
                self._databases.learn(self._namespace, prompt, answer)
        if over and self._namespace is not None:
            before, self._shelves = self._shelves, self._databases.open(self._namespace)
            self._common = _common(self._shelves)
            if before.packs != self._shelves.packs:
                self.slots.change(self._shelves.shelf)

    def close(self) -> None:
        """All requests are over; put what was learned on the device. Raises StoreError."""
        self._let_go(self.counts.steps)
        if self._workers is not None:
            self._workers.shutdown()
        self._databases.close()


def warm_up() -> None:
    """Load the compiled kernels, or compile them, which takes most of a minute the first time on a machine."""
    drafter = BatchDrafter(2)
    ids = np.array([[1, 2, 1, 2, 1]], dtype=np.int32)
    for length in (4, 5):
        one = np.ones(1, dtype=np.int64)
        drafter.propose(ids, length * one, one, 2 * one, lambda first, last: np.zeros(last - first + 1))
    drafter.slots.change(drafter.slots.shelf)
    drafter.close()


def _common(shelves: Shelves) -> Common:
    texts = shelve_texts(shelves.texts, [code_of("model")] * len(shelves.texts))
    return Common(texts, shelves.shelf, make_chains(0), make_successors(0))
