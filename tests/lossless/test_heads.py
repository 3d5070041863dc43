"""Heads that read what the target thinks: what goes in beside each token is right, and the text is what it is without.

`ToyHead` says exactly what its target says as long as it is told the right thoughts, so a head that is always right
shows that they were.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.heads import text as texts
from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.models import session as sessions
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.models.tabed import TabedMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.protocols import Budget, Part, Request, RequestSampling, Step
from hierdraft.tree import DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.rejection import reject
from hierdraft.verify.sampling import Sampling
from tests.distribution.exact import Branching, branches, error, text_at
from tests.lossless.drafters import with_model
from tests.lossless.harness import check_steps, run
from tests.lossless.test_draft_model import LAWS, SIZE, Priced, ToyTarget, chosen, come_and_go, scripted
from tests.lossless.toyheads import ToyBlock, ToyHead, ToyRepeated

METHODS: dict[str, Any] = {
    "draft-model": lambda head: with_model(head, depth=5),
    "wide": lambda head: with_model(head, width=(3, 2), depth=4),
    "hierarchy": lambda head: with_model(head, HierarchyMethod, ask="always"),
    "pays": lambda head: with_model(head, HierarchyMethod),
}

KINDS = (ToyHead, ToyBlock, ToyRepeated)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A head that fails is switched off: nothing here may pass because of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        yield


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_plain_decoding(kind: type[ToyHead], method: str, law: str) -> None:
    accepted = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        engine = Priced(seed, SIZE, None, eos_ids=(3,) if seed % 2 else ())
        if seed % 5 == 4:
            engine.max_length = 40
        prompt = rng.integers(0, SIZE, int(rng.integers(1, 14))).tolist()
        limit = int(rng.choice([1, 2, 9, 80]))
        sampling = Sampling(repetition_penalty=1.3) if seed % 4 == 3 else Sampling()
        expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, limit, FixedBudget(0), sampling, prompt))
        head = kind(seed, SIZE, None, max_length=30 if seed % 3 == 2 else 1 << 30, checks=True)
        got, steps = run(engine, METHODS[method](head), prompt, chosen(engine, limit, LAWS[law](), sampling, prompt))
        assert got == expected, seed
        check_steps(steps, limit)
        accepted += sum(step.accepted for step in steps)
    assert (accepted > 0) == (law != "0")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_head_that_is_told_the_right_thoughts_is_always_right(temperature: float) -> None:
    engine, head = ToyEngine(3, SIZE, None), ToyHead(3, SIZE, None, checks=True)
    options = chosen(engine, 61, FixedBudget(5), Sampling(temperature=temperature, seed=7), [4, 9])
    _, steps = run(engine, with_model(head, width=(1,), depth=5), [4, 9], options)
    assert [step.accepted for step in steps] == [0] + [5] * 10
    assert head.read[0] == 2, "the prompt, without its first token, and the first token that was said"
    assert sum(head.read) == 1 + len(steps[:-1]) * 6 - 5, "every token but the last ones once"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_block_says_all_levels_in_one_call(kind: type[ToyBlock]) -> None:
    engine, head = ToyEngine(3, SIZE, None), kind(3, SIZE, None, checks=True)
    size, calls = head.block.size + 1, [0]
    forward = head.forward

    def counted(parts: Any) -> Any:
        calls[0] += 1
        return forward(parts)

    head.forward = counted  # type: ignore[method-assign]
    for most in (size + 2, 2):
        calls[0] = 0
        options = chosen(engine, 61, FixedBudget(most), Sampling(), [4, 9])
        _, steps = run(engine, with_model(head, width=(1,), depth=9), [4, 9], options)
        assert [step.accepted for step in steps[1:-1]] == [min(size, most)] * (len(steps) - 2)
        assert calls[0] == len(steps) - 1, "one call for every draft"


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "nodes"), [((2,), 4), ((1, 2), 3), ((2, 2), 5)])
def test_the_law_of_what_is_said_exactly(
    monkeypatch: pytest.MonkeyPatch, width: tuple[int, ...], nodes: int, kind: type[ToyHead], replacement: bool
) -> None:
    """Every draw from a head's laws and of the verifier is replaced by all of its branches."""
    size, prefix = 3, np.array([1, 2], dtype=np.int32)
    for seed in range(3):
        target = ToyTarget(ToyEngine(seed, size), prefix.tolist(), 0.8)
        drafter = with_model(kind(seed + 10, size, None), width=width, depth=2, replacement=replacement)
        told = RequestSampling(draws=True, temperature=0.8)
        thoughts = _thoughts(ToyEngine(seed + 10, size, None), prefix[:1])
        before = Step([2], DraftTree.empty(), [], np.empty(0, np.int32), prefill=True, hidden={1: [thoughts]})

        def step(
            dice: Branching,
            drafter: Any = drafter,
            told: Any = told,
            target: Any = target,
            before: Step = before,
        ) -> Verdict:
            monkeypatch.setattr(sessions, "draw", scripted(dice))
            session = drafter.open(Request(prefix, 9, vocab_size=size, sampling=told))
            session.observe(before)
            tree = session.propose(prefix, Budget(nodes, 2))
            tree.check(size)
            assert len(tree) > 0
            session.finish(prefix)
            return reject(tree, lambda row: target.law(text_at(tree, row)), dice)

        assert error(target, 3, branches(step))[0] < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_asked_about_the_trees_of_look_ups(kind: type[ToyHead], temperature: float) -> None:
    """Level by level: what it thinks of one is what the next one grows out of; of a block, without a further call."""
    engine, head = ToyEngine(3, SIZE, None), kind(3, SIZE, None, checks=True)
    options = chosen(engine, 200, FixedBudget(20), Sampling(temperature=temperature, seed=7), [4, 9])
    _, steps = run(engine, with_model(head, HierarchyMethod, ask="always", rounds=6), [4, 9], options)
    _, alone = run(engine, HierarchyMethod(), [4, 9], options)
    assert len(steps) < (0.9 if temperature else 0.8) * len(alone), (
        "the text never repeats itself: only the head knows it"
    )


