"""One request of a drafting model: a sequence of its own in the drafter's engine that follows what is committed.

Drafting is a generator that asks for one forward at a time, so that several requests can share each
(`draft_model.py`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from hierdraft.drafting.models.following import Rows, Text
from hierdraft.drafting.models.laws import Shaper, draw
from hierdraft.drafting.models.plans import DEPTHS, Acceptance, Plan, Shape, best, largest
from hierdraft.protocols import Budget, Part, Request, Scores, Step
from hierdraft.tree import DraftLaw, DraftTree, Int32

if TYPE_CHECKING:
    from hierdraft.drafting.models.draft_model import DraftModelMethod

_NOISE = 0x6472616674
"""Keeps the noise of drafts apart from all other noise of the same seed and position."""

_NOTHING = DraftTree.empty()

Drafting = Generator[Part, list[Scores], DraftTree]
"""Asks for forwards, is sent the rows of each, and returns the tree."""


class Made:
    """A tree in the making.

    start      how many tokens stood before it
    scored     nodes that the drafter's engine has scored, with their places there
    promised   the drafter's own probability of each node, its parent given
    """

    def __init__(self, start: int, *, drawn: bool) -> None:
        self.start, self.drawn = start, drawn
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.prob: list[float] = []
        self.promised: list[float] = []
        self.group: list[int] = []
        self.laws: list[DraftLaw] = []
        self.scored: dict[int, int] = {}
        self.below: dict[int, list[int]] = {}

    def add(self, token: int, parent: int, prob: float, promised: float, group: int = -1) -> int:
        """A node; its number."""
        node = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.prob.append(prob)
        self.promised.append(promised)
        self.group.append(group)
        self.below.setdefault(parent, []).append(node)
        return node

    def rank(self, parent: int, token: int) -> int | None:
        """Which child of a node holds a token, from 0; None: none does."""
        held = [self.tokens[child] for child in self.below.get(parent, [])]
        return held.index(token) if token in held else None

    def text(self, node: int) -> list[int]:
        """The tokens from the root down to a node."""
        found: list[int] = []
        while node >= 0:
            found.append(self.tokens[node])
            node = self.parents[node]
        return found[::-1]

    def scored_tree(self) -> DraftTree:
        """What the drafter's engine has scored, in its order."""
        nodes = list(self.scored)
        parents = [self.scored[self.parents[node]] if self.parents[node] >= 0 else -1 for node in nodes]
        return DraftTree.build([self.tokens[node] for node in nodes], parents)

    def whole(self) -> DraftTree:
        """All of it, in the order in which it was drawn."""
        return DraftTree.build(self.tokens, self.parents, prob=self.prob, group=self.group, laws=self.laws)

    def likeliest(self, nodes: int) -> DraftTree:
        """At most `nodes` nodes, best first; no node is likelier than its parent, which comes before it."""
        return DraftTree.build(self.tokens, self.parents, prob=self.prob).likeliest(nodes)


