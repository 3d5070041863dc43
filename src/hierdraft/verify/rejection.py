"""Classic speculative sampling, for drafts that were drawn from a known distribution.

One child: Leviathan, Kalman and Matias (arXiv 2211.17192, algorithm 1) and Chen et al. (arXiv 2302.01318). Several
children of one node: recursive rejection, SpecInfer (arXiv 2305.09781) for draws with replacement and Yang et al.
(arXiv 2401.06706) for draws without. The output's distribution is the target's; the sample is not that of plain
decoding with the same seed. A tree of looked-up tokens alone needs none of this: for it the walk along the target's own
draws is exact and accepts as often. Looked-up tokens beside drawn ones are the case in which all of the draft's law
lies on one token.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import DraftLaw, DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.noise import Dice

Law = NDArray[np.float64]


def reject(tree: DraftTree, target: Callable[[int], Law | None], dice: Dice) -> Verdict:
    """The accepted path and one more token, together distributed as the target's own text.

    target  row -> float64[V], the target's processed distribution there; asked once per visited row, parents first.
            None where there is none: what is accepted ends before it

    Where several children of one node hold the same token each is tested, and the walk continues below the first of
    them: their rows are equal.
    """
    below: dict[int, list[int]] = {}
    for node in np.flatnonzero(~tree.probe).tolist():
        below.setdefault(int(tree.parents[node]), []).append(node)
    path: list[int] = []
    tokens: list[int] = []
    node = -1
    while True:
        law = target(node + 1)
        if law is None:
            return Verdict(path, tokens)
        children = below.get(node, [])
        taken, law = _first_accepted(tree, children, law, dice)
        if taken is None:
            tokens.append(dice.draw(law))
            return Verdict(path, tokens)
        node = next(child for child in children if tree.tokens[child] == taken)
        path.append(node)
        tokens.append(taken)


def _first_accepted(tree: DraftTree, children: list[int], target: Law, dice: Dice) -> tuple[int | None, Law]:
    """Which token of the children is accepted, if any, and the law to draw from if none is.

    Each child in turn is accepted with probability min(1, p/q), a looked-up one with p: its q is 1. If it is not, what
    it stood for is taken out of the target's law, p <- norm((p - q)+), and, where it cannot be drawn again, out of the
    law that it was drawn from. Every such stage samples its p exactly, whatever was proposed before.
    """
    drafts: dict[int, Law] = {}
    for child in children:
        token, group = int(tree.tokens[child]), int(tree.group[child])
        if group < 0:
            if dice.accept(min(1.0, float(target[token]))):
                return token, target
            target = _without(target, token)
            continue
        law = tree.laws[group]
        draft, place = drafts.get(group, law.prob), int(np.searchsorted(law.ids, token))
        if dice.accept(min(1.0, float(target[token] / draft[place]))):
            return token, target
        target = _left(target, law, draft)
        drafts[group] = draft if law.replacement else _without(draft, place)
    return None, target


def _left(target: Law, law: DraftLaw, draft: Law) -> Law:
    """norm((p - q)+), of which q is `draft` float64[m] at the law's ids."""
    left = target.copy()
    left[law.ids] = np.maximum(left[law.ids] - draft, 0.0)
    return _normalised(left, target)


def _without(law: Law, place: int) -> Law:
    """A law in which one entry cannot come any more."""
    left = law.copy()
    left[place] = 0.0
    return _normalised(left, law)


def _normalised(law: Law, otherwise: Law) -> Law:
    """`law` over its sum; `otherwise` where nothing is left, which only rounding can bring about."""
    total = float(law.sum())
    return law / total if total > 0.0 else otherwise
