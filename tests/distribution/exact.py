"""Exact output distributions: every random decision is replaced by all of its branches, each with its probability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import DraftLaw, DraftTree
from hierdraft.verify.contracts import Verdict

Law = NDArray[np.float64]
Text = tuple[int, ...]


class Branching:
    """Dice that follow a script of branches and note where else they could have gone."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.probability = 1.0
        self.sizes: list[list[int]] = []
        self._at = 0

    def pick(self, law: Any) -> int:
        """A branch of positive probability."""
        open_branches = [i for i, p in enumerate(law) if p > 0]
        if self._at == len(self.script):
            self.script.append(open_branches[0])
        self.sizes.append(open_branches)
        branch = self.script[self._at]
        self._at += 1
        self.probability *= float(law[branch])
        return branch

    def accept(self, probability: float) -> bool:
        return self.pick([1.0 - probability, probability]) == 1

    def draw(self, law: Law) -> int:
        return self.pick(law)


def branches(run: Callable[[Branching], Any]) -> Iterator[tuple[Any, float]]:
    """(result, probability) of `run` for every way its dice can fall."""
    script: list[int] | None = []
    while script is not None:
        dice = Branching(list(script))
        result = run(dice)
        yield result, dice.probability
        script = None
        for place in reversed(range(len(dice.sizes))):
            later = [b for b in dice.sizes[place] if b > dice.script[place]]
            if later:
                script = [*dice.script[:place], later[0]]
                break


class Target:
    """A small language: for each text so far a random law over `size` tokens, some of them impossible."""

    def __init__(self, rng: np.random.Generator, size: int, peak: float = 1.0) -> None:
        self.size = size
        self._rng = rng
        self._peak = peak
        self._laws: dict[Text, Law] = {}

    def law(self, text: Text) -> Law:
        if text not in self._laws:
            weights = np.exp(self._peak * self._rng.standard_normal(self.size))
            weights[self._rng.random(self.size) < 0.2] = 0.0
            weights[self._rng.integers(self.size)] += 0.1
            self._laws[text] = weights / weights.sum()
        return self._laws[text]

    def probability(self, text: Text) -> float:
        """Of the whole text, token by token."""
        return float(np.prod([self.law(text[:i])[token] for i, token in enumerate(text)]))


def text_at(tree: DraftTree, row: int) -> Text:
    """What a row stands for: its path from the root."""
    return tuple(int(tree.tokens[node]) for node in tree.path(row - 1))


def error(target: Target, length: int, outcomes: Iterator[tuple[Verdict, float]]) -> tuple[float, float]:
    """(largest error of a text's probability, total variation) over all texts of `length` tokens.

    A step that emits fewer tokens is continued by the target itself; one that emits more is cut.
    """
    found: dict[Text, float] = dict.fromkeys(product(range(target.size), repeat=length), 0.0)
    total = 0.0
    for verdict, probability in outcomes:
        total += probability
        said = tuple(verdict.tokens[:length])
        for rest in product(range(target.size), repeat=length - len(said)):
            more = [target.law(said + rest[:i])[token] for i, token in enumerate(rest)]
            found[said + rest] += probability * float(np.prod(more))
    assert abs(total - 1.0) < 1e-9
    gaps = np.array([found[text] - target.probability(text) for text in found])
    return float(np.abs(gaps).max()), float(np.abs(gaps).sum() / 2)


def looked_up(rng: np.random.Generator, size: int, nodes: int) -> DraftTree:
    """A random tree with common prefixes, duplicates and, at times, probe nodes."""
    parents = [int(rng.integers(-1, i)) if i else -1 for i in range(nodes)]
    probe: list[bool] = []
    for parent in parents:
        probe.append(bool(rng.random() < 0.15) or (parent >= 0 and probe[parent]))
    return DraftTree.build(rng.integers(0, size, nodes).tolist(), parents, probe=probe)


def drawn(draft: Target, dice: Branching, widths: list[int], *, replacement: bool) -> DraftTree:
    """A tree whose every node of depth d has `widths[d]` children drawn from the draft's law there."""
    tokens: list[int] = []
    parents: list[int] = []
    group: list[int] = []
    laws: list[DraftLaw] = []
    level: list[tuple[int, Text]] = [(-1, ())]
    for width in widths:
        below: list[tuple[int, Text]] = []
        for node, text in level:
            law = draft.law(text)
            laws.append(sparse(law, replacement=replacement))
            left = law.copy()
            for _ in range(min(width, width if replacement else int((law > 0).sum()))):
                token = dice.draw(left / left.sum())
                if not replacement:
                    left[token] = 0.0
                tokens.append(token)
                parents.append(node)
                group.append(len(laws) - 1)
                below.append((len(tokens) - 1, (*text, token)))
        level = below
    return DraftTree.build(tokens, parents, group=group, laws=laws)


def sparse(law: Law, *, replacement: bool = False) -> DraftLaw:
    """A law float64[V] as trees have it."""
    ids = np.flatnonzero(law)
    return DraftLaw(ids.astype(np.int32), law[ids], replacement)


@dataclass(frozen=True)
class Place:
    """How the children of a node come about: by -1 looked up, by 0 or 1 drawn from that draft.

    kinds        of the children in node order
    replacement  of each draft
    below        which child has children of its own, and how those come about
    """

    kinds: list[int]
    replacement: tuple[bool, bool]
    below: tuple[int, Place] | None = None


def mixed(drafts: Sequence[Target], dice: Branching, place: Place, salt: int) -> DraftTree:
    """A tree of drawn and looked-up nodes; which token is looked up depends on what was drawn for the same parent."""
    tokens: list[int] = []
    parents: list[int] = []
    group: list[int] = []
    laws: list[DraftLaw] = []
    here: Place | None = place
    node, text = -1, ()
    while here is not None:
        own, first = {}, len(tokens)
        left = [draft.law(text).copy() for draft in drafts]
        for kind in here.kinds:
            if kind >= 0 and left[kind].sum() == 0.0:
                continue
            if kind >= 0 and kind not in own:
                own[kind] = len(laws)
                laws.append(sparse(drafts[kind].law(text), replacement=here.replacement[kind]))
            if kind < 0:
                tokens.append((salt + sum(tokens[first:])) % drafts[0].size)
            else:
                tokens.append(dice.draw(left[kind] / left[kind].sum()))
                if not here.replacement[kind]:
                    left[kind][tokens[-1]] = 0.0
            parents.append(node)
            group.append(own.get(kind, -1))
        if here.below is None or first + here.below[0] >= len(tokens):
            break
        node = first + here.below[0]
        text, here = (*text, tokens[node]), here.below[1]
    return DraftTree.build(tokens, parents, group=group, laws=laws)
