"""What decides about tokens: Verifier, Constraint and Stop. Nothing here runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from hierdraft.protocols import Array, Doubt, Finish
from hierdraft.tree import DraftTree, Int32


@dataclass(slots=True)
class Verdict:
    """Accepted nodes in order, the tokens to commit (theirs, then one more), and why the request ends, if it does."""

    path: list[int]
    tokens: list[int]
    finish: Finish | None = None


class Verifier(Protocol):
    """Decides what is kept of a tree: greedily, or by what is drawn from the processed distributions."""

    def verify(
        self, logits: Array, tree: DraftTree, tokens: Int32, choices: Int32, doubt: Doubt | None = None
    ) -> Verdict:
        """The accepted path and one more token; without that one where the row that decides it is in doubt.

        logits   [1+n, V] of the last committed token and of every node
        tokens   int32[L] prompt and everything committed; a view, not to be kept
        choices  int32[1+n] the highest logit of each row
        doubt    of the rows; None: all are those of plain decoding
        """


class Constraint(Protocol):
    """A language that the output must stay in, as a machine that reads tokens and can go back."""

    def ban(self, scores: NDArray[Any]) -> None:
        """Set every token that may not come next to -inf in `scores` float[V]."""

    def advance(self, token: int) -> bool:
        """Read a token; False, and nothing changes, where it may not come next.

        Raises UsageError, and nothing changes, where that cannot be told: a draft ends there, an answer too.
        """

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens that were read."""

    def forced(self) -> list[int]:
        """Tokens that must come next whatever the target thinks, in order; may be empty."""


class Stop(Protocol):
    """Says after each token whether the request ends there."""

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """`tokens` int32[L] is the prompt and all output up to and including the token in question.

        Called exactly once for every output token, in order.
        """
