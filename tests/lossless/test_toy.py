"""Tokens on the toy engine, 600,000 or two million (`make proofs`): every drafter, every setting, zero differences."""

from __future__ import annotations

import itertools
import os
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import AutoBudget, BudgetLaw, FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import ContextLengthError, DraftWarning, UsageError
from hierdraft.protocols import Method
from tests.lossless.drafters import HARMLESS, REAL, REFUSED, Base, Oracle
from tests.lossless.harness import check_steps, kept, run, teacher_forced

VOCABULARY = 32
LENGTH = 800
SETTINGS = [
    (memory, eos, budget)
    for memory, eos, budget in itertools.product((1, 2, 3, None), ((), (3, 7)), (1, 5, 16, 48, "auto"))
]
TOKENS = 2_000_000 if os.environ.get("PROOFS") else 300_000
TOKENS_PER_DRAFTER = TOKENS // (len(HARMLESS) + len(REFUSED) + len(REAL) - 1)


def law(budget: int | str) -> BudgetLaw:
    return AutoBudget() if isinstance(budget, str) else FixedBudget(budget)


def plain(engine: ToyEngine, prompt: list[int], limit: int) -> list[int]:
    return run(engine, PlainMethod(), prompt, Options(limit))[0]


@cache
def case(seed: int) -> tuple[list[int], int, list[int]]:
    """A prompt, how many tokens at most, and plain decoding's answer, which is the same whatever the drafter."""
    memory, eos, _ = SETTINGS[seed % len(SETTINGS)]
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, VOCABULARY, int(rng.integers(1, 40))).tolist()
    limit = int(rng.choice([1, 2, 3, 17, LENGTH, 2 * LENGTH]))
    return prompt, limit, plain(ToyEngine(seed, VOCABULARY, memory, eos_ids=eos), prompt, limit)


def sweep(make: type[Base] | None, real: str | None = None) -> int:
    """Decode with one kind of drafter over all settings until its share of tokens is reached; tokens compared."""
    drafter: Method | None = REAL[real]() if real else None
    compared = 0
    seed = 0
    while compared < TOKENS_PER_DRAFTER:
        memory, eos, budget = SETTINGS[seed % len(SETTINGS)]
        engine = ToyEngine(seed, VOCABULARY, memory, eos_ids=eos)
        prompt, limit, expected = case(seed)
        one = drafter or make(VOCABULARY, prompt + expected, seed)  # type: ignore[misc]
        got, steps = run(engine, one, prompt, Options(limit, budget=law(budget)))
        assert got == expected, f"seed {seed}, memory {memory}, eos {eos}, budget {budget}, limit {limit}"
        check_steps(steps, limit)
        compared += len(expected)
        seed += 1
    return compared


