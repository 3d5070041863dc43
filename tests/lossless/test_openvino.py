"""OpenVINO graphs of tiny random models of many families, and of the real one: the same ids as transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache

import hierdraft
from hierdraft.bench.datasets import builtin_prompts
from hierdraft.choices import number_type
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.errors import MissingDependencyError, ModelError, UnsupportedModelError, UsageError
from hierdraft.models import load as loading
from hierdraft.models.named import ResolvedModel
from hierdraft.protocols import Part, RequestSampling
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler
from tests.lossless.drafters import HARMLESS, with_model
from tests.lossless.harness import check_every_drafter, fresh, kept, opened, run
from tests.lossless.tiny import VOCABULARY, WINDOW, reference, tiny

pytest.importorskip("openvino")
from hierdraft.engines.openvino.blocks import key_after
from hierdraft.engines.openvino.calls import in_calls
from hierdraft.engines.openvino.callsizes import SIZES
from hierdraft.engines.openvino.engine import OpenVINOEngine
from hierdraft.engines.openvino.graph import convert
from hierdraft.engines.openvino.join import join_products
from hierdraft.engines.openvino.margin import fewest_scored_alike, rows_scored_alike
from hierdraft.engines.openvino.paged import Pool
from hierdraft.models import graphs as files
from hierdraft.models.convert import convert_folder, quiet

FAMILIES = ("llama", "qwen2", "qwen2-sliding", "qwen3", "mistral", "gemma3", "phi", "phi3", "gpt2", "gpt-neox")
PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
LIMIT = 5 * WINDOW


def saved(name: str, folder: Path, **options: Any) -> tuple[Any, Path]:
    """A tiny model in float32, and a folder that it was saved to."""
    model = tiny(name, dtype=torch.float32, **options)
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    """Conversions take seconds more in a process of their own, which `test_openvino_convert.py` looks at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "converted", convert_folder)
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any]:
    """Name, model, and its graph's engine, converted once for all tests."""
    folder = tmp_path_factory.mktemp(request.param)
    model, path = saved(request.param, folder / "model")
    return request.param, model, OpenVINOEngine(files.prepare(path, "float32", folder))


def test_every_family_drafts_for_itself_as_a_chain(family: tuple[str, Any, Any]) -> None:
    """The drafter is another sequence of the same engine: a chain with other candidates at its side."""
    name, model, engine = family
    truth = reference(model, PROMPT, 30)
    drafter = with_model(engine, width=(3, 1), depth=4)
    got, steps = run(engine, drafter, PROMPT, Options(30, budget=FixedBudget(8)))
    assert got == truth, name
    assert np.mean([step.accepted for step in steps[1:-1]]) > 2
    assert max(int(step.tree.depths().max(initial=0)) for step in steps) == 4
    assert not all(step.tree.is_chain for step in steps)
    told = RequestSampling(draws=True, seed=4)
    drawn = Options(30, budget=FixedBudget(8), verifier=Sampler(engine.values, [], 4), sampling=told)
    _, steps = run(engine, drafter, PROMPT, drawn)
    assert np.mean([step.accepted for step in steps[1:-1]]) > 2


def test_every_family_with_every_drafter(family: tuple[str, Any, Any]) -> None:
    _, model, engine = family
    truth = reference(model, PROMPT, LIMIT)
    check_every_drafter(engine, PROMPT, truth, VOCABULARY)


def test_layer_by_layer_as_transformers_after_every_step(family: tuple[str, Any, Any]) -> None:
    """Keys and values of a layer are made of what the layers before it have put out."""
    _, model, engine = family
    truth = reference(model, PROMPT, LIMIT)
    tokens = list(PROMPT)
    drafter = HARMLESS["OracleInATree"](VOCABULARY, PROMPT + truth, 1)
    sequence = opened(engine)
    for step in decode(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(15))):
        tokens += step.tokens
        if step.finish:
            break
        theirs = DynamicCache()
        with torch.no_grad():
            model(torch.tensor([tokens[: sequence[0].length]]), past_key_values=theirs, use_cache=True)
        for ours, layer in zip(sequence[0].cached(), theirs.layers, strict=True):
            for a, b in zip(ours, (layer.keys, layer.values), strict=True):
                np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-3)


