"""Models with random weights: the graph made node by node is a Llama's, its weights keep the form they are made in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hierdraft.choices import WEIGHTS
from hierdraft.engines.measure import forward
from hierdraft.engines.openvino import random_weights
from hierdraft.engines.openvino.engine import OpenVINOEngine
from hierdraft.engines.openvino.files import graph_file
from hierdraft.engines.openvino.graph import convert
from hierdraft.engines.openvino.join import join_products
from hierdraft.engines.openvino.llama import Sizes
from hierdraft.engines.openvino.random_weights import RandomWeights, size_on_disk, write_random
from hierdraft.engines.openvino.runtime import openvino, ops
from hierdraft.errors import CacheError
from hierdraft.models.random_models import random_engine
from hierdraft.tree import DraftTree

SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": False, "rope_theta": 5_000.0,
}  # fmt: skip
KINDS = [
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "head_dim": 64},
    {"tie_word_embeddings": True},
]


class ModelWeights:
    """A transformers model's."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self._model = {name.removeprefix("model."): part for name, part in model.state_dict().items()}

    def _of(self, name: str) -> Any:
        layer, _, kind = name.rpartition(".")
        parts = {
            "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "o_proj": ["self_attn.o_proj"],
            "gate_up": ["mlp.gate_proj", "mlp.up_proj"], "down_proj": ["mlp.down_proj"],
        }.get(kind, [kind])  # fmt: skip
        names = [f"{layer}.{part}.weight".removeprefix(".") for part in parts]
        return torch.cat([self._model[name] for name in names]).numpy()

    def matrix(self, name: str, rows: int, columns: int) -> Any:
        found = self._of(name)
        assert found.shape == (rows, columns)
        return ops.constant(found)

    def vector(self, name: str, size: int) -> Any:
        return ops.constant(self._of(name).reshape(1, 1, size))


@pytest.mark.parametrize("changes", KINDS)
def test_the_graph_is_that_of_transformers(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model's own weights it says what the model does, along a chain and in a tree."""
    given = {**SIZES, **changes}
    torch.manual_seed(1)
    rope = {"rope_type": "default", "rope_theta": given["rope_theta"]}
    model = LlamaForCausalLM(LlamaConfig(**given, rope_parameters=rope, initializer_range=0.2)).eval()
    for name, part in model.named_parameters():
        if "norm" in name:
            part.data = torch.rand_like(part) + 0.5
    monkeypatch.setattr(random_weights, "RandomWeights", lambda _weights: ModelWeights(model))
    write_random(given, "float32", 512, tmp_path)
    engine = OpenVINOEngine(tmp_path, threads=1)
    text, tree = [5, 9, 250, 5, 9, 251, 17], DraftTree.build([3, 4, 8], [-1, -1, 0])
    found = forward(engine, engine.open(text), text, tree)
    for row, path in ((0, []), (1, [3]), (2, [4]), (3, [3, 8])):
        with torch.no_grad():
            wanted = model(torch.tensor([text + path])).logits[0, -1].numpy()
        np.testing.assert_allclose(found[row], wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_stay_in_the_form_they_are_made_in(weights: str, tmp_path: Path) -> None:
    """On disk, where each is another one, and in the kernels."""
    write_random(SIZES, weights, 512, tmp_path)
    size = graph_file(tmp_path).with_suffix(".bin").stat().st_size
    assert abs(size - size_on_disk(Sizes(SIZES), weights)) < 0.05 * size
    small = kernels(tmp_path, weights)[1]
    layers, tokens = 2 * 4, 2
    assert small["unknown_u4"] == (2 * layers if weights == "int4" else 0)  # numbers and zero points
    assert small["unknown_u8"] + small["unknown_I8"] >= {"int4": tokens, "int8": layers + tokens}.get(weights, 0)


def test_the_kernels_are_those_of_a_converted_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, max_position_embeddings=512)).eval()
    for name in ("made", "converted"):
        (tmp_path / name).mkdir()
        write_random(SIZES, "float32", 512, tmp_path / name)
    openvino.save_model(join_products(convert(model, [None] * 2)), graph_file(tmp_path / "converted"))
    made, converted = (kernels(tmp_path / name, "float32")[0] for name in ("made", "converted"))
    assert made == converted
    assert set(made) == set(SLOW)


SLOW = ("FullyConnected", "RMS", "RoPE", "PagedAttention", "Split")


def kernels(folder: Path, dtype: str) -> tuple[Counter[str], Counter[str]]:
    """How many kernels of the kinds that take time, and how many constants of every type."""
    engine = OpenVINOEngine(folder, dtype, threads=1)
    assert np.isfinite(forward(engine, engine.open(), [1, 2, 3])).all()
    graph = engine._cache._compiled.request.get_compiled_model().get_runtime_model()
    told = [[str(op.get_rt_info()[name].value) for name in ("layerType", "primitiveType")] for op in graph.get_ops()]
    slow = Counter(layer for layer, _ in told if layer in SLOW)
    return slow, Counter(kind for layer, kind in told if layer == "Const")


def test_random_weights_are_spread_alike_in_every_form() -> None:
    spread = {}
    for weights in WEIGHTS:
        node = RandomWeights(weights).matrix("layers.0.qkv", 256, 512)
        graph = ops.result(ops.add(node, ops.parameter([256, 512], dtype=np.float32)))
        spread[weights] = run(graph).std()
    assert max(spread.values()) < 1.05 * min(spread.values())
    assert abs(spread["float32"] - 0.02) < 1e-3


def run(result: Any) -> Any:
    sum_ = result.input_value(0).get_node()
    given = next(part.get_node() for part in sum_.input_values() if part.get_node().get_type_name() == "Parameter")
    compiled = openvino.Core().compile_model(openvino.Model([result], [given]), "CPU")
    return compiled([np.zeros((256, 512), dtype=np.float32)])[0]


def test_nothing_of_the_graph_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of one whose process was killed."""
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f"random-{killed.stdout.decode().strip()}-abc").mkdir()
    others = [tmp_path / f"random-{os.getpid()}-abc", tmp_path / "random-thoughts"]
    for folder in others:
        folder.mkdir()
    engine = random_engine("llama-68m", tmp_path, engine="openvino", dtype="int4", threads=1, **SIZES)
    assert (engine.name, engine.dtype, engine.vocab_size) == ("openvino", "int4", 300)
    assert engine.cost(1) > 0.0
    assert sorted(tmp_path.iterdir()) == sorted(others)

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr(random_weights.openvino, "save_model", full)
    with pytest.raises(CacheError, match="could not be written: no space left"):
        random_engine("llama-68m", tmp_path, engine="openvino", threads=1, **SIZES)
    assert sorted(tmp_path.iterdir()) == sorted(others)
