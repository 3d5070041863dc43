"""Several sequences in one call of a transformers model: each is scored as it is alone, whatever lies beside it."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import FixedBudget
from hierdraft.engines.hf import together
from hierdraft.engines.hf.engine import HFEngine, HFSequence
from hierdraft.engines.hf.lean import make_lean
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.protocols import Budget, Part
from hierdraft.tree import DraftTree
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import fresh
from tests.lossless.tiny import CONFIGS, SEVERAL, VOCABULARY, WINDOW, assert_same, reference, tiny

LONGEST = 4 * WINDOW


def tree_of(rng: np.random.Generator, nodes: int) -> DraftTree:
    drafter = HARMLESS["RandomTree"](VOCABULARY, [], int(rng.integers(1 << 30)))
    return drafter.propose(rng.integers(3, VOCABULARY, 4).astype(np.int32), Budget(nodes, nodes))


def continuation(rng: np.random.Generator) -> tuple[Any, DraftTree, int]:
    """Prompt chunks with and without rows, single tokens, and trees below both."""
    kind = rng.integers(4)
    count = 1 if kind == 0 else int(rng.integers(1, WINDOW + 4))
    tree = tree_of(rng, int(rng.integers(1, 14))) if kind in (0, 1) else DraftTree.empty()
    rows = int(rng.integers(1 if len(tree) else 0, count + 1))
    return rng.integers(3, VOCABULARY, count).astype(np.int32), tree, rows


def counted(model: Any) -> list[int]:
    """The number of texts in each call of the model from now on."""
    calls: list[int] = []
    model.register_forward_pre_hook(lambda _, args, given: calls.append(len(given["input_ids"])), with_kwargs=True)
    return calls


def random_steps(name: str, model: Any, rounds: int, ours: HFEngine | None = None) -> HFEngine:
    """Two engines are told the same, one of them in batches: logits, lengths and keys stay the same."""
    rng = np.random.default_rng(3)
    ours, theirs = ours or HFEngine(model), HFEngine(model)
    pairs = [(ours.open(), theirs.open()) for _ in range(6)]
    for _ in range(rounds):
        chosen = [pairs[place] for place in rng.permutation(len(pairs))[: int(rng.integers(2, len(pairs) + 1))]]
        told = [continuation(rng) for _ in chosen]
        found = ours.forward([Part(one, *more) for (one, _), more in zip(chosen, told, strict=True)])
        for (one, other), scored, (tokens, tree, rows) in zip(chosen, found, told, strict=True):
            wanted = theirs.forward([Part(other, tokens, tree, rows)])[0].logits
            assert scored.logits.shape == wanted.shape == (rows + len(tree), VOCABULARY)
            assert_same(name, scored.logits, wanted)
            path = tree.path(int(rng.integers(len(tree)))) if len(tree) else []
            length = int(rng.integers(0, WINDOW)) if one.length > LONGEST else one.length + len(path)
            if rng.random() < 0.3:
                length = max(0, length - int(rng.integers(0, 4)))
            for sequence in (one, other):
                sequence.commit(path)
                sequence.rewind(length)
            same_text(name, one, other)
    return ours


def same_text(name: str, one: HFSequence, other: HFSequence) -> None:
    assert one.length == other.length == one.cache.length
    if one.length:
        for ours, theirs in zip(one.cache.layers, other.cache.layers, strict=True):
            for a, b in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
                assert_same(name, a[:, :, : one.length], b[:, :, : one.length])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_is_scored_as_its_parts_alone(name: str) -> None:
    assert random_steps(name, tiny(name), 25)._scores_together


@pytest.mark.parametrize("name", SEVERAL)
def test_lean_and_eager_models_too(name: str) -> None:
    lean, eager = tiny(name, dtype=torch.float32), tiny(name)
    assert make_lean(lean)
    eager.set_attn_implementation("eager")
    random_steps("gpt-oss", lean, 8)
    random_steps(name if name == "gpt-oss" else "gemma2", eager, 8)


def test_calls_of_the_model() -> None:
    """Parts of like size share a call; a prompt beside small trees is not padded to, nor are they to it."""
    engine = HFEngine(tiny("llama"))
    sequences = [engine.open() for _ in range(4)]
    parts = [Part(sequence, np.full(6, 5, dtype=np.int32), DraftTree.empty()) for sequence in sequences]
    engine.forward(parts)
    calls = counted(engine.model)
    engine.forward(parts)
    assert calls == [4]
    engine.forward([Part(sequences[0], np.full(150, 5, dtype=np.int32), DraftTree.empty()), *parts[1:]])
    assert calls == [4, 1, 3]
    assert [sequence.length for sequence in sequences] == [162, 18, 18, 18]


def test_the_cheapest_way_to_make_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all ways to cut the parts, sorted by size, into calls."""
    monkeypatch.setattr(together, "_COLUMNS", 10)
    rng = np.random.default_rng(0)
    engine = HFEngine(tiny("llama"))
    for _ in range(30):
        parts = []
        for _ in range(int(rng.integers(1, 7))):
            sequence = engine.open()
            sequence.length = int(rng.integers(0, 100))
            parts.append(Part(sequence, np.zeros(int(rng.integers(1, 60)), dtype=np.int32), DraftTree.empty()))
        made = together.calls(parts, together.price_on("cpu"))
        assert sorted(place for call in made for place in call) == list(range(len(parts)))
        ordered = sorted(range(len(parts)), key=lambda place: -len(parts[place].tokens))
        ways = []
        for cut in range(1 << (len(parts) - 1)):
            way: list[list[int]] = [[ordered[0]]]
            for number, place in enumerate(ordered[1:]):
                if cut >> number & 1:
                    way.append([])
                way[-1].append(place)
            ways.append(way)
        assert price(made, parts) == pytest.approx(min(price(way, parts) for way in ways))


