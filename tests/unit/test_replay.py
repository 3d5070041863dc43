"""Recorded output as a target: what is accepted is what the record says, and scoring a pack with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierdraft.bench.replay import read_records
from hierdraft.databases.pack import PackInfo, join, write_pack
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.hierarchy import HierarchyDrafter
from hierdraft.engines.loop import Options
from hierdraft.engines.replay import ReplayEngine
from hierdraft.errors import CorpusError, UsageError
from hierdraft.inspect_pack import score, top_ngrams
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import run

OUTPUT = [3, 4, 5, 3, 4, 5, 3, 4, 6, 3, 4, 5, 3, 4]


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_any_drafter_repeats_the_record(name: str) -> None:
    engine = ReplayEngine(32)
    engine.play(OUTPUT)
    if HARMLESS[name](32, OUTPUT, 1).wants.top_k:
        with pytest.raises(UsageError, match="cannot be replayed"):
            run(engine, HARMLESS[name](32, OUTPUT, 1), [1, 2], Options(len(OUTPUT)))
        return
    assert run(engine, HARMLESS[name](32, [1, 2, *OUTPUT], 1), [1, 2], Options(len(OUTPUT)))[0] == OUTPUT


def test_the_default_drafter_repeats_it_in_fewer_steps() -> None:
    engine = ReplayEngine(32)
    engine.play(OUTPUT)
    drafter = HierarchyDrafter()
    drafter.text_only()
    ids, steps = run(engine, drafter, [1, 2], Options(len(OUTPUT)))[:2]
    assert ids == OUTPUT
    assert len(steps) < len(OUTPUT)


def test_records_that_cannot_be_played() -> None:
    engine = ReplayEngine(8)
    for wrong in ([], [8], [-1]):
        with pytest.raises(UsageError, match="ids below 8"):
            engine.play(wrong)
    with pytest.raises(UsageError, match="cannot be rewound"):
        engine.rewind(3)


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
        ({"prompt_ids": [1]}, "line 1: a record needs token ids under 'output_ids'"),
        ({"prompt_ids": [], "output_ids": [1]}, "under 'prompt_ids'"),
        ({"prompt_ids": [1], "output_ids": [40]}, "output_ids has an id outside the vocabulary of 40"),
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
