"""Plain decoding as a drafter: it never proposes anything."""

from __future__ import annotations

from typing import Literal

from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32


class PlainDrafter:
    """The method `none`: one token per target forward."""

    q_kind: Literal["one_hot"] = "one_hot"
    wants = Wants()

    def start(self, request: Request) -> None:
        """Nothing to prepare."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:  # noqa: ARG002
        """The empty tree."""
        return DraftTree.empty()

    def observe(self, step: Step) -> None:
        """Nothing to learn."""

    def finish(self, tokens: Int32) -> None:
        """Nothing to keep."""
