"""The method `draft-model`: greedily the same ids, drawn the same distribution, whatever drafts and however it ends."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.databases.levels import Databases
from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.models import following
from hierdraft.drafting.models import session as sessions
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.integrations.transformers import decode
from hierdraft.models import load as loading
from hierdraft.models.named import ResolvedModel
from hierdraft.protocols import Budget, Engine, Method, Offers, Opened, Part, Request, RequestSampling, Scored, Setup
from hierdraft.request_rules import set_rules
from hierdraft.tree import DraftLaw
from hierdraft.verify.constraint import Follower
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.rejection import reject
from hierdraft.verify.sampling import Sampling, softmax
from tests.distribution.exact import Branching, Law, Target, Text, branches, error, text_at
from tests.distribution.test_chi_square import BOUND, deviation
from tests.lossless.drafters import Chains, FailingModel, with_model
from tests.lossless.harness import check_steps, fresh, run
from tests.lossless.test_structured import Steps
from tests.lossless.tiny import VOCABULARY, tiny
from tests.unit.byte_tokenizer import Bytes

SIZE = 32
PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A drafter that fails is switched off: nothing here may pass because of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        yield


class Priced(ToyEngine):
    """Forwards cost what they cost on some machine."""

    first, each = 1.0, 0.05

    def cost(self, rows: int, plain: int = 1) -> float:
        return self.first + self.each * rows


def small(kind: str, target: ToyEngine, seed: int) -> ToyEngine:
    """A drafter for a toy target: itself, or another one; that goes on from trees, or not."""
    like = {"self": seed, "other": seed + 1}[kind.split()[0]]
    made = Chains if kind.endswith("chain") else ToyEngine
    return made(like, SIZE, target._memory)


def chosen(engine: Engine, limit: int, law: Any, sampling: Sampling, prompt: Sequence[int], **more: Any) -> Options:
    """Options as `LanguageModel.stream` makes them."""
    options = Options(limit, law, **more)
    set_rules(engine, GenerationDefaults(), sampling, options, [], len(prompt))
    return options


LAWS: dict[str, Any] = {
    "0": lambda: FixedBudget(0), "1": lambda: FixedBudget(1), "4": lambda: FixedBudget(4),
    "20": lambda: FixedBudget(20), "auto": AutoBudget,
}  # fmt: skip
KINDS = ["self", "other", "self chain", "other chain"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", LAWS)
def test_greedy_answers_are_those_of_plain_decoding(kind: str, law: str) -> None:
    accepted = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        engine = Priced(seed, SIZE, (2, None, 3)[seed % 3], eos_ids=(3,) if seed % 2 else ())
        if seed % 5 == 4:
            engine.max_length = 40
        prompt = rng.integers(0, SIZE, int(rng.integers(1, 14))).tolist()
        limit = int(rng.choice([1, 2, 9, 80]))
        sampling = Sampling(repetition_penalty=1.3) if seed % 4 == 3 else Sampling()
        expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, limit, FixedBudget(0), sampling, prompt))
        drafter = with_model(
            small(kind, engine, seed), width=[None, (2,), (3, 2, 1), (1,)][seed % 4], depth=[None, 1, 5][seed % 3]
        )
        got, steps = run(engine, drafter, prompt, chosen(engine, limit, LAWS[law](), sampling, prompt))
        assert got == expected, seed
        check_steps(steps, limit)
        accepted += sum(step.accepted for step in steps)
    assert (accepted > 0) == (law != "0")
    assert accepted > 50 or kind.startswith("other") or law in ("0", "1")


@pytest.mark.parametrize("kind", ["self", "self chain"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_drafts_for_itself_is_always_right(kind: str, temperature: float) -> None:
    """One candidate each: drawn from the target's own law, it is accepted; greedily it is the target's choice."""
    engine = ToyEngine(3, SIZE)
    drafter = with_model(small(kind, engine, 3), width=(1,), depth=5)
    options = chosen(engine, 61, FixedBudget(5), Sampling(temperature=temperature, seed=7), [4])
    _, steps = run(engine, drafter, [4], options)
    assert [step.accepted for step in steps] == [0] + [5] * 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_the_drafter_holds_is_never_scored_again(kind: str, temperature: float) -> None:
    target, engine = ToyEngine(3, SIZE), small(kind, ToyEngine(3, SIZE), 3)
    read: list[int] = []
    nodes: list[int] = []
    forward = engine.forward

    def watched(parts: Sequence[Part]) -> list[Scored]:
        for part in parts:
            read.append(len(part.tokens))
            nodes.append(len(part.tree) - len(part.sequence.tree) if len(part.tokens) == 0 else 0)  # type: ignore[attr-defined]
        return forward(parts)

    engine.forward = watched  # type: ignore[method-assign]
    prompt = [4, 9, 1, 7, 8]
    sampling = Sampling(temperature=temperature, seed=1)
    got, steps = run(
        target, with_model(engine, width=(2,), depth=3), prompt, chosen(target, 80, FixedBudget(9), sampling, prompt)
    )
    drafts = sum(min(3, int(step.tree.depths().max(initial=0))) for step in steps)
    if kind.endswith("chain"):  # of each draft all levels but the last are read as text
        assert sum(read) <= len(prompt) + len(got) + drafts
        assert sum(nodes) == 0
    else:
        assert sum(read) <= len(prompt) + len(got)
        assert sum(nodes) <= 3 * drafts
    assert max(read) == len(prompt) + 1


def test_the_prompt_is_read_in_pieces_and_shared_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHUNK", 8)
    target, engine = ToyEngine(3, SIZE), ToyEngine(4, SIZE)
    read: list[int] = []
    forward = engine.forward

    def watched(parts: Sequence[Part]) -> list[Scored]:
        read.extend(len(part.tokens) for part in parts)
        return forward(parts)

    engine.forward = watched  # type: ignore[method-assign]
    drafter = with_model(engine)
    prompt = np.random.default_rng(0).integers(0, SIZE, 60).tolist()
    expected, _ = run(target, PlainMethod(), prompt, Options(9))
    assert run(target, drafter, prompt, Options(9, FixedBudget(4)))[0] == expected
    assert max(read) == 8
    assert sum(read) <= 70
    read.clear()
    assert run(target, drafter, prompt, Options(9, FixedBudget(4)))[0] == expected
    assert sum(read) < 30, "the first text was left to the second"


# requests beside each other


@pytest.mark.parametrize("kind", KINDS)
def test_several_requests_share_the_drafters_forwards(kind: str) -> None:
    """They come, end and are cancelled at any time; each says what it says alone."""
    engine = Priced(3, SIZE, 3, eos_ids=(3,))
    small_engine = small(kind, engine, 3)
    shared = [0]
    forward = small_engine.forward

    def watched(parts: Sequence[Part]) -> list[Scored]:
        shared.append(len(parts))
        return forward(parts)

    small_engine.forward = watched  # type: ignore[method-assign]
    done, _ = come_and_go(engine, with_model(small_engine, depth=4), 400)
    assert done > 1000
    assert max(shared) > 2


def come_and_go(engine: Engine, drafter: Method, steps: int) -> tuple[int, int]:
    """(tokens, and of these accepted ones) of requests that begin, end and are cancelled beside each other in so many
    steps; each says what it says alone.
    """
    rng, scheduler, law = np.random.default_rng(5), Scheduler(engine, most=5), AutoBudget()
    flying: dict[Ticket, list[int]] = {}
    done = accepted = 0
    for number in range(steps):
        if number < 3 * steps // 4 and rng.random() < 0.3:
            prompt = rng.integers(4, SIZE, int(rng.integers(1, 9))).tolist()
            truth, _ = run(engine, PlainMethod(), prompt, Options(40))
            ticket = Ticket(open_request(engine, drafter, prompt, Options(40, law if number % 2 else FixedBudget(6))))
            scheduler.add(ticket)
            flying[ticket] = truth
        scheduler.step(lambda _: True)
        if flying and rng.random() < 0.05:
            scheduler.end(next(iter(flying)), None)
        for ticket in [ticket for ticket in flying if ticket.over]:
            truth = flying.pop(ticket)
            got = [token for step in ticket.steps for token in step.tokens]
            assert ticket.error is None
            assert got == truth[: len(got)]
            done, accepted = done + len(got), accepted + sum(step.accepted for step in ticket.steps)
    return done, accepted


def test_several_drafts_are_those_of_each_alone() -> None:
    engine = ToyEngine(6, SIZE)
    texts = [np.random.default_rng(number).integers(0, SIZE, 3 + 4 * number).astype(np.int32) for number in range(4)]
    told = [None, RequestSampling(draws=True, seed=5), RequestSampling(draws=True, top_k=2), None]
    budgets = [Budget(6, 4), Budget(9, 3), Budget(4, 9), Budget(0, 4)]

    def asks(drafter: DraftModelMethod) -> list[Any]:
        return [
            (drafter.open(Request(text, 9, vocab_size=SIZE, sampling=sampling)), text, budget)
            for text, sampling, budget in zip(texts, told, budgets, strict=True)
        ]

    together = with_model(engine)
    trees = together.propose_all(asks(together))
    for tree, (session, text, budget) in zip(trees, asks(with_model(engine)), strict=True):
        alone = session.propose(text, budget)
        alone.check(SIZE)
        assert (alone.tokens.tolist(), alone.parents.tolist()) == (tree.tokens.tolist(), tree.parents.tolist())
        assert len(tree) <= budget.nodes
        assert tree.depths().max(initial=0) <= budget.depth
    assert [tree.drawn for tree in trees] == [False, True, True, False]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_it_does_not_pay_it_is_hardly_asked(temperature: float) -> None:
    """The drafter is as dear as the target and knows nothing: after some looks it neither drafts nor reads."""
    target, engine = Priced(3, SIZE), Priced(4, SIZE)
    forwards = [0]
    forward = engine.forward

    def watched(parts: Sequence[Part]) -> list[Scored]:
        forwards[0] += 1
        return forward(parts)

    engine.forward = watched  # type: ignore[method-assign]
    drafter, law, asked = with_model(engine), AutoBudget(), list[int]()
    for number in range(8):
        sampling = Sampling(temperature=temperature, seed=number)
        _, steps = run(target, drafter, [4, number], chosen(target, 400, law, sampling, [4, number]))
        asked.append(forwards[0])
        forwards[0] = 0
    assert asked[0] > 0
    assert sum(asked[4:]) < 4 * 400 * 0.03
    cheap = Priced(3, SIZE)
    cheap.first = cheap.each = 0.001
    _, steps = run(target, with_model(cheap), [4], chosen(target, 200, AutoBudget(), Sampling(), [4]))
    assert np.mean([step.accepted for step in steps]) > 2, "where it does, it is"


# grammars, rules and vocabularies


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_grammars(kind: str, temperature: float) -> None:
    """The drafter moves the request's own grammar, and the text stays inside it."""
    accepted = 0
    for seed in range(10):
        engine = ToyEngine(seed, SIZE, None, eos_ids=(3,) if seed % 3 == 0 else ())
        prompt, sampling = [4, 9, seed], Sampling(temperature=temperature, seed=seed)

        def options(
            law: Any, engine: ToyEngine = engine, prompt: list[int] = prompt, sampling: Sampling = sampling
        ) -> Options:
            return chosen(engine, 60, law, sampling, prompt, constraint=Follower(Steps(), len(prompt)))

        got, steps = run(engine, with_model(small(kind, engine, seed)), prompt, options(FixedBudget(8)))
        machine = Steps()
        assert all(machine.advance(token) for token in got)
        check_steps(steps, 60)
        accepted += sum(step.accepted for step in steps)
        if temperature == 0.0:
            assert got == run(engine, PlainMethod(), prompt, options(FixedBudget(0)))[0]
    assert accepted > 100


