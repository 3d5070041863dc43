"""Settings, rules against transformers' own processors, and the noise against a slow twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.tree import DraftLaw, DraftTree
from hierdraft.verify import rules
from hierdraft.verify.noise import DICE, RACE, KeyedDice, gumbel, race, stream
from hierdraft.verify.rejection import reject
from hierdraft.verify.sampling import Sampler, Sampling, softmax
from tests.distribution.exact import sparse
from tests.lossless.harness import fresh
from tests.lossless.tiny import tiny

V = 50
PREFIX = np.array([3, 7, 7, 12, 40, 3, 9], dtype=np.int32)


def scores(seed: int, size: int = V, *, ties: bool = False) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).normal(0, 4, size).astype(np.float32)
    return np.round(found) if ties else found


THEIRS: dict[str, tuple[Callable[[], rules.Rule], Callable[[], Any]]] = {
    "heat": (lambda: rules.heat(0.7), lambda: t.TemperatureLogitsWarper(0.7)),
    "top-k": (lambda: rules.keep_top_k(5), lambda: t.TopKLogitsWarper(5)),
    "top-k of everything": (lambda: rules.keep_top_k(V + 3), lambda: t.TopKLogitsWarper(V + 3)),
    "top-k of one": (lambda: rules.keep_top_k(1), lambda: t.TopKLogitsWarper(1)),
    "top-p": (lambda: rules.keep_top_p(0.8), lambda: t.TopPLogitsWarper(0.8)),
    "top-p, a little": (lambda: rules.keep_top_p(0.01), lambda: t.TopPLogitsWarper(0.01)),
    "top-p, nearly all": (lambda: rules.keep_top_p(0.999), lambda: t.TopPLogitsWarper(0.999)),
    "min-p": (lambda: rules.keep_min_p(0.1), lambda: t.MinPLogitsWarper(0.1)),
    "repetition": (lambda: rules.penalise_repetition(1.3), lambda: t.RepetitionPenaltyLogitsProcessor(1.3)),
    "ban": (lambda: rules.ban([4, 49]), lambda: t.SuppressTokensLogitsProcessor([4, 49])),
    "bias": (
        lambda: rules.bias_tokens({5: 2.5, 6: -1.0}),
        lambda: t.SequenceBiasLogitsProcessor([[[5], 2.5], [[6], -1.0]]),
    ),
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("seed", range(20))
def test_rules_are_those_of_transformers(name: str, seed: int) -> None:
    mine, make = THEIRS[name]
    # which of several equal tokens is the last that top-p keeps is not defined; whole numbers hide what fractions show
    ties = not name.startswith(("top-p", "repetition"))
    given_scores = scores(seed, ties=ties)
    theirs = make()(torch.tensor(PREFIX.astype(np.int64))[None], torch.tensor(given_scores)[None])[0].numpy()
    np.testing.assert_allclose(mine()(PREFIX, given_scores.copy()), theirs, rtol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.001, 1.0), st.integers(1, 3000))
@settings(max_examples=150, deadline=None)
def test_top_p_is_the_sorted_definition(seed: int, p: float, size: int) -> None:
    """Also where more tokens are needed than are sorted at first."""
    given_scores = scores(seed, size) * np.float32(0.2)
    kept = rules.keep_top_p(p)(PREFIX, given_scores.copy()) > -np.inf
    weights = np.exp(given_scores - given_scores.max(), dtype=np.float64)
    order = np.lexsort((np.arange(size), -weights))
    before = np.cumsum(weights[order]) - weights[order]
    expected = np.zeros(size, dtype=bool)
    expected[order[(before < p * weights.sum())]] = True
    assert (kept == expected).all()


@given(st.integers(0, 10_000), st.integers(1, 3000), st.integers(1, 3000))
@settings(max_examples=100, deadline=None)
def test_top_k_is_the_sorted_definition(seed: int, k: int, size: int) -> None:
    given_scores = scores(seed, size)
    kept = rules.keep_top_k(k)(PREFIX, given_scores.copy())
    least = np.sort(given_scores)[-min(k, size)]
    np.testing.assert_array_equal(kept, np.where(given_scores >= least, given_scores, -np.inf))


def test_filters_keep_what_lies_on_their_border() -> None:
    given_scores = np.array([2.0, 1.0, 2.0, 0.0])
    assert (rules.keep_min_p(1.0)(PREFIX, given_scores.copy()) > -np.inf).tolist() == [True, False, True, False]
    assert (rules.keep_top_k(2)(PREFIX, given_scores.copy()) > -np.inf).tolist() == [True, False, True, False]
    assert (rules.keep_top_k(1)(PREFIX, given_scores.copy()) > -np.inf).tolist() == [True, False, True, False]
    even = np.zeros(4)
    assert (rules.keep_top_p(0.5)(PREFIX, even.copy()) > -np.inf).tolist() == [True, True, False, False]
    assert (rules.keep_top_p(0.51)(PREFIX, even.copy()) > -np.inf).tolist() == [True, True, True, False]


def test_presence_and_frequency_count_the_output_only() -> None:
    rule = rules.penalise_presence(0.5, 0.25, prompt_length=2)
    found = rule(PREFIX, np.zeros(V, dtype=np.float32))
    expected = np.zeros(V, dtype=np.float32)
    expected[[7, 12, 40, 3, 9]] = -0.75
    assert found.tolist() == expected.tolist()
    again = rule(np.append(PREFIX, [3, 3]).astype(np.int32), np.zeros(V, dtype=np.float32))
    assert again[3] == -(0.5 + 3 * 0.25)


def test_rules_come_in_the_order_of_transformers() -> None:
    """Penalties, then temperature, then the filters: any other order keeps other tokens."""
    chosen = Sampling(temperature=0.5, top_k=9, top_p=0.7, min_p=0.02, repetition_penalty=1.4, seed=1)
    shown: list[Any] = []

    def capture(model: Any, input_ids: Any, logits_processor: Any, *_: Any, **__: Any) -> Any:
        shown.append(logits_processor)
        return input_ids

    ids = torch.tensor([PREFIX.tolist()])
    tiny("llama").generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.5, top_k=9, top_p=0.7, min_p=0.02,
        repetition_penalty=1.4, max_new_tokens=9, custom_generate=capture,
    )  # fmt: skip
    theirs = shown[0]
    assert len(theirs) == 5
    for seed in range(30):
        ours = scores(seed)
        expected = theirs(torch.tensor(PREFIX.astype(np.int64))[None], torch.tensor(ours.copy())[None])[0].numpy()
        for rule in (*chosen.penalties(1), *chosen.filters()):
            ours = rule(PREFIX, ours)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", "1"),
        ("top_k", -1), ("top_k", 1.5), ("top_p", 0.0), ("top_p", 1.1), ("min_p", -0.1), ("min_p", 2),
        ("repetition_penalty", 0), ("presence_penalty", float("inf")), ("frequency_penalty", None),
        ("seed", -1), ("seed", 1 << 64), ("seed", 1.0), ("seed", True), ("temperature", True),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Sampling(**{name: value}).check(V)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": -1}, "temperature must be a number of at least 0, not -1."),
        ({"top_k": -1}, "top_k must be a whole number of at least 0, not -1."),
        ({"top_p": 2}, "top_p must be above 0 and at most 1, not 2."),
        ({"min_p": 2}, "min_p must be from 0 to 1, not 2."),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, not 0."),
        ({"presence_penalty": "a"}, "presence_penalty must be a number, not 'a'."),
        ({"frequency_penalty": "a"}, "frequency_penalty must be a number, not 'a'."),
        ({"seed": -1}, "seed must be from 0 to 2^64 - 1, not -1."),
        ({"logit_bias": {1: "a"}}, "logit_bias must give a finite number for each token id."),
        ({"banned": [V]}, f"Token id {V} of logit_bias or banned is outside the vocabulary of {V}."),
    ],
)
def test_what_is_said_about_wrong_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        Sampling(**settings).check(V)
    assert str(told.value) == sentence


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"logit_bias": {3: 2.0}}, {3: 2.0}),
        ({"presence_penalty": 0.5}, {12: -0.5, 9: -0.5}),
        ({"frequency_penalty": 0.5}, {12: -0.5, 9: -1.0}),
        ({"presence_penalty": 0.25, "frequency_penalty": 0.5}, {12: -0.75, 9: -1.25}),
        ({"banned": [4, 5]}, {4: -np.inf, 5: -np.inf}),
        ({"repetition_penalty": 2.0}, {12: 0.5, 9: 0.5, 3: 0.5}),
    ],
)
def test_each_setting_reaches_its_rule(settings: dict[str, Any], changed: dict[int, float]) -> None:
    start = 1.0 if "repetition_penalty" in settings else 0.0
    found = np.full(V, start)
    for rule in Sampling(**settings).penalties(prompt_length=1):
        found = rule(np.array([3, 9, 12, 9], dtype=np.int32), found)
    expected = np.full(V, start)
    for token, value in changed.items():
        expected[token] = value
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("wrong", [{"banned": [V]}, {"banned": [-1]}, {"logit_bias": {V: 1.0}}, {"banned": ["a"]}])
def test_ids_outside_the_vocabulary_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="vocabulary"):
        Sampling(**wrong).check(V)
    with pytest.raises(UsageError, match="logit_bias"):
        Sampling(logit_bias={3: float("nan")}).check(V)


def test_limits_of_the_settings_are_allowed() -> None:
    Sampling(temperature=0, top_k=0, top_p=1, min_p=0, seed=0).check(V)
    Sampling(temperature=9.5, top_p=0.01, min_p=1, seed=(1 << 64) - 1, banned=[0, V - 1], logit_bias={0: -1}).check(V)


def test_greedy_needs_no_rules_and_no_seed() -> None:
    assert Sampling(top_k=5, top_p=0.5, min_p=0.1).filters() == []
    assert Sampling().penalties(3) == []
    assert Sampling().seeded().seed is None
    assert Sampling(temperature=1.0).filters() == []
    assert len(Sampling(temperature=0.9, top_k=1, top_p=0.9, min_p=0.1).filters()) == 4


def test_a_seed_is_made_up_once_and_kept() -> None:
    seeds = {Sampling(temperature=1.0).seeded().seed for _ in range(20)}
    assert len(seeds) == 20
    assert None not in seeds
    assert Sampling(temperature=1.0, seed=0).seeded().seed == 0


def test_a_made_up_seed_fits_a_signed_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbits", lambda bits: bits)
    assert Sampling(temperature=1.0).seeded().seed == 63


# noise


@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000), st.integers(0, 2000))
@settings(max_examples=200, deadline=None)
def test_the_race_is_won_by_the_highest_noisy_score(seed: int, position: int, salt: int) -> None:
    given_scores = scores(salt, 300)
    given_scores[salt % 7 :: 7] = -np.inf
    noisy = given_scores.astype(np.float64) + gumbel(seed, position, 300)
    assert race(given_scores, seed, position) == int(noisy.argmax())
    assert race(given_scores.astype(np.float64), seed, position) == int(noisy.argmax())


def test_equal_scores_without_noise_cannot_be_told_apart_by_order() -> None:
    won = [race(np.zeros(4), seed, 0) for seed in range(4000)]
    assert all(900 < won.count(token) < 1100 for token in range(4))


def test_the_noise_is_that_of_the_definition() -> None:
    """SplitMix64's published outputs, and a hand-made stream."""
    mask = (1 << 64) - 1

    def splitmix(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    assert splitmix(1234567) == 6457827717110365317  # the reference implementation's first output for this seed
    state = 0
    for part in (11, 5, RACE):
        state = splitmix(state ^ part)
    assert int(stream(11, 5, RACE)) == state
    uniform = ((splitmix(state) >> 11) + 0.5) * 2.0**-53
    assert gumbel(11, 5, 1)[0] == pytest.approx(-np.log(-np.log1p(-uniform)), rel=1e-12)


def test_noise_differs_between_seeds_positions_tokens_and_uses() -> None:
    streams = {int(stream(seed, place, use)) for seed in range(20) for place in range(20) for use in (RACE, DICE)}
    assert len(streams) == 800
    assert len(set(gumbel(3, 4, 1000).tolist())) == 1000


def test_gumbel_noise_has_its_distribution() -> None:
    noise = np.concatenate([gumbel(seed, 7, 500) for seed in range(200)])
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.04)
    across = np.array([gumbel(9, place, 2) for place in range(20_000)])
    assert abs(np.corrcoef(across[:, 0], across[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(across[:-1, 0], across[1:, 0])[0, 1]) < 0.03


def test_a_race_without_runners_is_refused() -> None:
    with pytest.raises(UsageError, match="position 4"):
        race(np.full(5, -np.inf), 1, 4)


def test_dice_follow_their_laws_and_their_key() -> None:
    dice = [KeyedDice(seed, 3) for seed in range(8000)]
    assert np.mean([one.accept(0.3) for one in dice]) == pytest.approx(0.3, abs=0.02)
    law = np.array([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = [one.draw(law) for one in dice]
    assert np.bincount(drawn, minlength=6) / 8000 == pytest.approx(law, abs=0.02)
    first, again = KeyedDice(5, 9), KeyedDice(5, 9)
    assert [first.draw(law) for _ in range(50)] == [again.draw(law) for _ in range(50)]
    assert [one.accept(1.0) for one in dice[:200]] == [True] * 200
    assert not any(one.accept(0.0) for one in dice[:200])


def test_the_decisions_of_one_step_are_a_stream() -> None:
    """The n-th decision takes the n-th uniform after the start, so no two of them are tied to each other."""
    mask = (1 << 64) - 1

    def splitmix(state: int) -> int:
        z = state & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    start = int(stream(8, 5, DICE))
    dice = KeyedDice(8, 5)
    for number in (2, 3, 4, 5):
        uniform = ((splitmix(start + number * 0x9E3779B97F4A7C15) >> 11) + 0.5) * 2.0**-53
        assert dice._next() == pytest.approx(uniform, rel=1e-15)


def test_dice_draw_from_laws_of_any_sum() -> None:
    law = np.array([1.0, 0.0, 3.0])
    drawn = [KeyedDice(seed, 1).draw(law) for seed in range(4000)]
    assert np.bincount(drawn) / 4000 == pytest.approx(law / 4, abs=0.03)


def test_dice_never_draw_what_is_impossible() -> None:
    class Last(KeyedDice):
        def _next(self) -> float:
            return 1.0 - 2.0**-60  # rounds to 1

    assert Last(0, 0).draw(np.array([0.5, 0.5, 0.0, 0.0])) == 1


# the verifiers on hand-worked trees


TREE = DraftTree.build([5, 6, 7], [-1, -1, 0])


def sampler(rows: list[dict[int, float]], applied: list[rules.Rule] | None = None, seed: int | None = None) -> Sampler:
    """A sampler over logits that are 0 but for a few."""

    def values(logits: Any, row: int) -> NDArray[np.float64]:
        found = np.zeros(V)
        for token, score in rows[row].items():
            found[token] = score
        return found

    return Sampler(values, applied or [], seed)


NOTHING = np.zeros(4, dtype=np.int32)


def test_processed_scores_decide_greedily() -> None:
    one = sampler([{5: 2.0, 6: 1.0}, {7: 1.0}, {9: 1.0}, {8: 1.0}])
    assert one.verify(None, TREE, PREFIX, NOTHING).tokens == [5, 7, 8]
    banned = sampler([{5: 2.0, 6: 1.0}, {7: 1.0}, {9: 1.0}, {8: 1.0}], [rules.ban([5])])
    verdict = banned.verify(None, TREE, PREFIX, NOTHING)
    assert (verdict.path, verdict.tokens) == ([1], [6, 9])


def test_each_row_is_processed_with_its_own_prefix() -> None:
    seen: list[list[int]] = []

    def note(prefix: Any, found: Any) -> Any:
        seen.append(prefix.tolist())
        return found

    sampler([{5: 1.0}, {7: 1.0}, {}, {8: 1.0}], [note]).verify(None, TREE, PREFIX, NOTHING)
    start = PREFIX.tolist()
    assert seen == [start, [*start, 5], [*start, 5, 7]]
    seen.clear()
    sampler([{6: 1.0}, {}, {2: 1.0}, {}], [note]).verify(None, TREE, PREFIX, NOTHING)
    assert seen == [start, [*start, 6]]


def test_the_same_position_draws_the_same_token_on_any_path() -> None:
    """With equal logits everywhere, what is drawn at a place does not depend on what was drafted."""
    flat: list[dict[int, float]] = [{} for _ in range(4)]
    plain = [race(np.zeros(V), 42, len(PREFIX) + i) for i in range(3)]
    for tree in (DraftTree.empty(), TREE, DraftTree.chain(plain[:2]), DraftTree.build([plain[0]] * 2, [-1, -1])):
        said = sampler(flat, seed=42).verify(None, tree, PREFIX, NOTHING).tokens
        assert said == plain[: len(said)]
    assert len(sampler(flat, seed=42).verify(None, DraftTree.chain(plain[:2]), PREFIX, NOTHING).path) == 2


def test_nothing_left_to_choose_is_said() -> None:
    for seed in (None, 3):
        with pytest.raises(UsageError, match=f"position {len(PREFIX)}"):
            sampler([{}] * 4, [rules.ban(range(V))], seed).verify(None, TREE, PREFIX, NOTHING)
    with np.errstate(all="raise"):
        everything = np.full(V, -np.inf, dtype=np.float32)
        assert (rules.keep_top_p(0.5)(PREFIX, everything.copy()) == -np.inf).all()
        assert (rules.keep_min_p(0.5)(PREFIX, everything.copy()) == -np.inf).all()


def test_drawn_drafts_go_through_rejection_only_when_tokens_are_drawn() -> None:
    law = DraftLaw(np.array([5, 6], dtype=np.int32), np.array([0.5, 0.5]))
    drawn = DraftTree.build([5, 6], [-1, -1], group=0, laws=[law])
    sure: list[dict[int, float]] = [{5: 500.0}, {8: 500.0}, {9: 500.0}]
    for seed in (None, 7):
        verdict = sampler(sure, seed=seed).verify(None, drawn, PREFIX, NOTHING)
        assert (verdict.path, verdict.tokens) == ([0], [5, 8])


def test_rejection_by_hand() -> None:
    """p = (.6 .3 .1), q = (.2 .7 .1): 1 is accepted with 3/7; then what is left is (1, 0, 0)."""
    asked: list[float] = []

    class Scripted:
        def __init__(self, *answers: bool) -> None:
            self.answers = list(answers)

        def accept(self, probability: float) -> bool:
            asked.append(probability)
            return self.answers.pop(0)

        def draw(self, law: NDArray[np.float64]) -> int:
            drawn.append(law.tolist())
            return int(law.argmax())

    drawn: list[list[float]] = []
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.7, 0.1])
    tree = DraftTree.build([1, 2], [-1, -1], group=0, laws=[sparse(q)])
    verdict = reject(tree, lambda row: p, Scripted(False, False))
    assert (verdict.path, verdict.tokens) == ([], [0])
    assert asked == pytest.approx([0.3 / 0.7, 0.0])
    assert drawn[0] == pytest.approx([1.0, 0.0, 0.0])
    asked.clear()
    assert reject(tree, lambda row: p, Scripted(True)).path == [0]
    same = DraftTree.build([1], [-1], group=0, laws=[sparse(p)])
    drawn.clear()
    assert reject(same, lambda row: p, Scripted(False)).tokens == [0]  # only rounding could bring this about
    assert drawn == [p.tolist()]
    probes = DraftTree.build([1], [-1], probe=True, laws=[sparse(p)])
    assert reject(probes, lambda row: p, Scripted()).path == []


def test_softmax() -> None:
    assert softmax(np.array([800.0, 800.0])) == pytest.approx([0.5, 0.5])
    law = softmax(np.array([0.0, np.log(3.0), -np.inf, 700.0]) - 700.0)
    assert law == pytest.approx([0, 0, 0, 1.0])
    assert softmax(np.array([0.0, np.log(3.0), -np.inf], dtype=np.float32)) == pytest.approx([0.25, 0.75, 0.0])


# laws of drawn trees


HALF = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (DraftTree.build([1], [-1], group=0), "number of a law"),
        (DraftTree.build([1], [-1], group=-2, laws=[sparse(np.ones(1))]), "number of a law"),
        (DraftTree.build([1], [-1], group=0, laws=[sparse(np.full(4, 0.25))]), "vocabulary of 3"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.array([-1, 1], dtype=np.int32), HALF)]), "vocabulary"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.array([1, 0], dtype=np.int32), HALF)]), "ascends"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.array([1, 1], dtype=np.int32), HALF)]), "ascends"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.array([0, 1]), HALF)]), "int32"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.zeros(0, dtype=np.int32), HALF[:0])]), "ascends"),
        (DraftTree.build([1], [-1], group=0, laws=[DraftLaw(np.array([1], dtype=np.int32), HALF)]), "one for each id"),
        (DraftTree.build([1], [-1], group=0, laws=[sparse(np.full(3, 0.25))]), "sum to 1"),
        (DraftTree.build([1], [-1], group=0, laws=[sparse(np.array([0.5, 0.7, -0.2]))]), "positive"),
        (DraftTree.build([1], [-1], group=0, laws=[sparse(np.array([1.0, 0.0, 0.0]))]), "could not have been drawn"),
        (DraftTree.build([2], [-1], group=0, laws=[sparse(np.array([1.0, 0.0, 0.0]))]), "could not have been drawn"),
        (DraftTree.build([1, 1], [-1, -1], group=0, laws=[sparse(np.full(3, 1 / 3))]), "drawn twice"),
        (DraftTree.build([1, 2], [-1, 0], group=0, laws=[sparse(np.full(3, 1 / 3))]), "one parent"),
        (DraftTree.build([1], [-1], probe=True, group=0, laws=[sparse(np.full(3, 1 / 3))]), "probe"),
    ],
)
def test_wrong_laws_are_refused(tree: DraftTree, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tree.check(3)


def test_laws_follow_their_nodes() -> None:
    laws = [sparse(np.eye(3)[token]) for token in range(3)]
    tree = DraftTree.build([0, 1, 2, 2, 1], [-1, 0, 1, 0, 0], group=[0, 1, 2, -1, -1], laws=laws)
    tree.check(3)
    kept = tree.only(np.array([True, False, False, True, True]))
    assert kept.laws == (laws[0],)
    assert kept.group.tolist() == [0, -1, -1]
    assert kept.parents.tolist() == [-1, 0, 0]
    kept.check(3)
    assert tree.prefix(3).laws == tuple(laws)
    assert tree.limited(2).laws == tuple(laws[:2])
    assert tree.limited(2).group.tolist() == [0, 1, -1, -1]
    assert tree.bounded(2, 0).group.tolist() == [0, 1]
    again = DraftTree.build([0, 1], [-1, -1], group=[1, 0], laws=laws[:2]).only(np.array([False, True]))
    assert (again.laws, again.group.tolist(), again.drawn) == ((laws[0],), [0], True)
    looked_up = DraftTree.build([0, 1], [-1, -1], group=[-1, 0], laws=[laws[1]]).prefix(1)
    assert (looked_up.laws, looked_up.group.tolist(), looked_up.drawn) == ((), [-1], False)


def test_the_toy_engine_hands_out_copies() -> None:
    engine = ToyEngine(1)
    logits = fresh(engine, [1, 2, 3])
    engine.values(logits, 0)[:] = 0
    assert np.abs(engine.values(logits, 0)).sum() > 0