def price(way: list[list[int]], parts: list[Part]) -> float:
    total = 0.0
    for call in way:
        rows = max(len(parts[place].tokens) for place in call)
        width = max(parts[place].sequence.length + len(parts[place].tokens) for place in call)
        total += 16 + len(call) * (rows + (width / 10 if len(call) > 1 else 0))
    return total


class Breaks(t.LlamaForCausalLM):
    """Fails in its last layer as often as it is told to."""

    failures = 0

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.layers[-1].register_forward_pre_hook(self._perhaps)

    def _perhaps(self, *_: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no memory")


@pytest.mark.parametrize("sizes", [[5], [5, 7], [90, 5, 7], [5, 90]])
@pytest.mark.parametrize("begun", [False, True])
def test_a_forward_that_fails_changes_no_sequence(sizes: list[int], begun: bool) -> None:
    torch.manual_seed(0)
    model = Breaks(CONFIGS["llama"]()).double().eval()
    engine, rng = HFEngine(model), np.random.default_rng(1)
    sequences = [engine.open() for _ in sizes]
    texts = [rng.integers(3, VOCABULARY, 9).astype(np.int32) if begun else np.empty(0, dtype=np.int32) for _ in sizes]
    assert engine.shares_calls()
    if begun:
        engine.forward([Part(one, text, DraftTree.empty()) for one, text in zip(sequences, texts, strict=True)])
    parts = [
        Part(one, np.full(size, 8, dtype=np.int32), tree_of(rng, 4)) for one, size in zip(sequences, sizes, strict=True)
    ]
    model.failures = 1
    with pytest.raises(RuntimeError, match="no memory"):
        engine.forward(parts)
    assert [one.length for one in sequences] == [len(text) for text in texts]
    for size in (2, 11):  # not the size of what failed: rows that are left over would be found out
        again = [Part(one, np.full(size, 7, dtype=np.int32), DraftTree.empty()) for one in sequences]
        found = engine.forward(again)
        texts = [np.concatenate([text, part.tokens]) for text, part in zip(texts, again, strict=True)]
        for scored, text in zip(found, texts, strict=True):
            assert_same("llama", scored.logits, fresh(engine, text))


class FirstTextOnly(t.LlamaForCausalLM):
    """Gives all texts of a call the mask of the first."""

    def forward(self, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if isinstance(attention_mask, torch.Tensor):
            attention_mask = attention_mask[:1]
        return super().forward(*args, attention_mask=attention_mask, **kwargs)


class OneTextOnly(t.LlamaForCausalLM):
    """Takes masks of one text only."""

    def forward(self, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if isinstance(attention_mask, torch.Tensor) and attention_mask.shape[0] != 1:
            raise NotImplementedError
        return super().forward(*args, attention_mask=attention_mask, **kwargs)


@pytest.mark.parametrize("kind", [FirstTextOnly, OneTextOnly])
def test_a_model_that_takes_no_batches_is_asked_one_by_one(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind(CONFIGS["llama"]()).double().eval()
    engine = random_steps("llama", model, 6)
    assert engine._scores_together is False
    calls = counted(model)
    engine.forward([Part(engine.open(), np.full(6, 5, dtype=np.int32), DraftTree.empty()) for _ in range(3)])
    assert calls == [1, 1, 1]


def test_rows_that_are_no_numbers_stay_in_their_own_text() -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[96] = torch.nan
    engine = HFEngine(model)
    sequences = [engine.open() for _ in range(3)]
    texts = [[5, 9, 11, 4], [7, 96, 8], [3, 3, 60, 61, 2]]
    for _ in range(3):
        found = engine.forward(
            [Part(one, np.array(text[-4:], dtype=np.int32), DraftTree.chain(np.array([9], dtype=np.int32)))
             for one, text in zip(sequences, texts, strict=True)]
        )  # fmt: skip
        assert [bool(one.logits.isfinite().all()) for one in found] == [True, False, True]


def test_closed_sequences_leave_no_memory() -> None:
    engine = HFEngine(tiny("llama"))
    text = np.array([5, 9, 11], dtype=np.int32)

    def use(sequences: list[HFSequence]) -> None:
        for _ in range(2):
            engine.forward([Part(one, text, DraftTree.empty()) for one in sequences])
        for one in sequences:
            one.close()

    use([engine.open() for _ in range(4)])
    gc.collect()
    before = held()
    gc.disable()  # nothing waits for it
    try:
        for _ in range(250):
            use(sequences := [engine.open() for _ in range(4)])
        assert held() <= before
    finally:
        gc.enable()
    with pytest.raises(UsageError, match="closed"):
        use(sequences)


def held() -> int:
    """Bytes of all tensors that are alive."""
    return sum(one.nbytes for one in gc.get_objects() if type(one) is torch.Tensor)


@pytest.mark.parametrize("most", [1, 3, 8])
@pytest.mark.parametrize("name", SEVERAL)
def test_requests_come_end_and_are_cancelled_beside_each_other(name: str, most: int) -> None:
    model, rng = tiny(name), np.random.default_rng(most)
    prompts = [rng.integers(3, VOCABULARY, int(rng.integers(1, 3 * WINDOW))).tolist() for _ in range(5)]
    truths = [reference(model, prompt, LONGEST) for prompt in prompts]
    engine = HFEngine(model)
    scheduler = Scheduler(engine, most=most)
    flying: dict[Ticket, list[int]] = {}
    compared = come = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        while come < 14 or flying:
            if come < 14 and rng.random() < 0.4:
                come += 1
                number = int(rng.integers(len(prompts)))
                method = HARMLESS[str(rng.choice([*HARMLESS]))](VOCABULARY, prompts[number] + truths[number], come)
                options = Options(int(rng.integers(1, LONGEST + 1)), FixedBudget(int(rng.integers(0, 10))))
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
                finished = bool(ticket.steps) and bool(ticket.steps[-1].finish)
                assert ticket.error is None
                assert got == (truth if finished else truth[: len(got)])
                compared += len(got)
    assert compared > 100
