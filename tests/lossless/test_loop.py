"""What the loop tells its parts, and asks of them: to the letter, for each step."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.drafting.together import Draft, trim_together
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS, Oracle
from tests.lossless.harness import kept, run

VOCABULARY = 24


def plain(limit: int, prompt: list[int], **options: Any) -> list[int]:
    return run(ToyEngine(2, VOCABULARY), PlainMethod(), prompt, Options(limit, **options))[0]


@pytest.mark.parametrize("eos", [None, 11, 13])
def test_the_engine_keeps_what_was_said_and_no_more(eos: int | None) -> None:
    """Everything but the last token, also where a request ends inside an accepted run."""
    truth = plain(30, [5])
    ends = () if eos is None else (truth[eos],)
    engine = ToyEngine(2, VOCABULARY, eos_ids=ends)
    sequences: list[Any] = []
    options = Options(30, budget=FixedBudget(8), keep=kept(sequences))
    got, _ = run(engine, Oracle(VOCABULARY, [5, *truth], 0), [5], options)
    assert len(got) == 30 if eos is None else len(got) <= eos + 1
    assert sequences[0].length == len([5, *got]) - 1


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_an_engine_may_score_few_drafts_only(name: str) -> None:
    """Whatever the budget, whatever was drafted, probes included."""
    truth = plain(30, [5])
    engine = ToyEngine(2, VOCABULARY)
    engine.offers = replace(engine.offers, nodes=3)
    drafter = HARMLESS[name](VOCABULARY, [5, *truth], 3)
    got, steps = run(engine, drafter, [5], Options(30, budget=FixedBudget(9)))
    assert got == truth
    assert max(len(step.tree) for step in steps) <= 3


class Costed(ToyEngine):
    """Remembers what it was told about its own cost."""

    def __init__(self) -> None:
        super().__init__(2, VOCABULARY)
        self.told: list[tuple[int, float]] = []

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        assert plain == 1
        self.told.append((rows, seconds))


def test_what_a_step_takes_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that ticks once whenever it is read, every second belongs to what was done between two readings."""
    clock = itertools.count()
    for module in ("request", "forwards"):
        monkeypatch.setattr(f"hierdraft.decoding.{module}.perf_counter", lambda: float(next(clock)))
    truth = plain(30, [5])
    engine = Costed()
    _, steps = run(engine, Oracle(VOCABULARY, [5, *truth], 0), [5], Options(30, budget=FixedBudget(8)))
    assert steps[0].seconds == {"draft": 1.0, "forward": 1.0, "rest": 1.0}
    drafted = [step for step in steps[1:] if len(step.tree)]
    assert drafted
    for step in drafted:  # planning, proposing, what a constraint leaves of it, and observing, once each
        assert step.seconds == {"draft": 4.0, "forward": 1.0, "rest": 1.0}
    assert engine.told == [(1 + len(step.tree), 1.0) for step in steps[1:]]


def test_a_request_says_what_it_is() -> None:
    drafter = HARMLESS["RandomTree"](VOCABULARY, [], 1)
    asked: list[Request] = []
    drafter.open = lambda request: asked.append(request) or drafter  # type: ignore[method-assign]
    reference = [np.array([1, 2], dtype=np.int32)]
    run(ToyEngine(4, VOCABULARY), drafter, [1, 2, 3], Options(7, namespace="mine", reference=reference))
    assert (asked[0].namespace, asked[0].limit, asked[0].reference) == ("mine", 7, reference)
    assert asked[0].prompt.tolist() == [1, 2, 3]


class Asked(Oracle):
    """Remembers what it was asked for."""

    def open(self, request: Any) -> Any:
        self.budgets: list[Budget] = []
        self.prompt = request.prompt
        return super().open(request)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        self.budgets.append(budget)
        return super().propose(tokens, Budget(min(budget.nodes, 2), budget.depth))


