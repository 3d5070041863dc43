"""Seeded sampling: with any drafter, any settings and any end, the tokens of plain sampling with the same seed."""

from __future__ import annotations

import itertools
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import hierdraft
from hierdraft.bench.datasets import builtin_prompts
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.integrations.transformers import decode
from hierdraft.protocols import Budget, Engine, Method
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.sampling import Sampler, Sampling
from tests.distribution.exact import sparse
from tests.lossless.drafters import HARMLESS, REAL, REFUSED
from tests.lossless.harness import check_steps, run
from tests.lossless.tiny import TOLERANCE, VOCABULARY, tiny
from tests.unit.byte_tokenizer import Bytes

SIZE = 32
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.3, "top_k": 5},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 0.7, "top_k": 8, "top_p": 0.95, "presence_penalty": 0.4, "frequency_penalty": 0.1},
    {"temperature": 0.5, "logit_bias": {4: 2.0, 9: -3.0}, "banned": [1, 2]},
    {"repetition_penalty": 1.1},
    {"presence_penalty": 0.5, "banned": [5, 6, 7]},
]
LENGTH = 150
TOKENS_PER_DRAFTER = 6_000


def verifier(engine: Engine, settings: dict[str, Any], prompt: list[int], seed: int) -> Sampler:
    chosen = Sampling(**settings, seed=seed)
    rules = [*chosen.penalties(len(prompt)), *chosen.filters()]
    return Sampler(engine.values, rules, seed if chosen.draws else None)


