"""A drafter that cannot hurt: whatever it raises or proposes, decoding goes on with the target's own tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from hierdraft.errors import DraftError, DraftWarning, UsageError
from hierdraft.protocols import Budget, Drafter, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32

P = ParamSpec("P")
R = TypeVar("R")


class GuardedDrafter:
    """Wraps a drafter for one request. The first failure is reported once and ends drafting for that request."""

    def __init__(self, drafter: Drafter, vocab_size: int, max_rows: int) -> None:
        """`max_rows`: most rows that one proposal may ask the engine to score.

        Raises UsageError for a drafter whose tokens need a verifier that does not exist yet.
        """
        if drafter.q_kind != "one_hot":
            raise UsageError(
                f"This drafter samples its tokens (q_kind {drafter.q_kind!r}), which needs rejection sampling: "
                "use a drafter whose q_kind is 'one_hot'."
            )
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
        if not tree.probe.any():
            tree = tree.prefix(budget.nodes)
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
            self.failure = DraftError(f"The drafter {kind} failed ({type(error).__name__}: {error}).")
            self.failure.__cause__ = error
            warnings.warn(f"{self.failure} This request goes on without drafts.", DraftWarning, stacklevel=2)
            return otherwise
