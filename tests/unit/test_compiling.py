"""Graphs in bfloat16: OpenVINO's fused feed-forward layers divide by zero with one thread, or refuse sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from hierdraft.models.load import load_engine
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
from tests.unit.test_training import save_target

pytest.importorskip("openvino")

from hierdraft.engines.openvino import compiling

IN_BFLOAT16 = pytest.mark.skipif(not compiling.has_bfloat16(), reason="this processor does not compute in bfloat16")

LOADED = """
import sys
import numpy as np
from hierdraft.models.load import load_engine
from hierdraft.protocols import Part
from hierdraft.tree import DraftTree
engine, _ = load_engine(sys.argv[1], engine="openvino", dtype=sys.argv[2], threads=int(sys.argv[3]))
found = engine.forward([Part(engine.open(reuse=None), np.arange(3, 9, dtype=np.int32), DraftTree.empty(), 6, (1,))])
print(*engine.choices(found[0].logits))
"""


def saved(folder: Path, width: int, inner: int) -> Path:
    """A tiny Llama of these sizes."""
    save_target(folder)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=width, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def said(folder: Path, dtype: str, threads: int, *before: str) -> list[str]:
    """What the model says, from a process of its own, which may die."""
    command = [*before, sys.executable, "-c", LOADED, str(folder), dtype, str(threads)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.split()


@IN_BFLOAT16
def test_one_thread_is_enough(tmp_path: Path) -> None:
    """With one thread, and on one core, the model says what it says with two."""
    folder = saved(tmp_path / "model", 256, 512)
    two = said(folder, "bfloat16", 2)
    assert len(two) == 6
    assert said(folder, "bfloat16", 1) == two
    assert said(folder, "bfloat16", 2, "taskset", "-c", "0") == two


@IN_BFLOAT16
def test_sizes_that_the_fused_layer_refuses_with_one_thread_run_on_openvino(tmp_path: Path) -> None:
    folder = save_target(tmp_path / "model")
    engine, _ = load_engine(str(folder), engine="openvino", dtype="bfloat16", threads=1)
    assert engine.offers.layers > 0


def test_what_keeps_products_apart_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "model", 64, 96)
    plain = said(folder, "float32", 1)
    kept = compiling._keep_apart
    done: list[Any] = []

    def compiled(graph: Any, options: dict[str, Any]) -> Any:
        kept(graph)
        done.append(graph)
        return compiling.openvino.Core().compile_model(graph, "CPU", options)

    monkeypatch.setattr("hierdraft.engines.openvino.compiled.compile_graph", compiled)
    engine, _ = load_engine(str(folder), engine="openvino", dtype="float32", threads=1)
    part = Part(engine.open(reuse=None), np.arange(3, 9, dtype=np.int32), DraftTree.empty(), 6)
    assert [str(one) for one in engine.choices(engine.forward([part])[0].logits)] == plain
    assert any(node.get_type_name() == "Clamp" for node in done[0].get_ops())