def test_a_long_prompt_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "CHUNK", 8)
    monkeypatch.setattr(texts, "_KEPT", 4)
    prompt = np.random.default_rng(0).integers(0, SIZE, 60).tolist()
    for method in METHODS.values():
        engine, head = ToyEngine(3, SIZE, None), ToyHead(3, SIZE, None, checks=True)
        expected, _ = run(engine, PlainMethod(), prompt, Options(30))
        got, steps = run(engine, method(head), prompt, Options(30, FixedBudget(4)))
        assert got == expected
        assert max(head.read) == 8
        assert any(step.accepted for step in steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["wide", "hierarchy"])
def test_several_requests_share_its_forwards(method: str, kind: type[ToyHead]) -> None:
    """They come, end and are cancelled at any time; each says what it says alone."""
    engine, head = Priced(3, SIZE, None, eos_ids=(3,)), kind(3, SIZE, None)
    shared, forward = [0], head.forward

    def watched(parts: Any) -> Any:
        shared.append(len(parts))
        return forward(parts)

    head.forward = watched  # type: ignore[method-assign]
    done, accepted = come_and_go(engine, METHODS[method](head), 300)
    assert done > 500
    assert accepted > 0.5 * done
    assert max(shared) > 2


def test_a_text_that_is_taken_back_is_read_again() -> None:
    """An interrupt takes the last step's tokens back: what was thought at those that stay is known still."""
    engine, head = ToyEngine(3, SIZE, None), ToyHead(3, SIZE, None, checks=True)
    ids = np.random.default_rng(1).integers(0, SIZE, 40).astype(np.int32)
    thoughts = _thoughts(engine, ids)
    text = HeadText(head, head.reads)
    text.saw(Step([], DraftTree.empty(), [], np.empty(0, np.int32), prefill=True, hidden={1: [thoughts[:30]]}))
    assert not text.knows(ids[:32])
    for length in (31, 31, 26, 27, 27, 25):
        if length == 27 and not text.knows(ids[:27]):
            text.saw(_step(thoughts[25:26]))
        part = text.part(ids[:length])
        text.heard(head.forward([part])[0])
        assert text.held == length - 1
        text.further(DraftTree.build([4, 5], [-1, -1]))
        with pytest.raises(UsageError, match="level by level"):
            text.further(DraftTree.build([4, 5], [-1, 0]))
    with pytest.raises(UsageError, match="level by level"):
        text.part(ids[:25], DraftTree.build([4], [-1]))
    with pytest.raises(UsageError, match="not known"):
        text.part(ids[:35])
    text.close()


def _thoughts(engine: ToyEngine, ids: Any) -> Any:
    return engine.forward([Part(engine.open(reuse=None), ids, DraftTree.empty(), 1, (1,))])[0].hidden[1]


def _step(thoughts: Any) -> Step:
    return Step([1], DraftTree.empty(), [], np.empty(0, np.int32), hidden={1: [thoughts]})


def test_what_cannot_take_a_head_says_so() -> None:
    head = ToyHead(3, SIZE, None)
    with pytest.raises(UsageError, match="cannot draft for this one: it is a head"):
        with_model(head, TabedMethod)
    target = ToyEngine(3, SIZE, None)
    target.offers = replace(target.offers, layers=0)
    with pytest.raises(UsageError, match="hidden states"):
        run(target, with_model(head, DraftModelMethod), [4], Options(5))
