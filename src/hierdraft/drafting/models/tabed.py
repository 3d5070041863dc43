"""The method `tabed`: one small model reads several views of the text, and their laws are mixed (arXiv 2601.20357).

Published for drafters of vision-language models, whose views are with and without the image; here the views are of
text: all of it, its last tokens, and n-grams of the request without a model. The mixture's likeliest token is drafted,
a chain of five. After every verification the weights are those of a grid of tenths that would have done best at all
positions so far: most often the target's token as the likeliest, then the highest likelihood of the target's tokens.
The authors break ties by the divergence from the target's law, of which a method is shown the token only; and run the
views one after another, which share each forward of the model here. Of a view's law the 64 likeliest tokens are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from time import perf_counter
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.models.laws import KEPT, Shaper
from hierdraft.drafting.models.opened import WithDrafter
from hierdraft.drafting.models.tail import Tail
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, Engine, Part, Request, Session, Step
from hierdraft.tree import DraftTree, Int32

Law: TypeAlias = tuple[Int32, NDArray[np.float64]]
"""Ids that ascend and their probabilities, of the likeliest tokens; empty where a view has nothing to say."""

TENTHS = 10
_VIEWS = 4
_GRAM = 3
_FEW = 8
_LEAST = 1e-9
"""What a token is taken to have had that was not among those that are kept."""

_NOTHING = DraftTree.empty()


class TabedMethod(WithDrafter):
    """A mixture of views.

    draft   the model's name, folder or file
    views   at most four of `full`: the whole text; a number: at least its last so many tokens, read anew when they
            have become twice as many; `ngram`: what followed the last 3, 2 or 1 tokens in this request
    length  tokens of a draft
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"

    def __init__(self, draft: str, views: tuple[str, ...] = ("full", "64", "ngram"), length: int = 5) -> None:
        """Raises UsageError."""
        super().__init__(draft)
        tails = [view for view in views if view not in ("full", "ngram")]
        known = all(view.isdecimal() and len(view) < 10 and int(view) > 0 for view in tails)
        if not known or not 1 <= len(views) <= _VIEWS or len(set(views)) < len(views):
            told = "+".join(views)[:60]
            raise UsageError(f"views must be 1 to {_VIEWS} of full, ngram and numbers of tokens, not {told!r}.")
        if not 1 <= length <= 64:
            raise UsageError(f"length must be from 1 to 64, not {length}.")
        self.views, self.length = views, length

    def open(self, request: Request) -> Session:
        """A session; its text is read when it drafts first. Raises UsageError for a target of another vocabulary."""
        return TabedSession(self, request)


class TabedSession:
    """See `Session`."""

    def __init__(self, method: TabedMethod, request: Request) -> None:
        """Nothing is asked of the engine before the first proposal. Raises UsageError: see `WithDrafter`."""
        self._engine, self._length = method.engine, method.length
        self._shaper = Shaper(request.sampling, method.target_size(request), replacement=False, ids=method.ids)
        self._views = [_view(name, self._engine, request.namespace) for name in method.views]
        self.weights = Weights(len(self._views))
        self._known = 0  # tokens of the text that views have read and that are certain
        self._drafted: list[int] = []
        self._laws: list[list[Law]] = []  # of every view, at every drafted token and where the draft ended
        self._reading = 0.0

    @property
    def once(self) -> float:
        """See `Session`."""
        seconds, self._reading = self._reading, 0.0
        return seconds

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The mixture's likeliest tokens, one after another."""
        self._drafted, self._laws = [], []
        room = self._engine.max_length - len(tokens) + 1
        length = min(self._length, budget.nodes, budget.depth, room)
        if length < 1 or int(tokens.max()) >= self._engine.vocab_size:
            return _NOTHING
        for view in self._views:
            view.begin(tokens, min(self._known, len(tokens) - 1))
        self._known = len(tokens)
        text, probs, above = tokens, list[float](), 1.0
        while len(probs) < length and int(text[-1]) < self._engine.vocab_size:
            laws = self._read(text)
            self._laws.append(laws)
            token, chance = self.weights.likeliest(laws)
            if token is None:
                break
            above *= chance
            probs.append(above)
            self._drafted.append(token)
            text = np.append(text, np.int32(token))
        return DraftTree.build(self._drafted, list(range(-1, len(probs) - 1)), prob=probs)

    def _read(self, text: Int32) -> list[Law]:
        """What every view says comes next, the model's in one forward."""
        started = perf_counter()
        parts = [view.part(text) for view in self._views]
        asked = [part for part in parts if isinstance(part, Part)]
        scored = self._engine.forward(asked) if asked else []
        rows = iter([self._engine.values(one.logits, 0) for one in scored])
        if any(len(part.tokens) > _FEW for part in asked):
            self._reading += perf_counter() - started
        return [_law(*self._shaper.best(next(rows), text, KEPT)) if isinstance(part, Part) else part for part in parts]

    def observe(self, step: Step) -> None:
        """See which views were right, at every position that the text has gone through."""
        drafted, laws = self._drafted, self._laws
        self._drafted, self._laws = [], []
        for place, (of, token) in enumerate(zip(laws, step.tokens, strict=False)):
            self.weights.learn(of, token)
            if place == len(drafted) or token != drafted[place]:
                break
            self._known += 1
        if laws:
            self.weights.choose()

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002
        """Let go of the text."""
        for view in self._views:
            view.close()


