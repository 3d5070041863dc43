"""Prompt lookup decoding (Saxena 2023): copy what followed the last tokens where they stood before.

Defaults and tie rule of the author's code: n-grams of 3, then 2, then 1 tokens; the earliest place that has ten more
tokens after it; a chain of ten.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session
from hierdraft.tree import DraftTree, Int32


class PromptLookupMethod(TextMethod):
    """`longest`: tokens of the longest n-gram looked for; `tokens`: how many are copied."""

    def __init__(self, longest: int = 3, tokens: int = 10) -> None:
        super().__init__()
        self.longest, self.tokens = longest, tokens

    def open(self, request: Request) -> Session:
        """Nothing to prepare."""
        return _Session(self, request)


class _Session(TextSession):
    def __init__(self, method: PromptLookupMethod, request: Request) -> None:
        super().__init__(request)
        self._longest, self._tokens = method.longest, method.tokens

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The chain after the earliest match of the longest n-gram; empty where nothing matches."""
        length = len(tokens)
        for size in range(min(self._longest, length - 1), 0, -1):
            places = np.flatnonzero((sliding_window_view(tokens, size) == tokens[-size:]).all(axis=1))
            for place in places.tolist():
                start = place + size
                if start + self._tokens <= length:
                    found = tokens[start : start + min(self._tokens, budget.nodes, budget.depth)]
                    return DraftTree.chain(found.copy(), level=code_of("context"))
        return DraftTree.empty()
