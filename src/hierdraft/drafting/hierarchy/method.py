"""The default method: every level is asked, what they say is weighed, one tree grows best-first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock
from time import perf_counter
from typing import Literal, TypeAlias

import numpy as np

from hierdraft.databases.levels import Databases
from hierdraft.databases.recycled import TOP, RecycledLevel, make_successors
from hierdraft.drafting.hierarchy.calibration import Calibration, file_of
from hierdraft.drafting.hierarchy.further import FurtherLevels
from hierdraft.drafting.hierarchy.opinions import put_opinions
from hierdraft.drafting.hierarchy.second import Hearing, SecondOpinion
from hierdraft.drafting.hierarchy.serve import Asks, Manner, Shared
from hierdraft.drafting.hierarchy.session import HierarchySession, note_runner_ups
from hierdraft.drafting.hierarchy.slots import Slots
from hierdraft.drafting.models.opened import open_drafter
from hierdraft.errors import DraftWarning, UsageError, failed_at
from hierdraft.levels import askable_levels, asked_levels
from hierdraft.protocols import Budget, Opened, Request, Setup, Wants
from hierdraft.tree import DraftTree, Int32

Ask: TypeAlias = tuple[HierarchySession, Int32, Budget]
"""A session, everything committed so far int32[L], and the bounds of its tree."""

_ALL = asked_levels()

_NODES = 64

PROMPT_ROWS = 128
"""How many of the last prompt positions teach the recycled level."""


class HierarchyMethod:
    """Calibrated best-first drafting (hierdraft's own; the levels are those of arXiv 2502.05609, and two more).

    The calibration outlives a request: what was learned about the value of a match serves the next one, and those
    beside it. The text of a request does so only in its own namespace.
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"
    uses_databases = True

    def __init__(
        self, levels: tuple[str, ...] = _ALL, least: float = 0.002, calibration: str = "default", threads: int = 2,
        draft: str | None = None, ask: Literal["pays", "always"] = "pays", rounds: int | None = None,
    ) -> None:  # fmt: skip
        """Raises UsageError for unknown levels.

        levels        which levels are drafted from; `default` stands for these (docs/extending.md has more)
        least         path probability below which nothing is drafted
        calibration   `default`: continue from what was learned before; `none`: begin with the prior
        threads       how many draft at once, where there are enough requests
        draft         a small model, or a head of the target, that has an opinion about the trees: level `draft`
        ask           when it is asked: where that `pays`, or `always`
        rounds        how often at most for one proposal, anew about what has grown out of it; None: 2, a head 8 times
        """
        if "default" in levels:
            levels = tuple(dict.fromkeys((*_ALL, *(level for level in levels if level != "default"))))
        if not set(levels) <= set(askable_levels()):
            raise UsageError(f"The levels are {', '.join(askable_levels())}, not {'+'.join(levels)}.")
        if calibration not in ("default", "none"):
            raise UsageError(f"The calibration is 'default' or 'none', not {calibration!r}.")
        if draft is None and (ask, rounds) != ("pays", None):
            raise UsageError("ask and rounds go with draft: name a model, hierarchy:draft=NAME.")
        for what, number in (("rounds", rounds), ("threads", threads)):
            if number is not None and number < 1:
                raise UsageError(f"The number of {what} must be at least 1, not {number}.")
        asked = levels if draft is None else (*levels, "draft")
        self.levels = frozenset(asked)
        self.draft, self.least, self._always, self._rounds = draft, least, ask == "always", rounds
        self._opened: Opened | None = None
        self.second: SecondOpinion | None = None  # where there is a small model
        self.calibration = Calibration(asked)
        self.databases, self.recycled = Databases(), RecycledLevel()
        self._nothing = make_successors(0)
        self.slots = Slots(_NODES, threads)
        """Where the state of its requests is."""
        self._further = [FurtherLevels(levels)]
        """Those that no request uses now."""
        self.lock = RLock()
        """Held by whoever uses the slots: any thread may serve any request."""
        self._order = levels
        self._stored: Path | None = None
        self._learns = calibration == "default"
        if self._learns:
            self.calibration.read_default()

    @property
    def wants(self) -> Wants:
        """Runner-ups for the recycled level, and the hidden states that a head reads."""
        reads = self._opened.reads if self._opened is not None else None
        hidden = reads.layers if reads is not None else ()
        return Wants(TOP, PROMPT_ROWS, hidden=hidden) if "recycled" in self.levels else Wants(hidden=hidden)

    def attach(self, setup: Setup) -> None:
        """Draft from these databases too, and continue from the calibration that lies with them.

        A target that does not show its runner-ups is drafted for without the recycled level.
        """
        if self._opened is not None:
            raise UsageError("This method drafts for another model already: make another method.")
        self.databases = setup.databases
        shared = self.databases.calibration_file
        self._stored = file_of(shared, self.levels) if shared is not None else None
        if not setup.offers.scores:
            self.levels -= {"recycled"}
        if self._learns and self._stored is not None:
            self.calibration.read(self._stored)
        if self.draft is not None:
            self._opened = open_drafter(self.draft, setup, heads=True)
            self.second = SecondOpinion(self._opened, setup.vocab_size, always=self._always, rounds=self._rounds)

    def open(self, request: Request) -> HierarchySession:
        """Index the prompt and the reference. Raises UsageError for an invalid namespace name."""
        with self.lock:
            return HierarchySession(self, request)

    def propose_all(self, asks: Sequence[Ask]) -> list[DraftTree]:
        """A tree for each of several sessions of this method, none of them twice: see `Session.propose`."""
        with self.lock:
            trees = self.serve(asks)
            return trees if self.second is None else self._heard(self.second, asks, trees)

    def _heard(self, second: SecondOpinion, asks: Sequence[Ask], trees: list[DraftTree]) -> list[DraftTree]:
        """The trees, those about which the model is asked grown again after each of its forwards."""
        hearings = {
            place: Hearing(session.tail, tokens, budget, trees[place])
            for place, (session, tokens, budget) in enumerate(asks)
            if session.tail is not None and budget.nodes > 0 and session.tail.knows(tokens)
        }
        try:
            self._rounds_of(second, asks, hearings, trees)
        finally:  # also after an interrupt: what is thought of this tree says nothing about the next one
            for place in hearings:
                self.slots.opinions(asks[place][0].slot).scored[0] = 0
        return trees

    def _rounds_of(
        self, second: SecondOpinion, asks: Sequence[Ask], hearings: Mapping[int, Hearing], trees: list[DraftTree]
    ) -> None:
        """Forwards of the model, and the trees as they are after each."""
        chosen = [*hearings]
        for number in range(second.rounds):
            chosen = [chosen[n] for n in second.wanted(number, [hearings[place] for place in chosen])]
            started = perf_counter()
            if not chosen or not self._ask(second, {asks[place][0].slot: hearings[place] for place in chosen}):
                return
            for place, tree in zip(chosen, self.serve([asks[place] for place in chosen]), strict=True):
                second.learn(number, hearings[place], tree)
                trees[place] = tree
            second.took(perf_counter() - started)

    def _ask(self, second: SecondOpinion, hearings: Mapping[int, Hearing]) -> bool:
        """One forward of the model; what it thinks is put where the trees of these slots are grown."""
        try:
            told = second.ask([*hearings.values()])
        except Exception as error:  # noqa: BLE001 - whatever the model's engine raises, the look-ups are there
            what = f"The model {self.draft!r} failed and is not asked any more: {failed_at(error)}."
            warnings.warn(what, DraftWarning, stacklevel=2)
            self.second = None
            return False
        self.slots.reserve(nodes=max(len(one.coming) for one in hearings.values()))
        for (slot, one), opinion in zip(hearings.items(), told, strict=True):
            put_opinions(self.slots.opinions(slot), one.coming, *opinion)
        return True

    def close(self) -> None:
        """Store what was learned about drafting, where there is a place for it; a failure is a warning."""
        self.slots.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = self.second = None
        if self._stored is not None and self._learns:
            self.calibration.save(self._stored)

    def serve(self, asks: Sequence[Ask]) -> list[DraftTree]:
        """As `propose_all`, for a caller that has the lock. One call for each namespace."""
        groups: dict[tuple[int, int], list[int]] = {}
        for number, (session, _, _) in enumerate(asks):
            session.prepare()
            groups.setdefault((id(session.shared.weights.token), id(session.shared.recycled.keys)), []).append(number)
        if len(groups) == 1:
            return self._serve(asks)
        trees = [DraftTree.empty()] * len(asks)
        for numbers in groups.values():
            for number, tree in zip(numbers, self._serve([asks[number] for number in numbers]), strict=True):
                trees[number] = tree
        return trees

    def warm_up(self) -> None:
        """Load, or compile, the kernels of several threads, which a first batch would wait for."""
        prompt = np.array([1, 2, 1, 2], dtype=np.int32)
        sessions = [self.open(Request(prompt, 4)) for _ in range(2)]
        with self.lock:
            self._serve([(session, prompt, Budget(2, 2)) for session in sessions], apart=True)
        for session in sessions:
            session.finish(prompt)

    def _serve(self, asks: Sequence[Ask], *, apart: bool = False) -> list[DraftTree]:
        """One call for sessions of one namespace; `apart`: by several threads, however little there is to do."""
        sessions = [session for session, _, _ in asks]
        texts = [np.ascontiguousarray(tokens, dtype=np.int32) for _, tokens, _ in asks]
        nodes = [budget.nodes for _, _, budget in asks]
        numbers = [
            [session.slot for session in sessions], [text.ctypes.data for text in texts], [*map(len, texts)],
            nodes, [budget.depth for _, _, budget in asks],
        ]  # fmt: skip
        shared = sessions[0].shared
        note_runner_ups(sessions, shared)
        self.slots.serve(shared, Asks(*np.array(numbers, dtype=np.int64)), Manner(self.least), apart=apart)
        for session, most in zip(sessions, nodes, strict=True):
            session.served(most)
        return [self._tree(slot) for slot in numbers[0]]

    def _tree(self, slot: int) -> DraftTree:
        """What was made in a slot."""
        space, n = self.slots.pool.space, max(0, int(self.slots.requests.made[slot]))
        return DraftTree(
            space.tokens[slot, :n].copy(),
            space.parents[slot, :n].copy(),
            space.prob[slot, :n].copy(),
            space.level[slot, :n].copy(),
            np.zeros(n, dtype=np.bool_),
            np.full(n, -1, dtype=np.int32),
        )

    def catch_up(self, session: HierarchySession, tokens: Int32) -> None:
        """Let a session learn from its last step; `tokens` int32[L] is everything committed."""
        with self.lock:
            self.serve([(session, tokens, Budget(0, 0, 0))])

    def share(self, namespace: str) -> Shared:
        """What the requests of a namespace share."""
        recycled = self.recycled.table(namespace) if "recycled" in self.levels else self._nothing
        return Shared(self.calibration.weights(namespace), self.calibration.tried, self.calibration.accepted, recycled)

    def take_further(self) -> FurtherLevels:
        """The levels beside the five; `give_back` puts them where the next request finds them."""
        return self._further.pop() if self._further else FurtherLevels(self._order)

    def give_back(self, slot: int, further: FurtherLevels) -> None:
        """A request is over: its text is forgotten."""
        with self.lock:
            self.slots.give(slot)
            further.close()
            self._further.append(further)
