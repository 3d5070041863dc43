"""OpenVINO graphs show the hidden states that the model itself has, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.models import load as loading
from hierdraft.protocols import Part, Wants
from hierdraft.tree import DraftTree
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import run
from tests.lossless.tiny import VOCABULARY, tiny
from tests.unit.gguf_files import write_gguf

pytest.importorskip("openvino")
from hierdraft.engines.openvino import compiled
from hierdraft.engines.openvino.engine import OpenVINOEngine
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.models import graphs as files
from hierdraft.models.convert import convert_folder

FAMILIES = ("llama", "qwen2", "qwen3", "phi", "gpt2", "gpt-neox")
TEXT = np.random.default_rng(5).integers(3, VOCABULARY, 21).astype(np.int32)
TREE = DraftTree.build([7, 8, 9, 10, 11, 12, 13, 14], [-1, 0, -1, 1, 2, 2, 3, 0])
NOTHING = DraftTree.empty()


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "converted", convert_folder)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The graph of a family, converted once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            whole = tmp_path_factory.mktemp(name)
            tiny(name, dtype=torch.float32).save_pretrained(whole / "model")
            made[name] = files.prepare(whole / "model", "float32", whole)
        return made[name]

    return folder


def part(sequence: Any, tokens: Any, tree: DraftTree = NOTHING, rows: int = 1, hidden: tuple[int, ...] = ()) -> Part:
    return Part(sequence, np.asarray(tokens, dtype=np.int32), tree, rows, hidden)


def near(ours: Any, theirs: Any) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


def script(engine: Any, asked: tuple[int, ...]) -> list[Any]:
    """What is shown of a text in two pieces, of trees of two sequences at a time, and of nodes below others."""
    one, other = engine.open(reuse=None), engine.open(reuse=None)
    found = [engine.forward([part(one, TEXT[:9], rows=0, hidden=asked)])[0].hidden]
    found += [each.hidden for each in engine.forward([
        part(one, TEXT[9:], TREE.prefix(3), hidden=asked), part(other, TEXT[:4], TREE, 2, hidden=asked[-1:]),
    ])]  # fmt: skip
    found += [each.hidden for each in engine.forward([
        part(other, [5], hidden=()), part(one, [], TREE, 0, hidden=asked),
    ])]  # fmt: skip
    one.commit([0, 1])
    found.append(engine.forward([part(one, [5], TREE, hidden=asked[:1])])[0].hidden)
    return [{layer: np.asarray(rows).copy() for layer, rows in shown.items()} for shown in found]


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_the_models_own(name: str, folders: Any) -> None:
    engine, theirs = OpenVINOEngine(folders(name), threads=1), HFEngine(tiny(name, dtype=torch.float32))
    assert engine.offers.layers == theirs.offers.layers
    asked = tuple(range(engine.offers.layers + 1))
    ours, wanted = script(engine, asked), script(theirs, asked)
    counts = [len(next(iter(one.values()), ())) for one in ours]
    assert counts == [9, len(TEXT) - 9 + 3, 4 + len(TREE), 0, len(TREE) - 3, 1 + len(TREE)]
    for shown, told in zip(ours, wanted, strict=True):
        assert sorted(shown) == sorted(told)
        for layer, rows in shown.items():
            near(rows, told[layer])


@pytest.mark.parametrize("name", ["llama", "gpt-neox"])
def test_showing_them_changes_no_logits(name: str, folders: Any) -> None:
    """Also for a text that was begun before anything was shown."""
    engine, plain = (OpenVINOEngine(folders(name), threads=1) for _ in range(2))
    sequences = [one.open(reuse=None) for one in (engine, plain)]
    for number, hidden in enumerate(((), (), (1,), (), (0, 2))):
        tokens = TEXT[4 * number : 4 * number + 4]
        rows = [
            np.array(one.forward([part(sequence, tokens, TREE, hidden=hidden if one is engine else ())])[0].logits)
            for one, sequence in zip((engine, plain), sequences, strict=True)
        ]
        np.testing.assert_array_equal(*rows)
        for sequence in sequences:
            sequence.commit([0])


class Reader(HARMLESS["OracleInATree"]):  # type: ignore[misc, valid-type]
    """Adds up what it is shown."""

    wants = Wants(hidden=(1, 3))
    rows = 0

    def observe(self, step: Any) -> None:
        super().observe(step)
        assert sorted(step.hidden) == [1, 3]
        self.rows += sum(len(one) for one in step.hidden[3])


def test_a_method_reads_them(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.decoding.loop.CHUNK", 7)
    engine = OpenVINOEngine(folders("llama"), threads=1)
    truth = run(engine, PlainMethod(), TEXT.tolist(), Options(20))[0]
    reader = Reader(VOCABULARY, TEXT.tolist() + truth, 7)
    assert run(engine, reader, TEXT.tolist(), Options(20, budget=FixedBudget(9)))[0] == truth
    assert reader.rows > len(TEXT) + 9


def test_in_forwards_of_several_calls(folders: Any) -> None:
    whole, pieces = (OpenVINOEngine(folders("llama"), threads=1) for _ in range(2))
    pieces.bound_rows(2, 10)
    for shown, told in zip(*(
        [engine.forward([part(engine.open(reuse=None), TEXT, TREE, 3, (0, 4))])[0].hidden for _ in range(1)]
        for engine in (pieces, whole)
    ), strict=True):  # fmt: skip
        for layer in (0, 4):
            assert len(shown[layer]) == len(TEXT) + len(TREE)
            near(shown[layer], told[layer])


def test_of_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino_genai")
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "model.gguf", "llama", "F16", seed=3)
    ours, _, _ = loading.load_parts(str(file), engine="openvino", threads=1, dtype="float32")
    theirs, _, _ = loading.load_parts(str(file), engine="hf", threads=1, lean=False)
    layers = theirs.offers.layers
    assert ours.offers.layers == layers
    text = np.arange(3, 15, dtype=np.int32)
    told, wanted = (one.forward([part(one.open(reuse=None), text, hidden=(0, 1, layers))])[0].hidden
                    for one in (ours, theirs))  # fmt: skip
    for layer in (0, 1, layers):
        np.testing.assert_allclose(told[layer], np.asarray(wanted[layer]), rtol=3e-2, atol=3e-2)


def test_who_cannot_show_them_says_so(folders: Any) -> None:
    engine = OpenVINOEngine(folders("mistral"), threads=1)
    with pytest.raises(UsageError, match="shows no hidden states"):
        engine.forward([part(engine.open(), TEXT, hidden=(1,))])


def test_a_graph_that_fails_to_compile_leaves_the_one_before(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpenVINOEngine(folders("llama"), threads=1)
    sequence = engine.open(reuse=None)
    wanted = np.array(engine.forward([part(sequence, TEXT)])[0].logits)

    def full(graph: Any, outputs: Any) -> Any:
        if outputs:
            raise RuntimeError("no room\nfor two")
        return graph

    monkeypatch.setattr(compiled, "with_hidden", full)
    with pytest.raises(UnsupportedModelError, match=r"cannot show its hidden states \(for two\)"):
        engine.forward([part(sequence, [5], hidden=(1,))])
    sequence.rewind(len(TEXT) - 1)
    np.testing.assert_array_equal(engine.forward([part(sequence, TEXT[-1:])])[0].logits, wanted)


def test_where_layers_end_is_told_or_nothing() -> None:
    """Two paths side by side through everything: there is no place that all of it goes through."""
    ops = openvino.opset13
    ids = ops.parameter([-1], openvino.Type.i64, name="input_ids")
    ids.output(0).set_names({"input_ids"})
    table = ops.constant(np.ones((9, 4), dtype=np.float32))
    found = ops.gather(table, ids, ops.constant(0))
    graph = openvino.Model([ops.result(ops.add(ops.sin(found), ops.cos(found)))], [ids])
    assert compiled.layer_outputs(graph) == []
