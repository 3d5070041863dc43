"""The decoding loop: propose, forward, verify, cut, commit, observe. The page to read first.

The order matters: a verdict is cut at the end of the request before anything is committed, so that the cache, the
drafter's databases, the counts and the stream never disagree about what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from hierdraft.decoding.guard import GuardedDrafter
from hierdraft.drafting.budget import AutoBudget, BudgetLaw
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.protocols import Array, Drafter, Engine, Request, Step, Stop, Verdict, Verifier
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.constraint import Follower
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.stop import EosStop, FirstOf, LengthStop, cut

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


def decode(engine: Engine, drafter: Drafter, prompt: Sequence[int] | Int32, options: Options) -> Iterator[Step]:
    """Decode one request, yielding a `Step` per target forward, the prefill's first.

    Raises UsageError for an empty prompt, ids outside the vocabulary or limit < 1, and ContextLengthError where the
    prompt leaves no room for one new token. Close the iterator to end a request early.
    """
    ids = check_prompt(engine, prompt, options.limit, unbounded=options.unbounded)
    limit = options.limit if options.unbounded else min(options.limit, engine.max_length - len(ids))
    return _Decoding(engine, drafter, ids, limit, options).run()


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


class _Decoding:
    """One request in flight: the token buffer and the parts that act on it."""

    def __init__(self, engine: Engine, drafter: Drafter, prompt: Int32, limit: int, options: Options) -> None:
        self.engine = engine
        self.drafter = GuardedDrafter(drafter, engine.vocab_size, MAX_ROWS)
        self.prompt = prompt
        self.limit = limit
        self.options = options
        self.buffer = np.empty(len(prompt) + limit, dtype=np.int32)
        self.buffer[: len(prompt)] = prompt
        self.length = len(prompt)
        eos = engine.eos_ids if options.eos_ids is None else options.eos_ids
        reason = LengthStop(limit, "length" if limit == options.limit else "context")
        self.stop = FirstOf([EosStop(eos), *options.stops, reason])

    def run(self) -> Iterator[Step]:
        request = Request(
            self.prompt, self.limit, self.options.namespace, self.options.reference, self.engine.vocab_size
        )
        self.drafter.start(request)
        try:
            step = self._prefill()
            while True:
                yield step
                if step.finish:
                    return
                step = self._next()
        finally:
            self.drafter.finish(self.buffer[: self.length])

    def _prefill(self) -> Step:
        clock = [perf_counter()]
        wanted = self.options.budget.prompt_rows(self.drafter.wants.prompt_rows, self.engine.cost)
        rows = min(max(1, wanted), len(self.prompt))
        logits = self.engine.prefill(self.prompt, rows)
        choices = self.engine.choices(logits)
        clock.append(perf_counter())
        tree = DraftTree.empty()
        last = logits[rows - 1 :]
        verifier = self.options.verifier
        verdict = self._cut(verifier.verify(last, tree, self.buffer[: self.length], choices[rows - 1 :]))
        step = self._step(verdict, tree, logits, choices, prefill=True)
        step.seconds = {"draft": 0.0, "forward": clock[1] - clock[0], "rest": perf_counter() - clock[1]}
        self._observe(step)
        return step

    def _next(self) -> Step:
        engine, tokens = self.engine, self.buffer[: self.length]
        started = perf_counter()
        tree = self._propose(tokens)
        drafted = perf_counter()
        logits = engine.forward(int(tokens[-1]), tree)
        choices = engine.choices(logits)
        scored = perf_counter()
        verdict = self._cut(self.options.verifier.verify(logits, tree, tokens, choices))
        engine.commit(verdict.path[: len(verdict.tokens) - 1])
        step = self._step(verdict, tree, logits, choices)
        engine.record(1 + len(tree), scored - drafted)
        self.options.budget.observe(tree, verdict.path)
        step.seconds = {
            "draft": drafted - started,
            "forward": scored - drafted,
            "rest": perf_counter() - scored,
        }
        self._observe(step)
        return step

    def _propose(self, tokens: Int32) -> DraftTree:
        remaining = self.limit - (self.length - len(self.prompt))
        law = self.options.budget
        if remaining <= 1:
            return DraftTree.empty()
        budget = law.plan(remaining - 1, self.drafter.wants, self.engine.cost)
        if budget is None and self.options.constraint is None:
            return DraftTree.empty()
        started = perf_counter()
        tree = self.drafter.propose(tokens, budget) if budget is not None else DraftTree.empty()
        if self.options.constraint is not None:
            tree = self.options.constraint.inside(tree, tokens, law.nodes, remaining - 1)
        return law.trim(tree, self.engine.cost, perf_counter() - started)

    def _cut(self, verdict: Verdict) -> Verdict:
        verdict = cut(verdict, self.buffer, self.length, len(self.prompt), self.stop)
        self.length += len(verdict.tokens)
        return verdict

    def _step(self, verdict: Verdict, tree: DraftTree, logits: Array, choices: Int32, *, prefill: bool = False) -> Step:
        first = len(choices) - 1 if prefill else 0
        for row, token in zip([first, *(node + 1 for node in verdict.path)], verdict.tokens, strict=False):
            choices[row] = token  # where a token was drawn, it is the target's choice
        top_k = self.drafter.wants.top_k
        runner_up = self.engine.top_ids(logits, top_k) if top_k else None
        return Step(verdict.tokens, tree, verdict.path, choices, runner_up, verdict.finish, prefill)

    def _observe(self, step: Step) -> None:
        started = perf_counter()
        self.drafter.observe(step)
        step.seconds["draft"] += perf_counter() - started
