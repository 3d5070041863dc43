"""The method `hd`: hierarchy drafting as its paper describes it (arXiv 2502.05609, sections 3.2 and 3.3).

The databases are asked in a fixed order, by the last committed token, until seven drafts of four tokens are found;
all of them are verified at once. The context level also learns from a lookahead window. Where the authors' published
code departs from the paper, this follows the paper: see docs/design.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from hierdraft.databases.levels import Databases, Shelves
from hierdraft.databases.ngrams import Gram, RecentGrams, continuations_of, frequent_grams
from hierdraft.drafting.hd.window import LookaheadWindow
from hierdraft.errors import UsageError
from hierdraft.levels import CODES, GRAMMAR, WINDOW, code_of
from hierdraft.protocols import Budget, Request, Setup, Step, Wants
from hierdraft.tree import DraftTree, Int32

ORDER = ("context", "model", "statistics")


class HdMethod:
    """The paper's procedure, every setting of it adjustable."""

    q_kind: Literal["one_hot", "full"] = "one_hot"
    uses_databases = True

    def __init__(
        self, order: tuple[str, ...] = ORDER, drafts: int = 7, length: int = 4, width: int = 7,
        grams: int = 100_000, key: int = 2, window: int = 7, level: int = 5,
    ) -> None:  # fmt: skip
        """Raises UsageError for an order that names anything but the three levels, or numbers out of range.

        order          in which the levels are asked; a level that is left out is not used
        drafts         the search ends when this many are found
        length         tokens of one draft
        width          drafts that the context level keeps for a token, the most recently seen ones
        grams          n-grams that the model level holds, those in most documents
        key            the statistics level is asked for the last `key` tokens, then for fewer
        window, level  columns and n-gram size of the lookahead window; window 0: none
        """
        if len(set(order)) != len(order) or not set(order) <= set(ORDER) or not order:
            raise UsageError(f"The order of hd names some of {', '.join(ORDER)}, each once, not {'+'.join(order)}.")
        if min(drafts, length, width, grams, key) < 1 or window < 0 or level < 2:
            raise UsageError("The numbers of hd are at least 1; window may be 0, and level is at least 2.")
        self.order, self.drafts, self.length, self.width = order, drafts, length, width
        self.key, self.columns, self.ngram = key, window, level
        self.wants = Wants(probes=window * (level - 1))
        self.databases = Databases()
        self.tried = np.full((CODES, length), 2.0)
        self.accepted = np.full((CODES, length), 1.0)
        self._grams = grams
        self._built: tuple[object, ...] | None = None
        self._frequent: dict[int, list[Gram]] = {}

    def attach(self, setup: Setup) -> None:
        """Draft from these packs too. What is learned while running counts once it is in a pack.

        Without the target's choices after nodes that are not accepted there is no lookahead window.
        """
        self.databases = setup.databases
        self._built = None
        if not setup.offers.scores:
            self.columns, self.wants = 0, Wants()

    def open(self, request: Request) -> HdSession:
        """Note the prompt's n-grams, and those of packs that are new."""
        return HdSession(self, request)

    def close(self) -> None:
        """Nothing to store: what was said is in the databases."""

    def frequent(self, shelves: Shelves) -> dict[int, list[Gram]]:
        """The most frequent n-grams of all model packs, by their first token."""
        packs = [pack for pack in shelves.packs if pack.info.level == "model"]
        if self._built != (*packs,) and "model" in self.order:
            self._built = (*packs,)
            self._frequent = frequent_grams([pack.index for pack in packs], self.length, self._grams)
        return self._frequent


class HdSession:
    """One request: the context level and the lookahead window are its own."""

    def __init__(self, method: HdMethod, request: Request) -> None:
        self._method = method
        self._shelves = method.databases.open(request.namespace)
        self._frequent = method.frequent(self._shelves)
        self._context = RecentGrams(method.length, method.width)
        self._context.extend(request.prompt.tolist())
        prompt = request.prompt.tolist()
        self._window = LookaheadWindow(method.columns, method.ngram, prompt) if method.columns else None

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """At most `budget.nodes` nodes of drafts, equal beginnings shared, and the window's nodes besides."""
        drafts = DraftTree.merge(self._found(tokens[-self._method.key :].tolist()), budget.nodes, budget.depth)
        ids, parents, levels = drafts.tokens.tolist(), drafts.parents.tolist(), drafts.level.tolist()
        probs: list[float] = []
        right = self._method.accepted / self._method.tried
        for level, parent, depth in zip(levels, parents, drafts.depths().tolist(), strict=True):
            probs.append((probs[parent] if parent >= 0 else 1.0) * float(right[level, depth - 1]))
        probes = 0
        if self._window and budget.probes < self._window.most:
            self._window.restart()
        elif self._window and self._method.columns + self._method.ngram <= budget.depth:
            window, above = self._window.nodes(len(ids))
            probes = len(window)
            ids, parents = ids + window, parents + above
            levels, probs = levels + [code_of("context")] * probes, probs + [0.0] * probes
        probe = [False] * (len(ids) - probes) + [True] * probes
        return DraftTree.build(ids, parents, prob=probs, level=levels, probe=probe)

    def _found(self, text: list[int]) -> list[tuple[int, Gram]]:
        """The drafts that follow `text`, each with its level: the levels in their order until there are enough."""
        found: dict[Gram, int] = {}
        for name in self._method.order:
            for draft in self._ask(name, text, self._shelves):
                if len(found) >= self._method.drafts:
                    break
                found.setdefault(draft, WINDOW if self._is_probed(name, text[-1], draft) else code_of(name))
        return [(level, draft) for draft, level in found.items()]

    def _is_probed(self, name: str, last: int, draft: Gram) -> bool:
        return name == "context" and self._context.only_probed(last, draft)

    def _ask(self, name: str, text: list[int], shelves: Shelves) -> Iterator[Gram]:
        if name == "context":
            yield from self._context.get(text[-1])
        elif name == "model":
            yield from self._frequent.get(text[-1], ())
        else:
            for size in range(len(text), 0, -1):
                for pack, held in enumerate(shelves.packs):
                    if held.info.level == name:
                        most = 2 * self._method.drafts  # as many may be known already
                        yield from continuations_of(shelves.shelf, pack, text[-size:], self._method.length, most)

    def observe(self, step: Step) -> None:
        """Learn the new text's n-grams, all of them, and the window's."""
        self._context.extend(step.tokens)
        self._count(step)
        probes = np.flatnonzero(step.tree.probe)
        if self._window and len(probes) == len(self._window):
            for key, *continuation in self._window.advance(step.choices[probes + 1], len(step.tokens)):
                self._context.add(key, tuple(continuation[: self._method.length]), probed=True)

    def _count(self, step: Step) -> None:
        """How often drafts of each level and depth are right, for `prob`."""
        on_path = {-1, *step.path}
        depths = step.tree.depths()
        for node, parent in enumerate(step.tree.parents.tolist()):
            ours = not step.tree.probe[node] and step.tree.level[node] != GRAMMAR
            if parent in on_path and ours:
                cell = int(step.tree.level[node]), int(depths[node]) - 1
                self._method.tried[cell] += 1.0
                self._method.accepted[cell] += node in on_path

    def finish(self, tokens: Int32) -> None:
        """Nothing to keep: the loop teaches what was said."""
