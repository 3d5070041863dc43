"""Token Recycling (Luo et al., arXiv 2408.08696): a matrix of each token's latest runner-ups, read as a fixed tree.

Every scored row, rejected ones too, writes its 8 best next tokens over those of its token; the matrix lives on from
request to request (here: within a namespace). A tree of 80 nodes and depth 6 is filled from it breadth-first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session, Step, Wants
from hierdraft.tree import DraftTree, Int32

TOP = 8

CHILDREN = (
    8, 8, 4, 3, 2, 1, 1, 1, 1, 8, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 5, 2, 1, 1, 1, 0, 0,
    0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 0, 0, 1,
)  # fmt: skip
"""The published tree of 80 nodes: how many children the root and each node have, in breadth-first order, up to the
last that has any; a node's children are its best, second best, ... successors."""

_ROOM = 1 << 15


class TokenRecyclingMethod(TextMethod):
    """A matrix for each namespace, which grows with the tokens that are met; one row of 8 ids each."""

    wants = Wants(top_k=TOP)

    def __init__(self) -> None:
        super().__init__()
        self.matrices: dict[str, NDArray[np.int32]] = {}

    def open(self, request: Request) -> Session:
        """Take up the namespace's matrix."""
        self.matrices.setdefault(request.namespace, np.zeros((_ROOM, TOP), dtype=np.int32))
        return _Session(self.matrices, request)


class _Session(TextSession):
    def __init__(self, matrices: dict[str, NDArray[np.int32]], request: Request) -> None:
        super().__init__(request)
        self._matrices = matrices

    @property
    def _matrix(self) -> NDArray[np.int32]:
        return self._matrices[self.namespace]

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The tree below the last token. Tokens never met have successors 0, as published."""
        matrix = self._matrix
        ids, parents = [int(tokens[-1])], [-1]
        for node, count in enumerate(CHILDREN):
            if node >= len(ids):
                break
            row = matrix[ids[node]] if ids[node] < len(matrix) else np.zeros(TOP, dtype=np.int32)
            ids += row[:count].tolist()
            parents += [node - 1] * count
        return DraftTree.build(ids[1:], parents[1:], level=code_of("recycled")).prefix(budget.nodes)

    def observe(self, step: Step) -> None:
        """Write every scored row's best tokens over those of its token."""
        rows = [self.text[-1], *step.tree.tokens.tolist()]
        super().observe(step)
        if step.runner_up is None:
            return
        if max(rows) >= len(self._matrix):
            more = np.zeros((max(rows) + _ROOM, TOP), dtype=np.int32)
            more[: len(self._matrix)] = self._matrix
            self._matrices[self.namespace] = more
        self._matrix[rows] = step.runner_up[-len(rows) :]
