"""Lookahead decoding (Fu et al., arXiv 2402.02057): n-grams from the target's own parallel decoding.

A Jacobi window (level 5, 7 columns) of probe nodes fills a pool of n-grams by their first token, the 7 most recent of
each; the pool begins with the prompt's n-grams, as in the authors' benchmark settings. The draft is every n-gram of
the last token, verified as branches of one tree.
"""

from __future__ import annotations

import numpy as np

from hierdraft.databases.ngrams import RecentGrams
from hierdraft.drafting.hd.window import LookaheadWindow
from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import WINDOW, code_of
from hierdraft.protocols import Budget, Request, Session, Step, Wants
from hierdraft.tree import DraftTree, Int32


class LookaheadMethod(TextMethod):
    """level: tokens of an n-gram; window: columns; keep: n-grams of one token that are kept and verified."""

    def __init__(self, level: int = 5, window: int = 7, keep: int = 7) -> None:
        super().__init__()
        self.level, self.columns, self.keep = level, window, keep
        self.wants = Wants(probes=LookaheadWindow(window, level, [0]).most)

    def open(self, request: Request) -> Session:
        """A new pool, with the prompt's n-grams, and a new window, drawn from the prompt."""
        return _Session(self, request)


class _Session(TextSession):
    def __init__(self, method: LookaheadMethod, request: Request) -> None:
        super().__init__(request)
        self._level, self._columns = method.level, method.columns
        self._pool = RecentGrams(method.level - 1, method.keep)
        self._pool.extend(self.text)
        self._window = LookaheadWindow(method.columns, method.level, self.text)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The pool's n-grams of the last token, and the window's nodes where the request has room for them."""
        last = int(tokens[-1])
        grams = self._pool.get(last)
        levels = [WINDOW if self._pool.only_probed(last, gram) else code_of("context") for gram in grams]
        tree = DraftTree.merge(zip(levels, grams, strict=True), budget.nodes, budget.depth)
        ids, parents, drafted = tree.tokens.tolist(), tree.parents.tolist(), len(tree)
        if budget.probes < self._window.most:
            self._window.restart()
        elif self._columns + self._level <= budget.depth:
            window, above = self._window.nodes(drafted)
            ids, parents = ids + window, parents + above
        probe = [node >= drafted for node in range(len(ids))]
        found = tree.level.tolist() + [WINDOW] * (len(ids) - drafted)
        return DraftTree.build(ids, parents, level=found, probe=probe)

    def observe(self, step: Step) -> None:
        """Move the window on and note the n-grams that it completes."""
        super().observe(step)
        probes = np.flatnonzero(step.tree.probe)
        if len(probes) == len(self._window):
            for key, *rest in self._window.advance(step.choices[probes + 1], len(step.tokens)):
                self._pool.add(key, tuple(rest), probed=True)
