"""The method `hvt`: another method's draft in parts, the likeliest first, the rest only where the text goes there.

After HVT (arXiv 2508.03726), which verifies a tree in the order of its likelihood. As published its text is not the
target's; here every part is verified like any other tree. Of a draft the `first` likeliest nodes are scored. If the
walk ends and the target's own token is a node that was not scored, then with that token committed what hangs below the
node is a draft below the last token: the likeliest of it are the next part, at the cost of no row that plain decoding
would not have. If there is none, the other method drafts anew.

Why the text stays the target's. A looked-up tree may be scored in any parts: nothing about a draft enters the target's
choice. A drawn tree may not be cut by what was drawn, so of it a part is the nodes at places that were fixed before. A
place is the ranks among siblings on the way to a node, which are known before the node is drawn; with a node its elder
siblings are in the part too, so that rejection tests them in the order of their draws. Where all of them are rejected
the token comes from what is left of the target's law. If it equals a node that was not scored, the draws below that
one are still draws from their laws, given all that was seen: nothing has looked at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from hierdraft.drafting.models.plans import DEPTHS, RANKS, Acceptance, Shape, largest
from hierdraft.drafting.together import falling
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, ProposesTogether, Request, Session, Setup, Step, Wants
from hierdraft.registry import make_method
from hierdraft.tree import Bool, DraftTree, Int32

_NOTHING = DraftTree.empty()


@dataclass(slots=True)
class Counts:
    """What drafts took in parts, and would have taken at once. Probe nodes are not counted.

    drafts  trees that the other method made, empty ones left out
    parts   forwards that scored some of one
    rows    of these forwards, the last committed token's included
    whole   rows that the trees would have had in one forward each
    """

    drafts: int = 0
    parts: int = 0
    rows: int = 0
    whole: int = 0

    @property
    def saved(self) -> int:
        """Rows that were not scored; below 0 where the parts had more."""
        return self.whole - self.rows


class HvtMethod:
    """A method of a method.

    first  nodes of a part
    of     the other method's name, with its settings: it comes last, `hvt:first=8:of=draft-model:draft=NAME`
    """

    def __init__(self, first: int = 8, of: str = "hierarchy") -> None:
        """Raises UsageError, and what making the other method raises."""
        if first < 1:
            raise UsageError(f"first must be at least 1, not {first}.")
        self.first, self.inner = first, make_method(of)
        self.counts = Counts()

    @property
    def q_kind(self) -> Literal["one_hot", "full"]:
        """The other method's."""
        return self.inner.q_kind

    @property
    def wants(self) -> Wants:
        """What the other method does."""
        return self.inner.wants

    @property
    def uses_databases(self) -> bool:
        """Whether the other method does."""
        return bool(getattr(self.inner, "uses_databases", True))

    def attach(self, setup: Setup) -> None:
        """See the other method."""
        self.inner.attach(setup)

    def open(self, request: Request) -> Session:
        """A session around one of the other method."""
        return HvtSession(self, self.inner.open(request))

    def propose_all(self, asks: Sequence[tuple[Any, Int32, Budget]]) -> list[DraftTree]:
        """Parts of what is left, and for those with nothing left new drafts, together where the other method can."""
        rest = [(session, tokens, budget) for session, tokens, budget in asks if not session.goes_on]
        inner = [(session.inner, tokens, budget) for session, tokens, budget in rest]
        if isinstance(self.inner, ProposesTogether) and len(inner) > 1:
            drafted = self.inner.propose_all(inner)
        else:
            drafted = [session.propose(tokens, budget) for session, tokens, budget in inner]
        for (session, _, budget), tree in zip(rest, drafted, strict=True):
            session.take(tree, budget)
        return [session.part(budget) for session, _, budget in asks]

    def close(self) -> None:
        """Close the other method."""
        self.inner.close()


