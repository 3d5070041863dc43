"""Documents packed into windows of one length at most, whole wherever they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hierdraft.corpus.kept import Float16
from hierdraft.training.documents import Document
from hierdraft.tree import Int32

_OPEN = 32
"""Windows that may still be filled at a time."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Tokens `begin` to `end` of a document."""

    document: Document
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Window:
    """W tokens of several documents, none of which sees another; nothing fills up what room is left.

    ids, positions   int32[W]
    segment          int32[W]: which piece a token is of
    rows             int32[N], rising: the places after which a token is learned
    labels           int32[N]: these tokens
    top              (rows int32[M] among the N, ids int32[M, k], log probabilities float16[M, k]), None for none
    states           float16[W, D]: the target's hidden states, of a document's last token zeros; None: not kept
    """

    ids: Int32
    positions: Int32
    segment: Int32
    rows: Int32
    labels: Int32
    top: tuple[Int32, Int32, Float16] | None
    states: Float16 | None = None


def shortened(document: Document, window: int) -> Document:
    """With so much of its prompt's end that half of a window is left for the answer."""
    cut = document.start - window // 2
    if cut <= 0 or len(document.ids) <= window:
        return document
    states = None if document.states is None else document.states.after(cut)
    return replace(document, ids=document.ids[cut:], start=document.start - cut, states=states)


def packed(documents: Sequence[Document], window: int, seed: int) -> list[list[Piece]]:
    """The pieces of every window. Documents come in an order of the seed, each in the first window with room for it."""
    order = np.random.default_rng([seed, 1]).permutation(len(documents))
    done: list[list[Piece]] = []
    filling: list[tuple[int, list[Piece]]] = []
    for number in order:
        document = shortened(documents[number], window)
        for begin in range(0, len(document.ids), window):
            piece = Piece(document, begin, min(begin + window, len(document.ids)))
            if piece.end - begin < 2 and begin > 0:
                continue  # its only token was learned with the piece before
            size = piece.end - begin
            place = next((n for n, (used, _) in enumerate(filling) if used + size <= window), None)
            if place is None:
                filling.append((size, [piece]))
            else:
                used, pieces = filling[place]
                filling[place] = (used + size, [*pieces, piece])
            if len(filling) > _OPEN:
                fullest = max(range(len(filling)), key=lambda n: filling[n][0])
                done.append(filling.pop(fullest)[1])
    return done + [pieces for _, pieces in filling]


def window_of(pieces: Sequence[Piece]) -> Window:
    """What a drafter is given of these pieces, and what it should say."""
    ids = np.concatenate([one.document.ids[one.begin : one.end] for one in pieces])
    sizes = [one.end - one.begin for one in pieces]
    positions = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    segment = np.repeat(np.arange(len(pieces), dtype=np.int32), sizes)
    rows: list[Int32] = []
    labels: list[Int32] = []
    top: list[tuple[Int32, Int32, Float16]] = []
    at = known = 0
    for piece, size in zip(pieces, sizes, strict=True):
        document = piece.document
        first = max(document.start - 1, piece.begin)
        last = min(piece.end, len(document.ids) - 1)  # after its last token there is nothing to learn
        count = max(0, last - first)
        rows.append(np.arange(first, first + count, dtype=np.int32) - np.int32(piece.begin - at))
        labels.append(document.ids[first + 1 : first + 1 + count])
        if document.top is not None and count:
            begin = first + 1 - document.start
            which = np.arange(known, known + count, dtype=np.int32)
            top.append((which, document.top[0][begin : begin + count], document.top[1][begin : begin + count]))
        at, known = at + size, known + count
    return Window(ids, positions, segment, np.concatenate(rows), np.concatenate(labels), _joined(top), _states(pieces))


def _states(pieces: Sequence[Piece]) -> Float16 | None:
    """The hidden states of all tokens of some pieces, None where some have none."""
    found: list[Float16] = []
    for one in pieces:
        if one.document.states is None:
            return None
        last = min(one.end, len(one.document.ids) - 1)
        found.append(one.document.states.read(one.begin, last))
        if last < one.end:
            found.append(np.zeros((1, found[-1].shape[1]), dtype=np.float16))
    return np.concatenate(found)


def _joined(top: Sequence[tuple[Int32, Int32, Float16]]) -> tuple[Int32, Int32, Float16] | None:
    """Those of several documents, cut to as many ids as all have."""
    if not top:
        return None
    k = min(ids.shape[1] for _, ids, _ in top)
    which = np.concatenate([one for one, _, _ in top])
    return which, np.concatenate([ids[:, :k] for _, ids, _ in top]), np.concatenate([p[:, :k] for _, _, p in top])


def mask_of(segment: Int32) -> NDArray[np.bool_]:
    """bool[W, W]: which tokens (columns) each one sees: itself and those before it in its piece."""
    return np.asarray((segment[:, None] == segment[None, :]) & np.tri(len(segment), dtype=bool))
