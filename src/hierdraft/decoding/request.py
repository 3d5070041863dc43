"""One request in flight: what it was asked with, and the two halves of its steps around a forward.

The order matters: a verdict is cut at the end of the request before anything is committed, so that the cache, the
method's databases, the counts and the stream never disagree about what was said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from hierdraft.decoding.guard import GuardedSession
from hierdraft.drafting.again import CatchingUp
from hierdraft.drafting.budget import AutoBudget, BudgetLaw
from hierdraft.drafting.together import Draft
from hierdraft.protocols import (
    Array,
    Budget,
    Engine,
    EngineSequence,
    Likely,
    Method,
    Part,
    Request,
    RequestSampling,
    Scored,
    Step,
)
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.constraint import Follower
from hierdraft.verify.contracts import Stop, Verdict, Verifier
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.likely import likely
from hierdraft.verify.stop import EosStop, FirstOf, LengthStop, cut

MAX_ROWS = 512
"""Most rows that one request has in a forward, the last committed token included."""

CELLS = 1 << 25
"""A prompt is read in pieces of which rows times positions, those before them included, are no more than this: an
engine may need a mask of as many numbers."""

Learn = Callable[[str, Int32, Int32], None]
"""(namespace, prompt, what was said)."""


@dataclass(slots=True)
class Options:
    """How a request is decoded.

    limit      most new tokens, >= 1
    budget     how many nodes are scored per step
    verifier   what is kept of a tree: greedy, or a `Sampler` of this request's own
    constraint what the output must stay in: drafts that leave it are not scored (the verifier has it as a rule)
    stops      further reasons to end, after end-of-sequence ids and the token limit
    eos_ids    replaces the engine's own end-of-sequence ids
    unbounded  continue where the model's context is full, as transformers does
    namespace, reference, sampling   see `Request`
    logprobs   of every token its log probability, and those of this many of the likeliest in its place; None: not told
    learn      told the namespace, the prompt and what was said when the request is over, whatever drafted
    keep       shown the engine's sequence when the request is over, before it is closed
    """

    limit: int
    budget: BudgetLaw = field(default_factory=AutoBudget)
    verifier: Verifier = field(default_factory=Greedy)
    constraint: Follower | None = None
    stops: Sequence[Stop] = ()
    eos_ids: Sequence[int] | None = None
    unbounded: bool = False
    namespace: str = "default"
    reference: Sequence[Int32] = ()
    sampling: RequestSampling | None = None
    logprobs: int | None = None
    learn: Learn | None = None
    keep: Callable[[EngineSequence], None] | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """What a forward brought: for each part its scores and, int32[rows], the highest logit of each of its rows.

    `seconds` includes waiting for them.
    """

    parts: Sequence[Part]
    scored: Sequence[Scored]
    choices: Sequence[Int32]
    seconds: float

    @property
    def rows(self) -> int:
        """How many were scored."""
        return sum(len(part.tokens) + len(part.tree) for part in self.parts)


class Running:
    """One request in flight: its token buffer and the parts that act on it.

    A step has two halves around a forward: `chunk` while it `reads` its prompt, or else `plan`, `drafted` and `part`;
    and `settle`, after which `step` is what the forward brought, None while the prompt is not complete.
    """

    def __init__(self, engine: Engine, method: Method, prompt: Int32, limit: int, options: Options) -> None:
        """Nothing is asked of engine and method before `begin`."""
        self.engine = engine
        self.method = method
        self.prompt = prompt
        self.limit = limit
        self.options = options
        self.reads = True
        self.step: Step | None = None
        self.buffer = np.empty(len(prompt) + limit, dtype=np.int32)
        self.buffer[: len(prompt)] = prompt
        self.length = len(prompt)
        eos = engine.eos_ids if options.eos_ids is None else options.eos_ids
        reason = LengthStop(limit, "length" if limit == options.limit else "context")
        self.stop = FirstOf([EosStop(eos), *options.stops, reason])
        self._catching_up = CatchingUp()
        self._seconds = {"draft": 0.0, "forward": 0.0, "rest": 0.0}

    @property
    def tokens(self) -> Int32:
        """int32[L]: the prompt and everything committed, a view."""
        return self.buffer[: self.length]

    def begin(self) -> None:
        """Open a sequence and a session."""
        options, prompt, engine = self.options, self.prompt, self.engine
        wanted = options.budget.prompt_rows(self.method.wants.prompt_rows, engine.cost)
        self._rows = min(max(1, wanted), len(prompt))
        self._hidden: dict[int, list[Array]] = {}
        reuse = None if self.method.wants.hidden else options.namespace  # what is not scored again has no hidden states
        self.sequence = engine.open(prompt[: len(prompt) - self._rows], reuse=reuse)
        told = options.namespace, options.reference, engine.vocab_size, options.sampling
        request = Request(prompt, self.limit, *told, sequence=self.sequence)
        try:
            self.session = GuardedSession(self.method, request, engine.vocab_size, MAX_ROWS)
        except BaseException:  # an interrupt: nobody will end what was not begun
            self.sequence.close()
            raise

    def chunk(self, most: int) -> Part:
        """The next tokens of the prompt, about `most` of them; the last ones, whose rows are wanted, together."""
        rows = self._rows
        start = self._held(len(self.prompt) - rows)
        left = len(self.prompt) - start
        most = max(1, min(most, CELLS // (start + most)))
        count = left if left <= max(most, rows) else min(most, left - rows)
        tokens, rows = self.prompt[start : start + count], rows if count == left else 0
        return Part(self.sequence, tokens, DraftTree.empty(), rows, self.session.wants.hidden)

    def plan(self, others: int = 0) -> Budget | None:
        """What the method may draft now; None: it is not asked. `others`: rows that the forward has besides."""
        started = perf_counter()
        budget = None
        if self._remaining > 1 and not self._catches_up():
            law, cost = self.options.budget, self.engine.cost
            budget = law.plan(self._remaining - 1, self.session.wants, lambda rows: cost(others + rows, others + 1))
            budget = self._offered(budget) if budget is not None else None
        self._seconds["draft"] = perf_counter() - started
        return budget

    def _offered(self, budget: Budget) -> Budget:
        """As much of a budget as the engine scores."""
        offers = self.engine.offers
        if not offers.trees:
            budget = replace(budget, probes=0)
        if offers.nodes is None:
            return budget
        nodes = min(budget.nodes, offers.nodes)
        return replace(budget, nodes=nodes, probes=min(budget.probes, offers.nodes - nodes))

    def drafted(self, tree: DraftTree, seconds: float, once: float = 0.0) -> None:
        """The method has drafted this in `seconds`; `draft` is what may be scored, not yet trimmed to what pays.

        once  seconds besides, that will not be spent again
        """
        started = perf_counter()
        constraint, depth = self.options.constraint, self._remaining - 1
        if constraint is not None and depth > 0:
            nodes, most = self.options.budget.nodes, self.engine.offers.nodes
            tree = constraint.inside(tree, self.tokens, nodes if most is None else min(nodes, most), depth)
        chains = not self.engine.offers.trees
        if chains:
            tree = tree.best_path()
        self._seconds["draft"] += seconds + perf_counter() - started
        again = 1 + self.behind if chains else None
        self.draft = Draft(self.options.budget, tree, self._seconds["draft"], again=again)
        self._seconds["draft"] += once

    def _catches_up(self) -> bool:
        """Whether the next step has no drafts, so that all that it scores is kept."""
        engine = self.engine
        return not engine.offers.trees and self._catching_up.due(self.behind, lambda rows: engine.cost(rows, rows))

    @property
    def behind(self) -> int:
        """How many committed tokens before the last one have to be scored again, because their rows were not kept."""
        return max(0, self.length - 1 - self.sequence.length)

    @property
    def _remaining(self) -> int:
        """How many tokens can still be emitted."""
        return self.limit - (self.length - len(self.prompt))

    def part(self) -> Part:
        """What is to be scored: what was left of the draft, below the last token."""
        tokens = self.tokens[self._held(self.length - 1) :]
        return Part(self.sequence, tokens, self.draft.tree, hidden=self.session.wants.hidden)

    def _held(self, most: int) -> int:
        """How many tokens the sequence holds, at most `most`: after an interrupted step it may hold too many or few."""
        if self.sequence.length > most:
            self.sequence.rewind(most)
        return self.sequence.length

    def settle(self, forward: Forward, place: int) -> None:
        """Verify, cut, commit, observe: what became of this request's part, which is number `place` of the forward."""
        started = perf_counter()
        self._seconds["forward"] += forward.seconds
        part, choices = forward.parts[place], forward.choices[place]
        self.step = None
        for layer, rows in forward.scored[place].hidden.items():
            self._hidden.setdefault(layer, []).append(rows if self.reads else rows[len(part.tokens) - 1 :])
        if part.rows == 0:
            return
        verdict = self._verified(part, forward.scored[place], choices)
        verdict = cut(verdict, self.buffer, self.length, len(self.prompt), self.stop)
        self.length += len(verdict.tokens)
        self.sequence.commit(verdict.path[: len(verdict.tokens) - 1])
        step = self._step(verdict, forward, place)
        if not self.reads:
            self.options.budget.observe(part.tree, verdict.path, self.draft.slowdown)
        self.reads = False
        self._seconds["rest"] += perf_counter() - started
        self._observe(step)
        step.at = perf_counter()
        step.seconds, self._seconds = self._seconds, {"draft": 0.0, "forward": 0.0, "rest": 0.0}
        self.step = step

    def _verified(self, part: Part, scored: Scored, choices: Int32) -> Verdict:
        first = part.rows - 1
        given = scored.logits[first:], part.tree, self.tokens, choices[first:]
        doubt = scored.doubt.after(first) if scored.doubt is not None else None
        verifier = self.options.verifier
        return verifier.verify(*given) if doubt is None else verifier.verify(*given, doubt)

    def _step(self, verdict: Verdict, forward: Forward, place: int) -> Step:
        part, choices = forward.parts[place], forward.choices[place]
        first, found = part.rows - 1, list[Likely]()
        for row, token in zip([first, *(first + node + 1 for node in verdict.path)], verdict.tokens, strict=False):
            choices[row] = token  # where a token was drawn, it is the target's choice
            if self.options.logprobs is not None:
                scores = self.engine.values(forward.scored[place].logits, row)
                found.append(likely(scores, token, self.options.logprobs))
        top_k = self.session.wants.top_k
        runner_up = self.engine.top_ids(forward.scored[place].logits, top_k) if top_k else None
        hidden, self._hidden = self._hidden, {}
        return Step(
            verdict.tokens, part.tree, verdict.path, choices, runner_up, verdict.finish, self.reads,
            hidden=hidden, likely=found,
        )  # fmt: skip

    def _observe(self, step: Step) -> None:
        started = perf_counter()
        self.session.observe(step)
        self._seconds["draft"] += perf_counter() - started

    def end(self) -> None:
        """The request is over: everybody is told, and what was said is learned. Called once after `begin`."""
        try:
            if self.options.keep is not None:
                self.options.keep(self.sequence)
        finally:
            self.sequence.close()
            self.session.finish(self.tokens)
            said = self.tokens[len(self.prompt) :]
            if self.options.learn is not None and len(said):
                self.options.learn(self.options.namespace, self.prompt, said)
