"""Forwards of fixed sizes say what others say. Here they are only run again; `test_cuda.py` captures them as graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf import graphs
from hierdraft.engines.hf.engine import HFEngine, HFSequence
from hierdraft.engines.hf.lean import make_lean
from hierdraft.engines.hf.together import calls
from hierdraft.errors import DraftWarning, SlowerWarning
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import check_every_drafter, fresh, run
from tests.lossless.test_batches import LONGEST, random_steps, tree_of
from tests.lossless.test_transformers import LIMIT, PROMPT, check_cache
from tests.lossless.tiny import CONFIGS, SEVERAL, VOCABULARY, WINDOW, assert_same, reference, tiny

NOTHING = DraftTree.empty()
LAST, ELEVEN = (np.array([token], dtype=np.int32) for token in (5, 11))


def again(_: torch.device) -> graphs.Capture:
    """Captures nothing: a replay runs the forward again."""
    return lambda forward: forward


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Widths that tiny texts cross, and no warnings that nobody expects."""
    monkeypatch.setattr(graphs, "_NARROWEST", 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowerWarning)
        yield


def captured(engine: HFEngine) -> list[Any]:
    """The sizes that the engine has captured."""
    assert engine.graphs is not None
    return [*engine.graphs._captured]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_with_every_drafter(name: str) -> None:
    model = tiny(name)
    engine = HFEngine(model, graphs=again)
    check_every_drafter(engine, PROMPT, reference(model, PROMPT, LIMIT), VOCABULARY)
    assert {size.rows for size in captured(engine)} >= {1, 2, 4, 8, 16}
    assert len({size.width for size in captured(engine)}) > 1


@pytest.mark.parametrize("name", SEVERAL)
def test_other_attentions_in_float32(name: str) -> None:
    truth = reference(tiny(name, dtype=torch.float32), PROMPT, LIMIT)
    lean, eager = tiny(name, dtype=torch.float32), tiny(name, dtype=torch.float32)
    assert make_lean(lean)
    eager.set_attn_implementation("eager")
    for model in (lean, eager):
        engine = HFEngine(model, graphs=again)
        for kind in ("OracleInATree", "RandomTree"):
            drafter = HARMLESS[kind](VOCABULARY, PROMPT + truth, 7)
            assert run(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(12)))[0] == truth
        assert captured(engine)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_slot_holds_what_a_fresh_prefill_holds_after_every_step(name: str) -> None:
    model = tiny(name)
    truth = reference(model, PROMPT, LIMIT)
    engine = HFEngine(model, graphs=again)
    check_cache(name, engine, HFEngine(model), truth)
    assert captured(engine)


