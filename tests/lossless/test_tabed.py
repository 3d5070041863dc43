"""The method `tabed`: plain decoding's ids whatever its views say, and weights that are those of a slow twin."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.databases.levels import Databases
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.models.tabed import Law, TabedMethod, Weights, _GramView
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.protocols import Budget, Opened, Part, Request, Scored, Setup, Step
from hierdraft.verify.sampling import Sampling
from tests.lossless.drafters import Chains, FailingModel, with_model
from tests.lossless.harness import check_steps, run
from tests.lossless.test_draft_model import PROMPT, SIZE, chosen
from tests.lossless.tiny import tiny


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A drafter that fails is switched off: nothing here may pass because of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        yield


def opened(method: TabedMethod) -> list[Any]:
    """The sessions that it opens from now on."""
    found: list[Any] = []
    real = method.open

    def note(request: Request) -> Any:
        found.append(real(request))
        return found[-1]

    method.open = note  # type: ignore[method-assign]
    return found


# the same text


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(
    "views", [("full", "4", "ngram"), ("3",), ("ngram", "full"), ("ngram",), ("2", "5", "full", "1")]
)
def test_answers_are_those_of_plain_decoding(views: tuple[str, ...], temperature: float) -> None:
    """At every temperature: with a seed the sample is the same too."""
    accepted = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        engine = ToyEngine(seed, SIZE, (2, None, 3)[seed % 3], eos_ids=(3,) if seed % 2 else ())
        made = Chains if seed % 2 else ToyEngine
        small = made(seed + seed % 4 // 3, SIZE, engine._memory, max_length=40 if seed % 5 == 4 else 1 << 30)
        prompt = rng.integers(0, SIZE, int(rng.integers(1, 14))).tolist()
        limit = int(rng.choice([1, 2, 9, 80]))
        sampling = Sampling(temperature=temperature, seed=seed, repetition_penalty=1.3 if seed % 4 == 3 else 1.0)
        expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, limit, FixedBudget(0), sampling, prompt))
        law = [FixedBudget(1), FixedBudget(9), AutoBudget()][seed % 3]
        drafter = with_model(small, TabedMethod, views=views, length=(5, 2)[seed % 2])
        got, steps = run(engine, drafter, prompt, chosen(engine, limit, law, sampling, prompt))
        assert got == expected, seed
        check_steps(steps, limit)
        assert all(step.tree.is_chain and not step.tree.drawn and len(step.tree) <= 5 for step in steps)
        accepted += sum(step.accepted for step in steps)
    assert accepted > (2 if temperature else 8) or views == ("ngram",)


def test_tiny_transformers_models() -> None:
    target, small = (HFEngine(tiny("llama", dtype=torch.float64)) for _ in range(2))
    expected, _ = run(target, PlainMethod(), PROMPT, Options(40))
    drafter = with_model(small, TabedMethod, views=("full", "6", "ngram"))
    got, steps = run(target, drafter, PROMPT, Options(40, FixedBudget(5)))
    assert got == expected
    check_steps(steps, 40)
    assert np.mean([step.accepted for step in steps[2:-1]]) > 3, (
        "all of the text before it, it says what the target does"
    )


# what it reads


def test_views_share_the_forwards_and_read_little_twice() -> None:
    target, engine = ToyEngine(3, SIZE, None), ToyEngine(3, SIZE, None)
    forwards: list[list[int]] = []
    forward = engine.forward

    def watched(parts: Sequence[Part]) -> list[Scored]:
        forwards.append([len(part.tokens) for part in parts])
        return forward(parts)

    engine.forward = watched  # type: ignore[method-assign]
    drafter = with_model(engine, TabedMethod, views=("full", "ngram", "8"))
    prompt = np.random.default_rng(0).integers(0, SIZE, 30).tolist()
    got, steps = run(target, drafter, prompt, Options(90, FixedBudget(5)))
    assert {len(parts) for parts in forwards} == {2}
    assert len(forwards) == sum(len(step.tree) for step in steps), "one for each token"
    full, last = (sum(parts[view] for parts in forwards) for view in (0, 1))
    rejected = sum(len(step.tree) - step.accepted for step in steps)
    assert full <= len(prompt) + len(got) + rejected
    assert last <= 2 * len(got) + rejected + 8
    assert max(parts[1] for parts in forwards) <= 9


def test_ids_and_lengths_that_the_drafter_does_not_have() -> None:
    target, small = ToyEngine(3, SIZE, 2), ToyEngine(3, 20, 2, max_length=16)
    drafter = TabedMethod("small")
    drafter.attach(Setup(Databases(), vocab_size=SIZE, tokenizer="same", open_engine=lambda _: Opened(small, "same")))
    for prompt in ([25], [4, 25, 4], [4, 4]):
        expected, _ = run(target, PlainMethod(), prompt, Options(40))
        assert run(target, drafter, prompt, Options(40, FixedBudget(5)))[0] == expected


def test_a_drafter_that_fails_leaves_plain_decoding() -> None:
    target = ToyEngine(3, SIZE)
    expected, _ = run(target, PlainMethod(), [4, 9], Options(60))
    with pytest.warns(DraftWarning, match="TabedMethod failed"):
        got, _ = run(target, with_model(FailingModel(4, SIZE), TabedMethod), [4, 9], Options(60, FixedBudget(5)))
    assert got == expected


@pytest.mark.parametrize(
    "wrong",
    [{"views": ()}, {"views": ("all",)}, {"views": ("0",)}, {"views": ("full", "full")}, {"length": 0}, {"draft": ""}],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        TabedMethod(**{"draft": "x", **wrong})


# weights


def some_law(rng: np.random.Generator) -> Law:
    ids = np.flatnonzero(rng.random(12) < 0.5).astype(np.int32)
    return ids, rng.dirichlet(np.ones(len(ids))) if len(ids) else np.zeros(0)


def slow_score(weights: Sequence[float], history: Sequence[tuple[list[Law], int]]) -> tuple[int, float]:
    """(positions where the mixture's likeliest token was the target's, log likelihood of the target's tokens)."""
    right, likely = 0, 0.0
    for laws, token in history:
        mixed: dict[int, float] = {}
        for weight, (ids, prob) in zip(weights, laws, strict=True):
            for one, chance in zip(ids.tolist(), prob.tolist(), strict=True):
                mixed[one] = mixed.get(one, 0.0) + weight * chance
        if not mixed:
            continue
        best = max(sorted(mixed), key=mixed.__getitem__)
        right += best == token and mixed[best] > 0
        likely += log(max(mixed.get(token, 0.0), 1e-9))
    return right, likely


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_weights_are_the_best_of_the_grid(views: int) -> None:
    grid = [np.array(tenths) / 10 for tenths in product(range(11), repeat=views) if sum(tenths) == 10]
    for seed in range(12):
        rng = np.random.default_rng(seed)
        weights, history = Weights(views), list[tuple[list[Law], int]]()
        assert weights.now.tolist() == [1 / views] * views
        for _ in range(int(rng.integers(1, 9))):
            laws, token = [some_law(rng) for _ in range(views)], int(rng.integers(12))
            history.append((laws, token))
            weights.learn(laws, token)
        weights.choose()
        best = max(slow_score(one, history) for one in grid)
        assert any(np.allclose(weights.now, one) for one in grid)
        found = slow_score(weights.now, history)
        assert (found[0], pytest.approx(found[1])) == best


def test_the_mixtures_likeliest_token() -> None:
    weights = Weights(2)
    one, other = np.array([3, 5], dtype=np.int32), np.array([5, 9], dtype=np.int32)
    laws = [(one, np.array([0.6, 0.4])), (other, np.array([0.5, 0.5]))]
    assert weights.likeliest(laws) == (5, pytest.approx(0.45))
    weights.now = np.array([1.0, 0.0])
    assert weights.likeliest(laws) == (3, pytest.approx(0.6))
    nothing = (np.zeros(0, dtype=np.int32), np.zeros(0))
    assert weights.likeliest([nothing, laws[1]]) == (5, pytest.approx(0.5)), (
        "who has no weight speaks if nobody else does"
    )
    assert weights.likeliest([nothing, nothing]) == (None, 0.0)


@pytest.mark.parametrize(("best", "memory", "small"), [("full", None, 3), ("4", 3, 3), ("ngram", 2, 4)])
def test_the_views_that_agree_get_the_weight(best: str, memory: int | None, small: int) -> None:
    """Only the whole text tells what comes next; or its last tokens do; or the model is another one.

    Where the last tokens tell as much as all of the text, either may have the weight.
    """
    target, views = ToyEngine(3, SIZE, memory), ("full", "4", "ngram")
    drafter = with_model(ToyEngine(small, SIZE, memory), TabedMethod, views=views)
    sessions = opened(drafter)
    _, steps = run(target, drafter, [4, 9, 1], Options(150, FixedBudget(5)))
    told = dict(zip(views, sessions[0].weights.now.tolist(), strict=True))
    alike = told["full"] + told["4"] if best == "4" else told[best]
    assert alike >= 0.5, told
    assert np.mean([step.accepted for step in steps[-10:-1]]) > 3


def test_nothing_is_learned_beyond_the_first_mistake() -> None:
    drafter = with_model(ToyEngine(3, SIZE), TabedMethod, views=("full",))
    session: Any = drafter.open(Request(np.array([4], dtype=np.int32), 9, vocab_size=SIZE))
    tree = session.propose(np.array([4], dtype=np.int32), Budget(5, 5))
    learned: list[int] = []
    session.weights.learn = lambda _, token: learned.append(token)
    first = int(tree.tokens[0])
    wrong = (int(tree.tokens[1]) + 1) % SIZE
    session.observe(Step([first, wrong, 7], tree, [0], np.zeros(6, dtype=np.int32)))
    assert learned == [first, wrong]


def test_what_followed_in_the_request() -> None:
    view, text = _GramView(), np.array([1, 2, 3, 9, 2, 3, 8, 2, 3, 8, 7, 2, 3], dtype=np.int32)
    for end in (5, 8, len(text)):  # as it grows
        view.begin(text[:end], 0)
    ids, prob = view.part(text)
    assert (ids.tolist(), prob.tolist()) == ([8, 9], [pytest.approx(2 / 3), pytest.approx(1 / 3)])
    assert view.part(np.append(text, np.int32(8)))[0].tolist() == [2, 7], "of the longest n-gram"
    assert view.part(np.array([1], dtype=np.int32))[0].tolist() == [2]
    assert len(view.part(np.array([1, 6], dtype=np.int32))[0]) == 0
