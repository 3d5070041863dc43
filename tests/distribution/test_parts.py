"""Drafts that are verified in parts: the law of what is said over several steps, with every branch of chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from hierdraft.drafting import hvt
from hierdraft.drafting.hvt import HvtMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.protocols import Budget, Request, Step
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.greedy import walk
from hierdraft.verify.rejection import reject
from tests.distribution.exact import Branching, Place, Target, branches, drawn, error, looked_up, mixed, text_at

LENGTH = 4


class Making(PlainMethod):
    """Drafts once, what a function makes; `asked` says how often it could have."""

    q_kind = "full"

    def __init__(self, make: Callable[[], DraftTree]) -> None:
        self._make, self.asked = make, 0

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        self.asked += 1
        return self._make() if self.asked == 1 else DraftTree.empty()


@cache
def made(first: int) -> HvtMethod:
    """Made once: looking for plug-ins takes longer than a step."""
    return HvtMethod(first, "none")


def said(make: Callable[[], DraftTree], first: int, target: Target, dice: Branching, more: list[int]) -> Verdict:
    """Decode LENGTH tokens; `more` is told of every step how many tokens of it came from a part after the first."""
    method, inner = made(first), Making(make)
    method.inner = inner
    session = method.open(Request(np.array([0], dtype=np.int32), LENGTH))
    text: list[int] = []
    while len(text) < LENGTH:
        asked, so_far = inner.asked, tuple(text)
        tree = session.propose(np.array([0, *text], dtype=np.int32), Budget(64, LENGTH))
        tree.check(target.size)

        def law(row: int, tree: DraftTree = tree, so_far: tuple[int, ...] = so_far) -> Any:
            return target.law(so_far + text_at(tree, row))

        verdict = reject(tree, law, dice) if tree.drawn else walk(tree, lambda row, law=law: dice.draw(law(row)))  # type: ignore[misc]
        session.observe(Step(verdict.tokens, tree, verdict.path, np.zeros(1 + len(tree), dtype=np.int32)))
        more.append(len(verdict.path) if inner.asked == asked else 0)
        text += verdict.tokens
    return Verdict([], text)


@pytest.mark.parametrize("first", [1, 2, 4])
def test_looked_up_trees(first: int) -> None:
    more: list[int] = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        target = Target(rng, int(rng.integers(2, 4)))
        tree = looked_up(rng, target.size, int(rng.integers(3, 12)))

        def run(dice: Branching, target: Target = target, tree: DraftTree = tree) -> Verdict:
            return said(lambda: tree, first, target, dice, more)

        assert error(target, LENGTH, branches(run))[0] < 1e-12
    assert sum(more) > 10 or first > 1, "parts after the first are accepted too"


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("widths", [[2], [1, 1], [2, 1], [1, 2], [1, 1, 1], [2, 1, 1]])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_drawn_trees(widths: list[int], replacement: bool, first: int) -> None:
    more: list[int] = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        target, draft = Target(rng, 3 if len(widths) < 3 else 2, 1.5), Target(rng, 3 if len(widths) < 3 else 2)

        def run(dice: Branching, target: Target = target, draft: Target = draft) -> Verdict:
            return said(lambda: drawn(draft, dice, widths, replacement=replacement), first, target, dice, more)

        assert error(target, LENGTH, branches(run))[0] < 1e-12
    assert sum(more) > 0 or len(widths) < 3 or first > 1, "parts after the first are accepted too"


PLACES = [
    Place([-1, 0], (False, False), (1, Place([0], (False, False)))),
    Place([0, -1, 0], (True, False), (0, Place([-1, 0], (True, False)))),
    Place([-1], (False, False), (0, Place([0, 1], (False, True)))),
]


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_looked_up_beside_drawn_nodes(place: Place, first: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        target, drafts = Target(rng, 2, 1.5), [Target(rng, 2), Target(rng, 2)]

        def run(dice: Branching, target: Target = target, drafts: list[Target] = drafts, seed: int = seed) -> Verdict:
            return said(lambda: mixed(drafts, dice, place, seed), first, target, dice, [])

        assert error(target, LENGTH, branches(run))[0] < 1e-12


def test_parts_by_what_was_drawn_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound has teeth: the likeliest drawn nodes first changes the law."""

    def likely(tree: DraftTree, most: int) -> Any:
        own = [float(tree.laws[group].prob[np.searchsorted(tree.laws[group].ids, token)])
               for token, group in zip(tree.tokens, tree.group, strict=True)]  # fmt: skip
        keep = np.zeros(len(tree), dtype=np.bool_)
        keep[np.argsort(-np.array(own), kind="stable")[:most]] = True
        return keep

    def furthest() -> float:
        found = []
        for seed in range(8):
            rng = np.random.default_rng(seed)
            target, draft = Target(rng, 3, 1.5), Target(rng, 3)

            def run(dice: Branching, target: Target = target, draft: Target = draft) -> Verdict:
                return said(lambda: drawn(draft, dice, [2], replacement=False), 1, target, dice, [])

            found.append(error(target, LENGTH, branches(run))[1])
        return max(found)

    assert furthest() < 1e-12
    monkeypatch.setattr(hvt, "_places", likely)
    assert furthest() > 0.01