def test_drafts_are_asked_for_as_deep_as_tokens_may_follow() -> None:
    """One token of each step is the target's own; where no other may follow, nothing is asked for."""
    drafter = Asked(VOCABULARY, [5, *plain(12, [5])], 0)
    _, steps = run(ToyEngine(2, VOCABULARY), drafter, [5], Options(12, budget=FixedBudget(6)))
    assert [len(step.tokens) for step in steps] == [1, 3, 3, 3, 2]
    assert drafter.budgets == [Budget(6, depth, 0) for depth in (10, 7, 4, 1)]
    run(ToyEngine(2, VOCABULARY), drafter, [5], Options(11, budget=FixedBudget(6)))
    assert drafter.budgets == [Budget(6, depth, 0) for depth in (9, 6, 3)], (
        "the last of 11 tokens is left for the target"
    )
    for nodes, asked in ((0, 0), (1, 5)):
        run(ToyEngine(2, VOCABULARY), drafter, [5], Options(11, budget=FixedBudget(nodes)))
        assert len(drafter.budgets) == asked


class Bounds:
    """A constraint that forbids nothing and notes how it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def inside(self, tree: DraftTree, tokens: Int32, nodes: int, depth: int) -> DraftTree:
        self.asked.append((nodes, depth))
        return tree


def test_a_constraint_is_asked_within_the_same_bounds() -> None:
    drafter, constraint = Asked(VOCABULARY, [5, *plain(12, [5])], 0), Bounds()
    options = Options(12, budget=FixedBudget(6), constraint=constraint)  # type: ignore[arg-type]
    run(ToyEngine(2, VOCABULARY), drafter, [5], options)
    assert constraint.asked == [(budget.nodes, budget.depth) for budget in drafter.budgets]


def test_the_budget_is_told_how_long_drafting_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = itertools.count(100), []

    def trim(drafts: list[Draft], cost: Any) -> None:
        told.append([draft.seconds for draft in drafts])
        trim_together(drafts, cost)

    drafter = Asked(VOCABULARY, [5, *plain(12, [5])], 0)
    for module in ("request", "forwards"):
        monkeypatch.setattr(f"hierdraft.decoding.{module}.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("hierdraft.decoding.forwards.trim_together", trim)
    run(ToyEngine(2, VOCABULARY), drafter, [5], Options(12, budget=FixedBudget(6)))
    assert told == [[3.0]] * 4  # planning, proposing, and what a constraint leaves of it


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.3, seed=4)])
def test_choices_are_what_was_chosen(sampling: Sampling) -> None:
    """Also where tokens are drawn: each step's choice on the accepted path is the token that came of it."""
    engine = ToyEngine(2, VOCABULARY)

    def options() -> Options:
        verifier = {} if not sampling.draws else {"verifier": Sampler(engine.values, sampling.filters(), sampling.seed)}
        return Options(40, budget=FixedBudget(6), **verifier)  # type: ignore[arg-type]

    truth = run(engine, PlainMethod(), [5], options())[0]
    _, steps = run(engine, HARMLESS["OracleInATree"](VOCABULARY, [5, *truth], 1), [5], options())
    assert [step.prefill for step in steps] == [True] + [False] * (len(steps) - 1)
    assert any(len(step.path) > 1 for step in steps)
    for step in steps:
        rows = [len(step.choices) - 1] if step.prefill else [0, *(node + 1 for node in step.path)]
        assert step.choices[rows][: len(step.tokens)].tolist() == step.tokens


