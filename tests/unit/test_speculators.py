"""The speculators package reads our heads and says what we say; of random heads of its kinds too, step by step.

It is no dependency: where it is not installed, these tests are left out. `pip install speculators` wants an older
transformers; installed with `--no-deps`, and loguru, pydantic-settings, datasets and hs-connectors beside it, it works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.drafting.heads.text import numbers
from hierdraft.models import load
from hierdraft.models.load import load_engine, open_beside
from hierdraft.models.publishing import publish
from hierdraft.protocols import Part
from hierdraft.training.train import train_drafter
from hierdraft.tree import DraftTree
from tests.lossless.tiny import VOCABULARY
from tests.unit.test_eagle import job
from tests.unit.test_head_formats import KINDS, head_of, targets  # noqa: F401 - a fixture
from tests.unit.test_training import rows_of, save_target, write

eagle3 = pytest.importorskip("speculators.models.eagle3")

NOTHING = DraftTree.empty()
STEPS = 3


def theirs(folder: Path, ids: Any, states: Any) -> tuple[list[Any], list[Any]]:
    """Logits [T, K] of each of its unrolled steps, and what it hands on [T, H]."""
    config = eagle3.Eagle3SpeculatorConfig.from_pretrained(folder)
    config.transformer_layer_config._attn_implementation = "eager"
    model = eagle3.Eagle3DraftModel.from_pretrained(folder, config=config).eval().float()
    logits, handed = list[Any](), list[Any]()
    model.lm_head.register_forward_hook(lambda _, __, out: logits.append(out[0].numpy()))
    last = model.norm if config.norm_output else model.layers[-1]
    last.register_forward_hook(lambda _, __, out: handed.append((out[0] if isinstance(out, tuple) else out)[0].numpy()))
    with torch.inference_mode():
        model(states.flatten(1)[None], torch.tensor([ids]), torch.zeros(1, len(ids), dtype=torch.long), ttt_steps=STEPS)
    return logits, handed


def check(folder: Path, target: Path, count: int, vocab_size: int, width: int) -> None:
    """Both say the same of a text, and of what is drafted below each of its tokens."""
    drawn = np.random.default_rng(1)
    ids, states = drawn.integers(0, vocab_size, 9).tolist(), drawn.standard_normal((9, count, width)).astype(np.float32)
    logits, handed = theirs(folder, ids, torch.from_numpy(states))
    engine, _ = load_engine(str(target), engine="hf", dtype="float32", threads=1)
    opened = open_beside(str(folder), engine)
    assert opened.reads is not None
    features, last = opened.reads.fuse([states[:, n] for n in range(count)]), opened.engine.offers.layers

    def near(ours: Any, wanted: Any) -> None:
        assert np.abs(np.asarray(ours) - wanted).max() <= 2e-4 * np.abs(wanted).max()

    whole = Part(opened.engine.open(reuse=None), np.array(ids, np.int32), NOTHING, 9, (last,), features)
    (scored,) = opened.engine.forward([whole])
    near(scored.logits, logits[0])
    near(scored.hidden[last], handed[0])
    for row in range(9 - STEPS):
        sequence = opened.engine.open(reuse=None)
        part = Part(sequence, np.array(ids[: row + 1], np.int32), NOTHING, 1, (last,), features[: row + 1])
        beside = numbers(opened.engine.forward([part])[0].hidden[last])[-1:]
        for step in range(1, STEPS):
            tree = DraftTree.chain(ids[row + 1 : row + 1 + step])
            further = Part(sequence, np.empty(0, np.int32), tree, 0, (last,), beside)
            (scored,) = opened.engine.forward([further])
            near(scored.logits[0], logits[step][row])
            beside = numbers(scored.hidden[last])
            near(beside[0], handed[step][row])


@pytest.fixture(autouse=True)
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In full precision: as a graph, heads have weights in eight bits."""
    monkeypatch.setattr(load, "has_openvino", lambda: False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "specforge"])
def test_random_heads_of_its_kinds(kind: str, targets: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    target = targets["qwen3" if kind == "qwen3" else "llama"]
    head_of(tmp_path / "head", target, kind)
    check(tmp_path / "head", target, 3, 300, 64)


def test_a_head_of_ours(tmp_path: Path) -> None:
    target = save_target(tmp_path / "base")
    data = write(tmp_path / "said.jsonl", rows_of(60))
    found = train_drafter(job(target, data, tmp_path / "head", 4), tmp_path)
    assert found is not None
    out = publish(str(tmp_path / "head"), "speculators", tmp_path / "out", tmp_path)
    engine, _ = load_engine(str(target), engine="hf", dtype="float32", threads=1)
    width = int(engine.model.config.hidden_size)  # type: ignore[attr-defined]
    check(out, target, len(found["states"]), VOCABULARY, width)
