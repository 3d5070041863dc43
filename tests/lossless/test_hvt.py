"""The method `hvt`: drafts in parts, with the same text, rows counted, and the laws of what is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hierdraft.databases.levels import Databases
from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.hvt import HvtMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning
from hierdraft.protocols import Budget, Engine, Opened, Request, Setup, Step
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampling
from tests.lossless.drafters import HARMLESS, Chains
from tests.lossless.harness import check_steps, run
from tests.lossless.test_draft_model import LAWS, SIZE, Priced, chosen, counted, law_of, within


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A drafter that fails is switched off: nothing here may pass because of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        yield


def in_parts(engine: Engine, first: int, settings: str = "") -> HvtMethod:
    """Of a model that drafts with this engine."""
    method = HvtMethod(first, f"draft-model:draft=small{settings}")
    method.attach(Setup(Databases(), vocab_size=engine.vocab_size, open_engine=lambda _: Opened(engine)))
    return method


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("first", [1, 4, 30])
def test_greedy_answers_are_those_of_plain_decoding(first: int, law: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        engine = Priced(seed, SIZE, (2, None, 3)[seed % 3], eos_ids=(3,) if seed % 2 else ())
        prompt = rng.integers(0, SIZE, int(rng.integers(1, 14))).tolist()
        limit = int(rng.choice([2, 9, 80]))
        expected, _ = run(engine, PlainMethod(), prompt, Options(limit))
        small = (Chains if seed % 2 else ToyEngine)(seed + seed % 3 // 2, SIZE, engine._memory)
        got, steps = run(engine, in_parts(small, first), prompt, Options(limit, LAWS[law]()))
        assert got == expected, seed
        check_steps(steps, limit)
        assert all(len(step.tree) <= first for step in steps)


@pytest.mark.parametrize("name", HARMLESS)
def test_any_draft_in_parts(name: str) -> None:
    for seed in range(6):
        engine = ToyEngine(seed, SIZE, 3, eos_ids=(3,))
        prompt = [4, 9, seed]
        expected, _ = run(engine, PlainMethod(), prompt, Options(60))
        method = HvtMethod(3, "none")
        method.inner = HARMLESS[name](SIZE, prompt + expected, seed)
        got, steps = run(engine, method, prompt, Options(60, FixedBudget(9)))
        assert got == expected
        check_steps(steps, 60)


def told(tree: DraftTree, path: list[int], token: int) -> Step:
    """A step that went down a path and then to a token."""
    tokens = [*tree.tokens[path].tolist(), token]
    return Step(tokens, tree, path, np.zeros(1 + len(tree), dtype=np.int32))


def test_the_rest_is_scored_only_where_the_text_goes_there() -> None:
    """By hand: root -> 1 (0.9) -> 2 (0.8) -> 3 (0.1) -> 4 (0.05) and 5 (0.04); root -> 6 (0.05)."""
    tree = DraftTree.build([1, 6, 2, 3, 4, 5], [-1, -1, 0, 2, 3, 3], prob=[0.9, 0.05, 0.8, 0.1, 0.05, 0.04])
    method, text = HvtMethod(2, "none"), np.array([0], dtype=np.int32)

    class Once(PlainMethod):
        def propose(self, tokens: Any, budget: Budget) -> DraftTree:
            return tree if len(tokens) == 1 else DraftTree.empty()

    method.inner = Once()
    wide = Budget(9, 9)

    def begun() -> Any:
        session = method.open(Request(text, 9))
        part = session.propose(text, wide)
        assert (part.tokens.tolist(), part.parents.tolist()) == ([1, 2], [-1, 0])
        return session, part

    session, part = begun()
    session.observe(told(part, [0, 1], 3))  # the token after the part is a node of the draft
    longer = np.array([0, 1, 2, 3], dtype=np.int32)
    part = session.propose(longer, wide)
    assert (part.tokens.tolist(), part.parents.tolist()) == ([4, 5], [-1, -1])
    assert part.prob.tolist() == [pytest.approx(0.5), pytest.approx(0.4)], "3 is certain now"
    session.observe(told(part, [0], 8))
    assert len(session.propose(longer, wide)) == 0
    assert (method.counts.drafts, method.counts.parts) == (1, 2)
    assert (method.counts.rows, method.counts.whole, method.counts.saved) == (6, 7, 1)

    session, part = begun()
    session.observe(told(part, [0], 7))  # one that is none: of the draft nothing is left
    assert len(session.propose(np.array([0, 1, 7], dtype=np.int32), wide)) == 0
    assert (method.counts.rows, method.counts.whole, method.counts.saved) == (9, 14, 5)

    session, part = begun()
    session.observe(told(part, [], 6))  # an end of the draft
    assert len(session.propose(np.array([0, 6], dtype=np.int32), wide)) == 0

    session, part = begun()
    session.observe(told(part, [0, 1], 3))
    assert len(session.propose(longer, Budget(9, 0))) == 0
    assert session.propose(longer, Budget(1, 9)).tokens.tolist() == [4]


def test_a_draft_is_made_once_for_all_of_its_parts() -> None:
    """The drafter is the target, so all comes true: chains of 12 in parts of 4, and after each of them one token."""
    engine, small = ToyEngine(3, SIZE), ToyEngine(3, SIZE)
    method = in_parts(small, 4, ":width=1:depth=12")
    _, steps = run(engine, method, [4], Options(66, FixedBudget(12)))
    assert [step.accepted for step in steps[1:]] == [4, 4, 2] * 5
    counts = method.counts
    assert (counts.drafts, counts.parts, counts.whole) == (5, 15, 65)
    assert counts.rows == 5 * (5 + 5 + 3)


def test_several_requests() -> None:
    engine = ToyEngine(3, SIZE, 3, eos_ids=(3,))
    shared = [0]
    small = ToyEngine(3, SIZE, 3)
    forward = small.forward

    def watched(parts: Any) -> Any:
        shared.append(len(parts))
        return forward(parts)

    small.forward = watched  # type: ignore[method-assign]
    method, rng = in_parts(small, 3), np.random.default_rng(5)
    scheduler = Scheduler(engine, most=5)
    flying: dict[Ticket, list[int]] = {}
    for number in range(12):
        prompt = rng.integers(4, SIZE, int(rng.integers(1, 9))).tolist()
        truth, _ = run(engine, PlainMethod(), prompt, Options(40))
        law = AutoBudget() if number % 3 == 0 else FixedBudget(8)
        ticket = Ticket(open_request(engine, method, prompt, Options(40, law)))
        scheduler.add(ticket)
        flying[ticket] = truth
    while not all(ticket.over for ticket in flying):
        scheduler.step(lambda _: True)
    for ticket, truth in flying.items():
        assert [token for step in ticket.steps for token in step.tokens] == truth
    assert max(shared) > 1, "the drafter's forwards are shared"


@pytest.mark.parametrize(("first", "settings"), [(1, ":replacement=true"), (3, "")])
def test_four_drawn_tokens_have_their_distribution(first: int, settings: str) -> None:
    engine, draws = ToyEngine(3, SIZE, 2), 1_500
    sampling = Sampling(temperature=0.9, top_k=4)
    small = ToyEngine(3, SIZE, 2)
    small._logits = small._logits + 0.5 * np.random.default_rng(0).standard_normal(small._logits.shape)
    method = in_parts(small, first, f":width=2:depth=3{settings}")
    counts, accepted = counted(engine, method, [1, 2, 3], sampling, draws, FixedBudget(14), 4)
    assert accepted > 150
    assert method.counts.parts > method.counts.drafts
    assert within(counts, law_of(engine, [1, 2, 3], sampling, 4), draws)


def test_a_budget_of_fewer_drawn_nodes_than_were_drawn() -> None:
    """What is left of a drawn draft is cut by places, however small the budget has become."""
    engine = ToyEngine(3, SIZE, 2)
    method = in_parts(ToyEngine(3, SIZE, 2), 8, ":width=2:depth=4")
    for seed in range(20):
        sampling = Sampling(temperature=0.7, seed=seed)
        _, steps = run(engine, method, [4], chosen(engine, 30, FixedBudget(5 if seed % 2 else 20), sampling, [4]))
        check_steps(steps, 30)
        assert all(step.tree.drawn or not len(step.tree) for step in steps)
