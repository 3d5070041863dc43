"""Drafters that try to break losslessness: useless, hostile, broken, or suspiciously good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.cli.options import NEEDING
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixarray import Index
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.hd.method import HdMethod
from hierdraft.drafting.heads.diffuspec import DiffuSpecMethod
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.models.tabed import TabedMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.drafting.rivals.aded import AdedMethod
from hierdraft.drafting.rivals.rest import RestMethod
from hierdraft.drafting.rivals.sam import SamMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.levels import askable_levels
from hierdraft.protocols import Budget, Engine, Method, Opened, Part, Request, Scored, Setup, Step, Wants
from hierdraft.registry import METHODS, make_method
from hierdraft.tree import DraftTree, Int32
from tests.lossless.toyheads import ToyBlock, ToyHead


class FailingModel(ToyEngine):
    """A model that can do so many forwards."""

    left = 7

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")
        return super().forward(parts)


class Base(PlainMethod):
    """A drafter that remembers what it saw, so that the loop's reports can be checked."""

    def __init__(self, vocab_size: int, truth: list[int], seed: int) -> None:
        self.vocab_size = vocab_size
        self.truth = np.asarray(truth, dtype=np.int32)
        self.rng = np.random.default_rng(seed)
        self.steps: list[Step] = []
        self.finished: list[int] = []

    def open(self, request: Request) -> Base:
        self.steps, self.finished = [], []
        return self

    def observe(self, step: Step) -> None:
        self.steps.append(step)

    def finish(self, tokens: Int32) -> None:
        self.finished = tokens.tolist()

    def _ahead(self, tokens: Int32, budget: Budget) -> list[int]:
        """What the target will really say next."""
        return self.truth[len(tokens) : len(tokens) + min(budget.depth, budget.nodes)].tolist()


