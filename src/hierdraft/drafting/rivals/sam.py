"""SAM-Decoding (Hu et al., arXiv 2411.10666), the variant that uses nothing but text.

A suffix automaton of the request finds the longest suffix that occurred before; the draft is the chain after its
earliest place. A second one over the model's own answers (here: suffix arrays of the `model` packs, which find the same
longest suffix) is used where its match is longer by more than 5 tokens; then the draft is a tree of its most frequent
continuations. A match of n tokens is worth 1 + 4 n drafted ones, at most 60.
"""

from __future__ import annotations

from hierdraft.drafting.rivals.automaton import SuffixAutomaton
from hierdraft.drafting.rivals.datastore import Datastore, frequent_prefixes
from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session, Step
from hierdraft.tree import DraftTree, Int32

_LONGEST = 64


class SamMethod(TextMethod):
    """bias: by how many tokens the model's answers must match longer; most: tokens drafted at most; factor: per
    token of the match."""

    uses_databases = True

    def __init__(self, bias: int = 5, most: int = 60, factor: int = 4) -> None:
        super().__init__()
        self.bias, self.most, self.factor = bias, most, factor

    def open(self, request: Request) -> Session:
        """Index the prompt."""
        return _Session(self, request)


class _Session(TextSession):
    def __init__(self, method: SamMethod, request: Request) -> None:
        super().__init__(request)
        self._bias, self._most, self._factor = method.bias, method.most, method.factor
        self._store = Datastore(method.databases, request.namespace, ["model"], _LONGEST, method.most, 512)
        self._own = SuffixAutomaton()
        for token in self.text:
            self._own.extend(token)

    def observe(self, step: Step) -> None:
        """Index what was said."""
        super().observe(step)
        for token in step.tokens:
            self._own.extend(token)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The chain after the request's own match, or the tree after the answers'."""
        state, matched = self._own.before
        size, rows = self._store.find(tokens)
        room = min(self._most, budget.nodes)
        if size - self._bias > matched:
            nodes = min(1 + self._factor * size, room)
            return frequent_prefixes(rows[:, : budget.depth], nodes, code_of("model"))
        if matched == 0:
            return DraftTree.empty()
        start = self._own.first[state]
        found = self.text[start : start + min(1 + self._factor * matched, room, budget.depth)]
        return DraftTree.chain(found, level=code_of("context"))
