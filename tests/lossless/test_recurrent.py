"""Models with recurrent states: chains are verified behind copies of the states, and the text is plain generate's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.decoding.loop import Options, decode, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.again import MOST
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.chains import Chains, StateSequence
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.errors import DraftWarning, UnsupportedModelError, UsageError
from hierdraft.protocols import Part, Wants
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS, REAL
from tests.lossless.harness import check_every_drafter, check_steps, fresh, opened, run
from tests.lossless.tiny import RECURRENT, SEVERAL_RECURRENT, VOCABULARY, reference, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*keeps recurrent states:RuntimeWarning")

TOKENS = 50_000 if os.environ.get("PROOFS") else 1_000
"""Compared by the sweep, over all families."""

ALONE = ("jamba", "mamba")
"""Begin with empty states where they are given several rows, so that their rows are scored one after another."""

SHARE = {name: (0.02 if name in ALONE else 0.96 / (len(RECURRENT) - len(ALONE))) for name in RECURRENT}
"""Of what is compared: forwards of one row are slow, and plain decoding knows no others."""

LONG = (np.random.default_rng(1).integers(3, VOCABULARY, 140)).tolist()
PROMPT = LONG[:30]
NOTHING = DraftTree.empty()

_ENGINES: dict[str, HFEngine] = {}


@pytest.fixture(autouse=True, scope="module")
def _engines() -> Iterator[None]:
    yield
    _ENGINES.clear()


def engine_of(name: str) -> HFEngine:
    """One for all tests: whatever one leaves behind must not matter to the next."""
    if name not in _ENGINES:
        _ENGINES[name] = HFEngine(tiny(name))
    return _ENGINES[name]


def same(ours: Any, theirs: Any, allowed: float = 1e-3) -> None:
    """Scans are computed in float32 whatever the model's number type, in chunks that begin where a forward begins."""
    torch.testing.assert_close(ours, theirs, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("name", RECURRENT)
def test_every_family_with_every_drafter(name: str) -> None:
    engine, prompt = engine_of(name), PROMPT if name in ALONE else LONG[:66]
    truth = reference(engine.model, prompt, 12 if name in ALONE else 25)
    check_every_drafter(engine, prompt, truth, VOCABULARY)
    drafted = HARMLESS["Oracle"](VOCABULARY, prompt + truth, 7)
    assert len(run(engine, drafted, prompt, Options(len(truth), budget=FixedBudget(9)))[1]) < len(truth) / 4 + 3


@pytest.mark.parametrize("name", RECURRENT)
def test_which_models_score_rows_together(name: str) -> None:
    assert engine_of(name).chains.together == (name not in ALONE)


def sampler(engine: HFEngine, seed: int | None) -> dict[str, Any]:
    if seed is None:
        return {}
    sampling = Sampling(temperature=0.8, seed=seed)
    return {"verifier": Sampler(engine.values, sampling.filters(), seed)}


@pytest.mark.parametrize("name", SEVERAL_RECURRENT)
def test_random_prompts_drafters_and_seeds(name: str) -> None:
    """Past the boundaries of chunks and windows, greedy against `generate`, sampled against the same seed undrafted."""
    engine, rng, compared = engine_of(name), np.random.default_rng(3), 0
    while compared < TOKENS * SHARE[name]:
        prompt = rng.integers(3, VOCABULARY, int(rng.integers(1, 100))).tolist()
        limit, seed = (
            int(rng.integers(1, 15 if name in ALONE else 70)),
            int(rng.integers(99)) if rng.random() < 0.4 else None,
        )
        if seed is None:
            truth = reference(engine.model, prompt, limit)
        else:
            truth, _ = run(engine, PlainMethod(), prompt, Options(limit, FixedBudget(0), **sampler(engine, seed)))
        for kind in ("OracleWithOneError", "OracleInATree", "ChangesBetweenCalls"):
            method = HARMLESS[kind](VOCABULARY, prompt + truth, int(rng.integers(99)))
            options = Options(limit, FixedBudget(int(rng.integers(1, 12))), **sampler(engine, seed))
            assert run(engine, method, prompt, options)[0] == truth
            compared += len(truth)


@pytest.mark.parametrize("name", SEVERAL_RECURRENT)
def test_sequences_are_told_anything_in_any_order(name: str) -> None:
    """Random texts, chains, acceptances and rewinds: every row is that of its text read from the beginning."""
    engine, rng = engine_of(name), np.random.default_rng(5)
    sequence, text = engine.open(), list[int]()
    lengths = set[int]()
    for _ in range(12 if name in ALONE else 30):
        more = rng.integers(3, VOCABULARY, int(rng.integers(1, 12))).tolist()
        chain = rng.integers(3, VOCABULARY, int(rng.integers(0, 9))).tolist()
        text += more
        held = sequence.length
        told = np.array(text[held:], dtype=np.int32)
        rows = int(rng.integers(1, len(told) + 1))
        logits = engine.forward([Part(sequence, told, DraftTree.chain(chain), rows)])[0].logits
        same(logits, fresh(engine, text + chain, rows + len(chain)))
        kept = int(rng.choice([0, len(chain), int(rng.integers(0, len(chain) + 1))]))
        if rng.random() < 0.8:
            sequence.commit(list(range(kept)))
            assert sequence.length == (len(text) + kept if kept == len(chain) else held)
            text += chain[:kept]
        elif chain:
            assert sequence.length == held
        if rng.random() < 0.25 and text:
            back = int(rng.integers(max(0, len(text) - 14), len(text)))
            del text[back:]
            if sequence.length > back:
                sequence.rewind(back)
        lengths.add(len(text) - sequence.length)
        assert sequence.length <= len(text)
        if len(text) > 120:
            sequence, text = engine.open(), []
    assert len(lengths) > 3


@pytest.mark.parametrize("name", ["qwen3.5", "mamba2", "falcon-h1"])
def test_rewinding(name: str) -> None:
    engine = engine_of(name)
    sequence = engine.open()
    sequence.prefill(LONG[:40])
    sequence.prefill(LONG[40:45])
    with pytest.raises(ValueError, match="cannot rewind from 45 to 46"):
        sequence.rewind(46)
    sequence.rewind(42)
    assert sequence.length == 40, "there are states of 40 tokens"
    same(sequence.prefill(LONG[40:50]), fresh(engine, LONG[:50]))
    sequence.rewind(7)
    assert sequence.length == 0
    same(sequence.prefill(LONG[:20]), fresh(engine, LONG[:20]))


class Interrupted(Exception):  # noqa: N818
    """Of a forward that fails."""


@pytest.mark.parametrize("name", SEVERAL_RECURRENT)
@pytest.mark.parametrize("begun", [False, True])
def test_a_forward_that_raises_leaves_everything_as_it_was(name: str, begun: bool) -> None:
    engine = HFEngine(tiny(name))
    first, second = engine.open(), engine.open()
    length = 0
    if begun:
        length = 9
        engine.forward([Part(one, np.array(LONG[:9], dtype=np.int32), NOTHING) for one in (first, second)])
    calls = [0]

    def fail(*_: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise Interrupted

    handle = engine.layers._layers[-1].register_forward_pre_hook(fail)
    parts = [
        Part(one, np.array(LONG[length : length + 3], dtype=np.int32), DraftTree.chain([5, 6]))
        for one in (first, second)
    ]
    with pytest.raises(Interrupted):
        engine.forward(parts)
    handle.remove()
    assert [one.length for one in (first, second)] == [length, length]
    for one in (first, second):
        same(one.prefill(LONG[length:20]), fresh(engine, LONG[:20]))


@pytest.mark.parametrize("name", ["lfm2", "granite-hybrid", "mamba2"])
@pytest.mark.parametrize("most", [1, 4])
def test_requests_beside_each_other(name: str, most: int) -> None:
    engine, rng = engine_of(name), np.random.default_rng(most)
    prompts = [rng.integers(3, VOCABULARY, int(rng.integers(1, 80))).tolist() for _ in range(4)]
    truths = [reference(engine.model, prompt, 30) for prompt in prompts]
    scheduler, flying, compared, come = Scheduler(engine, most=most), dict[Ticket, list[int]](), 0, 0
    scheduler._chunk = lambda writing: 11 + writing  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        while come < 7 or flying:
            if come < 7 and rng.random() < 0.4:
                come += 1
                number = int(rng.integers(len(prompts)))
                method = HARMLESS[str(rng.choice([*HARMLESS]))](VOCABULARY, prompts[number] + truths[number], come)
                options = Options(int(rng.integers(1, 31)), FixedBudget(int(rng.integers(0, 10))))
                ticket = Ticket(open_request(engine, method, prompts[number], options))
                scheduler.add(ticket)
                flying[ticket] = truths[number][: options.limit]
            chosen = {ticket for ticket in flying if rng.random() < 0.9}
            scheduler.step(lambda ticket, chosen=chosen: ticket in chosen)
            if flying and rng.random() < 0.03:
                scheduler.end([*flying][int(rng.integers(len(flying)))], None)
            for ticket in [ticket for ticket in flying if ticket.over]:
                truth = flying.pop(ticket)
                got = [token for step in ticket.steps for token in step.tokens]
                assert ticket.error is None
                assert got == (truth if ticket.steps and ticket.steps[-1].finish else truth[: len(got)])
                compared += len(got)
    assert compared > 50


def test_what_is_scored_again_is_bounded() -> None:
    """A drafter whose chains are never accepted as a whole: without costs a plain step comes when there is much."""
    engine = engine_of("lfm2")
    truth = reference(engine.model, PROMPT, 160)
    sequences = opened(engine)
    try:
        behind = []

        class Half(HARMLESS["Oracle"]):  # type: ignore[misc]
            def propose(self, tokens: Any, budget: Any) -> DraftTree:
                behind.append(len(tokens) - 1 - sequences[-1].length)
                return DraftTree.chain([*self._ahead(tokens, budget)[:2], 0])

        drafter = Half(VOCABULARY, PROMPT + truth, 0)
        got, steps = run(engine, drafter, PROMPT, Options(160, budget=FixedBudget(3)))
    finally:
        del engine.open
    assert got == truth
    assert max(behind) == MOST - MOST % 3
    plain = [step for step in steps[1:-1] if len(step.tree) == 0]
    assert len(plain) == 160 // (MOST + 3)


def test_plain_steps_come_sooner_where_rows_are_dear() -> None:
    engine = HFEngine(tiny("lfm2"))
    truth = reference(engine.model, PROMPT, 90)
    engine.cost = lambda rows, plain=1: 1.0 + 0.05 * rows  # type: ignore[method-assign]
    truth_and_noise = [token if place % 4 else 0 for place, token in enumerate(PROMPT + truth)]
    drafter = HARMLESS["Oracle"](VOCABULARY, truth_and_noise, 0)
    got, steps = run(engine, drafter, PROMPT, Options(90, budget=FixedBudget(6)))
    assert got == truth
    rows = [len(step.tree) for step in steps[1:-1]]
    assert 0 in rows
    assert len([count for count in rows if count == 0]) > len(rows) / 8


@pytest.mark.parametrize("name", SEVERAL_RECURRENT)
def test_float32_and_packed_weights_say_the_same(name: str) -> None:
    model, limit = tiny(name, dtype=torch.float32), 12 if name in ALONE else 30
    truth = reference(model, PROMPT, limit)
    assert make_lean(model)
    engine = HFEngine(model)
    for kind in ("OracleWithOneError", "RandomTree"):
        drafter = HARMLESS[kind](VOCABULARY, PROMPT + truth, 7)
        assert run(engine, drafter, PROMPT, Options(limit, budget=FixedBudget(8)))[0] == truth


def test_the_end_of_a_sequence_inside_a_chain() -> None:
    engine = HFEngine(tiny("qwen3.5"))
    truth = reference(engine.model, PROMPT, 40)
    for end in (3, 17, 24):
        engine.eos_ids = (truth[end],)
        wanted = truth[: truth.index(truth[end]) + 1]
        for kind in ("Oracle", "EosEverywhere"):
            drafter = HARMLESS[kind](VOCABULARY, [*PROMPT, *truth, *[1] * 40], 0)
            got, steps = run(engine, drafter, PROMPT, Options(40, budget=FixedBudget(9)))
            assert got == wanted
            assert steps[-1].finish == "eos"


def test_what_is_not_offered_is_refused_by_name() -> None:
    engine = engine_of("qwen3-next")
    sequence = engine.open()
    sequence.prefill(PROMPT)
    token = np.array([5], dtype=np.int32)
    with pytest.raises(UsageError, match="a tree must have one branch"):
        engine.forward([Part(sequence, token, DraftTree.build([5, 6], [-1, -1]))])
    with pytest.raises(UsageError, match="shows no hidden states"):
        engine.forward([Part(sequence, token, NOTHING, hidden=(1,))])
    with pytest.raises(UsageError, match="a part must have tokens"):
        sequence.extend(DraftTree.chain([5]))
    with pytest.raises(UnsupportedModelError, match="Qwen3NextForCausalLM keeps recurrent states: its layers"):
        engine.forward_layers(Part(sequence, token, NOTHING), 0, 1)

    class ReadsHidden(PlainMethod):
        wants = Wants(hidden=(1,))

    with pytest.raises(UsageError, match="reads hidden states"):
        decode(engine, ReadsHidden(), PROMPT, Options(4))
    assert sequence.length == len(PROMPT)


def test_windows_beside_states_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("falcon-h1")
    monkeypatch.setattr(type(model.config), "layers_block_type", ["hybrid_sliding"] * 4)
    model.config.sliding_window = 12
    with pytest.raises(UnsupportedModelError, match="FalconH1ForCausalLM has a layer with a cache of kind Linear"):
        HFEngine(model)


class Forgets(t.Lfm2ForCausalLM):
    """Begins with empty states at every forward, of one row too."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        for layer in getattr(past_key_values, "layers", ()):
            if hasattr(layer, "has_previous_state"):
                layer.has_previous_state = dict.fromkeys(layer.has_previous_state, False)
        return super().forward(*args, past_key_values=past_key_values, **kwargs)


def test_a_model_that_does_not_continue_its_text_is_refused_by_name() -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match="Forgets does not continue a text from its states"):
        HFEngine(Forgets(RECURRENT["lfm2"]()).eval())


class Quiet(t.JambaForCausalLM):
    """States whose part in the logits drowns in those of everything else."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            if hasattr(layer, "mamba"):
                layer.mamba.out_proj.weight.data.mul_(1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_empty_states_are_found_out_even_where_they_are_not_heard(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    engine = HFEngine(Quiet(RECURRENT["jamba"]()).to(dtype).eval())
    assert engine.chains is not None
    assert not engine.chains.together


def test_one_sentence_tells_what_that_means() -> None:
    with pytest.warns(RuntimeWarning, match="Lfm2ForCausalLM keeps recurrent states: of every draft tree"):
        engine = HFEngine(tiny("lfm2"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(engine, HARMLESS["RandomTree"](VOCABULARY, [], 1), PROMPT, Options(9, budget=FixedBudget(5)))
    with pytest.warns(RuntimeWarning, match="one row at a time after others"):
        HFEngine(tiny("mamba"))


def test_the_model_is_never_changed() -> None:
    model = tiny("qwen3.5")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = model.config.to_json_string()
    engine = HFEngine(model)
    run(engine, HARMLESS["RandomTree"](VOCABULARY, [], 1), PROMPT, Options(9, budget=FixedBudget(5)))
    assert model.config.to_json_string() == config
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_without_states_are_what_they_were() -> None:
    engine = HFEngine(tiny("llama"))
    assert Chains.of(engine.model) is None
    assert engine.offers.trees
    assert not isinstance(engine.open(), StateSequence)


@pytest.mark.parametrize("name", [name for name in REAL if "model" not in name and "head" not in name])
def test_every_method_of_the_product(name: str) -> None:
    """With the automatic budget, whose costs make rows cheap or dear, and with a fixed one."""
    engine = engine_of("lfm2")
    truth = reference(engine.model, PROMPT, 30)
    method = REAL[name]()
    for law, slope in ((FixedBudget(8), 0.0), (AutoBudget(), 0.1)):
        engine.cost = lambda rows, plain=1, slope=slope: 1.0 + slope * rows  # type: ignore[method-assign]
        try:
            got, steps = run(engine, method, PROMPT, Options(30, budget=law))
        finally:
            del engine.cost
        assert got == truth
        check_steps(steps, 30)


def test_measured_costs_feed_the_budget() -> None:
    for name in ("lfm2", "mamba"):
        engine = HFEngine(tiny(name))
        sizes = engine.measure_costs().as_dict()
        assert set(sizes) == ({1, 2, 4, 8, 16, 32, 64} if name == "lfm2" else {1, 2})
        assert engine.cost(9, 9) > engine.cost(1) > 0.0
        truth = reference(engine.model, PROMPT, 30)
        got, steps = run(engine, HARMLESS["Oracle"](VOCABULARY, PROMPT + truth, 0), PROMPT, Options(30, AutoBudget()))
        assert got == truth
        assert name != "mamba" or len(steps) == 30, "drafts that save no call are not made"


def test_openvino_says_who_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from hierdraft.models.convert import convert_folder

    tiny("lfm2", dtype=torch.float32).save_pretrained(tmp_path)
    with pytest.raises(
        UnsupportedModelError, match="Lfm2ForCausalLM keeps recurrent states, which run on transformers"
    ):
        convert_folder(tmp_path, "float32", tmp_path / "graph")