class Weights:
    """How much each view counts. `now`, float64[views], sums to 1; equal until something was learned."""

    def __init__(self, views: int) -> None:
        """For so many views, at least one."""
        cuts = np.array([(-1, *cut, TENTHS + views - 1) for cut in combinations(range(TENTHS + views - 1), views - 1)])
        self._grid = (np.diff(cuts, axis=1) - 1) / TENTHS  # every way to deal ten tenths to the views
        self._right = np.zeros(len(self._grid))
        self._likely = np.zeros(len(self._grid))
        self.now = np.full(views, 1.0 / views)

    def learn(self, laws: Sequence[Law], token: int) -> None:
        """The target said `token` where each view had its law."""
        ids, rows = _joined(laws)
        if not len(ids):
            return
        mixed = self._grid @ rows
        self._right += (ids[mixed.argmax(axis=1)] == token) & (mixed.max(axis=1) > 0)
        self._likely += np.log(np.maximum(mixed[:, ids == token].sum(axis=1), _LEAST))

    def choose(self) -> None:
        """The weights that would have done best."""
        self.now = self._grid[np.lexsort((self._likely, self._right))[-1]]

    def likeliest(self, laws: Sequence[Law]) -> tuple[int | None, float]:
        """The mixture's likeliest token, the lowest among equals, and how likely it is; None where nothing is said.

        Where only views without weight have something to say, all count alike.
        """
        ids, rows = _joined(laws)
        if not len(ids):
            return None, 0.0
        weights = self.now if (self.now @ rows).any() else np.full(len(rows), 1.0 / len(rows))
        said = float(weights @ rows.any(axis=1))
        mixed = weights @ rows / said
        best = int(mixed.argmax())
        return int(ids[best]), min(1.0, float(mixed[best]))


def _joined(laws: Sequence[Law]) -> tuple[Int32, NDArray[np.float64]]:
    """All ids of some laws, ascending, and float64[laws, ids]: the probability of each in each."""
    ids = np.unique(np.concatenate([own for own, _ in laws]))
    rows = np.zeros((len(laws), len(ids)))
    for row, (own, prob) in zip(rows, laws, strict=True):
        row[np.searchsorted(ids, own)] = prob
    return ids, rows


def _law(ids: Sequence[int], prob: Sequence[float]) -> Law:
    found = np.array(ids, dtype=np.int32)
    order = np.argsort(found)
    return found[order], np.array(prob, dtype=np.float64)[order]


class _ModelView:
    """The text, or its last tokens, in a sequence of the model's engine."""

    def __init__(self, engine: Engine, namespace: str, width: int | None) -> None:
        self._engine, self._width = engine, width
        self._tail = Tail(engine, namespace if width is None else None)
        self._start = 0

    def begin(self, tokens: Int32, known: int) -> None:
        """A proposal begins below `tokens`; of what was read the first `known` tokens of the text are among them."""
        if self._width is not None and len(tokens) - self._start > 2 * self._width:
            self._tail.close()
            self._tail, self._start = Tail(self._engine, None), len(tokens) - self._width
        self._tail.rewind(max(0, known - self._start))

    def part(self, text: Int32) -> Part:
        """What the engine has to score of a text that begins like the last one."""
        return self._tail.part(text[self._start :], _NOTHING)

    def close(self) -> None:
        self._tail.close()


class _GramView:
    """How often each token followed the last 3, 2 or 1 tokens in the request; of the longest that occurred."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], Counter[int]] = {}
        self._counted = 1

    def begin(self, tokens: Int32, known: int) -> None:  # noqa: ARG002
        """Count what is new."""
        text = tokens[max(0, self._counted - _GRAM) :].tolist()
        for place in range(len(text) - len(tokens) + self._counted, len(text)):
            for size in range(1, min(_GRAM, place) + 1):
                self._after.setdefault(tuple(text[place - size : place]), Counter())[text[place]] += 1
        self._counted = len(tokens)

    def part(self, text: Int32) -> Law:
        """What the text says comes next; nothing where its last token is new."""
        last = text[-_GRAM:].tolist()
        for size in range(len(last), 0, -1):
            found = self._after.get(tuple(last[-size:]))
            if found is not None:
                ids, counts = zip(*found.most_common(KEPT), strict=True)
                return _law(ids, [count / found.total() for count in counts])
        return _law([], [])

    def close(self) -> None:
        self._after.clear()


def _view(name: str, engine: Engine, namespace: str) -> _ModelView | _GramView:
    if name == "ngram":
        return _GramView()
    return _ModelView(engine, namespace, None if name == "full" else int(name))
