"""The target's own first layers draft: what they have made of a row is not made again, and the text is what it is."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.databases.levels import Databases
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.heads.early_exit import Choice, EarlyExitMethod, Exits
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.cache import RowLayer
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.models.beside import Drafters, check_there
from hierdraft.models.load import load_engine, open_beside
from hierdraft.protocols import Opened, Part, Request, Setup, Wants
from hierdraft.training.settings import HeadTraining, Limits
from hierdraft.training.train import Job, train_drafter
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampling
from tests.lossless.harness import check_steps, run
from tests.lossless.test_draft_model import SIZE, chosen, come_and_go
from tests.lossless.tiny import tiny
from tests.unit.test_training import rows_of, save_target, write


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """A drafter that fails is switched off: nothing here may pass because of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        yield


def attached(engine: Any, exits: Exits, **settings: Any) -> EarlyExitMethod:
    method = EarlyExitMethod("exits", **settings)
    opened = Opened(engine, exits=exits)
    method.attach(Setup(Databases(), engine.offers, engine.vocab_size, open_engine=lambda _: opened, target=engine))
    return method


def toy_exits(engine: ToyEngine, layers: tuple[int, ...]) -> Exits:
    """They say anything, now and then what the toy says."""
    return Exits(layers, lambda place, states: engine.head(states * 31 + place).astype(np.float32))


def torch_exits(engine: HFEngine, layers: tuple[int, ...]) -> Exits:
    """What a model would say if it ended there."""
    return Exits(layers, lambda _, states: engine.head(states).float().numpy())


@pytest.mark.parametrize("budget", [FixedBudget(1), FixedBudget(6), AutoBudget()])
@pytest.mark.parametrize("settings", [{}, {"layer": 2}, {"length": 4}, {"layer": 1, "length": 3}])
def test_toy_answers_are_those_of_plain_decoding(settings: dict[str, Any], budget: Any) -> None:
    drafted = 0
    for seed in range(8):
        engine = ToyEngine(seed, 6, 5, eos_ids=(3,) if seed % 2 else (), layers=3)
        engine.max_length = 40 if seed % 5 == 4 else engine.max_length
        prompt = np.random.default_rng(seed).integers(0, 6, 1 + 2 * seed).tolist()
        penalty = 1.2 if seed % 4 == 1 else 1.0
        sampling = Sampling(temperature=0.9 * (seed % 3 == 0), seed=seed, repetition_penalty=penalty)
        limit = (1, 60, 90)[seed % 3]
        expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, limit, FixedBudget(0), sampling, prompt))
        method = attached(engine, toy_exits(engine, (1, 2)), **settings)
        got, steps = run(engine, method, prompt, chosen(engine, limit, budget, sampling, prompt))
        assert got == expected
        check_steps(steps, limit)
        drafted += sum(len(step.tree) for step in steps)
    assert drafted > 0 or isinstance(budget, AutoBudget)


