"""One request of the hierarchy: a slot of its method's pool, and what has come since it was last served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hierdraft.databases.levels import reference_chains
from hierdraft.databases.recycled import note_successors
from hierdraft.drafting.hierarchy.pool import Requests
from hierdraft.drafting.hierarchy.serve import Shared
from hierdraft.errors import UsageError
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Step
from hierdraft.tree import DraftTree, Int32

if TYPE_CHECKING:
    from hierdraft.drafting.hierarchy.method import HierarchyMethod

_MODEL = code_of("model")

_ROOM = 4096
"""Most tokens that room is made for when a request begins."""

_MOST_NOTED = 32
"""Steps whose runner-ups wait until the session is served: while it is not asked for drafts, it is not."""


class HierarchySession:
    """One request: its own text, and where it stands in every database.

    slot     its place in the method's pool, -1 once it is over
    shared   what it shares with the others of its namespace
    tail     its text in the small model's engine, where there is one
    noted    what the target thought of and the recycled level was not yet told: for each step the two tokens before its
             tree, the tree's tokens and parents, and the runner-ups of all its rows
    """

    def __init__(self, method: HierarchyMethod, request: Request) -> None:
        """Index the prompt and the reference. Raises UsageError for an invalid namespace name."""
        levels = method.levels
        self.slot = -1
        self._method, self._request = method, request
        self._recycles = "recycled" in levels
        self._shelves = method.databases.open(request.namespace, levels)
        self.shared = method.share(request.namespace)
        self.noted: list[tuple[list[int], Int32, Int32, Int32]] = []
        self._last = request.prompt[-2:].tolist()
        self._useful: list[set[int]] = [set() for _ in range(self._shelves.grown)]
        self._further = method.take_further()
        self._further.start(request)
        self.tail = method.second.open(request.namespace) if method.second is not None else None
        self._begin("context" in levels, "reference" in levels)

    def _begin(self, keeps: bool, expects: bool) -> None:
        """Take a slot and have the prompt in it. `keeps`, `expects`: whether the text and the reference are asked."""
        request = self._request
        reference = reference_chains(request.reference) if expects else None
        room = min(request.limit, _ROOM) if keeps else None
        self.slot = self._method.slots.take(request.prompt, room, reference, self._shelves)
        self._asked = False
        self._method.serve([(self, request.prompt, _NOTHING)])

    @property
    def once(self) -> float:
        """See `Session`; what the small model took to read the text."""
        if self.tail is None:
            return 0.0
        seconds, self.tail.reading = self.tail.reading, 0.0
        return seconds

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best tree of at most `budget.nodes` nodes below the last of `tokens`, best node first."""
        return self._method.propose_all([(self, tokens, budget)])[0]

    def prepare(self) -> None:
        """Called before it is served: what it was told must be where kernels look for it."""
        self._check()
        if self._further:  # they may have grown into other arrays
            slots = self._method.slots
            further = [(chains, code_of(name)) for name, chains in self._further.chains().items()]
            slots.holding(self.slot).further = further
            slots.put_texts(self.slot)

    def _check(self) -> None:
        if self.slot < 0:
            raise UsageError("This request is over: nothing can be drafted for it.")

    def served(self, nodes: int) -> None:
        """Called after it was served; it was asked for `nodes` nodes."""
        self._asked = nodes > 0
        if self._useful:
            self._collect()

    def _collect(self) -> None:
        """Remember where the grown packs hold text that was accepted."""
        place = self._method.slots.requests.place[self.slot]
        for pack, useful in enumerate(self._useful):
            if place[pack] >= 0:
                useful.add(int(place[pack]))
                place[pack] = -1

    def observe(self, step: Step) -> None:
        """Note what came; it is learned from when the session is served again, or is over."""
        with self._method.lock:
            self._check()
            self._note_step(step, self._method.slots.requests)
        if self._further:
            self._further.extend(step.tokens)
        if self.tail is not None:
            self.tail.saw(step)
        self._last = [*self._last, *step.tokens][-2:]

    def _note_step(self, step: Step, requests: Requests) -> None:
        if self._asked:
            self._asked = False
            requests.came[self.slot] = len(step.tokens)
            if len(step.path) == len(step.tokens) > 0:  # the step was cut before the target's own token
                requests.after[self.slot] = step.choices[step.path[-1] + 1]
        if self._useful and (step.tree.level[step.path] == _MODEL).any():
            requests.useful[self.slot] = 1
        if step.runner_up is not None and self._recycles:
            self._note(step, step.runner_up)
        if len(self.noted) >= _MOST_NOTED:
            note_runner_ups([self], self.shared)

    def _note(self, step: Step, ids: Int32) -> None:
        """The runner-ups of every scored row, accepted or not; those of a prompt are a chain's."""
        if not step.prefill:
            self.noted.append(([-1, *self._last][-2:], step.tree.tokens, step.tree.parents, ids))
            return
        prompt, rows = self._request.prompt, len(ids)
        first = len(prompt) - rows
        last = [int(prompt[first - 1]) if first > 0 else -1, int(prompt[first])]
        self.noted.append((last, prompt[first + 1 :], np.arange(-1, rows - 2, dtype=np.int32), ids))

    def finish(self, tokens: Int32) -> None:
        """Learn from the last step, note which learned texts were useful; forget the request's own."""
        if self.slot < 0:
            return
        method = self._method
        try:
            method.catch_up(self, tokens)
        finally:
            method.give_back(self.slot, self._further)
            self.slot = -1
            if self.tail is not None:
                with method.lock:
                    self.tail.close()
        for pack, places in zip(self._shelves.packs, self._useful, strict=False):
            method.databases.touch(self._request.namespace, pack, places)


_NOTHING = Budget(0, 0, 0)


def note_runner_ups(sessions: Sequence[HierarchySession], shared: Shared) -> None:
    """Put what the sessions of one namespace have noted into its recycled level, in one call."""
    noted = [one for session in sessions for one in session.noted]
    if not noted:
        return
    last, tokens, parents, ids = zip(*noted, strict=True)
    nodes = np.array([len(one) for one in tokens], dtype=np.int64)
    note_successors(
        shared.recycled, np.array(last, dtype=np.int32), nodes, np.concatenate(tokens), np.concatenate(parents),
        np.concatenate(ids),
    )  # fmt: skip
    for session in sessions:
        session.noted.clear()
