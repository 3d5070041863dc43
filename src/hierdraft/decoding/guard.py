"""A drafter that cannot hurt: whatever it raises or proposes, decoding continues with the target's own tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from hierdraft.errors import DraftError, DraftWarning, UsageError, failed_at
from hierdraft.protocols import Budget, Drafter, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32

P = ParamSpec("P")
R = TypeVar("R")


class GuardedDrafter:
    """Wraps a drafter for one request. The first failure is reported once and ends drafting for that request."""

    def __init__(self, drafter: Drafter, vocab_size: int, max_rows: int) -> None:
        """`max_rows`: most rows that one proposal may ask the engine to score.

        Raises UsageError for a drafter that does not say how its tokens are chosen.
        """
        if drafter.q_kind not in ("one_hot", "full"):
            raise UsageError(f"A drafter's q_kind must be 'one_hot' or 'full', not {drafter.q_kind!r}.")
        self._samples = drafter.q_kind == "full"
        self.wants: Wants = drafter.wants
        self.failure: DraftError | None = None
        self._drafter = drafter
        self._vocab_size = vocab_size
        self._max_rows = max_rows

    def start(self, request: Request) -> None:
        """Tell the drafter that a request begins."""
        self._safely(lambda: self._drafter.start(request), None)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A checked tree within the budget; the empty tree if the drafter failed, now or before."""
        return self._safely(lambda: self._checked(tokens, budget), None) or DraftTree.empty()

    def observe(self, step: Step) -> None:
        """Tell the drafter what became of its proposal."""
        self._safely(lambda: self._drafter.observe(step), None)

    def finish(self, tokens: Int32) -> None:
        """Tell the drafter that the request is over, even if it failed, so that it can let go of the text."""
        failed, self.failure = self.failure, None
        self._safely(lambda: self._drafter.finish(tokens), None)
        self.failure = self.failure or failed

    def _checked(self, tokens: Int32, budget: Budget) -> DraftTree:
        view = tokens.view()
        view.flags.writeable = False
        tree = self._drafter.propose(view, budget)
        if not isinstance(tree, DraftTree):
            raise TypeError(f"propose returned {type(tree).__name__}, not a DraftTree")
        tree.check(self._vocab_size)
        if len(tree) and self._samples != (tree.law is not None):
            has = "no law" if self._samples else "a law"
            raise ValueError(f"propose returned a tree with {has}, and q_kind is {self._drafter.q_kind!r}")
        if self._samples and len(tree) > budget.nodes:
            raise ValueError(f"{len(tree)} nodes were drawn for a budget of {budget.nodes}")
        tree = tree.bounded(budget.nodes, budget.probes)
        if len(tree) >= self._max_rows:
            raise ValueError(f"{len(tree)} nodes were drafted, at most {self._max_rows - 1} can be scored")
        return tree.limited(budget.depth)

    def _safely(self, call: Callable[[], R], otherwise: R) -> R:
        if self.failure is not None:
            return otherwise
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, and must not stop decoding
            kind = type(self._drafter).__name__
            self.failure = DraftError(f"The drafter {kind} failed ({failed_at(error)}).")
            self.failure.__cause__ = error.with_traceback(None)  # its frames would keep the whole request alive
            warnings.warn(f"{self.failure} This request continues without drafts.", DraftWarning, stacklevel=2)
            return otherwise
