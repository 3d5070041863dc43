"""Classic speculative sampling, for drafts that were drawn from a known distribution.

One child: Leviathan, Kalman and Matias (arXiv 2211.17192, algorithm 1) and Chen et al. (arXiv 2302.01318). Several
children of one node: recursive rejection, SpecInfer (arXiv 2305.09781) for draws with replacement and Yang et al.
(arXiv 2401.06706) for draws without. The output's distribution is the target's; the sample is not that of plain
decoding with the same seed. Tokens that were looked up need none of this: for them the walk along the target's own
draws is exact and accepts at least as often.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import DraftError
from hierdraft.tree import DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.noise import Dice

Law = NDArray[np.float64]


def reject(tree: DraftTree, target: Callable[[int], Law], dice: Dice) -> Verdict:
    """The accepted path and one more token, together distributed as the target's own text.

    target  row -> float64[V], the target's processed distribution there; asked once per visited row, parents first

    Raises DraftError for a tree without the laws its tokens were drawn from.
    """
    if tree.law is None:
        raise DraftError("Rejection sampling needs the distributions that the draft was drawn from.")
    below: dict[int, list[int]] = {}
    for node in np.flatnonzero(~tree.probe).tolist():
        below.setdefault(int(tree.parents[node]), []).append(node)
    path: list[int] = []
    tokens: list[int] = []
    node = -1
    while True:
        law = target(node + 1)
        children = below.get(node, [])
        drawn = [int(tree.tokens[child]) for child in children]
        taken, law = _first_accepted(drawn, law, tree.law.rows.get(node), tree.law.replacement, dice)
        if taken is None:
            tokens.append(dice.draw(law))
            return Verdict(path, tokens)
        node = children[taken]
        path.append(node)
        tokens.append(drawn[taken])


def _first_accepted(
    drawn: list[int], target: Law, draft: Law | None, replacement: bool, dice: Dice
) -> tuple[int | None, Law]:
    """Which of the drawn tokens is accepted, if any, and the law to draw from if none is.

    Each token in turn is accepted with probability min(1, p/q). If it is not, what it stood for is taken out of the
    target's law, p <- norm((p - q)+), and, where it cannot be drawn again, out of the draft's.
    """
    if draft is None:
        return None, target
    for place, token in enumerate(drawn):
        if dice.accept(min(1.0, float(target[token] / draft[token]))):
            return place, target
        target = _normalised(np.maximum(target - draft, 0.0), target)
        if not replacement:
            left = draft.copy()
            left[token] = 0.0
            draft = _normalised(left, draft)
    return None, target


def _normalised(law: Law, otherwise: Law) -> Law:
    """`law` over its sum; `otherwise` where nothing is left, which only rounding can bring about."""
    total = float(law.sum())
    return law / total if total > 0.0 else otherwise