class ModelSession:
    """See `Session`."""

    def __init__(self, method: DraftModelMethod, request: Request) -> None:
        """Nothing is asked of the engine before the first proposal. Raises UsageError: see `WithDrafter`."""
        self._method, self._request = method, request
        self._engine = method.engine
        size = method.target_size(request)
        self._shaper = Shaper(request.sampling, size, replacement=method.replacement, ids=method.ids)
        self._draws = self._shaper.sampling.draws
        self._acceptance, self._trials = method.learned(draws=self._draws)
        self.text: Text = method.text(request)
        self._made: Made | None = None
        self._said: list[Scores] = []  # rows of further levels, where they are said in one call
        self.reading = 0.0  # seconds of forwards that read what is not read again

    @property
    def once(self) -> float:
        """See `Session`."""
        seconds, self.reading = self.reading, 0.0
        return seconds

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A tree that the model drafted."""
        return self._method.propose_all([(self, tokens, budget)])[0]

    def drafting(self, tokens: Int32, budget: Budget, several: int) -> Drafting:
        """Draft below `tokens`; `several` requests share the forwards."""
        self._made = None
        plan = self._plan(tokens, budget, several)
        if len(plan) == 0:
            return _NOTHING
        made = Made(len(tokens), drawn=self._draws)
        row, *self._said = yield from self.text.read(tokens, several)
        if self._draws:
            yield from self._drawn(made, plan, tokens, row)
        else:
            yield from self._likely(made, plan, tokens, row)
        self._made = made
        return made.whole() if self._draws else made.likeliest(self._room(budget, plan))

    def _room(self, budget: Budget, plan: Plan) -> int:
        """Nodes of a tree that may be trimmed later, by better estimates than the plan was made with."""
        return budget.nodes if budget.cost is None else min(budget.nodes, 2 * len(plan))

    def _plan(self, tokens: Int32, budget: Budget, several: int) -> Plan:
        """What to draft now: as much as there is room for, or as much as pays."""
        engine, shape = self._engine, self._method.shape
        room = self.text.room(tokens)
        if room < 1 or budget.nodes < 1 or not self.text.knows(tokens):
            return Plan()
        shape = Shape(shape.width, min(shape.depth, budget.depth, room, self.text.levels or room), shape.chain)
        if budget.cost is None:  # drawn trees are of one shape then, so that the same seed gives the same sample
            return largest(shape, budget.nodes, (Acceptance() if self._draws else self._acceptance).chances())
        if self._trials.waits():
            return Plan()
        whole = largest(shape, budget.nodes, self._acceptance.chances())
        first = min(2, 1 + self.text.unread(tokens))  # what else is missing is read once, not in every step
        rows = several * (first + (self.text.levels or 1) - 1)
        begin = engine.cost(rows, rows)
        plan = best(whole, budget.cost, self._cost, begin, several=several)
        self._trials.decided(pays=len(plan) > 0)
        # a plan all the same, else it would never be known
        return plan or best(whole, budget.cost, self._cost, begin, several=several, least=1)

    def _cost(self, rows: int) -> float:
        """Seconds of a forward for a further level; 0.0 where that is not known, and where none is made."""
        return 0.0 if self.text.levels else self._method.engine.cost(rows, rows)

    def _score(self, made: Made, nodes: list[int]) -> Rows:
        """The rows of nodes of one level, whose parents have been scored: of a tree, or of the next one of a chain.

        Where all levels are said in one call, those of a level have one row, whatever is above them.
        """
        if self.text.levels:
            return [self._said[len(made.text(nodes[0])) - 1]] * len(nodes)
        for node in nodes:
            made.scored[node] = len(made.scored)
        return (yield self.text.further(made.scored_tree()))

    def _drawn(self, made: Made, plan: Plan, tokens: Int32, row: Scores) -> Generator[Part, list[Scores], None]:
        """Draw the plan's tree, level by level: every node's children from the law of its row.

        A token that was drawn twice has one node with children, the first: their rows are equal.
        """
        chance = np.random.default_rng([self._shaper.sampling.seed, len(tokens), _NOISE])
        below = plan.below()
        level, rows = [(-1, -1)], [row]  # places of the plan with their nodes
        while level:
            further = []
            for (place, node), row in zip(level, rows, strict=True):
                law = self._shaper.law(row, np.append(tokens, np.array(made.text(node), dtype=np.int32)))
                if law is None:
                    continue
                drawn = draw(law, len(below[place]), chance)
                promised = dict(zip(law.ids.tolist(), law.prob.tolist(), strict=True))
                for child, token in zip(below[place], drawn, strict=False):
                    again = made.rank(node, token) is not None
                    found = made.add(token, node, plan.worth[child], promised[token], len(made.laws))
                    if child in below and not again:
                        further.append((child, found))
                made.laws.append(law)
            level = further
            rows = (yield from self._score(made, [node for _, node in level])) if level else []

    def _likely(self, made: Made, plan: Plan, tokens: Int32, row: Scores) -> Generator[Part, list[Scores], None]:
        """Every node's likeliest children; of each level as many nodes are continued as in the plan, the likeliest."""
        counts, width = plan.expanded(), self._method.shape.width
        level, rows = [-1], [row]
        for depth in range(1, plan.depth + 1):
            further: list[int] = []
            for node, row in zip(level, rows, strict=True):
                prefix = np.append(tokens, np.array(made.text(node), dtype=np.int32))
                found, promised = self._shaper.best(row, prefix, width[min(depth, len(width)) - 1])
                above = made.prob[node] if node >= 0 else 1.0
                corrected = self._acceptance.corrected(depth, promised)
                for token, own, chance in zip(found, promised, corrected, strict=True):
                    further.append(made.add(token, node, above * chance, own))
            level = sorted(further, key=lambda node: -made.prob[node])[: counts[depth - 1]]
            if depth == plan.depth or not level or not self._pays(made, level, depth, plan.rate):
                return
            rows = yield from self._score(made, level)

    def _pays(self, made: Made, level: list[int], depth: int, rate: float) -> bool:
        """Whether another level is expected to bring more tokens a second than all this does: free to choose here."""
        chances = self._acceptance.chances()[min(depth, DEPTHS - 1)]
        gain = sum(made.prob[node] for node in level) * sum(chances[: self._method.shape.width[-1]])
        return gain >= rate * self._cost(len(level))

    def observe(self, step: Step) -> None:
        """Keep what was accepted of the last tree, and learn how good it was."""
        self.text.saw(step)
        made, self._made = self._made, None
        if made is None or step.prefill:
            return
        self._learn(made, step)
        path, node = list[int](), -1
        for token in step.tokens[:-1]:
            rank = made.rank(node, token)
            if rank is None or made.below[node][rank] not in made.scored:
                break
            node = made.below[node][rank]
            path.append(made.scored[node])
        self.text.settle(path, made.start)

    def _learn(self, made: Made, step: Step) -> None:
        """At every place that was reached: which child came. What was drawn and not accepted may come all the same."""
        node = -1
        for place, token in enumerate(step.tokens):
            children = made.below.get(node, [])
            if not children:
                return
            rank = made.rank(node, token) if place < len(step.path) or not made.drawn else None
            self._acceptance.observe(place + 1, [made.promised[child] for child in children], rank)
            if rank is None:
                return
            node = children[rank]

    def finish(self, tokens: Int32) -> None:  # noqa: ARG002
        """Let go of the text."""
        self._made = None
        self.text.close()