def test_every_row_of_a_tree_is_scored_as_its_own_text(family: tuple[str, Any, Any]) -> None:
    _, model, engine = family
    rng = np.random.default_rng(3)
    text = rng.integers(3, VOCABULARY, 2 * WINDOW).tolist()
    sequence = engine.open(reuse=None)
    sequence.prefill(text[:-1])
    for turn in range(3):
        n = 12
        parents = [int(rng.integers(-1, i)) if i else -1 for i in range(n)]
        tree = DraftTree.build(rng.integers(3, VOCABULARY, n).tolist(), parents)
        logits = sequence.forward(text[-1], tree).copy()
        for node in range(-1, n):
            path = [int(tree.tokens[at]) for at in tree.path(node)]
            with torch.no_grad():
                wanted = model(torch.tensor([text + path])).logits[0, -1].numpy()
            np.testing.assert_allclose(logits[node + 1], wanted, rtol=1e-3, atol=1e-3)
        path = tree.path(turn + 5)
        sequence.commit(path[:-1])
        text += [int(tree.tokens[at]) for at in path]


def test_trees_go_on_below_rows_that_are_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any order of forwards, pieces of trees, commits and rewinds, of texts that share blocks; also as the room grows.

    Each new row is scored as its own text's: to the last bit where all above it are first children, of whole trees.
    """
    monkeypatch.setattr("hierdraft.engines.openvino.paged._FIRST", 1)
    _, path = saved("llama", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    chance = np.random.default_rng(11)
    shared = chance.integers(3, VOCABULARY, 64).tolist()
    texts = [[*shared, *chance.integers(3, VOCABULARY, n).tolist()] for n in (1, 30, 33, 60)]
    sequences = [engine.open(text, reuse="texts") for text in texts]
    for sequence, text in zip(sequences, texts, strict=True):
        sequence.prefill(text[sequence.length :])
    for turn in range(12):
        for sequence, text in zip(sequences, texts, strict=True):
            text.append(int(chance.integers(3, VOCABULARY)))
            assert sequence.length == len(text) - 1
        sizes = chance.integers(2, 9, len(texts)).tolist()
        trees = [random_tree(chance, n) for n in sizes]
        cuts = [sorted(chance.integers(0, n, 2).tolist()) for n in sizes]
        pieces = [[] for _ in texts]
        for place, (text, cut) in enumerate(zip(texts, cuts, strict=True)):
            last = np.array(text[-1:], dtype=np.int32)
            pieces[place].append(Part(sequences[place], last, trees[place].prefix(cut[0])))
            ends = [end for before, end in pairwise([*cut, sizes[place]]) if end > before]
            pieces[place] += [Part(sequences[place], last[:0], trees[place].prefix(end), 0) for end in ends]
        found = [[] for _ in texts]
        while any(pieces):
            now = [place for place, waiting in enumerate(pieces) if waiting]
            scored = engine.forward([pieces[place].pop(0) for place in now])
            for place, one in zip(now, scored, strict=True):
                found[place].append(one.logits.copy())
        for place, (text, tree, sequence) in enumerate(zip(texts, trees, sequences, strict=True)):
            check_rows(engine, text, tree, np.concatenate(found[place]), exact=turn == 0)
            end = int(chance.integers(-1, len(tree)))
            sequence.commit(tree.path(end))
            text += tree.tokens[tree.path(end)].tolist()
            if turn % 4 == 3:
                sequence.rewind(len(text) - 3)
                del text[-3:]
    assert engine.cache_blocks[1] <= sum(-(-len(text) // 32) + 1 for text in texts)
    for sequence in sequences:
        sequence.close()
    assert engine.cache_blocks[1] == 0


def test_a_tree_goes_on_below_a_text_that_was_taken_back_into_a_shared_block(tmp_path: Path) -> None:
    _, path = saved("llama", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    text = np.random.default_rng(3).integers(3, VOCABULARY, 40).tolist()
    first = engine.open(text, reuse="texts")
    first.prefill(text)
    second = engine.open(text, reuse="texts")
    assert second.length == 32
    second.rewind(12)
    rows = second.extend(DraftTree.chain([50, 51])).copy()
    with closing(engine.open(reuse=None)) as alone:
        alone.prefill(text[:11])
        wanted = alone.forward(text[11], DraftTree.chain([50, 51]))[1:]
        np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5)
    third = engine.open(text, reuse="texts")  # what others read has not changed
    last = third.prefill(text[third.length :]).copy()
    with closing(engine.open(reuse=None)) as alone:
        np.testing.assert_allclose(last, alone.prefill(text), rtol=1e-4, atol=1e-5)


def random_tree(chance: np.random.Generator, n: int) -> DraftTree:
    parents = [int(chance.integers(-1, i)) if i else -1 for i in range(n)]
    return DraftTree.build(chance.integers(3, VOCABULARY, n).tolist(), parents)


def check_rows(engine: Any, text: list[int], tree: DraftTree, rows: np.ndarray, *, exact: bool) -> None:
    """Every row is that of its own text; `exact`: nothing of that lies where a row of another branch was."""
    first = exact and all(tree.children(int(parent))[0] == node for node, parent in enumerate(tree.parents))
    for node in range(-1, len(tree)):
        with closing(engine.open(reuse=None)) as alone:
            alone.prefill(text[:-1])
            wanted = alone.forward(text[-1], DraftTree.chain(tree.tokens[tree.path(node)].tolist()))[-1]
            np.testing.assert_allclose(rows[node + 1], wanted, rtol=1e-4, atol=1e-5)
            if first:
                np.testing.assert_array_equal(rows[node + 1], wanted)


def test_rejected_rows_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.engines.openvino.variables.MOST_DROPPED", 0)
    model, path = saved("gemma3", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    truth = reference(model, PROMPT, 200)
    drafter = HARMLESS["OracleInATree"](VOCABULARY, PROMPT + truth, 5)
    sequences: list[Any] = []
    got, steps = run(engine, drafter, PROMPT, Options(200, budget=FixedBudget(40), keep=kept(sequences)))
    assert got == truth
    assert sum(len(step.tree) - len(step.path) for step in steps) > 300
    (sequence,) = sequences
    assert sequence.table.dropped <= sequence.length + 41
    sequence.rewind(20)
    assert sequence.length == 20
    assert run(engine, PlainMethod(), PROMPT, Options(30))[0] == truth[:30]


@pytest.mark.parametrize("aside", ["within what was set aside", "moving", "where memory counts before it is used"])
def test_blocks_grow_with_the_text(aside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.engines.openvino.paged._FIRST", 1)
    if aside == "moving":
        monkeypatch.setattr("hierdraft.engines.openvino.paged.ASIDE", 0)
    elif aside != "within what was set aside":
        real = Pool._set_aside

        def scarce(pool: Any, blocks: int) -> None:
            if blocks > 100:
                raise MemoryError
            real(pool, blocks)

        monkeypatch.setattr(Pool, "_set_aside", scarce)
    model, path = saved("llama", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    truth = reference(model, PROMPT, 180)
    for kind in ("OracleInATree", "RandomTree"):
        drafter = HARMLESS[kind](VOCABULARY, PROMPT + truth, 5)
        sequences: list[Any] = []
        options = Options(180, budget=FixedBudget(40), keep=kept(sequences))
        assert run(engine, drafter, PROMPT, options)[0] == truth
    (sequence,) = sequences
    sequence.rewind(20)
    assert sequence.length == 20
    with pytest.raises(ValueError, match="from 20 to 21"):
        sequence.rewind(21)


def test_a_batch_is_scored_as_each_text_alone_to_the_last_bit(tmp_path: Path) -> None:
    """Whatever is beside it, in whatever parts its prompt was read, and whoever began alike."""
    _, path = saved("llama", tmp_path / "model")
    check_batches(OpenVINOEngine(files.prepare(path, "float32", tmp_path)), seed=1)


def check_batches(engine: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = (3, 31, 32, 33, 70, 100)
    shared = rng.integers(3, VOCABULARY, 64)
    texts = [np.concatenate([shared, rng.integers(3, VOCABULARY, n)])[-n - (n > 32) * 64 :] for n in lengths]
    trees = [
        DraftTree.build(
            rng.integers(3, VOCABULARY, n).tolist(), [int(rng.integers(-1, i)) if i else -1 for i in range(n)]
        )
        for n in (0, 1, 5, 0, 9, 2)
    ]

    def opened(text: Any, *, chunk: int, reuse: str | None) -> Any:
        sequence = engine.open(text[:-1], reuse=reuse)
        while sequence.length < len(text) - 1:
            sequence.prefill(text[sequence.length : min(sequence.length + chunk, len(text) - 1)], rows=0)
        return sequence

    alone = [
        opened(text, chunk=1000, reuse=None).forward(int(text[-1]), tree).copy()
        for text, tree in zip(texts, trees, strict=True)
    ]
    for chunk in (7, 40):
        sequences = [opened(text, chunk=chunk, reuse="default" if chunk == 40 else None) for text in texts]
        beside = engine.open(reuse=None)
        parts = [
            Part(sequence, text[-1:].astype(np.int32), tree)
            for sequence, text, tree in zip(sequences, texts, trees, strict=True)
        ]
        parts.insert(3, Part(beside, rng.integers(3, VOCABULARY, 50).astype(np.int32), DraftTree.empty()))
        found = [scored.logits for scored in engine.forward(parts)]
        del found[3]
        for mine, expected in zip(found, alone, strict=True):
            np.testing.assert_array_equal(mine, expected)
        for sequence in (*sequences, beside):
            sequence.close()
    with pytest.raises(UsageError, match="closed"):
        engine.forward(parts)
    for namespace, held in (("default", 64 if isinstance(engine._cache, Pool) else 0), ("another", 0)):
        again = engine.open(texts[-1], reuse=namespace)
        assert held <= again.length <= len(texts[-1]) * (held > 0)
        again.close()
    one = engine.open()
    with pytest.raises(UsageError, match="in one part"):
        engine.forward([Part(one, np.array([3], dtype=np.int32), DraftTree.empty())] * 2)


def test_products_of_the_same_rows_are_joined() -> None:
    def products(graph: Any) -> int:
        return sum(node.get_type_name() == "MatMul" for node in graph.get_ops())

    model = tiny("llama", dtype=torch.float32)
    with quiet():
        graph = convert(model, [None] * 4)
    before = products(graph)
    assert products(join_products(graph)) == before - 4 * (2 + 1)  # of three, and of two, in every layer


@pytest.mark.parametrize(("name", "least"), [("gemma3", 1), ("llama", 2)])
def test_forwards_keep_their_number_of_rows_where_a_change_costs_more(name: str, least: int, tmp_path: Path) -> None:
    _, path = saved(name, tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    text = np.random.default_rng(1).integers(3, VOCABULARY, 3 * WINDOW).tolist()
    tree = DraftTree.build([7, 8, 9], [-1, 0, 0])

    def scored(costs: StepCosts) -> list[Any]:
        engine.costs = StepCosts()
        sequence = engine.open(reuse=None)
        sequence.prefill(text)
        engine.costs = costs
        found = []
        for drafts, path in ((tree, [0, 2]), (DraftTree.empty(), []), (tree, [])):
            found.append((sequence.forward(5, drafts).copy(), engine._calls.last, engine.cost(1), engine.cost(5)))
            sequence.commit(path)
        return found

    exact = scored(StepCosts())
    assert [rows for _, rows, _, _ in exact] == [4, least, 4]
    dear = scored(StepCosts({1: 1.0, 4: 1.5, 6: 3.0, 64: 64.0}, change=1.0))
    assert [rows for _, rows, _, _ in dear] == [4, 4, 4]
    assert dear[0][2:] == (1.5, pytest.approx(3.0 + 0.6))
    engine.costs = StepCosts({1: 1.0, 4: 1.5, 6: 3.0, 64: 64.0}, change=1.0)
    assert [engine._calls.rows_for(1) for _ in range(9)].index(least) in (2, 3), "the change would have paid by now"
    cheap = scored(StepCosts({1: 1.0, 4: 1.5, 6: 3.0, 64: 64.0}, change=0.1))
    assert [rows for _, rows, _, _ in cheap] == [4, least, 4]
    for padded in (dear, cheap):
        for (a, *_), (b, *_) in zip(padded, exact, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_what_one_row_costs_is_looked_at_with_few_rows(tmp_path: Path) -> None:
    _, path = saved("llama", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    sequence = engine.open(reuse=None)
    sequence.prefill([3, 4, 5])
    engine.costs = LearnedCosts("cpu", StepCosts({2: 1.0, 12: 1.5, 64: 64.0}, change=1.0), SIZES[1:])
    tree = DraftTree.build(list(range(3, 14)), list(range(-1, 10)))
    asked = []
    for _ in range(200):
        plain = engine.cost(12) == math.inf
        drafts = DraftTree.empty() if plain else tree
        sequence.forward(5, drafts)
        asked.append((plain, engine._calls.last))
        engine.record(1 + len(drafts), 1.5)
    looks = [rows for plain, rows in asked if plain]
    assert 1 <= len(looks) <= 4
    assert set(looks) == {2}
    assert all(rows >= 12 for plain, rows in asked if not plain)


def test_long_prompts_are_scored_in_parts(tmp_path: Path) -> None:
    _, path = saved("gemma3", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    prompt = np.random.default_rng(0).integers(3, VOCABULARY, 150)
    whole = fresh(engine, prompt, rows=7).copy()
    sequence = engine.open(reuse=None)
    for start in range(0, 128, 32):
        assert len(sequence.prefill(prompt[start : start + 32], rows=0)) == 0
    parts = sequence.prefill(prompt[128:], rows=7)
    assert whole.shape == parts.shape == (7, VOCABULARY)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-3)
    assert sequence.length == 150


def test_a_prompt_that_is_read_in_parts_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = saved("llama", tmp_path / "model")
    engine = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
    made: list[bytes] = []

    def counted(key: bytes, tokens: Any) -> bytes:
        made.append(key_after(key, tokens))
        return made[-1]

    monkeypatch.setattr("hierdraft.engines.openvino.blocks.key_after", counted)
    prompt = np.random.default_rng(0).integers(3, VOCABULARY, 200)
    sequence = engine.open(prompt)
    made.clear()  # the first, which nobody has
    for start in range(0, 200, 20):
        sequence.prefill(prompt[start : start + 20])
    assert len(made) == len(set(made)) == 200 // 32
    sequence.rewind(70)
    sequence.prefill(prompt[70:])
    assert len(made) == 200 // 32 + 4  # what was rewound
    sequence.close()
    assert len(made) == 200 // 32 + 4
    other = engine.open(prompt)
    assert other.length == 192
    other.prefill(prompt[192:])
    other.close()
    assert len(set(made)) == 200 // 32
    assert len(made) == 200 // 32 + 4 + 200 // 32  # once more, to look them up


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int4"])
def test_smaller_weights_agree_with_their_own_plain_decoding(dtype: str, tmp_path: Path) -> None:
    from hierdraft.bench.audit import explain, first_difference
    from hierdraft.verify.sampling import Sampling

    if dtype.startswith("int"):
        pytest.importorskip("nncf")
    _, path = saved("llama", tmp_path / "model")
    try:
        engine = OpenVINOEngine(files.prepare(path, number_type(dtype).weights, tmp_path), dtype)
    except UsageError:
        pytest.skip("this CPU does not compute in bfloat16")
    plain = run(engine, PlainMethod(), PROMPT, Options(LIMIT))[0]
    drafter = HARMLESS["OracleInATree"](VOCABULARY, PROMPT + plain, 5)
    got = run(engine, drafter, PROMPT, Options(LIMIT, budget=FixedBudget(12)))[0]
    place = first_difference(plain, got)
    if engine.exact:
        assert place is None
    elif place is not None:
        tokens = plain[place], got[place]
        exact = OpenVINOEngine(files.prepare(path, "float32", tmp_path))
        assert explain("x", PROMPT, plain[:place], tokens, Sampling(), engine, exact).kind == "tie"


@pytest.mark.parametrize("name", ["gemma2", "gpt-oss"])
def test_models_that_have_no_such_kernel_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="OpenVINO"):
        convert(tiny(name), [None] * 4)


def test_a_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = saved("llama", tmp_path / "model")
    folder = files.prepare(path, "float32", tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(files, "converted", None)  # would fail if it were called
        assert files.prepare(path, "float32", tmp_path) == folder
    assert files.prepare(path, "float16", tmp_path) != folder
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert files.prepare(path, "float32", tmp_path) != folder


def test_damaged_graphs_are_converted_again_and_killed_conversions_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = saved("llama", tmp_path / "model")
    folder = files.prepare(path, "float32", tmp_path)
    whole = (folder / "graph.bin").read_bytes()
    (folder / "graph.bin").write_bytes(whole[:-1])
    (folder.parent / f"{folder.name}.killed").mkdir()

    def fails(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "converted", fails)
        with pytest.raises(ModelError, match="No space left"):
            files.prepare(path, "float32", tmp_path)
    assert [entry.name for entry in folder.parent.iterdir()] == [f"{folder.name}.lock"]
    assert files.prepare(path, "float32", tmp_path) == folder
    assert (folder / "graph.bin").read_bytes() == whole
    told = json.loads((folder / "facts.json").read_text())
    for wrong in ({"vocab_size": "abc"}, {"max_length": -5}, {"eos_ids": ["x"]}, {"windows": [1.5]}, None):
        (folder / "facts.json").write_text("{}" if wrong is None else json.dumps(told | wrong))
        with pytest.raises(ModelError, match="damaged"):
            files.Facts.read(folder)


def test_which_engine_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = saved("llama", tmp_path / "model")
    path = str(folder)
    monkeypatch.setattr(loading, "resolve", lambda name, _, **__: ResolvedModel(Path(name), "tiny"))
    monkeypatch.setattr("hierdraft.engines.hf.load.load_tokenizer", lambda _: None)
    assert loading.load_engine(path)[0].name == ("openvino" if not torch.cuda.is_available() else "hf")
    assert loading.load_engine(path, engine="hf")[0].name == "hf"
    assert loading.load_engine(path, engine="openvino", dtype="float16", threads=1)[0].dtype == "float16"
    with pytest.raises(UsageError, match="leave out the device"):
        loading.load_engine(path, engine="openvino", device="cuda")
    monkeypatch.setattr(loading, "has_openvino", lambda: False)
    assert loading.load_engine(path)[0].name == "hf"
    with pytest.raises(MissingDependencyError, match=r"hierdraft\[openvino\]"):
        loading.load_engine(path, engine="openvino")
    with pytest.raises(UsageError, match="int8"):
        loading.load_engine(path, dtype="int8")


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_rows_of_the_real_model_do_not_depend_on_how_many_there_are(dtype: str, smollm2: Path) -> None:
    small = dtype.startswith("int")
    try:
        engine: Any = loading.load_engine(str(smollm2), engine="openvino", dtype=dtype, exact=small or None)[0]
    except (UsageError, MissingDependencyError) as error:
        pytest.skip(str(error))
    text = np.random.default_rng(4).integers(0, engine.vocab_size, 90)
    sequence = engine.open(reuse=None)
    sequence.prefill(text[:40])

    def scored(tree: DraftTree) -> Any:
        sequence.rewind(40)
        return sequence.forward(text[40], tree).copy()

    few = scored(DraftTree.chain(text[41:42]))
    many = scored(DraftTree.chain(text[41:]))
    np.testing.assert_array_equal(many[:2], few)
    alone = scored(DraftTree.empty())
    np.testing.assert_array_equal(alone[0], few[0])
    chain = [-1, 0, 1, 2, 3]
    branches = DraftTree.build([*text[41:46], 9, 8, 7], [*chain, -1, 0, 2])
    np.testing.assert_array_equal(scored(branches)[:6], many[:6])
    if not small:
        assert rows_scored_alike(engine) == 0
    check_batches(engine, seed=2)


def test_forwards_of_many_rows_are_several_calls_where_rows_are_bounded(tmp_path: Path) -> None:
    """And say the same: texts that are cut, trees that come by themselves, rows of prompts that are wanted."""
    engine = OpenVINOEngine(files.prepare(saved("llama", tmp_path / "model")[1], "float32", tmp_path), threads=1)
    engine.bound_rows(2, 16)
    assert engine.offers.nodes == 15
    calls: list[int] = []
    score = engine._cache.score

    def counted(parts: Any, size: int) -> Any:
        calls.append(sum(len(part.tokens) + len(part.tree) for part in parts))
        assert calls[-1] <= size <= 16
        return score(parts, size)

    engine._cache.score = counted  # type: ignore[method-assign]
    check_batches(engine, seed=3)
    assert len(calls) > 60
    text = np.random.default_rng(0).integers(3, VOCABULARY, 41).astype(np.int32)
    tree, found = DraftTree.build([5, 6, 7, 5, 9], [-1, 0, 0, -1, 2]), []
    for most in (16, 0):
        engine.bound_rows(2, most)
        calls.clear()
        with closing(engine.open(reuse=None)) as sequence:
            scored = engine.forward([Part(sequence, text, tree, rows=30)])[0]
            found.append(np.array(scored.logits))
        engine._cache.score = score  # type: ignore[method-assign]
    np.testing.assert_array_equal(*found)
    assert len(found[0]) == 35


@pytest.mark.parametrize("wanted", [2, 5, 16, None])
def test_few_rows_with_arithmetic_of_their_own_are_found(wanted: int | None, tmp_path: Path) -> None:
    """As some kernels for bfloat16 have for less than five."""
    engine = OpenVINOEngine(files.prepare(saved("llama", tmp_path / "model")[1], "float32", tmp_path), threads=1)
    score = engine._cache.score

    def other(parts: Any, size: int) -> Any:
        found = score(parts, size)
        for one in found:
            one.logits = np.array(one.logits) + (np.float32(0.25) if size < (wanted or 20) else 0)
        return found

    engine._cache.score = other  # type: ignore[method-assign]
    assert fewest_scored_alike(engine) == wanted
    if wanted:
        engine._cache.score = score  # type: ignore[method-assign]
        assert engine._cache.least == wanted
        assert min(engine._calls.sizes) >= wanted
        prompt = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
        engine.eos_ids = ()
        truth = run(engine, PlainMethod(), prompt, Options(20))[0]
        check_every_drafter(engine, prompt, truth, VOCABULARY)


def test_a_call_has_no_more_rows_than_that() -> None:
    rng = np.random.default_rng(1)
    for most in (2, 5, 16):
        for _ in range(60):
            counts = [(int(rng.integers(1, 40)), int(rng.integers(0, most))) for _ in range(rng.integers(1, 6))]
            parts = [
                Part(
                    None,  # type: ignore[arg-type]
                    np.arange(tokens, dtype=np.int32), DraftTree.chain(list(range(nodes))),
                    int(rng.integers(min(1, nodes), tokens + 1)),
                )
                for tokens, nodes in counts
            ]  # fmt: skip
            calls = in_calls(parts, most)
            assert all(sum(len(one.tokens) + len(one.tree) for _, one in call) <= most for call in calls)
            assert all(len({place for place, _ in call}) == len(call) for call in calls)
            for place, part in enumerate(parts):
                pieces = [one for call in calls for at, one in call if at == place]
                assert np.concatenate([one.tokens for one in pieces]).tolist() == part.tokens.tolist()
                assert [len(one.tree) for one in pieces[:-1]] == [0] * (len(pieces) - 1)
                assert pieces[-1].tree is part.tree
                assert sum(one.rows for one in pieces) == part.rows
                assert pieces[-1].rows >= min(1, len(part.tree))


@pytest.mark.model
def test_the_real_model_says_what_transformers_says(smollm2: Path) -> None:
    fast = hierdraft.load(str(smollm2), engine="openvino", dtype="float32", learn=False)
    slow = hierdraft.load(str(smollm2), engine="hf", dtype="float32", learn=False)
    kinds = {row["kind"]: row["prompt"] for row in builtin_prompts()}
    for prompt in kinds.values():
        plain = fast.generate(prompt, method="none", max_new_tokens=64)
        assert plain.token_ids == slow.generate(prompt, method="none", max_new_tokens=64).token_ids
        for method, budget in (("hierarchy", "auto"), ("hierarchy", 40), ("hd", 24), ("token-recycling", 24)):
            drafted = fast.generate(prompt, method=method, budget=budget, max_new_tokens=64)
            assert drafted.token_ids == plain.token_ids, (method, budget)
    sampled = {"temperature": 0.8, "top_p": 0.9, "seed": 3, "max_new_tokens": 48}
    prompt = "Write a short poem about rain."
    plain = fast.generate(prompt, method="none", **sampled)
    assert fast.generate(prompt, **sampled).token_ids == plain.token_ids
