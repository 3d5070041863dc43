"""What the methods have in common: the request's text."""

from __future__ import annotations

from typing import Literal

from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32


class TextDrafter:
    """Keeps the request's tokens in `text`; a method adds `propose`, and may add to the other calls."""

    q_kind: Literal["one_hot", "full"] = "one_hot"
    wants = Wants()

    def __init__(self) -> None:
        self.text: list[int] = []
        self.namespace = ""

    def start(self, request: Request) -> None:
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
