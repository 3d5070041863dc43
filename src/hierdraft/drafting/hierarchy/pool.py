"""The state of all requests of a drafter, as arrays: one slot for each request, one work space for each thread.

Compiled calls read and write these for any number of requests at a time (`serve.py`); `slots.py` hands slots out.

A slot for trees of N nodes takes (N + 1) * `ROW_BYTES` + 65 * N + 350 bytes, and 190 for each pack; a thread's work
space (N + 1) * (`ROW_BYTES` + 650) + 131,000 bytes, and 208 * (N + 2) for each pack. The text of a request takes 68 to
100 bytes a token with its index, 4 without; it is let go of when the request is over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from hierdraft.databases.hashchain import TextShelf
from hierdraft.databases.suffixarray import LONGEST, Shelf
from hierdraft.drafting.hierarchy.evidence import make_evidence
from hierdraft.drafting.hierarchy.grow import Space, make_space

ROW_BYTES = sum(array.nbytes for array in make_evidence(1))
"""What the evidence of one row takes."""


class Texts(NamedTuple):
    """A text of every slot and its index, as in a `TextShelf`.

    tokens, heads, prev   int64[slots]: addresses of its arrays, which must outlive every use
    capacity, buckets     int64[slots]: their sizes
    """

    tokens: NDArray[np.int64]
    heads: NDArray[np.int64]
    prev: NDArray[np.int64]
    capacity: NDArray[np.int64]
    buckets: NDArray[np.int64]


class Requests(NamedTuple):
    """What is known of every request, by slot; int64[slots] where nothing else is said.

    own         its text
    reference   texts that its caller expects to see again
    kept        whether its own text is drafted from; if not, nothing is written there
    known       tokens of its text that every source has been told of
    begun       tokens of its prompt
    expected    where in the reference the text is thought to continue, -1 for nowhere
    texts, packs   how many further texts and packs it drafts from
    grown       how many of the first packs grow, and want to know which of their texts are useful
    useful      whether some of what came was drafted from these
    made        how many nodes were proposed last, -1 where nothing was asked for
    came        how many tokens the step after that has brought, -1 while that is not known
    after       the target's choice after those where it was not committed, -1 where there is none
    said        the further texts: arrays [slots, texts]
    shelf       the packs: arrays [slots, packs]
    low, high   int32[slots, 2, packs, LONGEST + 1]: as in `Sources`
    place       int32[slots, packs]: where in a pack that grows what came stands, -1 for nowhere
    """

    own: Texts
    reference: Texts
    kept: NDArray[np.int64]
    known: NDArray[np.int64]
    begun: NDArray[np.int64]
    expected: NDArray[np.int64]
    texts: NDArray[np.int64]
    packs: NDArray[np.int64]
    grown: NDArray[np.int64]
    useful: NDArray[np.int64]
    made: NDArray[np.int64]
    came: NDArray[np.int64]
    after: NDArray[np.int64]
    said: TextShelf
    shelf: Shelf
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    place: NDArray[np.int32]


class Packed(NamedTuple):
    """`Requests` in few arrays, since a call costs something for each: `requests_of` has them in their places.

    numbers            int64[21, slots]
    said, shelf        int64[5, slots, texts or packs]; and the levels of both, uint8[slots, texts or packs]
    ranges             int32[2, slots, 2, packs, LONGEST + 1]
    place              int32[slots, packs]
    """

    numbers: NDArray[np.int64]
    said: NDArray[np.int64]
    said_level: NDArray[np.uint8]
    shelf: NDArray[np.int64]
    shelf_level: NDArray[np.uint8]
    ranges: NDArray[np.int32]
    place: NDArray[np.int32]


class Pool(NamedTuple):
    """All requests, and a `Space` for each.

    space   its nodes, evidence and opinions have the slots before their own dimensions, and then a place for each
            thread, for evidence that is not kept; all its other arrays have the threads before theirs
    """

    state: Packed
    space: Space


def requests_of(state: Any) -> Any:
    """`Requests` on the memory of a `Packed`; also in kernels."""
    n, said, shelf = state.numbers, state.said, state.shelf
    return Requests(
        Texts(n[0], n[1], n[2], n[3], n[4]), Texts(n[5], n[6], n[7], n[8], n[9]),
        n[10], n[11], n[12], n[13], n[14], n[15], n[16], n[17], n[18], n[19], n[20],
        TextShelf(said[0], said[1], said[2], said[3], said[4], state.said_level),
        Shelf(shelf[0], shelf[1], shelf[2], shelf[3], shelf[4], state.shelf_level),
        state.ranges[0], state.ranges[1], state.place,
    )  # fmt: skip


@overload(requests_of)
def _requests_of(state: Any) -> Any:  # noqa: ARG001
    return requests_of


class Sizes(NamedTuple):
    """How much there is room for: slots, threads, nodes of a tree, packs and further texts of a request."""

    slots: int
    threads: int
    nodes: int
    packs: int = 0
    texts: int = 0


def make_pool(sizes: Sizes) -> Pool:
    """Room for so much, no slot in use."""
    slots, threads, nodes, packs, texts = sizes
    state = Packed(
        np.zeros((21, slots), dtype=np.int64),
        np.zeros((5, slots, texts), dtype=np.int64), np.zeros((slots, texts), dtype=np.uint8),
        np.zeros((5, slots, packs), dtype=np.int64), np.zeros((slots, packs), dtype=np.uint8),
        np.zeros((2, slots, 2, packs, LONGEST + 1), dtype=np.int32), np.zeros((slots, packs), dtype=np.int32),
    )  # fmt: skip
    one = make_space(nodes, packs)
    many = {
        name: _repeated(part, slots + threads if name in _KEPT else threads) for name, part in one._asdict().items()
    }
    return Pool(state, Space(**many))


_KEPT = ("tokens", "parents", "prob", "level", "depth", "evidence", "opinions")


def _repeated(part: Any, count: int) -> Any:
    """An array, or a record of arrays, `count` times."""
    if isinstance(part, tuple):
        return type(part)(*(_repeated(inner, count) for inner in part))
    return np.zeros((count, *part.shape), dtype=part.dtype)


def copy_into(new: Any, old: Any) -> None:
    """Put what a record of arrays holds into the first places of one that has no less room."""
    if isinstance(old, tuple):
        for wide, narrow in zip(new, old, strict=True):
            copy_into(wide, narrow)
        return
    new[tuple(map(slice, old.shape))] = old