class RandomTree(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        n = int(self.rng.integers(0, budget.nodes + 1))
        parents = [int(self.rng.integers(-1, i)) if i else -1 for i in range(n)]
        return DraftTree.build(self.rng.integers(0, self.vocab_size, n).tolist(), parents)


class AllWrong(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.chain([(token + 1) % self.vocab_size for token in self._ahead(tokens, budget)])


class Oracle(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.chain(self._ahead(tokens, budget))


class OracleWithOneError(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        ahead = self._ahead(tokens, budget)
        if ahead:
            place = int(self.rng.integers(len(ahead)))
            ahead[place] = (ahead[place] + 1) % self.vocab_size
        return DraftTree.chain(ahead)


class OracleInATree(Base):
    """The right path hidden among wrong siblings at every depth, in shuffled order."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        ids: list[int] = []
        parents: list[int] = []
        right = -1
        for token in self._ahead(tokens, budget)[: budget.nodes // 3]:
            siblings = [token, *self.rng.integers(0, self.vocab_size, 2).tolist()]
            self.rng.shuffle(siblings)
            ids += siblings
            parents += [right] * 3
            right = len(ids) - 3 + siblings.index(token)
        return DraftTree.build(ids, parents)


class EosEverywhere(Base):
    """The right path, and an end-of-sequence id (3) as a sibling everywhere and in its place at times."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        ids: list[int] = []
        parents: list[int] = []
        right = -1
        for token in self._ahead(tokens, budget)[: budget.nodes // 2]:
            ids += [3, token]
            parents += [right, right]
            right = len(ids) - 1
        return DraftTree.build(ids, parents)


class Duplicates(Base):
    """Every token of the right path several times, each copy with children."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        ids: list[int] = []
        parents: list[int] = []
        level = [-1]
        for token in self._ahead(tokens, budget)[:3]:
            here = []
            for parent in level:
                for _ in range(2):
                    ids.append(token)
                    parents.append(parent)
                    here.append(len(ids) - 1)
            level = here
        return DraftTree.build(ids, parents).prefix(budget.nodes)


class OverLong(Base):
    """Ignores its budget: more nodes and deeper than asked."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.chain(self.truth[len(tokens) : len(tokens) + 40].tolist() + [1] * 20)


class ProbeNodes(Base):
    """The right path, but half of the time as probe nodes, which must never be accepted."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        ahead = self._ahead(tokens, budget)
        return DraftTree.build(ahead, list(range(-1, len(ahead) - 1)), probe=bool(self.rng.integers(2)))


class OutOfVocabulary(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.chain([*self._ahead(tokens, budget)[:1], self.vocab_size])


class Negative(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.chain([-1, 2])


class BadParents(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.build([1, 2, 3], [-1, 2, 1])


class ChangesBetweenCalls(Base):
    """A different drafter in every step."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        kinds = (RandomTree, Oracle, AllWrong, OracleWithOneError, OracleInATree, Duplicates, EosEverywhere)
        return kinds[int(self.rng.integers(len(kinds)))].propose(self, tokens, budget)  # type: ignore[arg-type]


class RaisesAtRandom(Oracle):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        if self.rng.random() < 0.2:
            raise RuntimeError("a drafter's own bug")
        return super().propose(tokens, budget)


class RaisesInObserve(Oracle):
    def observe(self, step: Step) -> None:
        if self.rng.random() < 0.2:
            raise KeyError("a drafter's own bug")


class WritesToTokens(Oracle):
    """Tries to change the text it is shown."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        tokens[-1] = 0
        return super().propose(tokens, budget)


class WantsRunnersUp(Oracle):
    """Asks for runner-up ids and prompt rows, and checks their shapes."""

    wants = Wants(top_k=4, prompt_rows=5)

    def observe(self, step: Step) -> None:
        super().observe(step)
        rows = len(step.choices)
        if step.runner_up is None or step.runner_up.shape != (rows, 4):
            raise ValueError("runner-up ids are missing")
        if not step.prefill and rows != 1 + len(step.tree):
            raise ValueError("a row is missing")


class ReturnsNothing(Base):
    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return None  # type: ignore[return-value]


HARMLESS: dict[str, type[Base]] = {
    kind.__name__: kind
    for kind in (
        RandomTree, AllWrong, Oracle, OracleWithOneError, OracleInATree, EosEverywhere, Duplicates, OverLong,
        ProbeNodes, ChangesBetweenCalls, WantsRunnersUp,
    )
}  # fmt: skip
"""Drafters that keep the contract, or break it in ways the loop repairs silently."""

REFUSED: dict[str, type[Base]] = {
    kind.__name__: kind
    for kind in (
        OutOfVocabulary, Negative, BadParents, RaisesAtRandom, RaisesInObserve, WritesToTokens, ReturnsNothing
    )
}  # fmt: skip
"""Drafters that must be switched off with exactly one warning per request."""


def with_databases(damaged: bool, kind: Callable[[], Any] = HierarchyMethod) -> Any:
    """The default drafter, or `hd`, over packs of random text and a store; `damaged`: arrays full of nonsense."""
    rng = np.random.default_rng(0)
    packs = []
    for level in ("model", "statistics"):
        index = build(rng.integers(-1, 32, 4_000).astype(np.int32), 32)
        if damaged:
            wild = rng.integers(-(2**31), 2**31, 4_000).astype(np.int32)
            index = Index(rng.permutation(wild), wild, wild[:33].copy())
        packs.append(Pack(Path(level), PackInfo(level, 32), index))  # type: ignore[arg-type]
    namespaces = Namespaces(None, PackInfo("model", 32), StoreOptions("none", compact_at=2_000))
    drafter = kind()
    drafter.attach(Setup(Databases(packs, namespaces)))
    return drafter


class Chains(ToyEngine):
    """Scores a tree in a forward, and none that goes on from one, as OpenVINO with sliding windows."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.offers = replace(self.offers, extends=False)


def with_model(engine: Engine, kind: Callable[..., Any] = DraftModelMethod, **settings: Any) -> Any:
    """A method that drafts with this engine, for targets of as many ids."""
    reads = engine.reads if isinstance(engine, ToyHead) else None
    drafter = kind(draft="small", **settings)
    size = engine.vocab_size - (engine.masks if isinstance(engine, ToyBlock) else 0)
    drafter.attach(Setup(Databases(), vocab_size=size, open_engine=lambda _: Opened(engine, reads=reads)))
    return drafter


class AdedSmall(AdedMethod):
    """The same with a search that is short enough for a million tokens."""

    def __init__(self) -> None:
        super().__init__(rounds=12)


def _named(name: str) -> Callable[[], Method]:
    return lambda: make_method(name)


REAL: dict[str, Callable[[], Method]] = {
    **{name: _named(name) for name in METHODS if name not in ("aded", *NEEDING)},
    "draft-model": lambda: with_model(ToyEngine(1, 32, 2)),
    "hierarchy with a model": lambda: with_model(ToyEngine(1, 32, 2), HierarchyMethod, ask="always"),
    "draft-model with a head": lambda: with_model(ToyHead(1, 32, 2)),
    "hierarchy with a head": lambda: with_model(ToyHead(1, 32, None), HierarchyMethod, ask="always"),
    "diffuspec with a head": lambda: with_model(ToyBlock(1, 32, None), DiffuSpecMethod, paths=2),
    "tabed": lambda: with_model(ToyEngine(1, 32, 2), TabedMethod, views=("full", "4", "ngram")),
    "hvt of token-recycling": _named("hvt:first=5:of=token-recycling"),
    "hvt of hd": _named("hvt:first=3:of=hd"),
    "draft-model with chains": lambda: with_model(Chains(1, 32, 2), width=(3, 2), depth=6),
    "hierarchy with every level": _named(f"hierarchy:levels={'+'.join(askable_levels())}"),
    "hierarchy with databases": lambda: with_databases(False),
    "hierarchy with damaged packs": lambda: with_databases(True),
    "hd with databases": lambda: with_databases(False, HdMethod),
    "hd with damaged packs": lambda: with_databases(True, HdMethod),
    "aded with databases": lambda: with_databases(False, AdedSmall),
    "rest with databases": lambda: with_databases(False, RestMethod),
    "rest with damaged packs": lambda: with_databases(True, RestMethod),
    "sam with databases": lambda: with_databases(False, SamMethod),
}
"""The product's own drafters: every method that has a name, and what drafts from databases with some."""
