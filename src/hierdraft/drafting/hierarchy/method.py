"""The default method: every level is asked, what they say is weighed, one tree grows best-first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hierdraft.databases.hashchain import ORDERS, Chains, shelve_texts
from hierdraft.databases.levels import ContextLevel, Databases, ReferenceLevel
from hierdraft.databases.recycled import TOP, RecycledLevel, make_successors, note_successors
from hierdraft.databases.suffixarray import LONGEST, follow_all
from hierdraft.drafting.hierarchy.calibration import Calibration, file_of
from hierdraft.drafting.hierarchy.further import FurtherLevels
from hierdraft.drafting.hierarchy.grow import Sources, Space, grow, make_space
from hierdraft.errors import UsageError
from hierdraft.levels import askable_levels, asked_levels, code_of
from hierdraft.protocols import Budget, Request, Setup, Step, Wants
from hierdraft.tree import DraftTree, Int32

_MODEL = code_of("model")
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

    def __init__(self, levels: tuple[str, ...] = _ALL, least: float = 0.002, calibration: str = "default") -> None:
        """Raises UsageError for unknown levels.

        levels        which levels are drafted from; `default` stands for these (docs/extending.md has more)
        least         path probability below which nothing is drafted
        calibration   `default`: continue from what was learned before; `none`: begin with the prior
        """
        if "default" in levels:
            levels = tuple(dict.fromkeys((*_ALL, *(level for level in levels if level != "default"))))
        if not set(levels) <= set(askable_levels()):
            raise UsageError(f"The levels are {', '.join(askable_levels())}, not {'+'.join(levels)}.")
        if calibration not in ("default", "none"):
            raise UsageError(f"The calibration is 'default' or 'none', not {calibration!r}.")
        self.levels = frozenset(levels)
        self.least = least
        self.calibration = Calibration(levels)
        self.databases = Databases()
        self.recycled = RecycledLevel()
        self.further = [FurtherLevels(levels)]
        """Those that no request uses now."""
        self.spaces: list[Space] = []
        """Likewise."""
        self._order = levels
        self._stored: Path | None = None
        self._learns = calibration == "default"
        if self._learns:
            self.calibration.read_default()

    @property
    def wants(self) -> Wants:
        """Runner-ups for the recycled level."""
        return Wants(TOP, PROMPT_ROWS) if "recycled" in self.levels else Wants()

    def attach(self, setup: Setup) -> None:
        """Draft from these databases too, and continue from the calibration that lies with them.

        A target that does not show its runner-ups is drafted for without the recycled level.
        """
        self.databases = setup.databases
        shared = self.databases.calibration_file
        self._stored = file_of(shared, self.levels) if shared is not None else None
        if not setup.offers.scores:
            self.levels -= {"recycled"}
        if self._learns and self._stored is not None:
            self.calibration.read(self._stored)

    def open(self, request: Request) -> HierarchySession:
        """Index the prompt and the reference."""
        return HierarchySession(self, request)

    def close(self) -> None:
        """Store what was learned about drafting, where there is a place for it; a failure is a warning."""
        if self._stored is not None and self._learns:
            self.calibration.save(self._stored)

    def take_space(self, nodes: int, packs: int) -> Space:
        """Room for a tree, which its request gives back when it is over."""
        for place, space in enumerate(self.spaces):
            if len(space.tokens) >= nodes and space.rows.longest.shape[1] == packs:
                return self.spaces.pop(place)
        self.spaces.clear()  # of other sizes than are wanted now
        return make_space(nodes, packs)

    def take_further(self) -> FurtherLevels:
        """The levels beside the five, likewise."""
        return self.further.pop() if self.further else FurtherLevels(self._order)


class HierarchySession:
    """One request: its own text, and where it stands in every database."""

    def __init__(self, method: HierarchyMethod, request: Request) -> None:
        """Index the prompt and the reference."""
        self._method, self._request, self._levels = method, request, method.levels
        self._shelves = method.databases.open(request.namespace, self._levels)
        packs = len(self._shelves.packs)
        self._space = method.take_space(_NODES, packs)
        self._low, self._high = np.zeros((2, 2, packs, LONGEST + 1), dtype=np.int32)
        self._useful: list[set[int]] = [set() for _ in range(self._shelves.grown)]
        self._weights = method.calibration.weights(request.namespace)
        recycles = "recycled" in self._levels
        self._successors = method.recycled.table(request.namespace) if recycles else make_successors(0)
        self._reference = ReferenceLevel(request.reference if "reference" in self._levels else ())
        asks = "context" in self._levels
        self._context = ContextLevel(request.prompt, room=min(request.limit, 4096)) if asks else ContextLevel()
        self._further = method.take_further()
        self._further.start(request)
        self._shelve_texts({})
        self._last = request.prompt[-ORDERS:]
        self._asked = False
        self._proposed = 0
        self._follow(request.prompt[-LONGEST:].copy())

    def _shelve_texts(self, more: Mapping[str, Chains]) -> None:
        """The texts that were said before, and those of further levels, as they now are."""
        said = self._shelves.texts
        self._chains = [*said, *more.values()]
        self._texts = shelve_texts(self._chains, [_MODEL] * len(said) + [code_of(name) for name in more])

    def _follow(self, added: Int32) -> None:
        """Extend the ranges in every pack, those of the text without its last token by one token less."""
        shelf = self._shelves.shelf
        follow_all(shelf, self._low[0], self._high[0], added[:-1])
        self._low[1], self._high[1] = self._low[0], self._high[0]
        follow_all(shelf, self._low[0], self._high[0], added[-1:])

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best tree of at most `budget.nodes` nodes below the last of `tokens`, best node first."""
        shelves = self._shelves
        if budget.nodes > len(self._space.tokens):
            self._space = make_space(budget.nodes, len(shelves.packs))
        space = self._space
        if self._further:  # they may have grown into other arrays
            self._shelve_texts(self._further.chains())
        sources = Sources(
            self._reference.chains, self._reference.expected, self._context.chains, len(self._context),
            self._successors, self._texts, shelves.shelf, self._low, self._high,
        )  # fmt: skip
        self._last = tokens[-ORDERS:].copy()  # writable, as everywhere else: one compiled signature
        self._asked, least = True, self._method.least
        n = self._proposed = grow(sources, self._last, self._weights, space, budget.nodes, budget.depth, least)
        return DraftTree(
            space.tokens[:n].copy(),
            space.parents[:n].copy(),
            space.prob[:n].copy(),
            space.level[:n].copy(),
            np.zeros(n, dtype=np.bool_),
        )

    def observe(self, step: Step) -> None:
        """Learn what the looks were worth, and add the step's tokens and runner-ups to the levels."""
        if self._asked:
            rows = np.array([0, *(node + 1 for node in step.path)])
            asked = self._own_rows(step)
            self._method.calibration.learn(self._space.evidence, self._weights, asked, step.choices[rows[: len(asked)]])
            self._asked = False
        if step.runner_up is not None and "recycled" in self._levels:
            self._recycle(step, step.runner_up)
        if "context" in self._levels:
            self._context.extend(step.tokens)
        self._further.extend(step.tokens)
        self._reference.follow(step.tokens)
        self._follow(np.array(step.tokens, dtype=np.int32))
        if self._useful and (step.tree.level[step.path] == _MODEL).any():
            self._note_useful()
        self._last = np.append(self._last, np.array(step.tokens, dtype=np.int32))[-2:]

    def _own_rows(self, step: Step) -> NDArray[np.int64]:
        """The accepted rows as they were numbered when proposed, up to a node that is not of our making.

        What is scored is the proposal or a part of it; where a grammar is followed it may be another tree altogether.
        """
        tree, n = step.tree, len(step.tree)
        tokens, parents = self._space.tokens[: self._proposed], self._space.parents[: self._proposed]
        if np.array_equal(tokens[:n], tree.tokens) and np.array_equal(parents[:n], tree.parents):
            return np.array([0, *(node + 1 for node in step.path)])
        rows = [0]
        for node in step.path:
            same = (parents == rows[-1] - 1) & (tokens == tree.tokens[node])
            if not same.any():
                break
            rows.append(int(same.argmax()) + 1)
        return np.array(rows)

    def _recycle(self, step: Step, ids: Int32) -> None:
        """Note the runner-ups of every scored row, accepted or not."""
        if step.prefill:
            prompt = self._request.prompt
            tokens = prompt[len(prompt) - len(ids) :]
            before = np.append(np.int32(-1), prompt)[len(prompt) - len(ids) : len(prompt)]
        else:
            tree = step.tree
            tokens = np.append(self._last[-1:], tree.tokens)
            before = np.append(self._last[-2] if len(self._last) > 1 else np.int32(-1), tokens[tree.parents + 1])
        note_successors(self._successors, before.astype(np.int32), tokens.astype(np.int32), ids)

    def _note_useful(self) -> None:
        """Remember where the grown packs hold the text that has just been accepted."""
        for pack, useful in enumerate(self._useful):
            order = int((self._low[0, pack, 1:] < self._high[0, pack, 1:]).sum())
            if order > 1:
                useful.add(int(self._shelves.packs[pack].index.suffixes[self._low[0, pack, order]]))

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002 - the loop teaches what was said
        """Note which learned texts were useful; forget the request's own."""
        for pack, places in zip(self._shelves.packs, self._useful, strict=False):
            self._method.databases.touch(self._request.namespace, pack, places)
        self._context.close()
        self._reference.close()
        self._further.close()
        self._method.further.append(self._further)
        self._method.spaces.append(self._space)
