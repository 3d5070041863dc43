"""Recorded output as a target: what is accepted is what the record says, and scoring a pack with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.bench.pack import score, top_ngrams
from hierdraft.bench.replay import Score, as_dicts, compare
from hierdraft.corpus.records import read_records
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import PackInfo, join, write_pack
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.replay import ReplayEngine
from hierdraft.engines.timed import TimedReplay
from hierdraft.errors import CorpusError, UsageError
from hierdraft.models.random_models import random_engine
from hierdraft.protocols import Setup
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import opened, run

OUTPUT = [3, 4, 5, 3, 4, 5, 3, 4, 6, 3, 4, 5, 3, 4]


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_any_drafter_repeats_the_record(name: str) -> None:
    engine = ReplayEngine(32)
    engine.play(OUTPUT)
    if HARMLESS[name](32, OUTPUT, 1).wants.top_k:
        with pytest.raises(UsageError, match="needs the target's logits"):
            run(engine, HARMLESS[name](32, OUTPUT, 1), [1, 2], Options(len(OUTPUT)))
        return
    assert run(engine, HARMLESS[name](32, [1, 2, *OUTPUT], 1), [1, 2], Options(len(OUTPUT)))[0] == OUTPUT


def test_the_default_drafter_repeats_it_in_fewer_steps() -> None:
    engine = ReplayEngine(32)
    engine.play(OUTPUT)
    method = HierarchyMethod()
    method.attach(Setup(Databases(), engine.offers))
    ids, steps = run(engine, method, [1, 2], Options(len(OUTPUT)))[:2]
    assert ids == OUTPUT
    assert len(steps) < len(OUTPUT)


def test_records_that_cannot_be_played() -> None:
    engine = ReplayEngine(8)
    for wrong in ([], [8], [-1]):
        with pytest.raises(UsageError, match="ids below 8"):
            engine.play(wrong)
    with pytest.raises(UsageError, match="cannot be rewound"):
        engine.open().rewind(3)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> TimedReplay:
    tiny = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    cache = tmp_path_factory.mktemp("cache")
    return TimedReplay(random_engine("llama-68m", cache, engine="hf", device="cpu", vocab_size=40, **tiny))


def test_a_model_may_run_beside_the_record(timed: TimedReplay) -> None:
    records = [
        {"prompt_ids": [1, 2], "output_ids": OUTPUT, "task": "a"},
        {"prompt_ids": [3], "output_ids": [4], "task": "b"},
    ]
    methods = ["none", "hierarchy", "prompt-lookup"]
    beside = compare(records, methods, [], 40, 6, engine=timed)
    alone = compare(records, methods, [], 40, 6)
    for method in methods:
        assert beside[method].as_dict()["accepted_length"] == alone[method].as_dict()["accepted_length"]
        assert beside[method].forward > 0.0
        assert beside[method].pace[0][0] == len(OUTPUT) - 1
    found = as_dicts(beside, timed)
    assert found["none"]["speedup"] == {"median": 1.0, "low": None, "high": None, "values": [1.0]}
    assert found["hierarchy"]["tokens_per_second"] > 0
    assert {"forward_ms_per_step", "rest_us_per_step"} <= set(found["hierarchy"])
    assert "tokens_per_second" not in as_dicts(alone)["none"]
    assert set(timed.about["forward_ms"]) == {"1", "2", "4", "8", "16", "32", "64"}


@pytest.mark.filterwarnings("ignore:.*keeps recurrent states:RuntimeWarning")
@pytest.mark.parametrize("shape", ["lfm2-350m", "qwen3.5-0.8b"])
def test_a_model_with_states_may_run_beside_the_record(shape: str, tmp_path: Path) -> None:
    """As chains: what it accepts is what it accepts without one."""
    tiny: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 40,
        "num_key_value_heads": 1,
    }  # fmt: skip
    own = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    more = {"full_attn_idxs": [1, 3]} if shape.startswith("lfm2") else {**own, "head_dim": 16}
    timed = TimedReplay(random_engine(shape, tmp_path, device="cpu", **tiny, **more))
    assert not timed.offers.trees
    records = [{"prompt_ids": [1, 2], "output_ids": OUTPUT, "task": "a"}]
    found = compare(records, ["none", "hierarchy"], [], 40, 6, engine=timed)
    assert found["hierarchy"].as_dict()["accepted_length"] > found["none"].as_dict()["accepted_length"]
    timed.play(OUTPUT)
    sequences = opened(timed.runner)
    said = []
    for step in decode(timed, HARMLESS["OracleWithOneError"](40, [1, 2, *OUTPUT], 1), [1, 2], Options(len(OUTPUT))):
        said += step.tokens
        assert sequences[0].length <= 1 + len(said)
    assert said == list(OUTPUT)


def test_each_forward_is_that_of_the_tree_behind_what_was_accepted(timed: TimedReplay) -> None:
    """The model's cache follows the record: as long as the text, whatever was drafted."""
    timed.play(OUTPUT)
    lengths = []
    sequences = opened(timed.runner)
    for step in decode(timed, HARMLESS["OracleInATree"](40, [1, 2, *OUTPUT], 1), [1, 2], Options(len(OUTPUT))):
        lengths.append(len(step.tokens))
        if not step.finish:
            assert sequences[0].length == 2 + sum(lengths) - 1
    assert max(lengths) > 1


