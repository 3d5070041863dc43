"""The default drafter: every level is asked, candidates are calibrated, one tree grows best-first."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hierdraft.databases.hashchain import ORDERS
from hierdraft.databases.levels import ContextLevel, Databases
from hierdraft.databases.suffixarray import LONGEST, follow_all
from hierdraft.drafting.calibration import Calibration
from hierdraft.drafting.grow import Sources, grow, make_space
from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import LEVELS, DraftTree, Int32

_MODEL = LEVELS.index("model")


class HierarchyDrafter:
    """Calibrated best-first drafting (hierdraft's own; the levels are those of arXiv 2502.05609).

    The calibration outlives a request: what was learned about the value of a match serves the next one. The text of
    a request does so only through `Databases`, in its own namespace.
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"
    wants = Wants()

    def __init__(self, least: float = 0.004) -> None:
        """`least`: path probability below which nothing is drafted."""
        self.calibration = Calibration()
        self._databases = Databases()
        self._least = least
        self._context = ContextLevel()
        self._grown = 0
        self._space = make_space(64, 0)
        self._begin(Request(np.zeros(1, dtype=np.int32), 1))

    def attach(self, databases: Databases) -> None:
        """Draft from these packs and namespaces too."""
        self._databases = databases

    def _begin(self, request: Request) -> None:
        self._request = request
        self._shelves = self._databases.open(request.namespace)
        packs = len(self._shelves.packs)
        if self._space.rows.longest.shape[1] != packs:
            self._space = make_space(len(self._space.tokens), packs)
        self._low, self._high = np.zeros((2, packs, LONGEST + 1), dtype=np.int32)
        self._useful: list[set[int]] = [set() for _ in range(self._shelves.grown)]
        self._grown = 0

    def start(self, request: Request) -> None:
        """Index the prompt; the request before is forgotten."""
        self._begin(request)
        self._context = ContextLevel(request.prompt, room=min(request.limit, 4096))
        follow_all(self._shelves.shelf, self._low, self._high, request.prompt[-LONGEST:].copy())

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best tree of at most `budget.nodes` nodes below the last of `tokens`, best node first."""
        shelves = self._shelves
        if budget.nodes > len(self._space.tokens):
            self._space = make_space(budget.nodes, len(shelves.packs))
        space = self._space
        self._grown = n = grow(
            Sources(self._context.chains, shelves.recent, shelves.older, shelves.shelf, self._low, self._high),
            tokens[-ORDERS:].copy(),  # writable, as everywhere else: one compiled signature
            self.calibration.probability,
            space,
            budget.nodes,
            budget.depth,
            self._least,
        )
        return DraftTree(
            space.tokens[:n].copy(),
            space.parents[:n].copy(),
            space.prob[:n].copy(),
            space.level[:n].copy(),
            np.zeros(n, dtype=np.bool_),
        )

    def observe(self, step: Step) -> None:
        """Learn the values of the cells from this step, and add its tokens to the context."""
        if self._grown:
            n, space = self._grown, self._space
            self.calibration.learn(space.tokens[:n], space.parents[:n], space.cells[:n], step.path, step.choices)
            self._grown = 0
        self._context.extend(step.tokens)
        follow_all(self._shelves.shelf, self._low, self._high, np.array(step.tokens, dtype=np.int32))
        if self._useful and (step.tree.level[step.path] == _MODEL).any():
            self._note_useful()

    def _note_useful(self) -> None:
        """Remember where the grown packs hold the text that has just been accepted."""
        for pack, useful in enumerate(self._useful):
            order = int((self._low[pack, 1:] < self._high[pack, 1:]).sum())
            if order > 1:
                useful.add(int(self._shelves.packs[pack].index.suffixes[self._low[pack, order]]))

    def finish(self, tokens: Int32) -> None:
        """Learn the answer; forget the rest of the request's text."""
        prompt, namespace = self._request.prompt, self._request.namespace
        for pack, places in zip(self._shelves.packs, self._useful, strict=False):
            self._databases.touch(namespace, pack, places)
        self._databases.learn(namespace, prompt, tokens[len(prompt) :])
        self._context.close()
