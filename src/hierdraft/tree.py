"""The draft tree: which tokens to try, hanging below the last committed token.

Node `i` stands for the text "everything committed, then the path from the root down to `i`". Rows of a forward
pass are numbered one higher than nodes: row 0 is the last committed token, row `i + 1` is node `i`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hierdraft.levels import code_of, registered

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_DRAFT = code_of("draft")


@cache
def _known_levels() -> Bool:
    """bool[256]: whether a code is a level's."""
    known = np.zeros(256, dtype=np.bool_)
    known[list(registered())] = True
    return known


@dataclass(frozen=True, slots=True)
class DraftLaw:
    """A distribution that nodes were drawn from: tokens and their probabilities; others could not have been drawn.

    ids          int32[m], ascending
    prob         float64[m], after temperature, filters and vocabulary trimming, sums to 1
    replacement  whether a token could be drawn again for the same parent; if not, what was left was normalised anew
                 before each draw

    Which nodes are in a tree may depend on what was known before each was drawn, never on the draw itself (methods of
    the field drop unlikely draws; that changes the output's distribution).
    """

    ids: Int32
    prob: NDArray[np.float64]
    replacement: bool = False

    def check(self, vocab_size: int) -> None:
        """Raise `ValueError` with one sentence for what is not the law of tokens of this vocabulary."""
        if self.ids.dtype != np.int32 or self.ids.ndim != 1 or len(self.ids) == 0 or (np.diff(self.ids) <= 0).any():
            raise ValueError("the ids of a law must be an int32 array that ascends")
        if self.ids[0] < 0 or self.ids[-1] >= vocab_size:
            raise ValueError(f"an id of a law is outside the vocabulary of {vocab_size}")
        if self.prob.dtype != np.float64 or self.prob.shape != self.ids.shape:
            raise ValueError("the probabilities of a law must be a float64 array, one for each id")
        if not (self.prob >= 0).all() or abs(float(self.prob.sum()) - 1.0) > 1e-6:
            raise ValueError("the probabilities of a law must be positive and sum to 1")

    def check_drawn(self, tokens: Int32) -> None:
        """Raise `ValueError` where int32[k] cannot have been drawn from this law for one parent."""
        places = np.searchsorted(self.ids, tokens).clip(max=len(self.ids) - 1)
        if not ((self.ids[places] == tokens) & (self.prob[places] > 0)).all():
            raise ValueError("a token could not have been drawn from its law")
        if not self.replacement and len(set(tokens.tolist())) < len(tokens):
            raise ValueError("a token was drawn twice for one parent, without replacement")


