"""ADED (Liu et al., arXiv 2406.18294): a tri-gram table that adapts, searched by Monte-Carlo trees.

P(c | a, b) comes from a corpus (the `statistics` packs here), the 12 likeliest successors of a pair. Every step adds
0.04, up to 3, to the weight of each tri-gram among the last 16 tokens, for good. A search of 150 rounds and depth 4
from the last two tokens prefers children by score / visits + (32 + ln((N + 9) / 8)) P sqrt(N) / (1 + n); the 24 most
visited texts, each with its likeliest next token, make a tree of at most 64 nodes. Draws are seeded, so that runs
repeat; where the published code scores a text by pairs that overlap, its tri-grams' weights are added up here.
"""

from __future__ import annotations

import random
from math import log, sqrt

import numpy as np

from hierdraft.drafting.rivals.datastore import Datastore
from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session
from hierdraft.tree import DraftTree, Int32

Pair = tuple[int, int]

_NODES = 64
_BEST, _RECENT, _STEP, _CAP = 12, 16, 0.04, 3.0
_C1, _C2 = 32.0, 8.0


class _Node:
    """A text of the search: its last two tokens, and what came of looking there."""

    __slots__ = ("children", "pair", "prior", "score", "visits")

    def __init__(self, pair: Pair, prior: float) -> None:
        self.pair, self.prior = pair, prior
        self.children: list[_Node] = []
        self.visits = 0
        self.score = 0.0

    def worth(self, rounds: int) -> float:
        """How much the search wants to go here next."""
        if self.visits == 0:
            return float("inf")
        explore = (_C1 + log((rounds + _C2 + 1.0) / _C2)) * self.prior * sqrt(rounds) / (1 + self.visits)
        return self.score / self.visits + explore


class AdedMethod(TextMethod):
    """rounds, depth: of the search; texts: how many of the most visited are drafted."""

    uses_databases = True

    def __init__(self, rounds: int = 150, depth: int = 4, texts: int = 24) -> None:
        super().__init__()
        self.rounds, self.depth, self.texts = rounds, depth, texts
        self.tables: dict[str, dict[Pair, dict[int, float]]] = {}

    def open(self, request: Request) -> Session:
        """Take up the namespace's table."""
        return _Session(self, request)


class _Session(TextSession):
    def __init__(self, method: AdedMethod, request: Request) -> None:
        super().__init__(request)
        self._rounds, self._depth, self._texts = method.rounds, method.depth, method.texts
        self._store = Datastore(method.databases, request.namespace, ["statistics"], 2, 1, 5_000)
        self._table = method.tables.setdefault(request.namespace, {})
        self._random = random.Random(0)

    def _after(self, pair: Pair) -> dict[int, float]:
        """Successors of a pair with their weights, counted in the packs at the first look."""
        if pair not in self._table:
            size, rows = self._store.find(np.array(pair, dtype=np.int32))
            counts: dict[int, int] = {}
            for token in rows[:, 0].tolist() if size == 2 else []:
                if token >= 0:
                    counts[token] = counts.get(token, 0) + 1
            total = sum(counts.values())
            best = sorted(counts.items(), key=lambda item: -item[1])[:_BEST]
            self._table[pair] = {token: count / total for token, count in best}
        return self._table[pair]

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The most visited texts of a search from the last two tokens."""
        if len(tokens) < 2:
            return DraftTree.empty()
        recent = tokens[-_RECENT:].tolist()
        for a, b, c in zip(recent, recent[1:], recent[2:], strict=False):
            weights = self._after((a, b))
            weights[c] = min(_CAP, weights.get(c, 0.0) + _STEP)
        root = _Node((recent[-2], recent[-1]), 0.0)
        for _ in range(self._rounds):
            self._round(root)
        found = sorted(_texts(root), key=lambda text: -text[0])[: self._texts]
        branches = [(code_of("statistics"), self._longer(root.pair, text)) for _, text in found]
        return DraftTree.merge(branches, min(_NODES, budget.nodes), budget.depth)

    def _round(self, root: _Node) -> None:
        """Go down by worth, open what is there, continue at random, and note how likely the text was."""
        path, score = [root], 1.0
        while path[-1].children and len(path) < self._depth:
            above = path[-1]
            path.append(max(above.children, key=lambda child: child.worth(above.visits)))
            score += path[-1].prior
        last = path[-1]
        if len(path) < self._depth and not last.children:
            last.children = [_Node((last.pair[1], token), prior) for token, prior in self._after(last.pair).items()]
            if last.children:
                path.append(last.children[-1])
                score += path[-1].prior
        pair = path[-1].pair
        for _ in range(self._depth - len(path)):
            weights = self._after(pair)
            if not weights:
                break
            token = self._random.choices(list(weights), list(weights.values()))[0]
            score += weights[token]
            pair = (pair[1], token)
        for node in path:
            node.visits += 1
            node.score += score

    def _longer(self, start: Pair, text: list[int]) -> list[int]:
        """A text with its likeliest next token."""
        pair = (([*start, *text])[-2], text[-1])
        weights = self._after(pair)
        return [*text, max(weights, key=lambda token: weights[token])] if weights else text


def _texts(node: _Node) -> list[tuple[int, list[int]]]:
    """(visits, tokens) of every text below a node."""
    found: list[tuple[int, list[int]]] = []
    for child in node.children:
        if child.visits:
            found.append((child.visits, [child.pair[1]]))
            found += [(visits, [child.pair[1], *text]) for visits, text in _texts(child)]
    return found
