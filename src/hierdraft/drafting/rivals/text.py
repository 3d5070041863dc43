"""What the methods have in common: databases, and the request's text."""

from __future__ import annotations

from typing import Literal

from hierdraft.databases.levels import Databases
from hierdraft.protocols import Budget, Request, Setup, Step, Wants
from hierdraft.tree import DraftTree, Int32


class TextMethod:
    """Keeps the databases; a method adds `open`, its settings, and what it keeps from request to request.

    `uses_databases`: whether it asks them.
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"
    wants = Wants()
    uses_databases = False

    def __init__(self) -> None:
        self.databases = Databases()

    def attach(self, setup: Setup) -> None:
        """Draft from these databases."""
        self.databases = setup.databases

    def close(self) -> None:
        """Nothing to store: what was said is in the databases."""


class TextSession:
    """Keeps the request's tokens in `text`; a method adds `propose`, and may add to the other calls."""

    def __init__(self, request: Request) -> None:
        """Begin with the prompt."""
        self.namespace = request.namespace
        self.text = request.prompt.tolist()

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:  # noqa: ARG002
        """Nothing, unless a method knows better."""
        return DraftTree.empty()

    def observe(self, step: Step) -> None:
        """Add what was said."""
        self.text += step.tokens

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002
        """Forget the request."""
        self.text = []
