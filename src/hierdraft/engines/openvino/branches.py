"""Rows below others that are not committed: each is scored after its own path, as if that were a text.

Paged attention sees all rows that lie before those of a call, so a new node could not leave out those of other
branches. The keys and values of its path are copied behind the text, in blocks of its own; what it writes is copied
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.rows import Rows, rows_of
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree


@dataclass(slots=True)
class Branch:
    """New nodes of a tree that hang together, and what they are scored after.

    nodes   in the tree's order; the first is above all others
    path    the known nodes above it, from the top
    length  tokens before it: the text's and those of the path
    table   blocks that these lie in, as those of a sequence
    """

    nodes: list[int]
    path: list[int]
    length: int
    table: list[int]

    def rows(self, tree: DraftTree, least: int) -> Rows:
        """What is scored: the first node as text, the others below it; and useless ones, `least` in all."""
        nodes = self.nodes
        place = {node: number - 1 for number, node in enumerate(nodes)}
        below = DraftTree.build(tree.tokens[nodes[1:]], [place[int(tree.parents[node])] for node in nodes[1:]])
        part = Part(self, tree.tokens[nodes[:1]], below)  # type: ignore[arg-type]
        return rows_of(part, max(0, least - len(nodes)))


def branches_of(tree: DraftTree, known: int, length: int) -> list[Branch]:
    """The branches that a tree has gained since its first `known` nodes were scored after `length` tokens."""
    above: dict[int, Branch] = {}
    found: list[Branch] = []
    for node in range(known, len(tree)):
        parent = int(tree.parents[node])
        if parent < known:
            path = tree.path(parent)
            found.append(Branch([], path, length + len(path), []))
        above[node] = found[-1] if parent < known else above[parent]
        above[node].nodes.append(node)
    return found


@dataclass(slots=True)
class Grown:
    """A tree that was scored and not committed, as it lies after its text.

    tokens  int64[n], offsets int64[n]: of each node, and how many rows after the text it lies
    sure    bool[n]: whether it is scored in the arithmetic of plain decoding
    """

    tokens: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sure: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Rows | None) -> Grown:
        """What the rows of a forward with text have left; None: nothing."""
        if rows is None:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, np.zeros(0, dtype=np.bool_))
        count = len(rows.places)
        return cls(rows.tokens[rows.places], rows.places - rows.text, rows.plain[len(rows.plain) - count :])

    def and_then(self, tree: DraftTree, branches: Sequence[Branch], given: Sequence[Rows]) -> Grown:
        """With the new nodes, which lie one after another behind those before."""
        before = len(self.tokens)
        sure = np.concatenate([self.sure, np.zeros(len(tree) - before, dtype=np.bool_)])
        for branch, rows in zip(branches, given, strict=True):
            sure[branch.nodes] = rows.plain & self.sure[branch.path].all()
        offsets = np.concatenate([self.offsets, np.arange(before, len(tree))])
        return Grown(tree.tokens.astype(np.int64), offsets, sure)
