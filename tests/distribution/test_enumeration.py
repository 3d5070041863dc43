"""The output's distribution, computed exactly, is the target's: 900 small languages and drafts, error below 1e-12."""

from __future__ import annotations

import numpy as np
import pytest

from hierdraft.tree import DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.greedy import walk
from hierdraft.verify.rejection import reject
from tests.distribution.exact import Branching, Place, Target, branches, drawn, error, looked_up, mixed, text_at

WIDTHS = ([1], [2], [3], [1, 1], [2, 1], [1, 2], [1, 1, 1], [4])
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_the_walk_along_drawn_tokens(part: int) -> None:
    """300 trees of looked-up tokens: each token drawn once from the target, then sought among the children."""
    for seed in range(part * 60, part * 60 + 60):
        rng = np.random.default_rng(seed)
        target = Target(rng, int(rng.integers(2, 7)))
        tree = looked_up(rng, target.size, int(rng.integers(0, 12)))

        def run(dice: Branching, tree: DraftTree = tree, target: Target = target) -> Verdict:
            return walk(tree, lambda row: dice.draw(target.law(text_at(tree, row))))

        assert error(target, 3 if target.size > 4 else 4, branches(run))[0] < 1e-12, seed


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("part", range(PARTS))
def test_rejection(part: int, replacement: bool) -> None:
    """300 drafts drawn from another language: chains, several candidates, with and without replacement."""
    for seed in range(part * 30, part * 30 + 30):
        rng = np.random.default_rng(seed)
        widths = WIDTHS[seed % len(WIDTHS)]
        size = int(rng.integers(2, 4 if len(widths) > 1 else 6))
        target, draft = Target(rng, size, 1.5), Target(rng, size)

        def run(dice: Branching, draft: Target = draft, target: Target = target, widths: list[int] = widths) -> Verdict:
            tree = drawn(draft, dice, widths, replacement=replacement)
            tree.check(draft.size)
            return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

        assert error(target, len(widths) + 1, branches(run))[0] < 1e-12, seed


def a_place(rng: np.random.Generator, levels: int) -> Place:
    """At most three children, of which at most two were drawn at deeper levels."""
    kinds = rng.integers(-1, 2, int(rng.integers(1, 4 if levels == 1 else 3))).tolist()
    below = (int(rng.integers(len(kinds))), a_place(rng, levels - 1)) if levels > 1 else None
    return Place(kinds, (bool(rng.integers(2)), bool(rng.integers(2))), below)


@pytest.mark.parametrize("part", range(PARTS))
def test_rejection_of_drawn_and_looked_up_tokens_together(part: int) -> None:
    """300 trees that mix looked-up tokens with those of two drafts, each with or without replacement."""
    for seed in range(part * 60, part * 60 + 60):
        rng = np.random.default_rng(seed)
        levels = 1 + seed % 3
        size = int(rng.integers(2, (6, 4, 3)[levels - 1]))
        target, place = Target(rng, size, 1.5), a_place(rng, levels)
        drafts = [Target(rng, size), Target(rng, size)]

        def run(
            dice: Branching, target: Target = target, drafts: list[Target] = drafts, place: Place = place,
            salt: int = seed,
        ) -> Verdict:  # fmt: skip
            tree = mixed(drafts, dice, place, salt)
            tree.check(target.size)
            return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

        assert error(target, levels + 1, branches(run))[0] < 1e-12, seed


def test_a_draft_from_the_targets_own_law_is_always_accepted() -> None:
    target = Target(np.random.default_rng(0), 4)

    def run(dice: Branching) -> Verdict:
        tree = drawn(target, dice, [1, 1], replacement=False)
        return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

    assert {len(verdict.path) for verdict, probability in branches(run) if probability > 0} == {2}


def test_the_chance_of_acceptance_is_the_overlap_of_the_laws() -> None:
    rng = np.random.default_rng(1)
    target, draft = Target(rng, 5), Target(rng, 5)

    def run(dice: Branching) -> Verdict:
        tree = drawn(draft, dice, [1], replacement=False)
        return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

    accepted = sum(probability for verdict, probability in branches(run) if verdict.path)
    assert accepted == pytest.approx(float(np.minimum(target.law(()), draft.law(())).sum()), abs=1e-12)


@pytest.mark.parametrize("replacement", [True, False])
def test_more_candidates_are_accepted_more_often(replacement: bool) -> None:
    """What several candidates are for (MCSD): the expected accepted length rises with each, for every pair of laws."""

    def accepted(seed: int, width: int) -> float:
        rng = np.random.default_rng(seed)
        target, draft = Target(rng, 5, 1.5), Target(rng, 5)

        def run(dice: Branching) -> Verdict:
            tree = drawn(draft, dice, [width], replacement=replacement)
            return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

        return sum(probability * len(verdict.path) for verdict, probability in branches(run))

    one, two, four = ([accepted(seed, width) for seed in range(4)] for width in (1, 2, 4))
    assert all(a < b < c or a > 0.999 for a, b, c in zip(one, two, four, strict=True))
    assert np.mean(four) > np.mean(one) + 0.1
