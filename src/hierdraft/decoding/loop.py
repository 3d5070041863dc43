"""The decoding loop: propose, forward, verify, cut, commit, observe. The page to read first.

The order matters: a verdict is cut at the end of the request before anything is committed, so that the cache, the
method's databases, the counts and the stream never disagree about what was said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from hierdraft.decoding.guard import GuardedSession, check_method
from hierdraft.drafting.budget import AutoBudget, BudgetLaw
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.protocols import (
    Engine,
    EngineSequence,
    Method,
    Part,
    Request,
    Scored,
    Step,
    Stop,
    Verdict,
    Verifier,
)
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.constraint import Follower
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.stop import EosStop, FirstOf, LengthStop, cut

CHUNK = 2048
"""Most tokens of a prompt in one forward: all at once could need too much memory."""

Learn = Callable[[str, Int32, Int32], None]
"""(namespace, prompt, what was said)."""

MAX_ROWS = 512
"""Most rows of one forward, the last committed token included."""


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
    namespace, reference   see `Request`
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
    learn: Learn | None = None
    keep: Callable[[EngineSequence], None] | None = None


def decode(engine: Engine, method: Method, prompt: Sequence[int] | Int32, options: Options) -> Iterator[Step]:
    """Decode one request, yielding a `Step` per target forward, the prefill's first.

    Raises UsageError for an empty prompt, ids outside the vocabulary or limit < 1, and ContextLengthError where the
    prompt leaves no room for one new token. Close the iterator to end a request early.
    """
    ids = check_prompt(engine, prompt, options.limit, unbounded=options.unbounded)
    limit = options.limit if options.unbounded else min(options.limit, engine.max_length - len(ids))
    check_method(method, engine.offers)
    return _steps(Running(engine, method, ids, limit, options))


def check_prompt(engine: Engine, prompt: Sequence[int] | Int32, limit: int, *, unbounded: bool = False) -> Int32:
    """The prompt as int32[L], or the error that `decode` documents."""
    ids = np.asarray(prompt)
    if ids.ndim != 1 or ids.size == 0:
        raise UsageError("The prompt is empty: give at least one token.")
    if not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(f"The prompt must hold token ids, not {ids.dtype.name} values.")
    if ids.min() < 0 or ids.max() >= engine.vocab_size:
        wrong = int(ids[(ids < 0) | (ids >= engine.vocab_size)][0])
        raise UsageError(f"Token id {wrong} of the prompt is outside the vocabulary of {engine.vocab_size}.")
    if limit < 1:
        raise UsageError(f"The number of new tokens must be at least 1, not {limit}.")
    if len(ids) >= engine.max_length and not unbounded:
        raise ContextLengthError(
            f"The prompt has {len(ids)} tokens and the model's context holds {engine.max_length}: "
            "shorten it to leave room for at least one new token."
        )
    ids = ids.astype(np.int32)
    ids.flags.writeable = False
    return ids


def _steps(request: Running) -> Iterator[Step]:
    """One request by itself: the two halves of a step in turn."""
    engine = request.engine
    request.begin()
    try:
        while True:
            part = request.chunk(CHUNK) if request.reads else request.part(request.propose())
            forward = score(engine, [part])
            if not request.reads:
                engine.record(1 + len(part.tree), forward.seconds)
            step = request.settle(forward, 0)
            if step is not None:
                yield step
                if step.finish:
                    return
    finally:
        request.end()


@dataclass(frozen=True, slots=True)
class Forward:
    """What a forward brought: for each part its scores and, int32[rows], the highest logit of each of its rows.

    `seconds` includes waiting for them.
    """

    parts: Sequence[Part]
    scored: Sequence[Scored]
    choices: Sequence[Int32]
    seconds: float


def score(engine: Engine, parts: Sequence[Part]) -> Forward:
    """One forward of all parts."""
    started = perf_counter()
    scored = engine.forward(parts)
    choices = [engine.choices(one.logits) for one in scored]
    return Forward(parts, scored, choices, perf_counter() - started)


class Running:
    """One request in flight: its token buffer and the parts that act on it.

    A step has two halves around a forward: `chunk` while it `reads` its prompt, or else `propose` and `part`; and
    `settle`.
    """

    def __init__(self, engine: Engine, method: Method, prompt: Int32, limit: int, options: Options) -> None:
        """Nothing is asked of engine and method before `begin`."""
        self.engine = engine
        self.method = method
        self.prompt = prompt
        self.limit = limit
        self.options = options
        self.reads = True
        self.buffer = np.empty(len(prompt) + limit, dtype=np.int32)
        self.buffer[: len(prompt)] = prompt
        self.length = len(prompt)
        eos = engine.eos_ids if options.eos_ids is None else options.eos_ids
        reason = LengthStop(limit, "length" if limit == options.limit else "context")
        self.stop = FirstOf([EosStop(eos), *options.stops, reason])
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
        self.sequence = engine.open(prompt[: len(prompt) - self._rows])
        request = Request(prompt, self.limit, options.namespace, options.reference, engine.vocab_size)
        self.session = GuardedSession(self.method, request, engine.vocab_size, MAX_ROWS)

    def chunk(self, most: int) -> Part:
        """The next tokens of the prompt, about `most` of them; the last ones, whose rows are wanted, together."""
        start, rows = self.sequence.length, self._rows
        left = len(self.prompt) - start
        count = left if left <= max(most, rows) else min(most, left - rows)
        return Part(self.sequence, self.prompt[start : start + count], DraftTree.empty(), rows if count == left else 0)

    def propose(self) -> DraftTree:
        """What the method drafts now, as far as the budget allows."""
        started = perf_counter()
        tree = self._proposed(started)
        self._seconds["draft"] = perf_counter() - started
        return tree

    def _proposed(self, started: float) -> DraftTree:
        remaining = self.limit - (self.length - len(self.prompt))
        law = self.options.budget
        if remaining <= 1:
            return DraftTree.empty()
        budget = law.plan(remaining - 1, self.session.wants, self.engine.cost)
        if budget is None and self.options.constraint is None:
            return DraftTree.empty()
        tree = self.session.propose(self.tokens, budget) if budget is not None else DraftTree.empty()
        if self.options.constraint is not None:
            tree = self.options.constraint.inside(tree, self.tokens, law.nodes, remaining - 1)
        return law.trim(tree, self.engine.cost, perf_counter() - started)

    def part(self, tree: DraftTree) -> Part:
        """What is to be scored: `tree` below the last token."""
        return Part(self.sequence, self.tokens[-1:], tree)

    def settle(self, forward: Forward, place: int) -> Step | None:
        """Verify, cut, commit, observe: what became of this request's part, which is number `place` of the forward.

        None while the prompt is not complete.
        """
        started = perf_counter()
        self._seconds["forward"] += forward.seconds
        part, choices = forward.parts[place], forward.choices[place]
        if part.rows == 0:
            return None
        first = part.rows - 1
        logits = forward.scored[place].logits
        verdict = self.options.verifier.verify(logits[first:], part.tree, self.tokens, choices[first:])
        verdict = cut(verdict, self.buffer, self.length, len(self.prompt), self.stop)
        self.length += len(verdict.tokens)
        self.sequence.commit(verdict.path[: len(verdict.tokens) - 1])
        step = self._step(verdict, forward, place)
        if not self.reads:
            self.options.budget.observe(part.tree, verdict.path)
        self.reads = False
        self._seconds["rest"] += perf_counter() - started
        self._observe(step)
        step.seconds, self._seconds = self._seconds, {"draft": 0.0, "forward": 0.0, "rest": 0.0}
        return step

    def _step(self, verdict: Verdict, forward: Forward, place: int) -> Step:
        part, choices = forward.parts[place], forward.choices[place]
        first = part.rows - 1
        for row, token in zip([first, *(first + node + 1 for node in verdict.path)], verdict.tokens, strict=False):
            choices[row] = token  # where a token was drawn, it is the target's choice
        top_k = self.session.wants.top_k
        runner_up = self.engine.top_ids(forward.scored[place].logits, top_k) if top_k else None
        return Step(verdict.tokens, part.tree, verdict.path, choices, runner_up, verdict.finish, self.reads)

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
