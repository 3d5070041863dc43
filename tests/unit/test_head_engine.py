"""A head as an OpenVINO graph says what it says in torch: along a text, in a tree level by level, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.engines.openvino.engine import OpenVINOEngine
from hierdraft.engines.openvino.head import Form, HeadWeights, write_head
from hierdraft.engines.openvino.llama import Sizes
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.protocols import Part
from hierdraft.training.eagle import EagleHead
from hierdraft.training.eagle_body import Chains
from hierdraft.tree import DraftTree

CONFIG: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "vocab_size": 90, "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}  # fmt: skip
NOTHING = DraftTree.empty()


@pytest.fixture(scope="module")
def head() -> EagleHead:
    torch.manual_seed(3)
    kept = np.arange(0, 90, 2, dtype=np.int32)
    made = EagleHead(CONFIG, torch.randn(90, 48), torch.randn(90, 48), kept, states=3, unrolled=2)
    for name, one in made.body.named_parameters():
        if "norm" in name:
            one.data = torch.rand_like(one) + 0.5
    return made.eval()


def engine_of(head: EagleHead, folder: Path, *, whole: bool = True) -> OpenVINOEngine:
    folder.mkdir(exist_ok=True)
    sizes = Sizes({**CONFIG, "rope_theta": 5000.0, "num_hidden_layers": 1})
    own = {name.removesuffix(".weight"): one for name, one in head.own().items()}
    weights = HeadWeights(own, head.embedding.numpy(), head.rows.output.numpy(), whole=whole)
    write_head(folder, sizes, weights, len(head.rows.output), 64, Form())
    return OpenVINOEngine(folder, "float32", threads=1)


@torch.inference_mode()
def told(head: EagleHead, ids: list[int], features: Any) -> tuple[Any, Any]:
    """(logits, what comes out of the layer) after each of these tokens, in torch."""
    where = torch.arange(len(ids))
    mask = torch.ones(len(ids), len(ids)).tril().bool()
    states = Chains(head.body, head.embedding[torch.tensor(ids)], torch.from_numpy(features), where, mask).begin(where)
    return head.rows.scores(head.body.norm(states)).numpy(), states.numpy()


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)


def test_a_text_and_a_tree_below_it(head: EagleHead, tmp_path: Path) -> None:
    engine = engine_of(head, tmp_path / "head")
    assert (engine.offers.features, engine.offers.layers, engine.vocab_size) == (48, 1, 90)
    drawn = np.random.default_rng(1)
    ids, features = [5, 9, 70, 5, 31], drawn.standard_normal((5, 48)).astype(np.float32)
    sequence = engine.open(reuse=None)
    found = engine.forward([Part(sequence, np.array(ids, np.int32), NOTHING, 5, (1,), features)])[0]
    logits, states = told(head, ids, features)
    close(found.logits, logits)
    close(found.hidden[1], states)

    tokens, parents = [3, 44, 8, 60, 7], [-1, -1, 0, 0, 2]
    above = drawn.standard_normal((5, 48)).astype(np.float32)
    whole = DraftTree.build(tokens, parents)
    for first, count in ((0, 2), (2, 4), (4, 5)):
        part = Part(sequence, np.empty(0, np.int32), whole.prefix(count), 0, (1,), above[first:count])
        found = engine.forward([part])[0]
        for row, node in enumerate(range(first, count)):
            path = [*whole.path(node)]
            beside = np.concatenate([features, above[path]])
            logits, states = told(head, ids + [tokens[one] for one in path], beside)
            close(found.logits[row], logits[-1])
            close(found.hidden[1][row], states[-1])

    sequence.commit([])
    again = engine.forward([Part(sequence, np.array([44], np.int32), whole.prefix(2), 1, (1,), above[[1, 0, 1]])])[0]
    logits, states = told(head, [*ids, 44], np.concatenate([features, above[1:2]]))
    close(again.logits[0], logits[-1])
    for node in (0, 1):
        beside = np.concatenate([features, above[[1, node]]])
        logits, states = told(head, [*ids, 44, tokens[node]], beside)
        close(again.hidden[1][1 + node], states[-1])


def test_several_texts_share_a_forward(head: EagleHead, tmp_path: Path) -> None:
    engine = engine_of(head, tmp_path / "head")
    drawn = np.random.default_rng(2)
    texts = [drawn.integers(0, 90, size).tolist() for size in (1, 7, 3)]
    beside = [drawn.standard_normal((len(text), 48)).astype(np.float32) for text in texts]
    parts = [
        Part(engine.open(reuse=None), np.array(text, np.int32), NOTHING, 1, (1,), given)
        for text, given in zip(texts, beside, strict=True)
    ]
    for found, text, given in zip(engine.forward(parts), texts, beside, strict=True):
        logits, states = told(head, text, given)
        close(found.logits[0], logits[-1])
        close(found.hidden[1], states)


def test_eight_bits_are_nearly_the_same(head: EagleHead, tmp_path: Path) -> None:
    engine = engine_of(head, tmp_path / "small", whole=False)
    ids, features = [5, 9, 70], np.random.default_rng(1).standard_normal((3, 48)).astype(np.float32)
    found = engine.forward([Part(engine.open(reuse=None), np.array(ids, np.int32), NOTHING, 3, (1,), features)])[0]
    logits, _ = told(head, ids, features)
    assert np.abs(found.logits - logits).max() < 0.05 * np.abs(logits).max()


def test_features_are_asked_for_by_name(head: EagleHead, tmp_path: Path) -> None:
    engine = engine_of(head, tmp_path / "head")
    sequence, ids = engine.open(reuse=None), np.array([1, 2], np.int32)
    for features in (None, np.zeros((1, 48), np.float32), np.zeros((2, 47), np.float32), np.zeros((2, 48))):
        with pytest.raises(UsageError, match=r"takes features float32\[2, 48\] here"):
            engine.forward([Part(sequence, ids, NOTHING, 1, (), features)])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="only what comes out"):
        engine.forward([Part(sequence, ids, NOTHING, 1, (0,), np.zeros((2, 48), np.float32))])
    assert sequence.length == 0