def test_a_rule_that_raises_takes_the_drafts_of_its_place_only() -> None:
    engine = ToyEngine(2, SIZE)

    def picky(prefix: Any, scores: Any) -> Any:
        if len(prefix) % 3 == 0:
            raise ValueError("not this text")
        return scores

    for draws in (False, True):
        drafter = with_model(ToyEngine(2, SIZE), width=(1,), depth=9)
        told = RequestSampling(draws=draws, rules=[picky])
        session = drafter.open(Request(np.array([1], dtype=np.int32), 20, vocab_size=SIZE, sampling=told))
        lengths = [len(session.propose(np.arange(n, dtype=np.int32), Budget(9, 9))) for n in (1, 2, 3)]
        assert lengths == [2, 1, 0]
    options = Options(40, FixedBudget(9), sampling=RequestSampling(rules=[picky]))
    expected, _ = run(engine, PlainMethod(), [4], Options(40))
    got, steps = run(engine, with_model(ToyEngine(2, SIZE)), [4], options)
    assert got == expected
    assert any(step.accepted for step in steps)


@pytest.mark.parametrize("size", [20, 40])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_vocabularies_that_are_padded_to_different_lengths(size: int, temperature: float) -> None:
    """With the same tokenizer: ids that one of them lacks are never drafted, nor read."""
    target, drafter = ToyEngine(3, SIZE), DraftModelMethod("small", width=(2,), depth=3)
    engine = ToyEngine(4, size)
    drafter.attach(Setup(Databases(), vocab_size=SIZE, tokenizer="same", open_engine=lambda _: Opened(engine, "same")))
    sampling = Sampling(temperature=temperature, seed=3, banned=range(20, SIZE) if size == 20 else ())
    got, steps = run(target, drafter, [4], chosen(target, 60, FixedBudget(6), sampling, [4]))
    assert any(step.accepted for step in steps)
    assert max(int(step.tree.tokens.max(initial=0)) for step in steps) < min(size, SIZE)
    if temperature == 0.0:
        assert got == run(target, PlainMethod(), [4], chosen(target, 60, FixedBudget(0), sampling, [4]))[0]
    if size == 20:  # a text that the drafter cannot read
        _, steps = run(target, drafter, [25], chosen(target, 9, FixedBudget(6), sampling, [25]))
        assert not any(len(step.tree) for step in steps)


