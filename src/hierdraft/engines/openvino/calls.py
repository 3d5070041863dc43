"""A forward in several calls of the graph, for processors that compute many rows otherwise than few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hierdraft.engines.sequences import new_rows
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree

_NOTHING = DraftTree.empty()


def in_calls(parts: Sequence[Part], most: int) -> list[list[tuple[int, Part]]]:
    """What each call scores: parts, or pieces of them, and the places in `parts` that they belong to.

    Only text is cut: a tree comes with the last of it. A part's pieces are in calls that follow each other.

    most   rows that a call has; every tree has fewer nodes than that
    """
    calls: list[list[tuple[int, Part]]] = []
    room = 0
    for place, part in enumerate(parts):
        for piece in _pieces(part, most):
            rows = new_rows(piece)
            if rows > room or calls[-1][-1][0] == place:
                calls.append([])
                room = most
            calls[-1].append((place, piece))
            room -= rows
    return calls


def _pieces(part: Part, most: int) -> list[Part]:
    """The part whole if it has no more rows than that, else in pieces of its text."""
    count, below = len(part.tokens), len(part.tree)
    if new_rows(part) <= most:
        return [part]
    ends = [*range(most, count, most), count]
    if (count - 1) % most + 1 + below > most:
        ends.insert(-1, count - 1)  # the tree and the token above it by themselves
    unscored = count - part.rows
    return [
        replace(
            part, tokens=part.tokens[begin:end], rows=max(0, end - max(begin, unscored)),
            tree=part.tree if end == count else _NOTHING,
        )
        for begin, end in zip([0, *ends], ends, strict=False)
    ]  # fmt: skip
