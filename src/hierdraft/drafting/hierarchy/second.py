"""A second opinion: a small model scores the trees of look-ups, where that pays, before they are grown again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.hierarchy.cells import opinion_buckets
from hierdraft.drafting.hierarchy.opinions import CHOICES
from hierdraft.drafting.models.tail import Tail
from hierdraft.protocols import Budget, Opened
from hierdraft.scoring import Array
from hierdraft.tree import DraftTree, Int32

_EDGES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Tokens that a tree of look-ups promises, between kinds of trees: the less it does, the more there is to be won."""

_HOPE, _RATE = 0.15, 0.05
_SOON, _RARELY = 16, 512
_FEW = 8


def best_size(prob: NDArray[np.float32], cost: Callable[[int], float]) -> tuple[float, float, float]:
    """(tokens, seconds, tokens a second) of the best first nodes of a tree.

    prob  float32[n]: path probabilities, falling
    cost  rows -> seconds of a forward; 0.0: not known, and all of them are best, at no seconds
    """
    tokens = 1.0 + np.concatenate(([0.0], np.cumsum(prob, dtype=np.float64)))
    seconds = np.array([cost(1 + n) for n in range(len(tokens))])
    if seconds.min() <= 0.0:
        return float(tokens[-1]), 0.0, 0.0
    best = int(np.argmax(tokens / seconds))
    return float(tokens[best]), float(seconds[best]), float(tokens[best] / seconds[best])


class OpinionWorth:
    """What asking has brought lately for trees that promised as much: tokens a second more, as a share.

    It begins with some hope, so that an opinion is sought where it costs less than that, and is seen to be worth it or
    not. Where it is not, it is sought now and then all the same, ever more rarely.
    """

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._gain = np.full(len(_EDGES) + 1, _HOPE)
        self._left, self._patience = [_SOON] * (len(_EDGES) + 1), [_SOON] * (len(_EDGES) + 1)

    def pays(self, tokens: float, seconds: float, price: float) -> bool:
        """Whether to ask; told once for every tree that could be asked about.

        tokens   that the best part of the tree promises, with the target's own
        seconds  of the target's forward for it, 0.0: not known
        price    seconds that asking takes
        """
        kind = bisect_right(_EDGES, tokens - 1.0)
        if seconds <= 0.0 or self._gain[kind] * seconds > price:
            return True
        self._left[kind] -= 1
        if self._left[kind] > 0:
            return False
        self._patience[kind] = min(_RARELY, 2 * self._patience[kind])
        self._left[kind] = self._patience[kind]
        return True

    def learn(self, tokens: float, before: float, after: float) -> None:
        """A tree that promised `tokens` was asked about: its tokens a second before and after, asking not counted."""
        if before <= 0.0:
            return
        kind = bisect_right(_EDGES, tokens - 1.0)
        self._gain[kind] += _RATE * (after / before - 1.0 - self._gain[kind])
        if self._gain[kind] > _HOPE:
            self._patience[kind] = _SOON


class SecondOpinion:
    """The model, and what asking it is worth."""

    def __init__(self, opened: Opened, vocab_size: int | None, *, always: bool = False) -> None:
        """For a target of so many ids, None: of as many. `always`: also where it does not pay."""
        engine = opened.engine
        self._engine, self._ids, self._always = engine, opened.ids, always
        self._vocab_size = min(vocab_size or engine.vocab_size, engine.vocab_size)
        self._worth = OpinionWorth()
        self._slower = 1.0

    def open(self, namespace: str) -> Tail:
        """A text that is going to be asked about."""
        return Tail(self._engine, namespace)

    def wanted(self, trees: Sequence[DraftTree], budgets: Sequence[Budget]) -> list[int]:
        """Which of these trees the model should be asked about, all in one forward."""
        rows = sum(1 + len(tree) for tree in trees)
        price = self._slower * self._engine.cost(rows, rows) / max(1, len(trees))
        return [n for n, of in enumerate(zip(trees, budgets, strict=True)) if self._always or self._pays(*of, price)]

    def _pays(self, tree: DraftTree, budget: Budget, price: float) -> bool:
        if budget.cost is None:  # all nodes are wanted, whatever they cost
            return True
        tokens, seconds, _ = best_size(tree.prob, budget.cost)
        return self._worth.pays(tokens, seconds, price)

    def can_read(self, text: Int32) -> bool:
        """Whether a text is not too long for the model, which has all of its ids: it may have fewer than the target."""
        return len(text) <= self._engine.max_length and int(text.max()) < self._engine.vocab_size

    def ask(
        self, tails: Sequence[Tail], texts: Sequence[Int32], trees: Sequence[DraftTree]
    ) -> list[tuple[DraftTree, Int32, NDArray[np.uint8]]]:
        """For each tree what was scored of it, the nodes that the model has ids for; int32[1+n, CHOICES] and
        uint8[1+n, CHOICES]: what it thinks comes after each row, and how likely that is.
        """
        started = perf_counter()
        most = self._engine.max_length
        trees = [self._readable(tree.limited(most - len(text))) for tree, text in zip(trees, texts, strict=True)]
        parts = [tail.part(text, tree) for tail, text, tree in zip(tails, texts, trees, strict=True)]
        few = [len(part.tokens) <= _FEW for part in parts]
        rows = sum(len(part.tokens) + len(part.tree) for part in parts)
        scored = self._engine.forward(parts)
        found = [(tree, *self._opinions(one.logits)) for tree, one in zip(trees, scored, strict=True)]
        seconds, expected = perf_counter() - started, self._engine.cost(rows, rows)
        if all(few):
            self._engine.record(rows, seconds, rows)
            if expected > 0.0:
                self._slower += _RATE * (seconds / expected - self._slower)
        for tail, short in zip(tails, few, strict=True):
            tail.reading = 0.0 if short else seconds / few.count(False)
        return found

    def _readable(self, tree: DraftTree) -> DraftTree:
        keep = tree.tokens < self._engine.vocab_size
        if keep.all():
            return tree
        for node, parent in enumerate(tree.parents.tolist()):
            keep[node] &= parent < 0 or keep[parent]
        return tree.only(keep)

    def _opinions(self, logits: Array) -> tuple[Int32, NDArray[np.uint8]]:
        ids = self._engine.top_ids(logits, CHOICES)
        values = np.stack([self._engine.values(logits, row)[ids[row]] for row in range(len(ids))]).astype(np.float64)
        logprobs = values - np.log(np.exp(values - values[:, :1]).sum(axis=1, keepdims=True)) - values[:, :1]
        if self._ids is not None:
            ids = self._ids[ids]
        return np.where(ids < self._vocab_size, ids, np.int32(-1)), opinion_buckets(logprobs)

    def learn(self, before: DraftTree, after: DraftTree, budget: Budget) -> None:
        """What the opinion has made of a tree."""
        if budget.cost is None:
            return
        tokens, _, rate = best_size(before.prob, budget.cost)
        self._worth.learn(tokens, rate, best_size(after.prob, budget.cost)[2])
