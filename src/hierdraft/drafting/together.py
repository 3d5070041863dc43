"""How much of several requests' drafts to verify in the forward that they share; one alone is no other case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.budget import BudgetLaw
from hierdraft.tree import Bool, DraftTree


@dataclass(slots=True)
class Draft:
    """One request's proposal for a forward that it may share; `seconds`: what making it took.

    `trim_together` puts what is scored in the place of `tree`, and what `BudgetLaw.decided` said into `slowdown`.
    """

    law: BudgetLaw
    tree: DraftTree
    seconds: float
    slowdown: float = 0.0


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
    if plain > 0.0 and any(map(len, trees)):
        keeps = _likeliest(trees, gains, count + sure, lambda m: drafting + cost(count + whole + m))
    kept = [int((keep & ~tree.probe).sum()) for keep, tree in zip(keeps, trees, strict=True)]
    rows = sum(kept)
    dearer = cost(count + rows) - plain if rows else 0.0
    for draft, tree, keep, own in zip(drafts, trees, keeps, kept, strict=True):
        more = count * (draft.seconds + (own / rows * dearer if rows else 0.0))
        draft.slowdown = draft.law.decided(tree, own, more, plain, alone=count == 1)
        draft.tree = tree.prefix(own) if keep[:own].all() and not keep[own:].any() else tree.only(keep)


def _likeliest(
    trees: Sequence[DraftTree], gains: Sequence[NDArray[np.float64] | None], sure: float,
    seconds: Callable[[int], float],
) -> list[Bool]:  # fmt: skip
    """Which nodes to keep, bool[n] for each tree: probes, trees without gains, and the best number of other nodes."""
    keeps = [np.ones(len(tree), dtype=np.bool_) for tree in trees]
    mine = [~tree.probe if gain is not None else np.zeros(len(tree), dtype=np.bool_)
            for tree, gain in zip(trees, gains, strict=True)]  # fmt: skip
    offered = np.concatenate([
        _falling(gain, tree)[own] for gain, tree, own in zip(gains, trees, mine, strict=True) if gain is not None
    ] or [np.zeros(0)])  # fmt: skip
    order = np.argsort(-offered, kind="stable")
    expected = sure + np.concatenate(([0.0], np.cumsum(offered[order])))
    rate = expected / np.fromiter(map(seconds, range(len(expected))), np.float64, len(expected))
    taken = np.zeros(len(offered), dtype=np.bool_)
    taken[order[: int(np.argmax(rate))]] = True
    start = 0
    for keep, own in zip(keeps, mine, strict=True):
        stop = start + int(own.sum())
        keep[own] = taken[start:stop]
        start = stop
    return keeps


def _falling(gain: NDArray[np.float64], tree: DraftTree) -> NDArray[np.float64]:
    """The gains, where a node's is more than its parent's cut to that: else it could be kept without it."""
    below = tree.parents >= 0
    if (gain[below] <= gain[tree.parents[below]]).all():
        return gain
    found = gain.copy()
    for node, parent in enumerate(tree.parents.tolist()):
        if parent >= 0:
            found[node] = min(found[node], found[parent])
    return found
