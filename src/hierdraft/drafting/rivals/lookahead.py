"""Lookahead decoding (Fu et al., arXiv 2402.02057): n-grams from the target's own parallel decoding.

A Jacobi window (level 5, 7 columns) of probe nodes fills a pool of n-grams by their first token, the 7 most recent of
each; the pool begins with the prompt's n-grams, as in the authors' benchmark settings. The draft is every n-gram of
the last token, verified as branches of one tree.
"""

from __future__ import annotations

import numpy as np

from hierdraft.databases.ngrams import RecentGrams
from hierdraft.drafting.hd.window import LookaheadWindow
from hierdraft.drafting.rivals.text import TextDrafter
from hierdraft.errors import UsageError
from hierdraft.levels import WINDOW, code_of
from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32


class LookaheadDrafter(TextDrafter):
    """level: tokens of an n-gram; window: columns; keep: n-grams of one token that are kept and verified."""

    def __init__(self, level: int = 5, window: int = 7, keep: int = 7) -> None:
        super().__init__()
        self._level, self._columns, self._keep = level, window, keep
        self._pool = RecentGrams(level - 1, keep)
        self._window = LookaheadWindow(window, level, [0])
        self.wants = Wants(probes=self._window.most)

    def text_only(self) -> None:
        """Raises UsageError: without the target's choices after the window there is no method left."""
        raise UsageError("lookahead needs the target's choices at nodes that are not accepted: it cannot be replayed.")

    def start(self, request: Request) -> None:
        """A new pool, with the prompt's n-grams, and a new window, drawn from the prompt."""
        super().start(request)
        self._pool = RecentGrams(self._level - 1, self._keep)
        self._pool.extend(self.text)
        self._window = LookaheadWindow(self._columns, self._level, self.text)

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
