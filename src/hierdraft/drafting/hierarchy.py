"""The default drafter: every level is asked, candidates are calibrated, one tree grows best-first."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hierdraft.databases.hashchain import ORDERS
from hierdraft.databases.levels import ContextLevel
from hierdraft.drafting.calibration import Calibration
from hierdraft.drafting.grow import grow, make_space
from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32


class HierarchyDrafter:
    """Calibrated best-first drafting (hierdraft's own; the levels are those of arXiv 2502.05609).

    The calibration outlives a request: what was learned about the value of a match serves the next one. The text of
    a request does not.
    """

    q_kind: Literal["one_hot"] = "one_hot"
    wants = Wants()

    def __init__(self, least: float = 0.004) -> None:
        """`least`: path probability below which nothing is drafted."""
        self.calibration = Calibration()
        self._least = least
        self._space = make_space(64)
        self._context = ContextLevel()
        self._grown = 0

    def start(self, request: Request) -> None:
        """Index the prompt; the request before is forgotten."""
        self._context = ContextLevel(request.prompt, room=min(request.limit, 4096))
        self._grown = 0

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best tree of at most `budget.nodes` nodes below the last of `tokens`, best node first."""
        if budget.nodes > len(self._space.tokens):
            self._space = make_space(budget.nodes)
        space = self._space
        self._grown = n = grow(
            self._context.chains,
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

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002
        """Forget the request's text."""
        self._context.close()