@pytest.mark.parametrize("name", HARMLESS)
def test_no_drafter_changes_the_text(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        assert sweep(HARMLESS[name]) >= TOKENS_PER_DRAFTER


@pytest.mark.parametrize("name", [name for name in REAL if name != "none"])
def test_our_drafters_do_not_change_the_text(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        assert sweep(None, name) >= TOKENS_PER_DRAFTER


@pytest.mark.filterwarnings("ignore::hierdraft.errors.DraftWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_broken_drafters_do_not_change_the_text(name: str) -> None:
    assert sweep(REFUSED[name]) >= TOKENS_PER_DRAFTER


@pytest.mark.parametrize("name", REFUSED)
def test_broken_drafters_are_reported_once_per_request(name: str) -> None:
    engine = ToyEngine(1, VOCABULARY)
    truth = plain(engine, [1, 2], 200)
    drafter = REFUSED[name](VOCABULARY, [1, 2, *truth], 0)
    for _ in range(2):
        with pytest.warns(DraftWarning) as caught:
            got, _ = run(engine, drafter, [1, 2], Options(200, budget=FixedBudget(8)))
        assert got == truth
        assert len([w for w in caught if issubclass(w.category, DraftWarning)]) == 1


def test_plain_decoding_is_what_a_fresh_prefill_says() -> None:
    for memory, eos in itertools.product((1, 3, None), ((), (3,))):
        engine = ToyEngine(5, VOCABULARY, memory, eos_ids=eos)
        prompt = [4, 9, 2, 30]
        got = plain(engine, prompt, 60)
        assert got == teacher_forced(engine, prompt, got)
        assert len(got) == 60 or got[-1] == 3


def test_an_oracle_is_accepted_whole() -> None:
    engine = ToyEngine(2, VOCABULARY)
    truth = plain(engine, [5], 101)
    got, steps = run(engine, Oracle(VOCABULARY, [5, *truth], 0), [5], Options(101, budget=FixedBudget(9)))
    assert got == truth
    assert [len(step.tokens) for step in steps] == [1] + [10] * 10


@pytest.mark.parametrize("limit", [1, 2, 8, 9, 10, 11])
def test_limits_around_the_size_of_a_draft(limit: int) -> None:
    engine = ToyEngine(2, VOCABULARY)
    truth = plain(engine, [5], 50)
    drafter = Oracle(VOCABULARY, [5, *truth], 0)
    got, steps = run(engine, drafter, [5], Options(limit, budget=FixedBudget(8)))
    assert got == truth[:limit]
    assert steps[-1].finish == "length"
    assert drafter.finished == [5, *truth[:limit]]


@pytest.mark.parametrize("room", [1, 2, 5, 9])
def test_a_full_context_ends_the_request(room: int) -> None:
    free = ToyEngine(2, VOCABULARY)
    truth = plain(free, [5, 6, 7], 50)
    engine = ToyEngine(2, VOCABULARY, max_length=3 + room)
    got, steps = run(engine, Oracle(VOCABULARY, [5, 6, 7, *truth], 0), [5, 6, 7], Options(50, budget=FixedBudget(8)))
    assert got == truth[:room]
    assert steps[-1].finish == "context"


def test_end_of_sequence_inside_an_accepted_run() -> None:
    engine = ToyEngine(0, VOCABULARY, eos_ids=(3, 7))
    for start in range(VOCABULARY):
        truth = plain(engine, [start], 300)
        drafter = Oracle(VOCABULARY, [start, *truth, *[1] * 40], 0)
        got, steps = run(engine, drafter, [start], Options(300, budget=FixedBudget(16)))
        assert got == truth
        assert (steps[-1].finish == "eos") == (truth[-1] in (3, 7))
        assert not {3, 7} & set(got[:-1])
        assert sum(step.accepted for step in drafter.steps) <= len(got)


def test_the_drafter_sees_what_was_committed() -> None:
    engine = ToyEngine(4, VOCABULARY)
    truth = plain(engine, [1, 2, 3], 90)
    drafter = HARMLESS["ChangesBetweenCalls"](VOCABULARY, [1, 2, 3, *truth], 1)
    run(engine, drafter, [1, 2, 3], Options(90, budget=FixedBudget(6)))
    assert [token for step in drafter.steps for token in step.tokens] == truth
    assert drafter.finished == [1, 2, 3, *truth]


def test_closing_early_finishes_the_drafter() -> None:
    engine = ToyEngine(4, VOCABULARY)
    drafter = HARMLESS["RandomTree"](VOCABULARY, [], 1)
    steps = decode(engine, drafter, [1, 2, 3], Options(90))
    committed = [1, 2, 3, *next(steps).tokens, *next(steps).tokens]
    steps.close()  # type: ignore[attr-defined]
    assert drafter.finished == committed


def test_a_rewound_engine_says_the_same_again() -> None:
    engine = ToyEngine(4, VOCABULARY, memory=None)
    drafter = HARMLESS["RandomTree"](VOCABULARY, [], 1)
    sequences: list[Any] = []
    got, _ = run(engine, drafter, [1, 2, 3], Options(40, keep=kept(sequences)))
    sequences[0].rewind(10)
    tail = [
        int(engine.choices(sequences[0].forward(got[7], drafter.propose(np.array([1], dtype=np.int32), _none())))[0])
    ]
    assert tail == got[8:9]


def _none() -> object:
    from hierdraft.protocols import Budget

    return Budget(0, 0)


@pytest.mark.parametrize(
    ("prompt", "limit", "error", "words"),
    [
        ([], 5, UsageError, "empty"),
        ([1, -1], 5, UsageError, "-1"),
        ([1, VOCABULARY], 5, UsageError, f"Token id {VOCABULARY}"),
        ([1.5], 5, UsageError, "float64"),
        ([1], 0, UsageError, "at least 1"),
        ([1] * 16, 5, ContextLengthError, "16"),
        ([1] * 17, 5, ContextLengthError, "shorten"),
    ],
)
def test_bad_prompts_get_one_sentence(prompt: list[int], limit: int, error: type[Exception], words: str) -> None:
    engine = ToyEngine(0, VOCABULARY, max_length=16)
    with pytest.raises(error, match=words):
        decode(engine, PlainMethod(), prompt, Options(limit))
