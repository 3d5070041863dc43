"""The method `diffuspec`: a head says several tokens in one call, and a path through its candidates is drafted.

DiffuSpec (Li et al., arXiv 2510.02358) has a masked diffusion model fill k places in one step. Each place has a law of
its own, which knows nothing of what the others become, so that the likeliest of each may not go together. Its two parts
are here, before a head that is trained to say several tokens (`hierdraft train head --kind block`):

- Causal-consistency path search (section 3.2): of every place the likeliest candidates that have `mass` together, at
  most 15; through these a beam of `beam` paths, by weight * log q + (1 - weight) * log p of a 3-gram model. Theirs is
  fitted to each data set's training split; this one is counted in the packs and in the request's own text.
- Adaptive draft length (section 3.3): two running means, of what was drafted and of what was accepted. As long as all
  is accepted, the next draft is longer than the first of them by a third of the longest. Theirs are 20 to 30 tokens,
  and shorter only where the text seems to end; a head says fewer, and ends of text are not looked for here, since what
  is drafted after one is never reached: so where not all is accepted, the next draft has one token more than the second
  mean, and at least a third of what the head says.

The draft is one chain, or the beam's best `paths` as a tree. Chains from a search are not drawn from any law, so they
are verified like looked-up ones at every temperature; the paper's ratio test is not exact for them.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, log
from typing import Any, Literal

import numpy as np

from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.models.laws import Shaper
from hierdraft.drafting.models.opened import WithDrafter
from hierdraft.drafting.rivals.datastore import Datastore
from hierdraft.errors import UsageError
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Scores, Session, Setup, Step
from hierdraft.tree import DraftTree, Int32

_MOST = 15
_KEEPS = 0.5
"""What running means keep with every draft."""

_ENOUGH = 5_000
_UNKNOWN = 1e-4
_TRUST = 2.0
"""Occurrences of two tokens at which what followed them counts as much as what followed the last alone."""

_DRAFT = code_of("draft")
_NEVER: Counter[int] = Counter()

Lattice = list[tuple[list[int], list[float]]]
"""Of every place the candidates, best first, and their probabilities."""


class DiffuSpecMethod(WithDrafter):
    """A path through what a block head says.

    draft      the head's name or folder
    search     whether a path is searched for; if not, the likeliest of each place are drafted
    adaptive   whether the length follows what was accepted; if not, all that the head says is drafted
    beam, mass, weight   of the search: see above
    paths      how many of the beam's best are drafted
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"
    takes_heads = True
    uses_databases = True

    def __init__(
        self, draft: str, search: bool = True, adaptive: bool = True, beam: int = 3, mass: float = 0.8,
        weight: float = 0.5, paths: int = 1,
    ) -> None:  # fmt: skip
        """Raises UsageError."""
        super().__init__(draft)
        if not 1 <= paths <= beam <= 64:
            raise UsageError(f"beam must be from 1 to 64 and paths at most that, not {beam} and {paths}.")
        if not (0.0 < mass <= 1.0 and 0.0 <= weight <= 1.0):
            raise UsageError(f"mass and weight must be from 0 to 1, not {mass} and {weight}.")
        self.search, self.adaptive, self.beam, self.mass = search, adaptive, beam, mass
        self.weight, self.paths = weight, paths
        self.databases: Any = None

    def attach(self, setup: Setup) -> None:
        """Load the head. Raises UsageError for a model that is no block head, and what loading raises."""
        super().attach(setup)
        self.databases = setup.databases
        if self.reads is None or self.reads.block is None:
            self.close()
            raise UsageError(
                f"{self.draft!r} does not say several tokens in one call: diffuspec takes a head of the kinds "
                "parallel, block and coral."
            )

    def open(self, request: Request) -> Session:
        """A session; its text is read when it drafts first. Raises UsageError for a target of another vocabulary."""
        return _Session(self, request)


