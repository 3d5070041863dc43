"""The rows of one sequence in a forward: its text's next tokens, then a tree depth first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.treerows import depth_first
from hierdraft.engines.sequences import mask_among
from hierdraft.protocols import Part

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a cache is given to score.

    sequence  whose rows they are
    tokens    int64[T]: ids
    where     int64[T]: positions
    seen      bool[T, T]: which of each other they see; None: those before them
    wanted    int64[R]: those whose logits are wanted, in that order
    text      how many of the first rows are text, the others being drafts
    places    int64[n]: which row each node of the tree is
    plain     bool[R]: which of the wanted rows lie where they would without the rest of the tree
    """

    sequence: Any
    tokens: NDArray[np.int64]
    where: NDArray[np.int64]
    seen: NDArray[np.bool_] | None
    wanted: NDArray[np.int64]
    text: int
    places: NDArray[np.int64]
    plain: NDArray[np.bool_]


@dataclass(slots=True)
class Found:
    """What a call of the graph says of one part.

    plain   bool[R]: which of the wanted rows lie where they would without the rest of the tree
    logits  float32[R, V]: of the wanted rows; they hold until the next call
    hidden  of each layer that was asked for, float32[m + n, dim]: of every token, then of every new node
    """

    plain: NDArray[np.bool_]
    logits: Logits
    hidden: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)


def rows_of(part: Part, useless: int = 0) -> Rows:
    """The rows of a part, and `useless` ones after them that see nothing but themselves.

    Depth first, those of the likeliest path lie as they would without the others, and are scored in the same
    arithmetic, to the last bit.
    """
    text, nodes = len(part.tokens), len(part.tree)
    first, rows = text - 1, text + nodes + useless
    tokens, depths = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    tokens[:text], depths[:text] = part.tokens, np.arange(text)
    seen = None
    places = np.zeros(nodes + 1, dtype=np.int64)
    if nodes or useless:
        below, among = np.zeros(rows - first, dtype=np.int64), np.eye(rows - first, dtype=np.bool_)
        depth_first(part.tree.parents, places, below, among)
        if part.among != "above":
            among[1 : nodes + 1, 1 : nodes + 1] = mask_among(part.tree, part.among)[1:, 1:]
        depths[first:] += below + first * (np.arange(rows - first) > 0)
        if first:
            seen = np.tri(rows, dtype=np.bool_)
            seen[first:, first:] = among
        else:
            seen = among
    tokens[first + places[1:]] = part.tree.tokens
    wanted = np.concatenate([np.arange(text - part.rows, text), first + places[1:]])
    plain = depths[wanted] == wanted
    return Rows(part.sequence, tokens, depths + part.sequence.length, seen, wanted, text, first + places[1:], plain)
