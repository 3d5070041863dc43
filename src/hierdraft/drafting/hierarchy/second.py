"""A second opinion: a small model scores the trees of look-ups, where that pays, before they are grown again.

That may go on: what has grown out of its opinions is scored in a further round, if that pays too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.hierarchy.cells import opinion_buckets
from hierdraft.drafting.hierarchy.opinions import CHOICES
from hierdraft.drafting.models.laws import likeliest
from hierdraft.drafting.models.tail import Tail
from hierdraft.protocols import Budget, Opened
from hierdraft.scoring import Array
from hierdraft.tree import DraftTree, Int32

_EDGES = (0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Tokens that a tree of look-ups promises, between kinds of trees: the less it does, the more there is to be won."""

_HOPE, _RATE = 0.15, 0.05
_SOON, _RARELY = 16, 512
_EXPLORED = 0.01
"""Share of the target's time that is spent on asking where it does not seem to pay."""

_MODEL_ROUNDS, _HEAD_ROUNDS = 2, 8

_FEW, _MANY = 8, 64
_ASKS, _FADE = 32.0, 0.98
"""How often a text that was read is asked about, as long as that is not known; and how soon it is known better."""


class Best(NamedTuple):
    """The best first nodes of a tree: how many, and tokens, seconds and tokens a second of a forward with them."""

    nodes: int
    tokens: float
    seconds: float
    rate: float


def best_size(prob: NDArray[np.float32], cost: Callable[[int], float]) -> Best:
    """How much of a tree pays.

    prob  float32[n]: path probabilities, falling
    cost  rows -> seconds of a forward; 0.0: not known, and all nodes are best, at no seconds
    """
    tokens = 1.0 + np.concatenate(([0.0], np.cumsum(prob, dtype=np.float64)))
    seconds = np.array([cost(1 + n) for n in range(len(tokens))])
    if seconds.min() <= 0.0:
        return Best(len(prob), float(tokens[-1]), 0.0, 0.0)
    best = int(np.argmax(tokens / seconds))
    return Best(best, float(tokens[best]), float(seconds[best]), float(tokens[best] / seconds[best]))


class OpinionWorth:
    """What asking has brought lately for trees that promised as much: tokens a second more, as a share.

    It begins with some hope, so that an opinion is sought where it costs less than that, and is seen to be worth it or
    not. Where it is not, it is sought now and then all the same, ever more rarely.
    """

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._gain, self._learned = np.full(len(_EDGES) + 1, _HOPE), np.ones(len(_EDGES) + 1)
        self._since = 0.0
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
        self._since += seconds
        if self._left[kind] > 0 or _EXPLORED * self._since < price:
            return False
        self._since = 0.0
        self._patience[kind] = min(_RARELY, 2 * self._patience[kind])
        self._left[kind] = self._patience[kind]
        return True

    def learn(self, tokens: float, before: float, after: float) -> None:
        """A tree that promised `tokens` was asked about: its tokens a second before and after, asking not counted."""
        if before <= 0.0:
            return
        kind = bisect_right(_EDGES, tokens - 1.0)
        self._learned[kind] += 1.0
        self._gain[kind] += max(_RATE, 1.0 / self._learned[kind]) * (after / before - 1.0 - self._gain[kind])
        if self._gain[kind] > _HOPE:
            self._patience[kind] = _SOON


@dataclass(slots=True)
class Hearing:
    """One tree about which a model is asked, over several rounds.

    tail     the text in the model's engine, or in a head's
    text     int32[L], below which the tree is
    budget   its bounds
    tree     as it is now
    scored   what the model has seen so far, in the order in which it came; None: nothing
    coming   what it will have seen if it is asked now
    """

    tail: Tail | HeadText
    text: Int32
    budget: Budget
    tree: DraftTree
    scored: DraftTree | None = None
    coming: DraftTree = field(default_factory=DraftTree.empty)

    @property
    def best(self) -> Best | None:
        """What of the tree pays; None: all nodes are wanted, whatever they cost."""
        return None if self.budget.cost is None else best_size(self.tree.prob, self.budget.cost)

    @property
    def first(self) -> int:
        """Number of the first row that the model has not seen: row 0 is that of the last committed token."""
        return 0 if self.scored is None else 1 + len(self.scored)

    @property
    def rows(self) -> int:
        """How many rows the model has not seen."""
        return 1 + len(self.coming) - self.first


def joined(first: DraftTree, second: DraftTree) -> DraftTree:
    """A tree of all nodes of two, those of the first in their places."""
    places = {(parent, token): node for node, (parent, token) in enumerate(_keys(first))}
    tokens, parents = first.tokens.tolist(), first.parents.tolist()
    here: list[int] = []
    for parent, token in _keys(second):
        above = here[parent] if parent >= 0 else -1
        node = places.setdefault((above, token), len(tokens))
        if node == len(tokens):
            tokens.append(token)
            parents.append(above)
        here.append(node)
    return DraftTree.build(tokens, parents)


def next_level(scored: DraftTree | None, tree: DraftTree) -> DraftTree:
    """What a head that has scored `scored` (None: not even the text) can score of a tree: one level below that."""
    if scored is None:
        return DraftTree.empty()
    whole = joined(scored, tree)
    return whole.only((np.arange(len(whole)) < len(scored)) | (whole.parents < len(scored)))