def test_a_model_may_read_the_end_of_a_prompt_only(timed: TimedReplay) -> None:
    short = TimedReplay(timed.runner, context=3)
    records = [{"prompt_ids": [1, 2, *OUTPUT], "output_ids": OUTPUT, "task": "a"}]
    methods = ["none", "hierarchy"]
    sequences = opened(timed.runner)
    beside = compare(records, methods, [], 40, 6, engine=short)
    assert [sequence.length for sequence in sequences] == [4 + len(OUTPUT) - 1] * 2
    alone = compare(records, methods, [], 40, 6)
    assert [beside[name].steps for name in methods] == [alone[name].steps for name in methods]


def test_an_engine_tells_its_own_threads(timed: TimedReplay) -> None:
    """Not those of the process, which has its own number outside of a forward."""
    assert isinstance(timed.runner, HFEngine)
    assert HFEngine(timed.runner.model, threads=3).threads == 3
    assert HFEngine(timed.runner.model).threads == torch.get_num_threads()


def test_the_limit_is_what_the_forwards_alone_would_take() -> None:
    """Two records: the second is drafted in half of the forwards, which cost half as much again."""
    plain, drafted = Score(), Score()
    for one, sizes in ((plain, [1] * 8), (drafted, [4] * 4)):
        one.begin("a")
        one.rows[-1].update(sizes)
        one.pace[-1] = 8, 8.0
        one.steps["a"], one.tokens["a"] = len(sizes), 8
    found = drafted.timed(plain, {1: 1.0, 4: 1.5}.__getitem__)
    assert found["speedup"]["median"] == 1.0
    assert found["reached"]["median"] == 0.75  # 8 tokens in 6 seconds of forwards would be 1.333 times as fast
    assert found["speedups"] == {"a": 1.0}
    assert plain.timed(plain, {1: 0.9}.__getitem__)["reached"]["median"] == 1.0


def test_shapes_and_devices_that_are_not_there(tmp_path: Path) -> None:
    for name, chosen, says in (
        ("llama-9000b", {}, "choose one of llama-8b"),
        ("llama-68m", {"device": "cuda:77"}, "cannot be used"),
        ("llama-68m", {"engine": "tpu"}, "no engine 'tpu'"),
        ("llama-68m", {"dtype": "int5"}, "no number type 'int5'"),
        ("llama-68m", {"threads": 0}, "number of threads must be from 1"),
        ("llama-68m", {"threads": 0, "engine": "hf"}, "number of threads must be from 1"),
        ("llama-68m", {"engine": "hf", "dtype": "int4"}, "int4 weights need OpenVINO"),
        ("llama-68m", {"engine": "openvino", "device": "cuda"}, "leave out the device"),
        ("lfm2-350m", {"engine": "openvino"}, "run on transformers only"),
        ("llama-8b", {"engine": "openvino", "num_hidden_layers": 9000, "dtype": "int4"}, "takes .* of memory"),
    ):
        with pytest.raises(UsageError, match=says):
            random_engine(name, tmp_path, **chosen)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_is_scored_on_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(0, 40, 600).astype(np.int32)
    pack = write_pack(tmp_path / "a.safetensors", build(join([text]), 40), PackInfo("model", 40))
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt_ids": text[:20].tolist(), "output_ids": text[20:220].tolist()}) + "\n")
    records = list(read_records(path, 40))
    assert records[0]["task"] == "all"
    assert score([], records, 16, 40) < 1.5
    assert score([pack], records, 16, 40) > 8
    for row, message in (
        ({"prompt_ids": [1]}, "line 1: a row needs a list of token ids under 'output_ids'"),
        ({"prompt_ids": [], "output_ids": [1]}, "under 'prompt_ids'"),
        ({"prompt_ids": [1], "output_ids": [40]}, "id 40 is outside the vocabulary of 40"),
    ):
        path.write_text(json.dumps(row))
        with pytest.raises(CorpusError, match=message):
            list(read_records(path, 40))


def test_commonest_ngrams(tmp_path: Path) -> None:
    documents = [[1, 2, 3], [1, 2, 4], [1, 2, 3], [2, 3], [5]]
    text = join([np.array(ids, dtype=np.int32) for ids in documents])
    pack = write_pack(tmp_path / "a.safetensors", build(text, 6), PackInfo("model", 6))
    assert top_ngrams(pack, 2, 10) == [([1, 2], 3), ([2, 3], 3), ([2, 4], 1)]
    assert top_ngrams(pack, 2, 2) == [([1, 2], 3), ([2, 3], 3)]
    assert top_ngrams(pack, 1, 1) == [([2], 4)]
    assert top_ngrams(pack, 4, 3) == []
