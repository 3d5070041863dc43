"""What a target finds likely in training data: once, in shards, continued where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import TrainingError, UsageError
from hierdraft.training import reading
from hierdraft.training.documents import Document
from hierdraft.training.reading import Asked, with_reading
from hierdraft.training.settings import Training
from hierdraft.training.train import train_drafter
from tests.lossless.tiny import VOCABULARY, tiny
from tests.unit.test_training import job, rows_of, save_target, weights, write

K = 5


def documents(count: int = 30) -> list[Document]:
    drawn = np.random.default_rng(2)
    lengths = drawn.integers(4, 40, count).tolist()
    return [Document(drawn.integers(3, VOCABULARY, n).astype(np.int32), int(drawn.integers(1, n))) for n in lengths]


def test_they_are_the_targets_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_TEXT", 64)
    model = tiny("llama", dtype=torch.float32)
    told = list[tuple[int, int]]()
    found = with_reading(HFEngine(model), documents(), Asked(K), tmp_path / "new", lambda *far: told.append(far))
    for before, after in zip(documents(), found, strict=True):
        np.testing.assert_array_equal(after.ids, before.ids)
        with torch.inference_mode():
            law = model(torch.from_numpy(after.ids).long()[None]).logits[0].log_softmax(-1)
        wanted = law[after.start - 1 : -1].topk(K)
        assert after.top is not None
        np.testing.assert_array_equal(after.top[0], wanted.indices.numpy())
        np.testing.assert_allclose(after.top[1], wanted.values.numpy(), atol=2e-2)
        assert (after.top[0].dtype, after.top[1].dtype) == (np.int32, np.float16)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] == sum(len(one.ids) for one in documents())


class Counting:
    """An engine that says which texts it was given."""

    def __init__(self, fails_after: int = 10**9) -> None:
        self._engine: Any = ToyEngine(1, VOCABULARY)
        self.texts: list[bytes] = []
        self.left = fails_after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, parts: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.texts += [part.tokens.tobytes() for part in parts]
        return self._engine.forward(parts)


def test_what_was_stopped_goes_on_and_nothing_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHARD", 60)
    monkeypatch.setattr(reading, "_TEXT", 40)
    whole = Counting()
    wanted = with_reading(whole, documents(), Asked(K), tmp_path / "whole")  # type: ignore[arg-type]
    first = Counting(fails_after=9)
    with pytest.raises(KeyboardInterrupt):
        with_reading(first, documents(), Asked(K), tmp_path / "pieces")  # type: ignore[arg-type]
    shards = sorted((tmp_path / "pieces").iterdir())
    assert shards
    then = Counting()
    found = with_reading(then, documents(), Asked(K), tmp_path / "pieces")  # type: ignore[arg-type]
    assert 0 < len(then.texts) < len(whole.texts)
    assert set(first.texts) | set(then.texts) == set(whole.texts)
    for one, other in zip(found, wanted, strict=True):
        for mine, theirs in zip(one.top or (), other.top or (), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    again = Counting()
    with_reading(again, documents(), Asked(K), tmp_path / "pieces")  # type: ignore[arg-type]
    assert not again.texts
    shards[0].write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"\.safetensors is damaged .*remove it, and it is made again"):
        with_reading(again, documents(), Asked(K), tmp_path / "pieces")  # type: ignore[arg-type]


def test_what_is_known_is_kept_and_what_is_too_long_is_left_out(tmp_path: Path) -> None:
    given = documents(3)
    rows = len(given[0].ids) - given[0].start
    top = np.full((rows, K), 7, dtype=np.int32), np.full((rows, K), -1.0, dtype=np.float16)
    engine = Counting()
    engine._engine.max_length = max(len(one.ids) for one in given[1:]) - 1
    found = with_reading(engine, [Document(given[0].ids, given[0].start, top), *given[1:]], Asked(K), tmp_path)  # type: ignore[arg-type]
    assert found[0].top is top
    assert sorted(one.top is None for one in found) == [False, False, True]
    fewer = with_reading(Counting(), [Document(given[0].ids, given[0].start, top)], Asked(K + 1), tmp_path / "more")  # type: ignore[arg-type]
    assert fewer[0].top is not None
    assert fewer[0].top[0].shape == (rows, K + 1)


def test_a_training_asks_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = save_target(tmp_path / "base")
    data = write(tmp_path / "said.jsonl", rows_of(12))
    plain = train_drafter(job(target, data, tmp_path / "plain", 2, held_out=0.4), tmp_path)
    asked = train_drafter(job(target, data, tmp_path / "asked", 2, held_out=0.4, logprobs=4), tmp_path)
    assert plain is not None
    assert asked is not None
    assert weights(tmp_path / "asked") != weights(tmp_path / "plain")
    assert asked["settings"]["logprobs"] == 4
    assert len(list((tmp_path / reading.FOLDER).rglob("*.safetensors"))) == 1

    def never(*_: Any) -> Any:
        raise AssertionError("the target was asked again")

    monkeypatch.setattr(reading, "_scored", never)
    again = train_drafter(job(target, data, tmp_path / "again", 2, held_out=0.4, logprobs=4), tmp_path)
    assert again is not None
    assert weights(tmp_path / "again") == weights(tmp_path / "asked")
    with pytest.raises(UsageError, match="no use with --distill 0"):
        Training(logprobs=4, distill=0.0).check()


def test_hidden_states_are_the_models_own_and_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_TEXT", 64)
    monkeypatch.setattr(reading, "SHARD", 100)
    model = tiny("llama", dtype=torch.float32)
    layers = (0, 1, int(model.config.num_hidden_layers))
    found = with_reading(HFEngine(model), documents(), Asked(0, layers), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    for one in found:
        assert one.top is None
        assert one.states is not None
        count = len(one.ids) - 1
        with torch.inference_mode():
            states = model(torch.from_numpy(one.ids[:-1]).long()[None], output_hidden_states=True).hidden_states
        held = one.states.read(0, count)
        width = held.shape[1] // len(layers)
        assert held.shape == (count, len(layers) * width)
        assert held.dtype == np.float16
        for place, layer in enumerate(layers[:-1]):
            wanted = states[layer][0].numpy()
            np.testing.assert_allclose(held[:, place * width : (place + 1) * width], wanted, rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(one.states.read(1, count), held[1:])
        np.testing.assert_array_equal(one.states.after(1).read(0, count - 1), held[1:])


def test_more_data_costs_what_is_new(tmp_path: Path) -> None:
    first, then = Counting(), Counting()
    with_reading(first, documents(30)[:20], Asked(K), tmp_path)  # type: ignore[arg-type]
    found = with_reading(then, documents(30)[::-1], Asked(K), tmp_path)  # type: ignore[arg-type]
    assert len(then.texts) == 10
    wanted = with_reading(Counting(), documents(30)[::-1], Asked(K), tmp_path / "other")  # type: ignore[arg-type]
    for one, other in zip(found, wanted, strict=True):
        assert one.top is not None
        assert other.top is not None
        np.testing.assert_array_equal(one.top[0], other.top[0])


def test_shards_that_are_removed_or_written_by_others_mix_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard is named after what it holds, so none ever takes the place of another."""
    monkeypatch.setattr(reading, "SHARD", 60)
    monkeypatch.setattr(reading, "_TEXT", 40)
    asked, engine = Asked(K, (0, 1)), HFEngine(tiny("llama", dtype=torch.float32))

    def states(found: list[Document]) -> list[bytes]:
        return [one.states.read(0, len(one.ids) - 1).tobytes() for one in found if one.states is not None]

    wanted = states(with_reading(engine, documents(), asked, tmp_path / "whole"))
    for number in range(3):
        folder = tmp_path / str(number)
        with_reading(engine, documents(), asked, folder)
        sorted(folder.iterdir())[number].unlink()
        assert states(with_reading(engine, documents(), asked, folder)) == wanted
    given, others = documents()[:12], documents()[12:]
    folder, once = tmp_path / "both", [True]

    def meanwhile(done: int, total: int) -> None:
        if once.pop() if once and done else False:
            with_reading(engine, others, asked, folder)

    found = with_reading(engine, given, asked, folder, meanwhile)
    also = with_reading(engine, others, asked, folder)
    assert states(found) + states(also) == wanted