class Curious(PlainMethod):
    """Wants several rows of the prompt."""

    wants = Wants(top_k=3, prompt_rows=4)

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def observe(self, step: Step) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.3, seed=4)])
def test_the_first_token_comes_of_the_last_row_of_the_prompt(sampling: Sampling) -> None:
    engine, prompt = ToyEngine(2, VOCABULARY), [1, 2, 3, 4, 5, 6]
    verifier = Sampler(engine.values, sampling.filters(), sampling.seed) if sampling.draws else Options(1).verifier
    options = Options(3, verifier=verifier, budget=FixedBudget(0))
    alone, curious = PlainMethod(), Curious()
    expected = run(engine, alone, prompt, options)[0]
    assert run(engine, curious, prompt, replace(options))[0] == expected
    first = curious.steps[0]
    assert first.runner_up is not None
    assert first.runner_up.shape == (4, 3)
    assert len(first.choices) == 4
    assert first.choices[-1] == expected[0]
    assert first.choices[:3].tolist() == [plain(1, prompt[:end])[0] for end in (3, 4, 5)]


def test_runner_ups_are_only_looked_for_where_they_are_wanted() -> None:
    engine = ToyEngine(2, VOCABULARY)
    engine.top_ids = None  # type: ignore[assignment, method-assign]
    assert len(run(engine, PlainMethod(), [1], Options(5))[0]) == 5


def test_a_model_may_go_on_where_its_context_ends() -> None:
    engine = ToyEngine(2, VOCABULARY, max_length=8)
    assert run(engine, PlainMethod(), [5], Options(20, unbounded=True))[0] == plain(20, [5])
    assert run(engine, PlainMethod(), [5] * 9, Options(4, unbounded=True))[0] == plain(4, [5] * 9)
    with pytest.raises(ContextLengthError):
        decode(engine, PlainMethod(), [5] * 9, Options(4))


def test_the_prompt_cannot_be_written_to() -> None:
    drafter = Asked(VOCABULARY, [], 0)
    given = np.array([1, 2, 3], dtype=np.int32)
    run(ToyEngine(2, VOCABULARY), drafter, given, Options(2))
    assert drafter.prompt.tolist() == [1, 2, 3]
    assert not drafter.prompt.flags.writeable
    assert given.flags.writeable


@pytest.mark.parametrize(
    ("prompt", "limit", "error", "sentence"),
    [
        ([], 5, UsageError, "The prompt is empty: give at least one token."),
        ([0, 1, 99], 5, UsageError, "Token id 99 of the prompt is outside the vocabulary of 24."),
        ([0, 1, -7], 5, UsageError, "Token id -7 of the prompt is outside the vocabulary of 24."),
        ([1.5], 5, UsageError, "The prompt must hold token ids, not float64 values."),
        ([1], 0, UsageError, "The number of new tokens must be at least 1, not 0."),
        (
            [1] * 16, 5, ContextLengthError,
            "The prompt has 16 tokens and the model's context holds 16: shorten it to leave room for at least one new "
            "token.",
        ),
    ],
)  # fmt: skip
def test_what_is_said_about_bad_prompts(prompt: Any, limit: int, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as told:
        decode(ToyEngine(0, VOCABULARY, max_length=16), PlainMethod(), prompt, Options(limit))
    assert str(told.value) == sentence


def test_a_long_prompt_is_read_in_pieces_that_become_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of a piece has no more than a number of cells, however long the prompt is."""
    monkeypatch.setattr("hierdraft.decoding.request.CELLS", 4000)
    monkeypatch.setattr("hierdraft.decoding.loop.CHUNK", 40)
    read: list[tuple[int, int]] = []

    class Counting(ToyEngine):
        def forward(self, parts: Any) -> Any:
            read.extend((len(part.tokens), part.sequence.length) for part in parts)
            return super().forward(parts)

    prompt = [token % VOCABULARY for token in range(500)]
    got = run(Counting(2, VOCABULARY), PlainMethod(), prompt, Options(3))[0]
    assert got == plain(3, prompt)
    rows = [count for count, _ in read[:-2]]
    assert sum(rows) == 500
    assert rows[0] == 40
    assert max(rows[:-1]) <= 40
    assert all(count * (before + count) <= 4000 for count, before in read)
    assert len(rows) > 30
