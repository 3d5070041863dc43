"""Plain decoding as a method: it never proposes anything."""

from __future__ import annotations

from typing import Literal

from hierdraft.protocols import Budget, Request, Session, Setup, Step, Wants
from hierdraft.tree import DraftTree, Int32


class PlainMethod:
    """The method `none`, and what others inherit: it keeps nothing of a request, so it is its own session."""

    q_kind: Literal["one_hot", "full"] = "one_hot"
    wants = Wants()
    uses_databases = False

    def attach(self, setup: Setup) -> None:
        """Nothing is needed."""

    def open(self, request: Request) -> Session:  # noqa: ARG002
        """Itself."""
        return self

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:  # noqa: ARG002
        """The empty tree: one token per target forward."""
        return DraftTree.empty()

    def observe(self, step: Step) -> None:
        """Nothing to learn."""

    def finish(self, tokens: Int32) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to store."""
