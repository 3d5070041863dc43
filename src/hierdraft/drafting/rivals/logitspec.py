"""LogitSpec (Liu et al., arXiv 2507.01449): the last logits' runner-ups as candidates for the token after the next.

First what followed the longest n-gram (3, 2, 1 tokens) that ends in the last token; then, in the order of the last
logits, every other token as a child of the root, with what followed it in the request: 4 tokens in all for the best 8
ranks, 3 up to rank 32, 1 beyond; 63 tokens. Branches with equal beginnings share nodes here.
"""

from __future__ import annotations

from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session, Step, Wants
from hierdraft.tree import DraftTree, Int32

TOP = 64
LONGEST, BEHIND = 3, 6
"""Tokens of an n-gram, and of what is kept after it."""

_CAPACITY = TOP - 1


class LogitSpecMethod(TextMethod):
    """No settings: the published ones."""

    wants = Wants(top_k=TOP)

    def open(self, request: Request) -> Session:
        """Pool the prompt's n-grams."""
        return _Session(request)


class _Session(TextSession):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._pool: dict[tuple[int, ...], list[int]] = {}
        self._ranked: list[int] = []
        self._note(0)

    def _note(self, first: int) -> None:
        """Every n-gram from place `first` on; what followed it last wins, if it is no shorter than what was known."""
        for start in range(max(0, first), len(self.text)):
            for end in range(start + 1, min(start + LONGEST, len(self.text) - 1) + 1):
                gram, after = tuple(self.text[start:end]), self.text[end : end + BEHIND]
                if len(after) >= len(self._pool.get(gram, ())):
                    self._pool[gram] = after

    def _followed(self, text: list[int]) -> list[int]:
        """What followed the longest n-gram that `text` ends in."""
        for size in range(LONGEST, 0, -1):
            if tuple(text[-size:]) in self._pool:
                return self._pool[tuple(text[-size:])]
        return []

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The branches, best first, as one tree."""
        text = tokens[-LONGEST:].tolist()
        branches = [(code_of("context"), self._followed(text))]
        room = _CAPACITY - len(branches[0][1])
        for rank, token in enumerate(self._ranked):
            if token == text[-1] or room <= 0:
                continue
            size = 4 if rank <= 8 else 3 if rank <= 32 else 1
            branch = [token, *self._followed([*text, token])][: min(size, room)]
            branches.append((code_of("recycled"), branch))
            room -= len(branch)
        return DraftTree.merge(branches, budget.nodes, budget.depth)

    def observe(self, step: Step) -> None:
        """Pool what was said; keep the ranking that chose the last token."""
        super().observe(step)
        self._note(len(self.text) - len(step.tokens) - LONGEST - BEHIND)
        if step.runner_up is not None:
            rows = [len(step.choices) - 1] if step.prefill else [0, *(node + 1 for node in step.path)]
            self._ranked = step.runner_up[rows[len(step.tokens) - 1]].tolist()
