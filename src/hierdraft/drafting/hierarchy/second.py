"""A second opinion: a small model scores the trees of look-ups, where that pays, before they are grown again.

That may go on: what has grown out of its opinions is scored in a further round, if that pays too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.hierarchy.cells import opinion_buckets
from hierdraft.drafting.hierarchy.opinions import CHOICES
from hierdraft.drafting.hierarchy.payoff import RATE, Best, OpinionWorth, best_size
from hierdraft.drafting.models.laws import likeliest
from hierdraft.drafting.models.tail import Tail
from hierdraft.protocols import Budget, Opened, Part
from hierdraft.scoring import Array
from hierdraft.tree import DraftTree, Int32

_MODEL_ROUNDS, _HEAD_ROUNDS = 2, 8

_FEW, _MANY = 8, 64
_USUAL, _JUMP = 5e-4, 4.0
"""Seconds that a round takes beside a forward, about, and how many times what is known a round counts for at most."""

_ASKS, _FADE = 32.0, 0.98
"""How often a text that was read is asked about, as long as that is not known; and how soon it is known better."""


@dataclass(slots=True)
class Hearing:
    """One tree about which a model is asked, over several rounds.

    tail     the text in the model's engine, or in a head's
    text     int32[L], below which the tree is
    budget   its bounds
    tree     as it is now
    scored   what the model has seen so far, in the order in which it came; None: nothing
    coming   what it will have seen if it is asked now
    said     of a head that says several levels in one call: its opinions at each depth
    """

    tail: Tail | HeadText
    text: Int32
    budget: Budget
    tree: DraftTree
    scored: DraftTree | None = None
    coming: DraftTree = field(default_factory=DraftTree.empty)
    said: Said | None = None

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


Said = tuple[Int32, NDArray[np.uint8]]
"""int32[rows, CHOICES] and uint8[rows, CHOICES]: what comes after rows, and how likely that is."""


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
        self._block = None if opened.reads is None else opened.reads.block
        self._engine, self._ids, self._reads, self._always = engine, opened.ids, opened.reads, always
        self._vocab_size = min(vocab_size or engine.vocab_size, engine.vocab_size)
        most = rounds or (_MODEL_ROUNDS if self._reads is None else _HEAD_ROUNDS)
        self.rounds = most if engine.offers.extends or self._block is not None else 1
        self._worth = [OpinionWorth() for _ in range(self.rounds)]
        self._slower, self._forward, self._beside = 1.0, 0.0, 0.0
        self._asked, self._texts, self._per_token = _ASKS, 1.0, 0.0

    def open(self, namespace: str) -> Tail | HeadText:
        """A text that is going to be asked about."""
        return Tail(self._engine, namespace) if self._reads is None else HeadText(self._engine, self._reads)

    def wanted(self, number: int, hearings: Sequence[Hearing]) -> list[int]:
        """About which of these the model should be asked in round `number`, from 0; all in one forward."""
        bests = [hearing.best for hearing in hearings]
        for hearing, best in zip(hearings, bests, strict=True):
            hearing.coming = self._coming(hearing, len(hearing.tree) if best is None else best.nodes)
        rows = sum(self._rows(hearing) for hearing in hearings)
        forward = self._slower * self._engine.cost(rows, rows) if rows else 0.0
        price = (forward + self._beside) / max(1, len(hearings))
        prices = [price + (self._reading(hearing) if number == 0 else 0.0) for hearing in hearings]
        return [
            place for place, (hearing, best) in enumerate(zip(hearings, bests, strict=True))
            if hearing.rows > 0
            and (self._always or best is None or self._worth[number].pays(best.tokens, best.seconds, prices[place]))
        ]  # fmt: skip

    def _rows(self, hearing: Hearing) -> int:
        """Rows that asking about a tree costs."""
        if self._block is None:
            return hearing.rows
        return 1 + self._block.size if hearing.said is None else 0

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
        if self._block is not None:
            tree = tree.limited(min(deepest, self._block.size))
        elif self._reads is not None:
            return next_level(hearing.scored, tree)
        return tree if hearing.scored is None else joined(hearing.scored, tree)

    def ask(self, hearings: Sequence[Hearing]) -> list[tuple[int, Int32, NDArray[np.uint8]]]:
        """One forward for those that are wanted, if it is needed; what was `coming` of each is `scored` then.

        For each its first new row, and what the model thinks comes after each of these rows.
        """
        self._forward = 0.0
        if self._block is None:
            said = self._said(hearings)
        else:
            silent = [one for one in hearings if one.said is None]
            for one, of in zip(silent, self._said(silent) if silent else [], strict=True):
                one.said = of
            said = [_at_depths(one) for one in hearings]
        found = [(one.first, *of) for one, of in zip(hearings, said, strict=True)]
        for hearing in hearings:
            hearing.scored = hearing.coming
        return found

    def _said(self, hearings: Sequence[Hearing]) -> list[Said]:
        """One forward, and what it says of all rows in it that have logits."""
        started = perf_counter()
        parts = [self._part(one) for one in hearings]
        few = [len(part.tokens) <= _FEW for part in parts]
        rows = sum(
            one.rows if one.scored is not None else len(part.tokens) + len(part.tree)
            for one, part in zip(hearings, parts, strict=True)
        )
        scored = self._engine.forward(parts)
        found = [self._opinions(of.logits) for of in scored]
        for one, of in zip(hearings, scored, strict=True):
            one.tail.heard(of)
        seconds, expected = perf_counter() - started, self._engine.cost(rows, rows)
        self._forward = seconds
        if all(few):
            self._engine.record(rows, seconds, rows)
            if expected > 0.0:
                self._slower += RATE * (seconds / expected - self._slower)
        else:
            self._per_token = seconds / rows
        for hearing, short in zip(hearings, few, strict=True):
            if hearing.scored is None:
                hearing.tail.reading = 0.0 if short else seconds / few.count(False)
                self._asked, self._texts = _FADE * self._asked + 1.0, _FADE * self._texts + (not short)
        return found

    def _part(self, hearing: Hearing) -> Part:
        if hearing.scored is not None:
            return hearing.tail.further(hearing.coming)
        return hearing.tail.part(hearing.text, DraftTree.empty() if self._block is not None else hearing.coming)

    def _opinions(self, logits: Array) -> Said:
        ids, logprobs = likeliest(self._engine, logits, CHOICES)
        if self._ids is not None:
            ids = self._ids[ids]
        return np.where(ids < self._vocab_size, ids, np.int32(-1)), opinion_buckets(logprobs)

    def took(self, seconds: float) -> None:
        """A round is over: what it took beside the model's forward, most of it for growing trees again."""
        self._beside += RATE * (min(seconds - self._forward, _JUMP * max(self._beside, _USUAL)) - self._beside)

    def learn(self, number: int, hearing: Hearing, after: DraftTree) -> None:
        """What round `number` has made of a tree, which is `after` now."""
        before, hearing.tree = hearing.best, after
        if before is not None and (now := hearing.best) is not None:
            self._worth[number].learn(before.tokens, before.rate, now.rate)


def _at_depths(hearing: Hearing) -> Said:
    """Of every new row what was said at its depth, whatever is above it."""
    depths = np.concatenate([[0], hearing.coming.depths()])[hearing.first :]
    ids, bucket = hearing.said or (np.empty((0, CHOICES), np.int32), np.empty((0, CHOICES), np.uint8))
    return ids[depths], bucket[depths]