def _keys(tree: DraftTree) -> list[tuple[int, int]]:
    return [*zip(tree.parents.tolist(), tree.tokens.tolist(), strict=True)]


class SecondOpinion:
    """The model, and what asking it is worth in each round.

    rounds   most forwards of it for one proposal; one where its engine does not go on with a tree that it has scored
    """

    def __init__(
        self, opened: Opened, vocab_size: int | None, *, always: bool = False, rounds: int | None = None
    ) -> None:
        """For a target of so many ids, None: of as many.

        always  also where it does not pay
        rounds  None: two of a model, and eight of a head, of which each sees one level more of a tree
        """
        engine = opened.engine
        self._engine, self._ids, self._reads, self._always = engine, opened.ids, opened.reads, always
        self._vocab_size = min(vocab_size or engine.vocab_size, engine.vocab_size)
        most = rounds or (_MODEL_ROUNDS if self._reads is None else _HEAD_ROUNDS)
        self.rounds = most if engine.offers.extends else 1
        self._worth = [OpinionWorth() for _ in range(self.rounds)]
        self._slower = 1.0
        self._asked, self._texts, self._per_token = _ASKS, 1.0, 0.0

    def open(self, namespace: str) -> Tail | HeadText:
        """A text that is going to be asked about."""
        return Tail(self._engine, namespace) if self._reads is None else HeadText(self._engine, self._reads)

    def wanted(self, number: int, hearings: Sequence[Hearing]) -> list[int]:
        """About which of these the model should be asked in round `number`, from 0; all in one forward."""
        bests = [hearing.best for hearing in hearings]
        for hearing, best in zip(hearings, bests, strict=True):
            hearing.coming = self._coming(hearing, len(hearing.tree) if best is None else best.nodes)
        rows = sum(hearing.rows for hearing in hearings)
        price = self._slower * self._engine.cost(rows, rows) / max(1, len(hearings))
        prices = [price + (self._reading(hearing) if number == 0 else 0.0) for hearing in hearings]
        return [
            place for place, (hearing, best) in enumerate(zip(hearings, bests, strict=True))
            if hearing.rows > 0
            and (self._always or best is None or self._worth[number].pays(best.tokens, best.seconds, prices[place]))
        ]  # fmt: skip

    def _reading(self, hearing: Hearing) -> float:
        """Seconds that reading what was not read of a text costs each of the times that it will be asked about."""
        unread = hearing.tail.unread(hearing.text)
        if unread <= _FEW:
            return 0.0
        each = self._per_token or self._engine.cost(_MANY, _MANY) / _MANY
        return unread * each * self._texts / self._asked

    def _coming(self, hearing: Hearing, nodes: int) -> DraftTree:
        """What the model can read of a tree, after what it has read: nodes with room below them for what may pay."""
        deepest = min(hearing.budget.depth - 1, self._engine.max_length - len(hearing.text))
        tree = hearing.tree.prefix(nodes).limited(deepest)
        keep = tree.tokens < self._engine.vocab_size
        for node, parent in enumerate(tree.parents.tolist()):
            keep[node] &= parent < 0 or keep[parent]
        tree = tree.only(keep)
        if self._reads is not None:
            return next_level(hearing.scored, tree)
        return tree if hearing.scored is None else joined(hearing.scored, tree)

    def ask(self, hearings: Sequence[Hearing]) -> list[tuple[int, Int32, NDArray[np.uint8]]]:
        """One forward for those that are wanted; what was `coming` of each is `scored` then.

        For each: its first new row; int32[rows, CHOICES] and uint8[rows, CHOICES]: what the model thinks comes after
        each of these rows, and how likely that is.
        """
        started = perf_counter()
        parts = [
            one.tail.part(one.text, one.coming) if one.scored is None else one.tail.further(one.coming)
            for one in hearings
        ]
        few = [len(part.tokens) <= _FEW for part in parts]
        rows = sum(len(part.tokens) + one.rows - (one.first == 0) for one, part in zip(hearings, parts, strict=True))
        scored = self._engine.forward(parts)
        found = [(one.first, *self._opinions(of.logits)) for one, of in zip(hearings, scored, strict=True)]
        for one, of in zip(hearings, scored, strict=True):
            one.tail.heard(of)
        seconds, expected = perf_counter() - started, self._engine.cost(rows, rows)
        if all(few):
            self._engine.record(rows, seconds, rows)
            if expected > 0.0:
                self._slower += _RATE * (seconds / expected - self._slower)
        else:
            self._per_token = seconds / rows
        for hearing, short in zip(hearings, few, strict=True):
            if hearing.scored is None:
                hearing.tail.reading = 0.0 if short else seconds / few.count(False)
                self._asked, self._texts = _FADE * self._asked + 1.0, _FADE * self._texts + (not short)
            hearing.scored = hearing.coming
        return found

    def _opinions(self, logits: Array) -> tuple[Int32, NDArray[np.uint8]]:
        ids, logprobs = likeliest(self._engine, logits, CHOICES)
        if self._ids is not None:
            ids = self._ids[ids]
        return np.where(ids < self._vocab_size, ids, np.int32(-1)), opinion_buckets(logprobs)

    def learn(self, number: int, hearing: Hearing, after: DraftTree) -> None:
        """What round `number` has made of a tree, which is `after` now."""
        before, hearing.tree = hearing.best, after
        if before is not None and (now := hearing.best) is not None:
            self._worth[number].learn(before.tokens, before.rate, now.rate)
