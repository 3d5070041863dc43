"""The usual mistakes of sampled verification, made on purpose: the enumeration must find every one of them.

Each wrong verifier is compared with the right one on the same languages and drafts, so a test here fails both when
a mistake goes unnoticed and when the right rule is blamed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hierdraft.tree import DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.rejection import reject
from tests.distribution.exact import Branching, Law, Target, branches, drawn, error, text_at

Run = Callable[[Branching, Target, Target], Verdict]
SEEDS = range(12)
SIZE = 4


def right(dice: Branching, target: Target, draft: Target) -> Verdict:
    tree = drawn(draft, dice, [2], replacement=False)
    return reject(tree, lambda row: target.law(text_at(tree, row)), dice)


def one_law(tree: DraftTree, target: Target) -> Callable[[int], Law]:
    return lambda row: target.law(text_at(tree, row))


def best_token_tested_as_if_drawn(dice: Branching, target: Target, draft: Target) -> Verdict:
    """The draft is the draft's likeliest token, and is tested against its full law."""
    law = draft.law(())
    token = int(law.argmax())
    p = target.law(())
    if dice.accept(min(1.0, float(p[token] / law[token]))):
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    left = np.maximum(p - law, 0.0)
    return Verdict([], [dice.draw(left / left.sum() if left.sum() > 0 else p)])


def a_draw_for_each_candidate(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Every candidate draws its own token of the target, and a fresh one is drawn if none agrees."""
    tree = drawn(draft, dice, [2], replacement=True)
    for token in tree.tokens.tolist():
        if dice.draw(target.law(())) == token:
            return Verdict([0], [token, dice.draw(target.law((token,)))])
    return Verdict([], [dice.draw(target.law(()))])


def a_fresh_draw_after_rejection(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Not the residual law, but the target's own."""
    tree = drawn(draft, dice, [1], replacement=False)
    token, p, q = int(tree.tokens[0]), target.law(()), draft.law(())
    if dice.accept(min(1.0, float(p[token] / q[token]))):
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    return Verdict([], [dice.draw(p)])


def unlikely_draws_dropped(dice: Branching, target: Target, draft: Target) -> Verdict:
    """A drawn token is not verified because its own probability is low."""
    tree = drawn(draft, dice, [1], replacement=False)
    if draft.law(())[int(tree.tokens[0])] < 0.3:
        return Verdict([], [dice.draw(target.law(()))])
    return reject(tree, one_law(tree, target), dice)


def trimmed_law_not_normalised(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Drawn from part of the vocabulary, tested with the probabilities of the whole."""
    q = draft.law(()).copy()
    q[int(q.argmax())] *= 0.3  # what the trimmed law lacks
    token = dice.draw(q / q.sum())
    p = target.law(())
    if dice.accept(min(1.0, float(p[token] / q[token]))):
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    left = np.maximum(p - q, 0.0)
    return Verdict([], [dice.draw(left / left.sum())])


def replacement_mixed_up(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Drawn without replacement, tested as if with."""
    tree = drawn(draft, dice, [3], replacement=False)
    p, q = target.law(()), draft.law(())
    for place, token in enumerate(tree.tokens.tolist()):
        if dice.accept(min(1.0, float(p[token] / q[token]))):
            return Verdict([place], [token, dice.draw(target.law((token,)))])
        left = np.maximum(p - q, 0.0)
        p = left / left.sum() if left.sum() > 0 else p
    return Verdict([], [dice.draw(p)])


def lenient(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Accepted with probability 2 p / q."""
    tree = drawn(draft, dice, [1], replacement=False)
    token, p, q = int(tree.tokens[0]), target.law(()), draft.law(())
    if dice.accept(min(1.0, 2.0 * float(p[token] / q[token]))):
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    left = np.maximum(p - q, 0.0)
    return Verdict([], [dice.draw(left / left.sum() if left.sum() > 0 else p)])


def accepted_above_a_threshold(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Whatever the target gives a probability above 0.1."""
    tree = drawn(draft, dice, [1], replacement=False)
    token, p = int(tree.tokens[0]), target.law(())
    if p[token] > 0.1:
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    return Verdict([], [dice.draw(p)])


def looked_up_token_tested_as_if_drawn(dice: Branching, target: Target, draft: Target) -> Verdict:
    """Beside a drawn token stands a looked-up one, which is tested with the draft's probability."""
    tree = drawn(draft, dice, [1], replacement=True)
    other = (int(tree.tokens[0]) + 1) % SIZE
    both = DraftTree.build([int(tree.tokens[0]), other], [-1, -1], group=0, laws=tree.laws)
    if draft.law(())[other] == 0.0:
        return reject(tree, one_law(tree, target), dice)
    return reject(both, one_law(both, target), dice)


def rejected_look_up_kept(dice: Branching, target: Target, draft: Target) -> Verdict:
    """A looked-up token that was not accepted stays in the law that is drawn from."""
    p, token = target.law(()), int(draft.law(()).argmax())
    if dice.accept(float(p[token])):
        return Verdict([0], [token, dice.draw(target.law((token,)))])
    return Verdict([], [dice.draw(p)])


MISTAKES: list[Run] = [
    best_token_tested_as_if_drawn, a_draw_for_each_candidate, a_fresh_draw_after_rejection, unlikely_draws_dropped,
    trimmed_law_not_normalised, replacement_mixed_up, lenient, accepted_above_a_threshold,
    looked_up_token_tested_as_if_drawn, rejected_look_up_kept,
]  # fmt: skip


def distances(run: Run) -> list[float]:
    """Total variation between what is emitted and the target's law, for several languages."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        target, draft = Target(rng, SIZE, 1.5), Target(rng, SIZE)
        found.append(error(target, 2, branches(lambda dice, t=target, d=draft: run(dice, t, d)))[1])
    return found


def test_the_right_rule_has_no_distance() -> None:
    assert max(distances(right)) < 1e-12


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda run: run.__name__)
def test_a_mistake_is_found(mistake: Run) -> None:
    assert max(distances(mistake)) > 0.02