class _Session:
    def __init__(self, method: DiffuSpecMethod, request: Request) -> None:
        if method.reads is None:
            raise UsageError(f"The method has no head {method.draft!r}.")
        self._method, self._engine = method, method.engine
        size = method.target_size(request)
        self._shaper = Shaper(request.sampling, size, replacement=False, ids=method.ids)
        self._text = HeadText(method.engine, method.reads)
        self._grams = Trigrams(Datastore(method.databases, request.namespace, ["model", "statistics"], 2, 1, _ENOUGH))
        self.length = Length(self._text.levels or 1)
        self._drafted = 0

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best paths through what the head says of the next places."""
        self._drafted = 0
        most = min(self._text.levels or 1, self._text.room(tokens), budget.nodes, budget.depth)
        if most < 1 or not self._text.knows(tokens):
            return DraftTree.empty()
        rows = self._read(tokens)
        if self._method.adaptive:
            most = min(most, self.length.next)
        lattice = self._lattice(rows[:most], tokens)
        if self._method.search:
            self._grams.read(tokens)
            found = search(lattice, self._grams, tokens[-2:].tolist(), self._method.beam, self._method.weight)
        else:
            found = [[ids[0] for ids, _ in lattice]]
        self._drafted = max(map(len, found), default=0)
        chains = [(_DRAFT, path) for path in found[: self._method.paths]]
        return DraftTree.merge(chains, budget.nodes, budget.depth)

    def _read(self, tokens: Int32) -> list[Scores]:
        """A row of each place, in one call once the text before has been read."""
        reading = self._text.read(tokens, 1)
        part = next(reading)
        while True:
            (scored,) = self._engine.forward([part])
            self._text.heard(scored)
            rows = [self._engine.values(scored.logits, row) for row in range(len(scored.logits))]
            try:
                part = reading.send(rows)
            except StopIteration as ended:
                found: list[Scores] = ended.value
                return found

    def _lattice(self, rows: list[Scores], tokens: Int32) -> Lattice:
        """The candidates of each place, up to one that has none."""
        found: Lattice = []
        for row in rows:
            ids, prob = self._shaper.best(row, tokens, _MOST)
            count = 1 + int(np.searchsorted(np.cumsum(prob), self._method.mass))
            if not ids:
                break
            found.append((ids[:count], prob[:count]))
        return found

    def observe(self, step: Step) -> None:
        """Learn how long drafts should be, and what the target thought."""
        self._text.saw(step)
        if self._drafted and not step.prefill:
            self.length.learn(self._drafted, step.accepted)
        self._drafted = 0

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002
        """Let go of the text."""
        self._text.close()


class Length:
    """How long the next draft should be: `next`, from a third of `most` to all of it, which it begins with."""

    def __init__(self, most: int) -> None:
        """At most so long."""
        self.next = self._most = most
        self._least = max(1, ceil(most / 3))
        self._drafted = self._accepted = float(most)

    def learn(self, drafted: int, accepted: int) -> None:
        """A draft of so many tokens, of which so many were accepted."""
        self._drafted += _KEEPS * (drafted - self._drafted)
        self._accepted += _KEEPS * (accepted - self._accepted)
        wanted = self._drafted + self._least if self._accepted >= self._drafted else self._accepted + 1.0
        self.next = min(self._most, max(self._least, ceil(wanted)))


class Trigrams:
    """How likely a token is after two others, counted in packs and in the request's text.

    Where the two are rare, it leans on what followed the second alone.
    """

    def __init__(self, store: Datastore) -> None:
        """`store`: finds up to two tokens, and what followed them."""
        self._store = store
        self._known: dict[tuple[int, ...], Counter[int]] = {}
        self._own: dict[tuple[int, ...], Counter[int]] = {}
        self._read = 0

    def read(self, tokens: Int32) -> None:
        """Count what the text has gained."""
        for place in range(max(1, self._read), len(tokens)):
            token = int(tokens[place])
            for size in (1, 2):
                if place >= size:
                    key = tuple(tokens[place - size : place].tolist())
                    self._own.setdefault(key, Counter())[token] += 1
        self._read = len(tokens)

    def prob(self, token: int, before: tuple[int, int]) -> float:
        """Of a token after two others."""
        found = _UNKNOWN
        for key in (before[1:], before):
            counts, own = self._counted(key), self._own.get(key, _NEVER)
            total = counts.total() + own.total()
            found = (counts[token] + own[token] + _TRUST * found) / (total + _TRUST)
        return found

    def _counted(self, key: tuple[int, ...]) -> Counter[int]:
        """What followed a key in the packs."""
        if key not in self._known:
            size, rows = self._store.find(np.array(key, dtype=np.int32))
            followed = rows[:, 0] if size == len(key) else rows[:0, 0]
            self._known[key] = Counter(followed[followed >= 0].tolist())
        return self._known[key]


def search(lattice: Lattice, grams: Trigrams, before: list[int], beam: int, weight: float) -> list[list[int]]:
    """The best `beam` paths through a lattice, best first.

    before   the last tokens of the text, two if it has them
    """
    paths: list[tuple[float, list[int]]] = [(0.0, [])]
    for ids, prob in lattice:
        longer = []
        for score, path in paths:
            pair = (before + path)[-2:]
            for token, own in zip(ids, prob, strict=True):
                likely = grams.prob(token, (pair[0], pair[-1]))
                longer.append((score + weight * log(own) + (1.0 - weight) * log(likely), [*path, token]))
        paths = sorted(longer, key=lambda one: (-one[0], one[1]))[:beam]
    return [path for _, path in paths]
