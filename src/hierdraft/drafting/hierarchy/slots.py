"""Slots of a pool: handed out, kept in step with the texts they hold, and served together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from hierdraft.databases.hashchain import ORDERS, UNWRITTEN, Chains, insert, make_chains
from hierdraft.databases.levels import Shelves
from hierdraft.databases.memory import slot_of
from hierdraft.drafting.hierarchy.opinions import Opinions
from hierdraft.drafting.hierarchy.pool import Pool, Sizes, Texts, copy_into, make_pool, requests_of
from hierdraft.drafting.hierarchy.scans import BLOCK, SHORT, is_bare
from hierdraft.drafting.hierarchy.serve import Asks, Manner, Shared, draft_slots, learn_slots, serve_slots
from hierdraft.levels import CODES, code_of
from hierdraft.tree import Int32

HEAD_START = 4
"""Chains that the calling thread makes while the others wake up and report back."""

ALONE = 24
"""Chains that one thread makes before another is worth its while; a tree of N nodes counts as (N + 1) / `ROWS`."""

ROWS = 8

_MODEL = code_of("model")


@dataclass(slots=True)
class Holding:
    """What a request drafts from, kept for as long as its slot is in use: kernels know only where it lies.

    own         its text, with as much room as it needs
    reference   the index over what its caller expects to see again
    shelves     the databases
    further     texts of further levels, with their codes
    """

    own: Chains
    reference: Chains
    shelves: Shelves
    further: list[tuple[Chains, int]] = field(default_factory=list)


class Slots:
    """A slot for each request in flight; they are used again, and all but the first few go when none is in use.

    pool       see `pool.Pool`; it is another one once there are more slots, nodes, packs or texts than before
    requests   its requests
    accepted   int64[levels]: proposed tokens that were committed, by level
    """

    def __init__(self, nodes: int, threads: int, *, bare: bool = False) -> None:
        """Room for one request.

        nodes     most nodes of a tree, more where more are asked for
        threads   how many draft at once
        bare      short texts have no index: for chains alone, which can do without
        """
        self._first = self._sizes = Sizes(1, threads, nodes)
        self._bare = bare
        self._none = make_chains(0)
        self._held: dict[int, Holding] = {}
        self._free: list[int] = []
        self._workers: ThreadPoolExecutor | None = None
        self.accepted = np.zeros(CODES, dtype=np.int64)
        self._make(self._sizes)

    def _make(self, sizes: Sizes) -> None:
        """Begin anew."""
        self._sizes = sizes
        self._use(make_pool(sizes))
        self._free = list(range(sizes.slots))[::-1]

    def _use(self, pool: Pool) -> None:
        self.pool, self.requests = pool, requests_of(pool.state)

    def __len__(self) -> int:
        """Slots that there are, in use or not."""
        return self._sizes.slots

    def reserve(self, *, nodes: int = 0, packs: int = 0, texts: int = 0, slots: int = 0) -> None:
        """Have room for so much; what is in the slots stays."""
        now = self._sizes
        wanted = Sizes(
            max(slots, now.slots), now.threads, max(nodes, now.nodes), max(packs, now.packs), max(texts, now.texts)
        )
        if wanted == now:
            return
        pool, self._sizes = make_pool(wanted), wanted
        copy_into(pool, self.pool)
        self._use(pool)
        self._free = [*range(now.slots, wanted.slots)[::-1], *self._free]

    def take(self, prompt: Int32, room: int | None, reference: Chains | None, shelves: Shelves) -> int:
        """A slot for a request; nothing of its prompt int32[L] is in it yet.

        room        how many tokens it is thought to gain; None: its own text is not drafted from
        reference   the index over what its caller expects to see again
        shelves     the databases
        """
        own = self._none if room is None else self._room_for(len(prompt) + room)
        packs = len(shelves.packs)
        self.reserve(packs=packs, slots=0 if self._free else 2 * len(self))
        slot = self._free.pop()
        self._held[slot] = Holding(own, reference or self._none, shelves)
        requests = self.requests
        requests.kept[slot], requests.known[slot], requests.begun[slot] = room is not None, 0, len(prompt)
        requests.expected[slot] = -1 if reference is None else 0
        requests.made[slot] = requests.came[slot] = requests.after[slot] = requests.place[slot] = -1
        requests.useful[slot] = requests.low[slot] = requests.high[slot] = 0
        for places, values in zip(requests.shelf, shelves.shelf, strict=True):
            places[slot, :packs] = values
        requests.packs[slot], requests.grown[slot] = packs, shelves.grown
        _put(requests.reference, slot, reference or self._none)
        self._put_own(slot, own)
        self.put_texts(slot)
        return slot

    def put_texts(self, slot: int) -> None:
        """The texts that were said before, and those of further levels, as they now are."""
        holding = self._held[slot]
        texts = [*((chains, _MODEL) for chains in holding.shelves.texts), *holding.further]
        self.reserve(texts=len(texts))
        said = self.requests.said
        for place, (chains, level) in enumerate(texts):
            _put(Texts(*(array[:, place] for array in said[:5])), slot, chains)
            said.level[slot, place] = level
        self.requests.texts[slot] = len(texts)

    def holding(self, slot: int) -> Holding:
        """What a slot holds; `further` may be changed, with `put_texts` after that."""
        return self._held[slot]

    def opinions(self, slot: int) -> Opinions:
        """Where a model's opinions about a slot's tree are: read while it is grown again, and to be emptied then."""
        opinions: Opinions = slot_of(self.pool.space.opinions, slot)
        return opinions

    def give(self, slot: int) -> None:
        """A request is over: let go of all its texts."""
        del self._held[slot]
        self.requests.known[slot] = 0
        self._free.append(slot)
        if not self._held and len(self) > self._first.slots:
            self._make(self._first)

    def _put_own(self, slot: int, chains: Chains) -> None:
        self._held[slot].own = chains
        _put(self.requests.own, slot, chains)

    def _room_for(self, capacity: int) -> Chains:
        """Room for a text, with an index unless it is short and can do without."""
        if not self._bare or capacity > SHORT:
            return make_chains(capacity)
        none = np.zeros((ORDERS, 0), dtype=np.int32)
        return Chains(np.full(max(BLOCK, capacity), UNWRITTEN, dtype=np.int32), none, none)

    def _grow(self, slot: int, needed: int) -> None:
        """More room for a request's text, if it has a slot and its text is kept there."""
        if slot < 0 or not self.requests.kept[slot]:
            return
        old, known = self._held[slot].own, int(self.requests.known[slot])
        capacity = max(needed, 2 * len(old.tokens))
        chains = self._room_for(min(capacity, SHORT) if self._bare and needed <= SHORT else capacity)
        chains.tokens[:known] = old.tokens[:known]
        if not is_bare(chains):
            insert(chains, 0, known)
        self._put_own(slot, chains)

    def serve(self, shared: Shared, asks: Asks, manner: Manner, *, apart: bool = False) -> None:
        """Learn, take in what came, and draft: by several threads where there is enough to do, or with `apart`."""
        nodes = asks.nodes.tolist()
        for number in np.flatnonzero(asks.length > self.requests.own.capacity[asks.slot]).tolist():
            self._grow(int(asks.slot[number]), int(asks.length[number]))
        self.reserve(nodes=max(nodes, default=0))
        work = len(nodes) if manner.chain else (sum(nodes) + len(nodes)) // ROWS
        parts = min(self._sizes.threads, len(nodes), len(nodes) if apart else -(-work // ALONE))
        if parts < 2:
            serve_slots(self.pool, shared, asks, manner, self.accepted)
        else:
            self._share_out(shared, asks, manner, parts)

    def _share_out(self, shared: Shared, asks: Asks, manner: Manner, parts: int) -> None:
        """Several threads draft; what all of them use is learned before."""
        learn_slots(self.pool, shared, asks, self.accepted)
        count, given = len(asks.slot), (self.pool, shared, asks, manner)
        first = min(HEAD_START, count) if manner.chain else 1
        bounds = [0, *np.linspace(first, count, parts + 1).astype(int).tolist()[1:]]
        if self._workers is None:
            self._workers = ThreadPoolExecutor(self._sizes.threads - 1, "hierdraft")
        others = [self._workers.submit(draft_slots, *given, bounds[i], bounds[i + 1], i) for i in range(1, parts)]
        draft_slots(*given, 0, bounds[1], 0)
        for other in others:
            other.result()

    def close(self) -> None:
        """End the threads; they begin again where they are needed."""
        if self._workers is not None:
            self._workers.shutdown()
            self._workers = None


def _put(texts: Texts, slot: int, chains: Chains) -> None:
    """Where a text of a slot lies."""
    texts.tokens[slot], texts.heads[slot], texts.prev[slot] = (array.ctypes.data for array in chains)
    texts.capacity[slot], texts.buckets[slot] = len(chains.tokens), chains.heads.shape[1]