class HvtSession:
    """See `Session`. `inner` is told of every step as it was scored, as if the budget had cut its draft."""

    def __init__(self, method: HvtMethod, inner: Session) -> None:
        """Nothing is left of a draft."""
        self.inner = inner
        self._method = method
        self._left = _NOTHING
        self._new = False

    @property
    def once(self) -> float:
        """See `Session`."""
        return float(getattr(self.inner, "once", 0.0))

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The likeliest of what is left, or of a new draft."""
        return self._method.propose_all([(self, tokens, budget)])[0]

    @property
    def goes_on(self) -> bool:
        """Whether the last draft continues below the text as it is now."""
        return len(self._left) > 0

    def take(self, tree: DraftTree, budget: Budget) -> None:
        """A new draft; what of it the budget allows."""
        self._left = tree if tree.drawn else tree.bounded(budget.nodes, budget.probes).limited(budget.depth)
        self._new = True

    def part(self, budget: Budget) -> DraftTree:
        """What to score of it now."""
        tree, most = self._left.limited(budget.depth), min(self._method.first, budget.nodes)
        return tree.only(_places(tree, most) if tree.drawn else _likeliest(tree, most))

    def observe(self, step: Step) -> None:
        """Tell the inner session; of the draft keep what hangs below the last token."""
        if len(self._left) and len(step.tree):
            self._count(step)
        self._left = _below(self._left, step.tokens)
        self.inner.observe(step)

    def _count(self, step: Step) -> None:
        counts = self._method.counts
        if self._new:
            counts.drafts += 1
            counts.whole += 1 + int((~self._left.probe).sum())
            self._new = False
        counts.parts += 1
        counts.rows += 1 + int((~step.tree.probe).sum())

    def finish(self, tokens: Int32) -> None:
        """Let go of the text."""
        self._left = _NOTHING
        self.inner.finish(tokens)


def _below(tree: DraftTree, tokens: Sequence[int]) -> DraftTree:
    """What continues a tree's path of these tokens, given that it was taken; empty where there is no such path."""
    node = -1
    for token in tokens:
        found = [child for child in tree.children(node) if tree.tokens[child] == token and not tree.probe[child]]
        if not found:
            return _NOTHING
        node = found[0]
    keep = np.zeros(len(tree), dtype=np.bool_)
    for child, parent in enumerate(tree.parents.tolist()):
        keep[child] = not tree.probe[child] and (parent == node or (parent >= 0 and keep[parent]))
    if not keep.any():
        return _NOTHING
    parents = np.where(tree.parents == node, np.int32(-1), tree.parents)
    certain = max(float(tree.prob[node]), 1e-9) if node >= 0 else 1.0
    return replace(tree, parents=parents, prob=np.minimum(tree.prob / np.float32(certain), np.float32(1))).only(keep)


def _likeliest(tree: DraftTree, most: int) -> Bool:
    """bool[n]: the `most` likeliest nodes, which hold their parents, and the probe nodes that hang on them."""
    keep = np.zeros(len(tree), dtype=np.bool_)
    own = np.flatnonzero(~tree.probe)
    keep[own[np.argsort(-falling(tree.prob.astype(np.float64), tree)[own], kind="stable")[:most]]] = True
    return _with_probes(tree, keep)


def _places(tree: DraftTree, most: int) -> Bool:
    """bool[n]: the nodes at `most` places that are the same for every tree, and the probe nodes that hang on them."""
    below = _fixed(most)
    place, siblings = {-1: -1}, dict[int, int]()
    keep = np.zeros(len(tree), dtype=np.bool_)
    for node, parent in enumerate(tree.parents.tolist()):
        if tree.probe[node]:
            continue
        rank = siblings[parent] = siblings.get(parent, -1) + 1
        here = below.get(place[parent], []) if parent in place else []
        if rank < len(here):
            place[node] = here[rank]
            keep[node] = True
    return _with_probes(tree, keep)


@lru_cache(maxsize=64)
def _fixed(most: int) -> dict[int, list[int]]:
    """So many places, by what small models of a family are worth: each with the places of its children, by rank."""
    return largest(Shape((RANKS,), DEPTHS), most, Acceptance().chances()).below()


def _with_probes(tree: DraftTree, keep: Bool) -> Bool:
    for node in np.flatnonzero(tree.probe).tolist():
        keep[node] = tree.parents[node] < 0 or keep[tree.parents[node]]
    return keep
