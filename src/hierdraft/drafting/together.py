"""How much of several requests' drafts to verify in the forward that they share; one alone is no other case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.again import row_price, rows_again
from hierdraft.drafting.budget import BudgetLaw
from hierdraft.tree import Bool, DraftTree


@dataclass(slots=True)
class Draft:
    """One request's proposal for a forward that it may share; `seconds`: what making it took.

    `again`: how many tokens are scored with it that are lost with it, unless all of it is accepted; None: nothing is.

    `trim_together` puts what is scored in the place of `tree`, and what `BudgetLaw.decided` said into `slowdown`.
    """

    law: BudgetLaw
    tree: DraftTree
    seconds: float
    slowdown: float = 0.0
    again: int | None = None


def trim_together(drafts: Sequence[Draft], cost: Callable[[int], float]) -> None:
    """Of all nodes of all trees keep those with the most expected tokens per second of the forward that they share.

    The m likeliest nodes are the best m, and since a node is no likelier than its parent they are trees; the best m has
    the most (requests + their gains) over (cost + drafting): the rule of TETRIS (Wu et al., arXiv 2502.15197) with
    measured costs. While these are unknown, all are kept.

    cost  seconds of the forward with so many rows of these requests, beside whatever else it has
    """
    count = len(drafts)
    trees = [draft.law.kept(draft.tree) for draft in drafts]
    gains = [draft.law.gains(tree) for draft, tree in zip(drafts, trees, strict=True)]
    whole = sum(len(tree) if gain is None else int(tree.probe.sum()) for tree, gain in zip(trees, gains, strict=True))
    sure = sum(float(tree.prob.sum()) for tree, gain in zip(trees, gains, strict=True) if gain is None)
    plain, drafting = cost(count), sum(draft.seconds for draft in drafts)
    keeps = [np.ones(len(tree), dtype=np.bool_) for tree in trees]
    price = row_price(cost, count) if any(draft.again is not None for draft in drafts) else 0.0
    losses = [_losses(tree, gain, draft.again, price) for draft, tree, gain in zip(drafts, trees, gains, strict=True)]
    if plain > 0.0 and any(map(len, trees)):
        keeps = _likeliest(trees, gains, losses, count + sure, lambda m: drafting + cost(count + whole + m))
    kept = [int((keep & ~tree.probe).sum()) for keep, tree in zip(keeps, trees, strict=True)]
    rows = sum(kept)
    dearer = cost(count + rows) - plain if rows else 0.0
    for draft, tree, keep, own, loss in zip(drafts, trees, keeps, kept, losses, strict=True):
        later = float(loss[:own].sum())
        more = count * (draft.seconds + later + (own / rows * dearer if rows else 0.0))
        draft.slowdown = draft.law.decided(tree, own, more, plain, alone=count == 1)
        draft.tree = tree.prefix(own) if keep[:own].all() and not keep[own:].any() else tree.only(keep)


def _likeliest(
    trees: Sequence[DraftTree], gains: Sequence[NDArray[np.float64] | None], losses: Sequence[NDArray[np.float64]],
    sure: float, seconds: Callable[[int], float],
) -> list[Bool]:  # fmt: skip
    """Which nodes to keep, bool[n] for each tree: probes, trees without gains, and the best number of other nodes."""
    keeps = [np.ones(len(tree), dtype=np.bool_) for tree in trees]
    mine = [~tree.probe if gain is not None else np.zeros(len(tree), dtype=np.bool_)
            for tree, gain in zip(trees, gains, strict=True)]  # fmt: skip
    offered = np.concatenate([
        falling(gain, tree)[own] for gain, tree, own in zip(gains, trees, mine, strict=True) if gain is not None
    ] or [np.zeros(0)])  # fmt: skip
    order = np.argsort(-offered, kind="stable")
    expected = sure + np.concatenate(([0.0], np.cumsum(offered[order])))
    later = np.concatenate([
        loss for loss, gain in zip(losses, gains, strict=True) if gain is not None
    ] or [np.zeros(0)])  # fmt: skip
    took = np.fromiter(map(seconds, range(len(expected))), np.float64, len(expected))
    rate = expected / (took + np.concatenate(([0.0], np.cumsum(later[order]))))
    taken = np.zeros(len(offered), dtype=np.bool_)
    taken[order[: int(np.argmax(rate))]] = True
    start = 0
    for keep, own in zip(keeps, mine, strict=True):
        stop = start + int(own.sum())
        keep[own] = taken[start:stop]
        start = stop
    return keeps


def _losses(tree: DraftTree, gain: NDArray[np.float64] | None, again: int | None, price: float) -> NDArray[np.float64]:
    """For each node that is no probe, the seconds that the next forward is expected to take more because of it."""
    own = ~tree.probe
    if gain is None or again is None:
        return np.zeros(int(own.sum()))
    return price * rows_again(falling(gain, tree)[own], again)


def falling(gain: NDArray[np.float64], tree: DraftTree) -> NDArray[np.float64]:
    """The gains, where a node's is more than its parent's cut to that: else it could be kept without it."""
    below = tree.parents >= 0
    if (gain[below] <= gain[tree.parents[below]]).all():
        return gain
    found = gain.copy()
    for node, parent in enumerate(tree.parents.tolist()):
        if parent >= 0:
            found[node] = min(found[node], found[parent])
    return found