@pytest.mark.parametrize("family", ["llama", "qwen2-sliding", "gemma3", "gpt2", "phi", "gpt-oss"])
def test_a_model_goes_on_where_its_first_layers_ended(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer has every row once; where the last layer does nothing, the exit before it is always right."""
    model = tiny(family)
    if family == "llama":
        last = model.model.layers[-1]
        for one in (last.self_attn.o_proj, last.mlp.down_proj):
            torch.nn.init.zeros_(one.weight)
    engine = HFEngine(model, threads=1)
    depth = engine.offers.layers
    counted: Counter[int] = Counter()
    update = RowLayer.update

    def counting(self: RowLayer, keys: Any, values: Any, *args: Any, **more: Any) -> Any:
        counted[id(self)] += keys.shape[2]
        return update(self, keys, values, *args, **more)

    monkeypatch.setattr(RowLayer, "update", counting)
    prompt = [5, 9, 3, 7]
    expected, _ = run(engine, PlainMethod(), prompt, Options(31))
    for layer in range(1, depth):
        method = attached(engine, torch_exits(engine, tuple(range(1, depth))), layer=layer, length=4)
        counted.clear()
        got, steps = run(engine, method, prompt, Options(31, FixedBudget(4)))
        assert got == expected, layer
        assert len(counted) == depth
        assert len(set(counted.values())) == 1, "some layer had a row twice"
        if layer == depth - 1 and family == "llama":
            assert [step.accepted for step in steps[1:-1]] == [4] * (len(steps) - 2)


def test_a_draft_that_is_cut_or_another_one_is_finished_or_dropped() -> None:
    engine = HFEngine(tiny("llama"), threads=1)
    wanted, ids = (1,), np.array([4, 8, 2], dtype=np.int32)

    def fresh(tree: DraftTree) -> Any:
        return engine.forward([Part(engine.open(reuse=None), ids, tree, 1, wanted)])[0]

    last = ids[-1:]
    for tokens in ([], [7], [7, 9], [7, 9, 11], [7, 9, 11, 3], [7, 8], [1]):
        sequence = engine.open(reuse=None)
        engine.forward([Part(sequence, ids[:-1], DraftTree.empty())])
        for some in ([], [7], [7, 9], [7, 9, 11]):
            engine.forward_layers(Part(sequence, last, DraftTree.chain(np.array(some, np.int32)), 1, wanted), 0, 2)
        tree = DraftTree.chain(np.array(tokens, dtype=np.int32))
        (found,) = engine.forward([Part(sequence, last, tree, 1, wanted)])
        whole = fresh(tree)
        torch.testing.assert_close(found.logits, whole.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.hidden[1], whole.hidden[1][2:], rtol=1e-4, atol=1e-4)
        assert sequence.length == 3
        sequence.commit([*range(len(tokens))])
        assert sequence.length == 3 + len(tokens)
        after = engine.forward([Part(sequence, np.array([6], np.int32), DraftTree.empty())])[0].logits
        other = engine.open(reuse=None)
        both = engine.forward([Part(other, np.array([*ids, *tokens, 6], np.int32), DraftTree.empty())])[0].logits
        torch.testing.assert_close(after, both, rtol=1e-4, atol=1e-4)


def test_several_requests_each_with_its_own_layers() -> None:
    engine = ToyEngine(3, SIZE, 5, eos_ids=(3,), layers=3)
    done, _ = come_and_go(engine, attached(engine, toy_exits(engine, (1, 2))), 200)
    assert done > 200


def test_where_to_exit_is_the_best_of_all() -> None:
    """Of exits that cost more and agree more often, for any price of the verifying forward."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        choice, chances, costs = Choice(3, [0, 1, 2], None), np.sort(rng.random(3)), np.sort(rng.random(3))
        base, each = rng.random(2)
        for place in range(3):
            choice.took(place, costs[place])
            for _ in range(2_000):
                choice.learn(place, rng.random(1) < chances[place], np.array([0.5]))
        known = choice.chances()
        assert np.abs(known - chances).max() < 0.35

        def rate(
            place: int, length: int, known: Any = known, base: Any = base, each: Any = each, costs: Any = costs
        ) -> float:
            tokens = sum(known[place] ** one for one in range(length + 1))
            return float(tokens / (base + each * (1 + length) + length * costs[place]))

        place, length = choice.best(lambda rows, _: base + each * rows, 12)  # noqa: B023
        assert rate(place, length) == pytest.approx(max(rate(p, n) for p in range(3) for n in range(13)))
    fixed = Choice(3, [1], 5)
    assert fixed.best(lambda rows, _: 1.0, 9) == (1, 5)
    assert fixed.best(lambda rows, _: 1.0, 2) == (1, 2)
    assert fixed.best(lambda rows, _: 1.0, 0)[1] == 0
    assert fixed.threshold(1) == 0.0


def test_a_draft_ends_where_its_exit_is_less_sure_than_it_should_be() -> None:
    choice = Choice(1, [0], None)
    assert choice.threshold(0) == 0.0, "nothing is known"
    for _ in range(200):
        choice.learn(0, np.array([True, False]), np.array([0.9, 0.3]))
    assert choice.threshold(0) == pytest.approx(0.6, abs=0.02)


def test_exits_are_trained_and_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    target = save_target(tmp_path / "base")
    data = write(tmp_path / "said.jsonl", rows_of(160))
    training = HeadTraining(
        rows=60, window=64, batch=4, learning_rate=2e-2, held_out=0.2, logprobs=4, kind="exit", unrolled=1,
        states=(1, 3),
    )  # fmt: skip
    asked = Job(str(target), [data], tmp_path / "exits", training, Limits(steps=40), every=0.0, threads=1)
    found = train_drafter(asked, tmp_path / "cache")
    assert found is not None
    assert found["curve"][-1]["loss"] < found["curve"][0]["loss"]
    assert found["held_out"]["agreement"]["2"] == {"top1": 0.0, "top3": 0.0, "top8": 0.0}
    engine, _ = load_engine(str(target), engine="hf", dtype="float32", threads=1)
    check_there(str(tmp_path / "exits"), tmp_path / "cache")
    method = EarlyExitMethod(str(tmp_path / "exits"))
    Drafters(engine).attach(method, Setup(Databases(), engine.offers, engine.vocab_size, target=engine))
    accepted = 0
    for row in rows_of(6):
        prompt = row["prompt_ids"] + row["output_ids"][:6]
        for temperature in (0.0, 0.8):
            sampling = Sampling(temperature=temperature, seed=5)
            expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, 24, FixedBudget(0), sampling, prompt))
            got, steps = run(engine, method, prompt, chosen(engine, 24, FixedBudget(5), sampling, prompt))
            assert got == expected
            accepted += sum(step.accepted for step in steps)
    assert accepted > 0
    method.close()
    with pytest.raises(UsageError, match="name it beside that"):
        open_beside(str(tmp_path / "exits"))


def test_what_cannot_be_done_is_said_in_a_sentence() -> None:
    engine = ToyEngine(3, SIZE, 5, layers=3)
    exits = toy_exits(engine, (1, 2))
    for given, said in (({"layer": 3}, "layer must be one of"), ({"length": 0}, "length must be")):
        with pytest.raises(UsageError, match=said):
            attached(engine, exits, **given)
    with pytest.raises(UsageError, match="target of more layers"):
        attached(engine, Exits((1, 3), exits.say))
    model = Setup(Databases(), engine.offers, SIZE, open_engine=lambda _: Opened(engine), target=engine)
    with pytest.raises(UsageError, match="takes trained exits only"):
        EarlyExitMethod("exits").attach(model)
    with pytest.raises(UsageError, match="which only early-exit takes"):
        DraftModelMethod("exits").attach(replace(model, open_engine=lambda _: Opened(engine, exits=exits)))
    with pytest.raises(UsageError, match="--engine hf"):
        EarlyExitMethod("exits").attach(Setup(Databases(), engine.offers, SIZE))
    with pytest.raises(UsageError, match="own sequence"):
        attached(engine, exits).open(Request(np.array([1], np.int32), 5))
    assert EarlyExitMethod("exits").wants == Wants()
    with pytest.raises(UsageError, match="is closed"):
        EarlyExitMethod("exits").exits  # noqa: B018