def sweep(make: Any, *, real: bool = False) -> int:
    """Decode with one kind of drafter over all settings until its share of tokens is reached; tokens compared."""
    drafter: Method | None = make() if real else None
    compared = 0
    for seed in itertools.count():
        if compared >= TOKENS_PER_DRAFTER:
            break
        settings = SETTINGS[seed % len(SETTINGS)]
        rng = np.random.default_rng(seed)
        engine = ToyEngine(seed, SIZE, (1, 2, 3, None)[seed % 4], eos_ids=((), (3, 7))[seed // 4 % 2])
        prompt = rng.integers(0, SIZE, int(rng.integers(1, 40))).tolist()
        limit = int(rng.choice([1, 2, 3, 9, 10, LENGTH]))

        def options(
            engine: ToyEngine = engine, settings: Any = settings, prompt: Any = prompt, seed: int = seed, n: int = limit
        ) -> Options:
            law = FixedBudget((1, 5, 9, 24)[seed % 4])
            return Options(n, law, verifier(engine, settings, prompt, seed))

        expected, _ = run(engine, PlainMethod(), prompt, options())
        one = drafter or make(SIZE, prompt + expected, seed)
        got, steps = run(engine, one, prompt, options())
        assert got == expected, f"seed {seed}, {settings}, limit {limit}"
        check_steps(steps, limit)
        compared += len(expected)
    return compared


@pytest.mark.parametrize("name", HARMLESS)
def test_no_drafter_changes_the_sample(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        assert sweep(HARMLESS[name]) >= TOKENS_PER_DRAFTER


@pytest.mark.parametrize("name", [name for name in REAL if name != "none"])
def test_our_drafters_do_not_change_the_sample(name: str) -> None:
    assert sweep(REAL[name], real=True) >= TOKENS_PER_DRAFTER


@pytest.mark.filterwarnings("ignore::hierdraft.errors.DraftWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_broken_drafters_do_not_change_the_sample(name: str) -> None:
    assert sweep(REFUSED[name]) >= TOKENS_PER_DRAFTER


def test_an_oracle_of_the_sample_is_accepted_whole() -> None:
    engine = ToyEngine(2, SIZE)

    def options() -> Options:
        return Options(101, FixedBudget(9), verifier(engine, SETTINGS[0], [5], 4))

    expected, _ = run(engine, PlainMethod(), [5], options())
    _, steps = run(engine, HARMLESS["Oracle"](SIZE, [5, *expected], 0), [5], options())
    assert [len(step.tokens) for step in steps] == [1] + [10] * 10


def test_another_seed_is_another_sample() -> None:
    engine = ToyEngine(2, SIZE)
    said = {
        tuple(run(engine, PlainMethod(), [5], Options(20, verifier=verifier(engine, SETTINGS[0], [5], seed)))[0])
        for seed in range(50)
    }
    assert len(said) == 50


class Drawing(PlainMethod):
    """Draws its tokens from a law of its own, as a small model would."""

    q_kind = "full"

    def __init__(self, *, replacement: bool = False, broken: str = "") -> None:
        self.rng = np.random.default_rng(0)
        self.replacement = replacement
        self.broken = broken

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        law = np.random.default_rng(int(tokens[-1])).dirichlet(np.ones(SIZE))
        drawn = self.rng.choice(SIZE, min(3, budget.nodes), replace=self.replacement, p=law)
        if self.broken == "no law":
            return DraftTree.build(drawn, [-1] * len(drawn), group=0)
        size = budget.nodes + 1 if self.broken == "too many" else len(drawn)
        laws = [sparse(law, replacement=self.replacement)]
        return DraftTree.build([*drawn, *drawn[:1]][:size], [-1] * size, group=0, laws=laws)


@pytest.mark.parametrize("replacement", [True, False])
def test_drafts_that_were_drawn_go_through_the_loop(replacement: bool) -> None:
    engine = ToyEngine(3, SIZE, eos_ids=(3,))
    accepted = 0
    for seed in range(60):
        options = Options(50, FixedBudget(3), verifier(engine, {"temperature": 0.6}, [4, 9], seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error", DraftWarning)
            got, steps = run(engine, Drawing(replacement=replacement), [4, 9], options)
        check_steps(steps, 50)
        accepted += sum(step.accepted for step in steps)
        again = Options(50, FixedBudget(3), verifier(engine, {"temperature": 0.6}, [4, 9], seed))
        assert run(engine, Drawing(replacement=replacement), [4, 9], again)[0] == got
    assert accepted > 100
    greedy, _ = run(engine, Drawing(replacement=replacement), [4, 9], Options(50))
    assert greedy == run(engine, PlainMethod(), [4, 9], Options(50))[0]


@pytest.mark.parametrize("length", [4, 5, 7])
@pytest.mark.parametrize("replacement", [False, True])
def test_where_nothing_is_allowed_drawn_drafts_say_so_as_plain_decoding_does(length: int, replacement: bool) -> None:
    """And not behind an end that comes before."""
    engine = ToyEngine(5, SIZE, memory=1)

    def none_after(prefix: Int32, scores: Any) -> Any:
        scores[...] = -np.inf if len(prefix) >= length else scores
        return scores

    for seed in range(20):
        sampler = Sampler(engine.values, [none_after], seed)
        drafter = Drawing(replacement=replacement)
        options = Options(40, verifier=sampler, budget=FixedBudget(6))
        with pytest.raises(UsageError, match=f"No token is allowed at position {length}"):
            run(engine, drafter, [1], options)
        ends = Options(40, verifier=sampler, budget=FixedBudget(6), eos_ids=range(SIZE))
        assert len(run(engine, drafter, [1], ends)[0]) == 1


@pytest.mark.parametrize("broken", ["no law", "too many"])
def test_drawn_drafts_that_cannot_be_verified_are_refused(broken: str) -> None:
    engine = ToyEngine(3, SIZE)
    options = Options(20, FixedBudget(3), verifier(engine, {"temperature": 1.0}, [4], 1))
    with pytest.warns(DraftWarning, match="number of a law" if broken == "no law" else "budget of 3"):
        got, _ = run(engine, Drawing(replacement=True, broken=broken), [4], options)
    plain = Options(20, verifier=verifier(engine, {"temperature": 1.0}, [4], 1))
    assert got == run(engine, PlainMethod(), [4], plain)[0]


def test_a_method_that_draws_may_look_tokens_up_as_well() -> None:
    """Trees without a law are walked along the target's own draws: the sample is that of plain decoding."""
    engine = ToyEngine(3, SIZE)

    class LooksUp(PlainMethod):
        q_kind = "full"

        def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
            return DraftTree.build([1, 2, 3], [-1, -1, 0])

    def options() -> Options:
        return Options(40, FixedBudget(3), verifier(engine, {"temperature": 1.0}, [4], 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        got, steps = run(engine, LooksUp(), [4], options())
    assert any(step.accepted for step in steps)
    assert got == run(engine, PlainMethod(), [4], options())[0]


def test_a_law_of_looked_up_tokens_is_refused() -> None:
    class Confused(Drawing):
        q_kind = "one_hot"

    with pytest.warns(DraftWarning, match="a law"):
        run(ToyEngine(3, SIZE), Confused(), [4], Options(5, FixedBudget(3)))

    class Unknown(PlainMethod):
        q_kind = "some"

    with pytest.raises(UsageError, match="q_kind"):
        run(ToyEngine(3, SIZE), Unknown(), [4], Options(5))


# the doors


@pytest.fixture
def toy() -> LanguageModel:
    return LanguageModel(ToyEngine(1, 257, eos_ids=(256,)), Bytes(), "toy")


def test_generate_takes_and_reports_a_seed(toy: LanguageModel) -> None:
    options: dict[str, Any] = {"chat": False, "max_new_tokens": 40, "temperature": 0.9}
    first = toy.generate("abc", **options)
    assert first.seed is not None
    plain = toy.generate("abc", method="none", **options, seed=first.seed)
    assert plain.token_ids == first.token_ids
    assert toy.generate("abc", **options).token_ids != first.token_ids
    assert toy.generate("abc", chat=False, max_new_tokens=4).seed is None
    with pytest.raises(UsageError, match="'temprature'"):
        toy.generate("abc", temprature=1.0)
    with pytest.raises(UsageError, match="top_p"):
        toy.generate("abc", top_p=2.0)


FAMILIES = ["llama", "gemma3", "mistral", "gpt2", "gpt-oss"]
PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    engine = HFEngine(tiny(name, dtype=torch.float64 if name not in TOLERANCE else torch.float32))
    for seed, settings in enumerate(SETTINGS[1::2]):
        expected, _ = run(engine, PlainMethod(), PROMPT, Options(24, verifier=verifier(engine, settings, PROMPT, seed)))
        for kind in ("OracleInATree", "OracleWithOneError"):
            drafter = HARMLESS[kind](VOCABULARY, PROMPT + expected, seed)
            options = Options(24, FixedBudget(9), verifier(engine, settings, PROMPT, seed))
            got, steps = run(engine, drafter, PROMPT, options)
            assert got == expected, (name, settings, kind)
            check_steps(steps, 24)


class Parity(t.LogitsProcessor):
    """Depends on the whole prefix: its length and its sum decide what is allowed."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, int(input_ids.sum() + input_ids.shape[1]) % 2 :: 2] = -torch.inf
        return scores


PROCESSORS: dict[str, dict[str, Any]] = {
    "none": {},
    "repetition": {"repetition_penalty": 1.3},
    "no repeated pairs": {"no_repeat_ngram_size": 2},
    "bad words": {"bad_words_ids": [[7], [9, 11]]},
    "minimum length": {"min_new_tokens": 25, "eos_token_id": [7, 60, 61, 33]},
    "bias": {"sequence_bias": {(10,): 2.0, (11, 12): -4.0}},
    "own": {"logits_processor": t.LogitsProcessorList([Parity()])},
    "filters": {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
    "typical": {"typical_p": 0.9},
    "decay": {"exponential_decay_length_penalty": (10, 1.2), "eos_token_id": [7, 8]},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_sampling_inside_generate(name: str) -> None:
    """The same torch seed gives the same sample with and without drafts; every processor sees its own prefix."""
    model, ids = tiny("llama"), torch.tensor([PROMPT])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 30, "do_sample": True, **PROCESSORS[name]}

    def sample(drafter: Method | str) -> list[int]:
        torch.manual_seed(3)
        out = model.generate(ids, **options, custom_generate=decode(drafter, budget=9))
        return [int(token) for token in out[0]]

    plain = sample("none")
    for kind in ("OracleInATree", "OracleWithOneError"):
        assert sample(HARMLESS[kind](VOCABULARY, plain, 1)) == plain
    assert sample("hierarchy") == plain
    torch.manual_seed(4)
    other = model.generate(ids, **options, custom_generate=decode("none"))[0].tolist()
    assert other != plain


def test_the_scores_of_a_sample_are_those_it_was_drawn_from() -> None:
    model, ids = tiny("llama"), torch.tensor([PROMPT])
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": True, "temperature": 0.7,
        "top_k": 9, "return_dict_in_generate": True, "output_scores": True, "output_logits": True,
    }  # fmt: skip
    torch.manual_seed(1)
    out = model.generate(ids, **options, custom_generate=decode(budget=6))
    said = out.sequences[0, len(PROMPT) :].tolist()
    assert len(out.scores) == len(out.logits) == len(said) == 12
    for token, scores, raw in zip(said, out.scores, out.logits, strict=True):
        assert int((scores > -torch.inf).sum()) == 9
        assert scores[0, token] == pytest.approx(float(raw[0, token]) / 0.7, rel=1e-5)


# a real model


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Any:
    return hierdraft.load(str(smollm2), engine="hf", dtype="float32", learn=False)


REAL_SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 40, "repetition_penalty": 1.1},
    {"temperature": 0.4, "min_p": 0.05},
]


@pytest.mark.model
@pytest.mark.parametrize("part", range(5 if os.environ.get("PROOFS") else 1))
def test_two_hundred_samples_of_a_real_model(model: Any, part: int) -> None:
    """40 runs a part, each with its own prompt, settings, seed and budget."""
    rows = builtin_prompts()
    for number in range(part * 40, part * 40 + 40):
        options: dict[str, Any] = {"max_new_tokens": 8, **REAL_SETTINGS[number % 4], "seed": number}
        prompt = rows[number % len(rows)]["prompt"][-100:]
        plain = model.generate(prompt, method="none", **options)
        drafted = model.generate(prompt, budget=(3, 8, 24)[number % 3], **options)
        assert drafted.token_ids == plain.token_ids, (number, options)
        assert drafted.text == plain.text


@pytest.mark.model
def test_processors_of_transformers_on_a_real_model(model: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": 24, "temperature": 0.8, "seed": 5, "processors": [Parity()]}
    plain = model.generate("List some fruits, twice.", method="none", **options)
    drafted = model.generate("List some fruits, twice.", budget=16, **options)
    assert drafted.token_ids == plain.token_ids
    prompt = plain.prompt_tokens
    assert prompt > 0
    assert len(set(plain.token_ids)) > 1
