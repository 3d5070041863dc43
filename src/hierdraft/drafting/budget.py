"""How many nodes to verify now, from measured step costs.

A step that scores `n` nodes emits 1 + sum of their path probabilities tokens on average and costs
cost(1 + n) + drafting time. Nodes come best first, so the best tree of each size is a prefix, and the best size is
the one with the most tokens per second. Zero is a size like any other: where drafting does not pay, none is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.worth import DepthWorth, Resting, WindowWorth
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, Wants
from hierdraft.tree import DraftTree

MOST_NODES = 128
"""Most nodes that may be asked for per step."""

_PRIOR = 3.0
_MEMORY = 0.95
_IDLE = 0.99
_LOOK = 64
_SOON = 4
_OTHER = 0.25
_CLEAR = 1.3
_EASE = 0.9
_RISE = 1.01
_FEW = 16


class BudgetLaw(Protocol):
    """Bounds a proposal before it is made and trims it before it is scored.

    A tree that was drawn from a law must not be trimmed by what was drawn, or the output's distribution changes.
    """

    nodes: int
    """Most nodes that are worth proposing now."""

    def plan(self, depth: int, wants: Wants, cost: Callable[[int], float]) -> Budget | None:
        """What a drafter may propose now, at most `depth` deep; None: it is not asked."""
        ...

    def kept(self, tree: DraftTree) -> DraftTree:
        """The most of `tree` that may be scored, probe nodes included."""
        ...

    def gains(self, tree: DraftTree) -> NDArray[np.float64] | None:
        """float64[n]: tokens that each node is expected to bring; None where the tree must be scored whole."""
        ...

    def decided(self, tree: DraftTree, kept: int, more: float, plain: float, *, alone: bool) -> float:
        """Told how many drafts of `tree` are scored; returns by what a step is slower for them than a plain one.

        more, plain  seconds that this request's drafts add, and that the step would take without any
        alone        whether no other request has a part in it
        """
        ...

    def prompt_rows(self, wanted: int, cost: Callable[[int], float]) -> int:
        """How many of the `wanted` prompt positions are worth scoring."""
        ...

    def observe(self, tree: DraftTree, path: Sequence[int], slowdown: float = 0.0) -> None:
        """Told after every step what was scored, which of its nodes were accepted, and what `decided` returned."""
        ...


class FixedBudget:
    """The same number of nodes in every step, whatever it costs."""

    def __init__(self, nodes: int) -> None:
        """`nodes` >= 0; probe nodes come on top."""
        self.nodes = nodes

    def plan(self, depth: int, wants: Wants, cost: Callable[[int], float]) -> Budget | None:  # noqa: ARG002
        """The same as ever, and all probes."""
        return Budget(self.nodes, depth, wants.probes) if self.nodes else None

    def kept(self, tree: DraftTree) -> DraftTree:
        """The first `nodes` nodes and all probes."""
        return tree.bounded(self.nodes, len(tree))

    def gains(self, tree: DraftTree) -> None:  # noqa: ARG002
        """It is scored whole."""
        return

    def decided(self, tree: DraftTree, kept: int, more: float, plain: float, *, alone: bool) -> float:  # noqa: ARG002
        """Nothing to learn."""
        return 0.0

    def prompt_rows(self, wanted: int, cost: Callable[[int], float]) -> int:  # noqa: ARG002
        """All of them."""
        return wanted

    def observe(self, tree: DraftTree, path: Sequence[int], slowdown: float = 0.0) -> None:
        """Nothing to learn."""


class AutoBudget:
    """The size with the most expected tokens per second, chosen anew in every step.

    Steps are drafted in because their probabilities look high, so on average they come out a little lower than they
    looked, even where every cell is honest. `trust` is what was accepted over what was promised in recent drafted
    steps; it scales the promise, and drifts back to 1 while nothing is drafted.

    `nodes`, which is what is asked for, is twice what was lately worth scoring: it takes time to grow the others too.
    Drafts whose probabilities nobody knows get those that their depth had before (`DepthWorth`); probe nodes are scored
    while what they find is worth more than their rows cost (`WindowWorth`); a drafter whose proposals lately cost more
    than they brought is asked now and then only (`Resting`).
    """

    def __init__(self, nodes: int = 64) -> None:
        """`nodes`: most nodes ever considered."""
        self.nodes = self._most = nodes
        self._worth = float(nodes)
        self._promised = self._kept = self._plain = 0.0
        self._by_depth, self._window, self._resting = DepthWorth(), WindowWorth(), Resting()

    @property
    def trust(self) -> float:
        """Accepted over promised, with a prior of 1 that is worth `_PRIOR` promised tokens."""
        return (self._kept + _PRIOR) / (self._promised + _PRIOR)

    def plan(self, depth: int, wants: Wants, cost: Callable[[int], float]) -> Budget | None:
        """Nothing while the drafter rests or the next forward has to be plain; probes where they pay."""
        if math.isinf(cost(MOST_NODES)) or self._resting.rests():
            return None
        return Budget(self.nodes, depth, self._window.allowed(wants.probes, self._worth, cost), cost)

    def prompt_rows(self, wanted: int, cost: Callable[[int], float]) -> int:
        """As many rows as cost at most half a step more than one row; all of them while costs are unknown.

        A rule of thumb: what the prompt's runner-ups save over a whole answer was not measured against it.
        """
        while wanted > 1 and cost(wanted) > 1.5 * cost(1):
            wanted -= 1
        return wanted

    def observe(self, tree: DraftTree, path: Sequence[int], slowdown: float = 0.0) -> None:
        """Follow what came of the promise; older steps count less and less."""
        drafts = tree.only(~tree.probe)
        keep = _MEMORY if len(drafts) else _IDLE
        self._promised = keep * self._promised + float(self._by_depth.prob(drafts).sum())
        self._kept = keep * self._kept + len(path)
        self._by_depth.observe(tree, path)
        self._window.observe(tree, path)
        self._resting.observe(len(path), slowdown)

    def kept(self, tree: DraftTree) -> DraftTree:
        """Trees with a law whole, of others the first nodes and the probes."""
        return tree if tree.drawn else tree.bounded(self.nodes, len(tree))

    def gains(self, tree: DraftTree) -> NDArray[np.float64] | None:
        """What was promised, as far as it is trusted; None for trees with a law."""
        if tree.drawn:
            return None
        found = np.zeros(len(tree))
        drafts = ~tree.probe
        found[drafts] = self.trust * self._by_depth.prob(tree.only(drafts)).astype(np.float64)
        return found

    def decided(self, tree: DraftTree, kept: int, more: float, plain: float, *, alone: bool) -> float:
        """Ask for as many nodes as were lately worth scoring; 0.0 where costs are unknown or a window was scored."""
        if plain <= 0.0:
            return 0.0
        settled = self._settled_plain(plain) if alone else plain
        if not tree.drawn and bool((~tree.probe).any()):
            self._worth = max(kept, _EASE * self._worth)
            self.nodes = min(self._most, max(_FEW, math.ceil(2.0 * self._worth)))
        return 0.0 if tree.probe.any() else (plain + more) / settled

    def _settled_plain(self, seconds: float) -> float:
        """What plain steps take that follow one another, from what one would take now.

        Where rows were just drafted, the first plain step is dearer, which must not make drafting look cheap for ever.
        """
        self._plain = min(seconds, _RISE * self._plain) if self._plain > 0.0 else seconds
        return self._plain


class BatchBudget(AutoBudget):
    """The same law for the rows of a batch, which share a forward: of all that was drafted, the likeliest is sent.

    A step of B rows that scores m drafted tokens emits B + the sum of their path probabilities, and costs
    cost(B + m) + drafting time; the m likeliest of all rows are the best m, and the best m has the most tokens a
    second. Every `_LOOK` steps without drafts a few are sent all the same, and as often none are where some would be,
    to see whether that still holds; sooner where the number of rows has changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._same = 0
        self._patience = _SOON
        self._rows = 0
        self._drafts = False
        self._pending = 0.0

    def learn(self, accepted: int) -> None:
        """How many of the tokens that `share` sent last were accepted."""
        keep = _MEMORY if self._pending else _IDLE
        self._promised = keep * self._promised + self._pending
        self._kept = keep * self._kept + accepted

    def share(
        self, prob: NDArray[np.float32], made: NDArray[np.int64], cost: Callable[[int, int], NDArray[np.float64]],
        drafting: float,
    ) -> NDArray[np.int64]:  # fmt: skip
        """int64[rows]: how many of each row's tokens to send.

        prob      float32[rows, depth]: path probabilities, falling along each row
        made      int64[rows]: how many of them there are
        cost      (first, last) -> seconds of steps of first..last tokens, float64[last - first + 1]; zeros: not known
        drafting  seconds that went into the drafts
        """
        rows, total = len(made), int(made.sum())
        reach = np.where(np.arange(prob.shape[1]) < made[:, None], prob, -1.0).ravel()
        order = np.argsort(-reach, kind="stable")[:total]
        seconds = cost(rows, rows + total)
        best = min(total, rows)  # while costs are unknown
        if total and seconds[0] > 0.0:
            expected = rows + self.trust * np.concatenate(([0.0], np.cumsum(reach[order], dtype=np.float64)))
            rate = expected / (seconds + drafting)
            best = int(np.argmax(rate))
            if self._looks_around(rows, best > 0, bool(rate[best] > _CLEAR * rate[0])):
                best = 0 if best else min(total, max(1, rows // 4))
        self._pending = float(reach[order[:best]].sum())
        return np.bincount(order[:best] // prob.shape[1], minlength=rows)

    def _looks_around(self, rows: int, drafts: bool, clear: bool) -> bool:
        """Whether this step does the opposite of what seems best, rarely where that is clear."""
        if abs(rows - self._rows) > _OTHER * self._rows:
            self._rows, self._patience, self._same = rows, _SOON, 0
        self._same = self._same + 1 if drafts == self._drafts else 1
        self._drafts = drafts
        if self._same < self._patience:
            return False
        more = 4 if clear else 1
        self._same, self._patience = 0, min(more * _LOOK, 2 * more * self._patience)
        return True


def make_budget(budget: int | str) -> BudgetLaw:
    """`auto`, or a number of nodes, as a law. Raises UsageError for anything else."""
    if budget == "auto":
        return AutoBudget()
    if isinstance(budget, int) and not isinstance(budget, bool) and 0 <= budget <= MOST_NODES:
        return FixedBudget(budget)
    raise UsageError(f"The budget must be 'auto' or a number of nodes from 0 to {MOST_NODES}, not {budget!r}.")