@dataclass(frozen=True, slots=True)
class DraftTree:
    """Drafted tokens as a tree; parents always come before their children.

    tokens   int32[n]    token id of each node
    parents  int32[n]    index of the parent node, -1 for a child of the last committed token
    prob     float32[n]  estimated chance that the target's own path goes through the node
    level    uint8[n]    provenance: a level's code (`levels.py`)
    probe    bool[n]     scored for the drafter's own use, never accepted
    group    int32[n]    which of `laws` the node was drawn from, -1 for a token that was looked up
    laws     of the groups; the nodes of one share their parent and were drawn in node order
    """

    tokens: Int32
    parents: Int32
    prob: Float32
    level: NDArray[np.uint8]
    probe: Bool
    group: Int32
    laws: tuple[DraftLaw, ...] = ()
    _depths: list[Int32] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def empty(cls) -> DraftTree:
        """The tree that drafts nothing."""
        return _EMPTY

    @classmethod
    def build(
        cls,
        tokens: list[int] | Int32,
        parents: list[int] | Int32,
        *,
        prob: list[float] | Float32 | float = 1.0,
        level: list[int] | NDArray[np.uint8] | int = _DRAFT,
        probe: list[bool] | Bool | bool = False,
        group: list[int] | Int32 | int = -1,
        laws: Sequence[DraftLaw] = (),
    ) -> DraftTree:
        """A tree from sequences of length n; `prob`, `level`, `probe` and `group` may be one value for all nodes."""
        ids = np.asarray(tokens, dtype=np.int32)
        rest = (prob, np.float32), (level, np.uint8), (probe, np.bool_), (group, np.int32)
        chances, levels, probes, groups = (np.broadcast_to(np.asarray(one, dtype), ids.shape) for one, dtype in rest)
        return cls(ids, np.asarray(parents, dtype=np.int32), chances, levels, probes, groups, tuple(laws))

    @classmethod
    def chain(cls, tokens: list[int] | Int32, *, level: int = _DRAFT) -> DraftTree:
        """A single branch: every token is the child of the one before it."""
        return cls.build(tokens, np.arange(-1, len(tokens) - 1, dtype=np.int32), level=level)

    @classmethod
    def merge(cls, branches: Iterable[tuple[int, Sequence[int]]], nodes: int, depth: int) -> DraftTree:
        """Branches, each with its level, as one tree of at most `nodes` nodes and `depth` levels.

        Equal beginnings are shared; a node belongs to the first branch that has it, and earlier branches come first.
        """
        ids: list[int] = []
        parents: list[int] = []
        levels: list[int] = []
        known: dict[tuple[int, int], int] = {}
        for level, branch in branches:
            node = -1
            for token in branch[:depth]:
                if (node, token) not in known:
                    if len(ids) == nodes:
                        break
                    known[node, token] = len(ids)
                    ids.append(token)
                    parents.append(node)
                    levels.append(level)
                node = known[node, token]
        return cls.build(ids, parents, level=levels)

    def __len__(self) -> int:
        return len(self.tokens)

    def check(self, vocab_size: int) -> None:
        """Raise `ValueError` with one sentence if any array is malformed or an id is outside the vocabulary."""
        n = len(self.tokens)
        wanted = {
            "tokens": np.int32, "parents": np.int32, "prob": np.float32, "level": np.uint8, "probe": np.bool_,
            "group": np.int32,
        }  # fmt: skip
        for name, dtype in wanted.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.shape != (n,) or array.dtype != dtype:
                raise ValueError(f"{name} must be a {np.dtype(dtype).name} array of length {n}")
        if n == 0:
            return
        if int(self.tokens.view(np.uint32).max()) >= vocab_size:  # a negative id is a very high one
            raise ValueError(f"a drafted token id is outside the vocabulary of {vocab_size}")
        if self.parents.min() < -1 or (self.parents >= np.arange(n)).any():
            raise ValueError("a parent must be -1 or come before its child")
        if not _known_levels()[self.level].all():
            raise ValueError("level must be the code of a level")
        if self.probe.any() and (self.probe[self.parents] & (self.parents >= 0) & ~self.probe).any():
            raise ValueError("only probe nodes may hang below a probe node")
        if self.laws or (self.group != -1).any():
            self._check_laws(vocab_size)

    def _check_laws(self, vocab_size: int) -> None:
        for law in self.laws:
            law.check(vocab_size)
        if self.group.min() < -1 or self.group.max() >= len(self.laws):
            raise ValueError("a group must be -1 or the number of a law")
        if (self.probe & (self.group >= 0)).any():
            raise ValueError("a probe node cannot have been drawn from a law")
        for number, law in enumerate(self.laws):
            drawn = self.group == number
            if len(set(self.parents[drawn].tolist())) > 1:
                raise ValueError("nodes that were drawn from one law must have one parent")
            law.check_drawn(self.tokens[drawn])

    @property
    def drawn(self) -> bool:
        """Whether it was made with draws, so that nothing may be left out for what was drawn."""
        return len(self.laws) > 0

    def depths(self) -> Int32:
        """int32[n]: 1 for a child of the last committed token, 2 for its children, and so on."""
        if not self._depths:
            found: list[int] = []
            for parent in self.parents.tolist():
                found.append(1 if parent < 0 else found[parent] + 1)
            self._depths.append(np.asarray(found, dtype=np.int32))
        return self._depths[0]

    def mask(self) -> Bool:
        """bool[1+n, 1+n]: row r may attend to column c, i.e. c is r itself or one of its ancestors."""
        mask = np.eye(len(self) + 1, dtype=np.bool_)
        mask[:, 0] = True
        for row, parent in enumerate(self.parents.tolist(), start=1):
            if parent >= 0:
                mask[row] |= mask[parent + 1]
        return mask

    def path(self, node: int) -> list[int]:
        """The nodes from the root's child down to `node`, both included; [] for -1."""
        found: list[int] = []
        while node >= 0:
            found.append(node)
            node = int(self.parents[node])
        return found[::-1]

    @property
    def is_chain(self) -> bool:
        """Whether it has no branches: every node is the child of the one before it."""
        return bool((self.parents == np.arange(-1, len(self) - 1)).all())

    def best_path(self) -> DraftTree:
        """The branch that promises the most accepted tokens, as a chain; probe nodes are left out.

        Where any token was drawn it is the first child everywhere: to choose by what was drawn would change the
        output's distribution.
        """
        if self.is_chain and not self.probe.any():
            return self
        keep = np.zeros(len(self), dtype=np.bool_)
        keep[self.path(self._first_end() if self.drawn else self._best_end())] = True
        return self.only(keep)

    def _best_end(self) -> int:
        best, end, totals = 0.0, -1, [0.0] * (len(self) + 1)
        for node, (parent, prob) in enumerate(zip(self.parents.tolist(), self.prob.tolist(), strict=True)):
            totals[node] = totals[parent] + prob  # the last one is what is above the first: nothing
            if totals[node] > best and not self.probe[node]:
                best, end = totals[node], node
        return end

    def _first_end(self) -> int:
        end = -1
        for node, parent in enumerate(self.parents.tolist()):
            if parent == end and not self.probe[node]:
                end = node
        return end

    def children(self, node: int) -> list[int]:
        """The nodes directly below `node` (-1: below the last committed token), probe nodes included."""
        return [int(i) for i in np.flatnonzero(self.parents == node)]

    def prefix(self, n: int) -> DraftTree:
        """The first `n` nodes, which are a tree because parents come first."""
        if n >= len(self):
            return self
        if self.drawn:
            return self.only(np.arange(len(self)) < n)
        first = self.tokens[:n], self.parents[:n], self.prob[:n], self.level[:n], self.probe[:n], self.group[:n]
        return DraftTree(*first)

    def likeliest(self, nodes: int) -> DraftTree:
        """At most `nodes` of its nodes, best first; it has no draws, and no node is likelier than its parent."""
        order = np.argsort(-self.prob, kind="stable")[:nodes]
        place = np.full(len(self) + 1, -1, dtype=np.int32)  # the last one: above the first nodes there is none
        place[order] = np.arange(len(order))
        return DraftTree.build(
            self.tokens[order], place[self.parents[order]], prob=self.prob[order], level=self.level[order]
        )

    def bounded(self, nodes: int, probes: int) -> DraftTree:
        """The first `nodes` nodes that are not probes, and the probe nodes if there are at most `probes`."""
        if not self.probe.any():
            return self.prefix(nodes)
        keep = ~self.probe & (np.cumsum(~self.probe) <= nodes)
        if int(self.probe.sum()) <= probes:
            for node in np.flatnonzero(self.probe).tolist():
                keep[node] = self.parents[node] < 0 or keep[self.parents[node]]
        return self.only(keep)

    def limited(self, depth: int) -> DraftTree:
        """The tree without the nodes deeper than `depth`."""
        if depth >= len(self):
            return self
        return self.only(self.depths() <= depth)

    def only(self, keep: Bool) -> DraftTree:
        """The nodes with a true entry in `keep` bool[n], which must hold the parents of those it holds."""
        if keep.all():
            return self
        renumbered = np.cumsum(keep, dtype=np.int32) - 1
        parents = np.where(self.parents >= 0, renumbered[self.parents], -1).astype(np.int32)
        group, laws = self.group[keep], self.laws
        if laws:
            used, places = np.unique(np.append(group, -1), return_inverse=True)
            group, laws = places[:-1].astype(np.int32) - 1, tuple(laws[number] for number in used[1:].tolist())
        return DraftTree(
            self.tokens[keep], parents[keep], self.prob[keep], self.level[keep], self.probe[keep], group, laws
        )


_EMPTY = DraftTree.build([], [])
