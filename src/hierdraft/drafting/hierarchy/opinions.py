"""What a small model thinks comes after the nodes of a tree: one more source for the tree that is grown next.

It has scored the tree that the look-ups made, in one forward, and has an opinion about every row of it: about nodes
that are there, and about others that are not. The tree is then grown again, from look-ups and opinions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS
from hierdraft.drafting.hierarchy.cells import opinion_cell
from hierdraft.drafting.hierarchy.evidence import Evidence, Weights, note
from hierdraft.kernels import njit
from hierdraft.levels import code_of
from hierdraft.tree import DraftTree, Int32

CHOICES = ORDERS
"""Continuations of one row that a model has an opinion about: its likeliest."""

_DRAFT = code_of("draft")


class Opinions(NamedTuple):
    """The opinions about one tree.

    scored            int32[1]: rows that were scored, the last committed token's included; 0: there are none
    tokens, parents   int32[N]: the nodes of the tree
    ids               int32[N + 1, CHOICES]: the likeliest continuations of each row, best first; -1: no more
    bucket            uint8[N + 1, CHOICES]: of their log probabilities, see `cells.opinion_buckets`
    """

    scored: NDArray[np.int32]
    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]
    ids: NDArray[np.int32]
    bucket: NDArray[np.uint8]


def make_opinions(nodes: int) -> Opinions:
    """Room for those about a tree of `nodes` nodes."""
    tokens, parents = np.zeros((2, nodes), dtype=np.int32)
    ids = np.zeros((nodes + 1, CHOICES), dtype=np.int32)
    return Opinions(np.zeros(1, dtype=np.int32), tokens, parents, ids, np.zeros(ids.shape, dtype=np.uint8))


@njit(nogil=True, forceinline=True)
def heard_below(opinions: Opinions, heard: int, token: int) -> int:
    """The scored row of the node `token` below the scored row `heard`; -1 where it was not scored."""
    if heard < 0:
        return -1
    for row in range(heard + 1, opinions.scored[0]):
        if opinions.parents[row - 1] == heard - 1 and opinions.tokens[row - 1] == token:
            return row
    return -1


@njit(nogil=True, forceinline=True)
def ask_opinions(opinions: Opinions, heard: int, row: int, evidence: Evidence, weights: Weights) -> None:
    """Note what the model thinks comes after a row, which is row `heard` of those that it has scored."""
    for rank in range(CHOICES):
        token = opinions.ids[heard, rank]
        if token < 0:
            return
        note(evidence, weights, row, token, opinion_cell(_DRAFT, rank, opinions.bucket[heard, rank]), 0)


def put_opinions(opinions: Any, tree: DraftTree, first: int, ids: Int32, bucket: NDArray[np.uint8]) -> None:
    """Opinions about a tree of n nodes: those of rows `first` to n; the others have been put before.

    ids, bucket  [1 + n - first, <= CHOICES]
    """
    n, k = len(tree), ids.shape[1]
    opinions.tokens[:n], opinions.parents[:n] = tree.tokens, tree.parents
    opinions.ids[first : n + 1, :k], opinions.bucket[first : n + 1, :k] = ids, bucket
    opinions.ids[first : n + 1, k:] = -1
    opinions.scored[0] = n + 1