def test_models_that_cannot_draft_are_refused_in_a_sentence() -> None:
    def attach(engine: Any, own: str = "", **target: Any) -> None:
        DraftModelMethod("other").attach(Setup(Databases(), open_engine=lambda _: Opened(engine, own), **target))

    with pytest.raises(UsageError, match="'other' cannot draft for this one: its tokenizer is another"):
        attach(ToyEngine(1, 32), "mine", tokenizer="theirs", vocab_size=32)
    with pytest.raises(UsageError, match="it has 30 token ids, this one 32"):
        attach(ToyEngine(1, 30), vocab_size=32)
    recurrent = ToyEngine(1, 32)
    recurrent.offers = Offers(trees=False)
    with pytest.raises(UsageError, match="recurrent states"):
        attach(recurrent, vocab_size=32)
    with pytest.raises(UsageError, match="no way to do that"):
        DraftModelMethod("other").attach(Setup(Databases()))
    with pytest.raises(UsageError, match="was not attached"):
        DraftModelMethod("other").open(Request(np.array([1], dtype=np.int32), 1))
    for wrong in ({"width": ()}, {"width": (0,)}, {"depth": 0}, {"draft": ""}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            DraftModelMethod(**{"draft": "x", **wrong})


def test_the_model_is_closed_with_the_method() -> None:
    closed: list[str] = []
    made = DraftModelMethod("small")
    setup = Setup(
        Databases(),
        vocab_size=SIZE,
        open_engine=lambda name: Opened(ToyEngine(1, SIZE), "", lambda: closed.append(name)),
    )
    made.attach(setup)
    made.close()
    made.close()
    assert closed == ["small"]


@pytest.mark.parametrize("after", [0, 1, 5, 40])
@pytest.mark.parametrize("several", [False, True])
def test_a_drafter_that_fails_leaves_plain_decoding(after: int, several: bool) -> None:
    engine = ToyEngine(3, SIZE)
    expected, _ = run(engine, PlainMethod(), [4, 9], Options(60))
    model = FailingModel(4, SIZE)
    model.left = after
    drafter = with_model(model, depth=3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if several:
            scheduler = Scheduler(engine)
            tickets = [Ticket(open_request(engine, drafter, [4, 9], Options(60, FixedBudget(4)))) for _ in range(3)]
            for ticket in tickets:
                scheduler.add(ticket)
            while not all(ticket.over for ticket in tickets):
                scheduler.step(lambda _: True)
            for ticket in tickets:
                assert [token for step in ticket.steps for token in step.tokens] == expected
            assert len(told) == 4, "one for all at once, one for each"
        else:
            got, steps = run(engine, drafter, [4, 9], Options(60, FixedBudget(4)))
            assert got == expected
            check_steps(steps, 60)
            assert [str(one.message) for one in told] == [
                "The method DraftModelMethod failed (RuntimeError: out of memory, drafters.py line "
                f"{FailingModel.forward.__code__.co_firstlineno + 3}). This request continues without drafts."
            ]


# distributions


class ToyTarget(Target):
    """What a toy engine says after a prefix, as the enumeration asks for it."""

    def __init__(self, engine: ToyEngine, prefix: Sequence[int], temperature: float) -> None:
        super().__init__(np.random.default_rng(0), engine.vocab_size)
        self._engine, self._prefix, self._temperature = engine, list(prefix), temperature

    def law(self, text: Text) -> Law:
        if text not in self._laws:
            row = fresh(self._engine, np.array([*self._prefix, *text], dtype=np.int32))[0]
            self._laws[text] = softmax(row / self._temperature)
        return self._laws[text]


def scripted(dice: Branching) -> Any:
    """Draws of a drafter, of which every one is a branch."""

    def draw(law: DraftLaw, count: int, _: Any) -> list[int]:
        left, drawn = law.prob.copy(), list[int]()
        while len(drawn) < count and left.sum() > 0:
            place = dice.draw(left / left.sum())
            drawn.append(int(law.ids[place]))
            left[place] = left[place] if law.replacement else 0.0
        return drawn

    return draw


@pytest.mark.parametrize("chains", [False, True])
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize(("width", "nodes"), [((2,), 4), ((3, 1), 4), ((1, 2), 3), ((2, 2), 5)])
def test_the_law_of_what_is_said_exactly(
    monkeypatch: pytest.MonkeyPatch, width: tuple[int, ...], nodes: int, replacement: bool, chains: bool
) -> None:
    """Every draw of the drafter and of the verifier is replaced by all of its branches."""
    size, prefix = 3, [1, 2]
    for seed in range(3):
        target = ToyTarget(ToyEngine(seed, size), prefix, 0.8)
        engine = (Chains if chains else ToyEngine)(seed + 10, size)
        drafter = with_model(engine, width=width, depth=2, replacement=replacement)
        told = RequestSampling(draws=True, temperature=0.8)

        def step(
            dice: Branching, drafter: DraftModelMethod = drafter, told: RequestSampling = told, target: Target = target
        ) -> Verdict:
            monkeypatch.setattr(sessions, "draw", scripted(dice))
            text = np.array(prefix, dtype=np.int32)
            session = drafter.open(Request(text, 9, vocab_size=size, sampling=told))
            tree = session.propose(text, Budget(nodes, 2))
            tree.check(size)
            session.finish(text)
            return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

        assert error(target, 3, branches(step))[0] < 1e-12


def counted(
    engine: Engine, drafter: Method, prompt: list[int], sampling: Sampling, draws: int, law: Any, length: int = 3
) -> tuple[Counter[tuple[int, ...]], int]:
    """How often each `length` tokens were said, and how many drafts were accepted."""
    counts: Counter[tuple[int, ...]] = Counter()
    accepted = 0
    for seed in range(draws):
        got, steps = run(engine, drafter, prompt, chosen(engine, length, law, replace(sampling, seed=seed), prompt))
        counts[tuple(got)] += 1
        accepted += sum(step.accepted for step in steps)
    return counts, accepted


def law_of(engine: Engine, prompt: list[int], sampling: Sampling, length: int = 3) -> dict[tuple[int, ...], float]:
    """Of `length` tokens, from the target alone."""
    found = {(): 1.0}
    for _ in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for text, probability in found.items():
            whole = np.array([*prompt, *text], dtype=np.int32)
            scores = engine.values(fresh(engine, whole), 0)
            for rule in sampling.filters():
                scores = rule(whole, scores)
            for token, own in enumerate(softmax(scores).tolist()):
                if own > 0:
                    longer[(*text, token)] = probability * own
        found = longer
    return found


def within(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float], draws: int) -> bool:
    """Whether counts are as near to a law as a right sampler's are but once in 10^6."""
    return all(law.get(text, 0.0) > 0 for text in counts) and deviation(counts, law, draws) < BOUND


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_three_tokens_have_their_distribution(kind: str, replacement: bool) -> None:
    """Through the whole loop with the real noise, whose draws must not lean on the verifier's."""
    engine, draws = ToyEngine(3, SIZE, 2), 2_500
    sampling = Sampling(temperature=0.9, top_k=4)
    drafter = with_model(small(kind, engine, 3), width=(2,), depth=2, replacement=replacement)
    counts, accepted = counted(engine, drafter, [1, 2, 3], sampling, draws, FixedBudget(6))
    assert accepted > 250
    assert within(counts, law_of(engine, [1, 2, 3], sampling), draws)


def test_a_transformers_pair_has_the_targets_distribution() -> None:
    target, draws = HFEngine(tiny("llama", dtype=torch.float64)), 600
    nearly = tiny("llama", dtype=torch.float64)
    with torch.no_grad():
        for weights in nearly.parameters():
            weights += 0.03 * torch.randn_like(weights)
    small_engine, sampling = HFEngine(nearly), Sampling(temperature=0.8, top_k=3)
    counts, accepted = counted(
        target, with_model(small_engine, width=(3,), depth=2), PROMPT, sampling, draws, FixedBudget(6)
    )
    assert draws * 0.2 < accepted < draws * 1.5
    assert within(counts, law_of(target, PROMPT, sampling), draws)


# transformers and the doors


@pytest.mark.parametrize("budget", [1, 4, 12])
@pytest.mark.parametrize("alike", [False, True])
def test_tiny_transformers_models(budget: int, alike: bool) -> None:
    target = HFEngine(tiny("llama", dtype=torch.float64))
    engine = HFEngine(tiny("llama" if alike else "qwen3", dtype=torch.float64))
    for prompt in (PROMPT, [7]):
        expected, _ = run(target, PlainMethod(), prompt, Options(40))
        got, steps = run(target, with_model(engine), prompt, Options(40, FixedBudget(budget)))
        assert got == expected
        check_steps(steps, 40)
        assert not alike or np.mean([step.accepted for step in steps[1:-1]]) > 0.8 * min(budget, 4)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[LanguageModel]:
    asked: list[tuple[str, Any]] = []

    def beside(name: str, target: Any = None) -> Opened:
        asked.append((name, target))
        return Opened(ToyEngine(1, 257, eos_ids=(256,)))

    monkeypatch.setattr("hierdraft.models.load.open_beside", beside)
    with LanguageModel(ToyEngine(1, 257, eos_ids=(256,)), Bytes(), "toy") as model:
        yield model
        assert {name for name, _ in asked} <= {"small"}
        assert all(target is model.engine for _, target in asked)


@pytest.mark.parametrize("budget", [0, 1, 4, "auto"])
def test_the_front_door(toy: LanguageModel, budget: Any) -> None:
    method = "draft-model:draft=small:width=2+1:depth=4"
    plain = toy.generate("abc", method="none", chat=False, max_new_tokens=40)
    done = toy.generate("abc", method=method, chat=False, max_new_tokens=40, budget=budget)
    assert done.token_ids == plain.token_ids
    assert done.draft_error is None
    assert (done.levels.count("draft") > 0) == (budget != 0)
    assert plain.draft_forwards is None
    assert (0 < (done.draft_forwards or 0) < 200) == (budget != 0)
    beside = toy.generate(
        "abc", method="hierarchy:draft=small:ask=always", chat=False, max_new_tokens=40, budget=budget
    )
    again = toy.generate("abc", method="hierarchy:draft=small", chat=False, max_new_tokens=40, budget=0)
    assert beside.token_ids == plain.token_ids
    assert (0 < (beside.draft_forwards or 0) <= 2 * beside.steps) == (budget != 0)
    assert again.draft_forwards == 0, "asked by nobody, though another request was"
    drawn = toy.generate("abc", method=method, chat=False, max_new_tokens=40, budget=budget, temperature=1.0, seed=3)
    again = toy.generate("abc", method=method, chat=False, max_new_tokens=40, budget=budget, temperature=1.0, seed=3)
    assert budget == "auto" or drawn.token_ids == again.token_ids
    streams = [toy.submit("abc", method=method, chat=False, max_new_tokens=40, budget=budget) for _ in range(4)]
    streams[1].close()
    assert [stream.wait().token_ids for stream in (streams[0], *streams[2:])] == [plain.token_ids] * 3


def test_the_drafter_runs_where_the_target_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> tuple[Any, str]:
        asked.append({"name": name, **options})
        engine: Any = ToyEngine(1, 257)
        engine.costs = StepCosts()
        return engine, "tokenizer"

    monkeypatch.setattr(loading, "load_engine", load)
    monkeypatch.setattr(loading, "resolve", lambda name, *_, **__: ResolvedModel(tmp_path, name))
    monkeypatch.setattr("hierdraft.text.tokenizer_fingerprint", lambda tokenizer: f"print of {tokenizer}")
    target: Any = ToyEngine(1, 257)
    loading.open_beside("small", target).close()
    target.name, target.device, target.threads = "hf", "cuda:1", 3
    assert loading.open_beside("small", target).tokenizer == "print of tokenizer"
    loading.open_beside("small")
    best = {"name": "small", "engine": "auto", "device": None, "threads": None, "trimmed": True}
    assert asked == [best, {**best, "engine": "hf", "device": "cuda:1", "threads": 3}, best]


def test_transformers_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny("llama", dtype=torch.float64), torch.tensor([PROMPT])
    small_engine = HFEngine(tiny("llama", dtype=torch.float64))
    monkeypatch.setattr("hierdraft.models.load.open_beside", lambda *_: Opened(small_engine))
    options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 30, "do_sample": False}
    plain = model.generate(ids, **options)
    drafter = decode("draft-model:draft=small", budget=6)
    assert model.generate(ids, **options, custom_generate=drafter).tolist() == plain.tolist()
    options |= {"do_sample": True, "temperature": 0.7, "top_k": 5}
    torch.manual_seed(3)
    drawn = model.generate(ids, **options, custom_generate=drafter)
    torch.manual_seed(3)
    assert model.generate(ids, **options, custom_generate=drafter).tolist() == drawn.tolist()
    other = ToyEngine(1, VOCABULARY + 3)
    monkeypatch.setattr("hierdraft.models.load.open_beside", lambda *_: Opened(other))
    options |= {"do_sample": False}
    with pytest.warns(DraftWarning, match=f"it has {VOCABULARY + 3} token ids, this one {VOCABULARY}"):
        again = model.generate(ids, **options, custom_generate=decode("draft-model:draft=small", budget=6))
    assert again.tolist() == plain.tolist()