@pytest.mark.parametrize("name", SEVERAL)
def test_steps_of_all_kinds_alone_and_together(name: str) -> None:
    """Chunks of prompts, trees, commits and rewinds of several texts, against an engine that captures nothing."""
    engine = HFEngine(tiny(name), graphs=again)
    random_steps(name, engine.model, 25, engine)
    assert {size.texts for size in captured(engine)} >= {2, 4}


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_tree_goes_on_from_a_replay_and_layers_and_hidden_states_after_it(name: str) -> None:
    """What is not captured works in the same slots."""
    model = tiny(name)
    ours, theirs = HFEngine(model, graphs=again), HFEngine(model)
    tree = DraftTree.build([7, 8, 9, 10, 11], [-1, 0, -1, 1, 2])
    found = []
    for engine in (ours, theirs):
        sequence = engine.open()
        sequence.prefill(PROMPT)
        told = [sequence.forward(5, tree.prefix(2)), sequence.extend(tree)]
        sequence.commit([0, 1, 3])
        part = Part(sequence, LAST, tree, hidden=(1,))
        told.append(engine.forward([part])[0].logits)
        sequence.rewind(len(PROMPT))
        early = engine.forward_layers(Part(sequence, LAST, tree), 0, 2)
        told.append(engine.head(engine.forward_layers(Part(sequence, LAST, tree), 2, 4, early)))
        sequence.commit([2, 4])
        told.append(sequence.forward(9, tree))
        found.append(told)
    for one, other in zip(*found, strict=True):
        assert_same(name, one, other)
    assert captured(ours)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_seed_draws_the_same(name: str) -> None:
    model, found = tiny(name), list[list[int]]()
    for engine in (HFEngine(model), HFEngine(model, graphs=again)):
        for method, nodes in (("RandomTree", 0), ("RandomTree", 9), ("OracleInATree", 9)):
            drafter = HARMLESS[method](VOCABULARY, PROMPT + (found[0] if found else []), 3)
            options = Options(LIMIT, FixedBudget(nodes))
            options.verifier = Sampler(engine.values, Sampling(temperature=0.8, top_k=20).filters(), 11)
            found.append(run(engine, drafter, PROMPT, options)[0])
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "qwen2-sliding", "gpt-oss"])
def test_requests_come_and_end_beside_each_other(name: str) -> None:
    model, rng = tiny(name), np.random.default_rng(0)
    prompts = [rng.integers(3, VOCABULARY, int(rng.integers(1, 3 * WINDOW))).tolist() for _ in range(5)]
    truths = [reference(model, prompt, LONGEST) for prompt in prompts]
    engine = HFEngine(model, graphs=again)
    scheduler, tickets = Scheduler(engine, most=7), list[tuple[Ticket, list[int]]]()
    for number in range(24):
        place = number % len(prompts)
        drafter = HARMLESS[str(rng.choice([*HARMLESS]))](VOCABULARY, prompts[place] + truths[place], number)
        options = Options(int(rng.integers(1, LONGEST + 1)), FixedBudget(int(rng.integers(0, 10))))
        ticket = Ticket(open_request(engine, drafter, prompts[place], options))
        scheduler.add(ticket)
        tickets.append((ticket, truths[place][: options.limit]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        while scheduler.waiting or scheduler.running:
            scheduler.step(lambda _: rng.random() < 0.9)
    for ticket, truth in tickets:
        assert ticket.error is None
        assert [token for step in ticket.steps for token in step.tokens] == truth
    assert {size.texts for size in captured(engine)} >= {2, 4, 8}
    assert engine.graphs is not None
    assert engine.graphs.slots._rows <= 8192, "slots are used again"


def test_measured_costs_are_those_of_whole_sizes() -> None:
    engine = HFEngine(tiny("llama"), graphs=again)
    costs = engine.measure_costs()
    assert [*costs.as_dict()] == [*graphs.ROWS] == sorted({size.rows for size in captured(engine)})
    assert engine.cost(5) == engine.cost(8) > 0.0
    assert engine.cost(17) == engine.cost(32)
    assert engine.cost(300) >= engine.cost(128)
    truth = reference(engine.model, PROMPT, 60)
    assert run(engine, HierarchyMethod(), PROMPT, Options(60, budget=AutoBudget()))[0] == truth
    assert engine.fingerprint != HFEngine(engine.model).fingerprint


def test_forwards_that_capture_are_not_taken_for_slow_ones() -> None:
    engine = HFEngine(tiny("llama"), graphs=again)
    sequence = engine.open()
    sequence.prefill(PROMPT)
    told: list[int] = []
    engine.costs.record = lambda rows, *_: told.append(rows)  # type: ignore[method-assign]
    for _ in range(2):
        sequence.forward(5, NOTHING)
        engine.record(3, 0.1)
    assert told == [4]


def begun(engine: HFEngine, text: Any = PROMPT) -> HFSequence:
    sequence = engine.open()
    sequence.prefill(text)
    return sequence


def test_logits_hold_while_other_sizes_are_replayed() -> None:
    engine = HFEngine(tiny("llama"), graphs=again)
    one, other = begun(engine), begun(engine, PROMPT[:5])
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(2):
        one.rewind(len(PROMPT))
        kept.append(one.forward(5, tree_of(rng, 0)))
        copy = kept[-1].clone()
        other.forward(5, tree_of(rng, 12))
        assert torch.equal(kept[-1], copy)


def test_what_is_left_of_others_and_of_drafts_is_never_looked_at() -> None:
    """Not even multiplied by zero: rows that are no numbers would be found out."""
    model = tiny("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[96] = torch.nan
    engine = HFEngine(model, graphs=again)
    poison = begun(engine)
    for _ in range(3):
        poison.forward(96, DraftTree.chain([96] * 40))
    assert len(captured(engine)) == 0, "there was nothing to compare"
    good, tree = begun(engine, PROMPT[:9]), DraftTree.chain([3, 4])
    wanted = [fresh(HFEngine(model), [*PROMPT[:9], *more])[0] for more in ([5], [5, 9], [5, 9, 11])]
    assert_same("llama", good.forward(5, NOTHING)[0], wanted[0])
    for nodes in (3, 20):
        good.rewind(9)
        good.forward(5, DraftTree.chain([96] * nodes))
        good.rewind(9)
        for token, row in zip((5, 9, 11), wanted, strict=True):
            assert_same("llama", good.forward(token, NOTHING)[0], row)
    for _ in range(2):  # the second time it is replayed
        good.rewind(11)
        poison.rewind(4)
        found = engine.forward([Part(poison, np.array([96], dtype=np.int32), tree), Part(good, ELEVEN, NOTHING)])
    assert_same("llama", found[1].logits[0], wanted[2])
    poison.close()
    del poison
    for _ in range(2):  # the second time it is replayed
        heir = begun(engine)
        assert_same("llama", heir.forward(5, NOTHING)[0], fresh(HFEngine(model), [*PROMPT, 5])[0])
    assert captured(engine)


def test_memory_moves_when_it_is_full_and_nothing_is_lost() -> None:
    """Many long texts at a time: the block grows, and what was captured before is captured again."""
    model = tiny("llama")
    model.config.max_position_embeddings = 4096
    engine, other = HFEngine(model, graphs=again), HFEngine(model)
    assert engine.graphs is not None
    rng = np.random.default_rng(2)
    texts = [rng.integers(3, VOCABULARY, count).tolist() for count in (700, 30, 900, 400, 800)]
    pairs = []
    for text in texts:
        pairs.append((begun(engine, text), begun(other, text)))
        for ours, theirs in pairs:
            tree = tree_of(rng, 6)
            assert_same("llama", ours.forward(5, tree), theirs.forward(5, tree))
            path = tree.path(len(tree) - 1) if len(tree) else []
            ours.commit(path)
            theirs.commit(path)
    assert engine.graphs.slots.moved > 1
    ours, theirs = pairs[1]
    for _ in range(4):  # it outgrows its slot, and the widths
        chunk = rng.integers(3, VOCABULARY, 100).tolist()
        assert_same("llama", ours.prefill(chunk), theirs.prefill(chunk))
        assert_same("llama", ours.forward(5, NOTHING), theirs.forward(5, NOTHING))


def test_without_room_a_text_lies_by_itself() -> None:
    model = tiny("llama")
    engine, other = HFEngine(model, graphs=again), HFEngine(model)
    assert engine.graphs is not None
    engine.graphs.slots._free = lambda: 2 * 1100 * 4 * 2 * 2 * 8 * 8
    sequences = [begun(engine) for _ in range(4)]
    assert [one.cache in engine.graphs.slots for one in sequences] == [True, True, False, False]
    parts = [Part(one, LAST, DraftTree.chain([3])) for one in sequences]
    wanted = begun(other).forward(5, DraftTree.chain([3]))
    for _ in range(2):
        for one in sequences:
            one.rewind(len(PROMPT))
        for scored in engine.forward(parts):
            assert_same("llama", scored.logits, wanted)
    long = np.random.default_rng(0).integers(3, VOCABULARY, 600).tolist()
    first, second = sequences[0], begun(other)
    for one in (first, second):
        one.rewind(3)
        one.prefill(long)
    assert first.cache not in engine.graphs.slots
    assert_same("llama", first.forward(5, NOTHING), second.forward(5, NOTHING))


def test_slots_are_given_back() -> None:
    engine = HFEngine(tiny("llama"), graphs=again)
    assert engine.graphs is not None
    slots = engine.graphs.slots
    first = begun(engine)
    place = slots.first(first.cache)
    second = begun(engine)
    assert slots.first(second.cache) > place
    first.close()
    third = begun(engine)
    assert slots.first(third.cache) == place
    del second, third
    assert len(slots._held) == 0


def texts_of(engine: HFEngine, drafts: int = 8) -> list[int]:
    return run(engine, HARMLESS["RandomTree"](VOCABULARY, [], 1), PROMPT, Options(30, budget=FixedBudget(drafts)))[0]


def test_weights_that_change_are_followed() -> None:
    model, changed = tiny("llama"), tiny("llama", seed=5)
    engine = HFEngine(model, graphs=again)
    before = texts_of(engine)
    assert engine.graphs is not None
    sizes, capture = captured(engine), engine.graphs._capture
    with torch.no_grad():
        for one, other in zip(model.parameters(), changed.parameters(), strict=True):
            one.copy_(other)  # in place: what was captured reads the same memory
    assert texts_of(engine) == reference(changed, PROMPT, 30) != before
    assert engine.graphs._capture is capture
    assert captured(engine)[: len(sizes)] != []
    model.lm_head.weight = torch.nn.Parameter(tiny("llama", seed=6).lm_head.weight.detach())
    assert texts_of(engine) == reference(model, PROMPT, 30)
    assert engine.graphs._capture is not capture


def test_parts_that_are_replaced_are_noticed() -> None:
    model = tiny("llama")
    engine = HFEngine(model, graphs=again)
    texts_of(engine)
    assert engine.graphs is not None
    capture = engine.graphs._capture
    model.model.layers[1] = tiny("llama", seed=3).model.layers[1]
    assert texts_of(engine) == reference(model, PROMPT, 30)
    assert engine.graphs._capture is not capture


def hooked(model: Any) -> Any:
    return model.model.layers[0].register_forward_hook(lambda *_: None)


def other_forward(model: Any) -> Any:
    norm = model.model.norm
    norm.forward = norm.forward
    return None


@pytest.mark.parametrize(("change", "words"), [(hooked, "it has hooks"), (other_forward, "another forward")])
def test_models_with_hooks_run_as_always(change: Callable[[Any], Any], words: str) -> None:
    model = tiny("llama")
    truth = reference(model, PROMPT, 30)
    engine = HFEngine(model, graphs=again)
    handle = change(model)
    with pytest.warns(SlowerWarning, match=words) as told:
        assert texts_of(engine) == texts_of(engine) == truth
    assert len(told) == 1
    assert "LlamaForCausalLM" in str(told[0].message)
    assert not captured(engine)
    if handle is not None:
        handle.remove()
        assert texts_of(engine) == truth
        assert captured(engine)


def test_nothing_is_captured_under_autocast() -> None:
    engine = HFEngine(tiny("llama", dtype=torch.float32), graphs=again)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        texts_of(engine)
    assert not captured(engine)


class CountsItsCache(t.LlamaForCausalLM):
    """Prefers other ids the longer its cache is, whatever the positions are."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        out = super().forward(*args, past_key_values=past_key_values, **kwargs)
        out.logits = out.logits + 0.05 * seen * torch.arange(out.logits.shape[-1])
        return out


def test_a_model_that_says_something_else_when_captured_runs_as_always() -> None:
    torch.manual_seed(0)
    model = CountsItsCache(CONFIGS["llama"]()).double().eval()
    engine = HFEngine(model, graphs=again)
    with pytest.warns(SlowerWarning, match="not what it says otherwise") as told:
        found = texts_of(engine)
    assert len(told) == 1
    assert engine.slots is None
    assert found == texts_of(HFEngine(model)) == texts_of(engine)


def test_a_model_that_cannot_be_captured_runs_as_always() -> None:
    def fails(_: torch.device) -> graphs.Capture:
        def capture(forward: graphs.Replay) -> graphs.Replay:
            forward()
            raise RuntimeError("operation not permitted when stream is capturing")

        return capture

    model = tiny("gemma3")
    engine = HFEngine(model, graphs=fails)
    with pytest.warns(SlowerWarning, match="not permitted when stream is capturing") as told:
        assert texts_of(engine) == reference(model, PROMPT, 30)
    assert len(told) == 1
    assert engine.slots is None
    assert engine.cost(5) == 0.0
    assert texts_of(engine) == reference(model, PROMPT, 30)


def test_few_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_MOST_GRAPHS", 3)
    model = tiny("llama")
    engine = HFEngine(model, graphs=again)
    assert texts_of(engine, 20) == reference(model, PROMPT, 30)
    assert len(captured(engine)) == 3


def test_who_shares_a_replay() -> None:
    engine = HFEngine(tiny("llama"), graphs=again)

    def parts(*rows: int) -> list[Part]:
        return [Part(engine.open(), np.zeros(count, dtype=np.int32), NOTHING) for count in rows]

    assert calls(parts(*[1] * 16), graphs.price) == [[*range(16)]]
    assert [len(one) for one in calls(parts(*[1] * 17), graphs.price)] in ([1, 16], [16, 1])
    assert sorted(len(one) for one in calls(parts(*[64] * 12), graphs.price)) == [4, 8]
    assert len(calls(parts(128, 1, 1, 1), graphs.price)) == 1
    assert len(calls(parts(128, *[1] * 15), graphs.price)) == 2
    assert graphs.price(1, 129, 10) == graphs.price(17, 1, 10) == float("inf")


def test_engines_on_a_cpu_capture_nothing_unless_told_how() -> None:
    model = tiny("llama")
    assert HFEngine(model).graphs is HFEngine(model, graphs=False).graphs is None
    engine = HFEngine(model, graphs=again)
    assert run(engine, PlainMethod(), PROMPT, Options(5))[0] == reference(model, PROMPT, 5)
