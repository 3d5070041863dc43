"""What engines show of their insides: hidden states, layers by themselves, nodes below others not committed yet."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.replay import ReplayEngine
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.protocols import Layered, Part, Wants
from hierdraft.tree import DraftTree
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import fresh, run
from tests.lossless.tiny import CONFIGS, TOLERANCE, VOCABULARY, WINDOW, tiny

TEXT = np.random.default_rng(5).integers(3, VOCABULARY, 3 * WINDOW).astype(np.int32)
TREE = DraftTree.build([7, 8, 9, 10, 11, 12, 13, 14], [-1, 0, -1, 1, 2, 2, 3, 0])
PATHS = ([], [0], [2, 5], [0, 1, 3, 6])
NOTHING = DraftTree.empty()
LAST = np.array([5], dtype=np.int32)

ENGINES: dict[str, Any] = {name: lambda name=name: HFEngine(tiny(name)) for name in CONFIGS}
ENGINES["toy"] = lambda: ToyEngine(3, VOCABULARY, memory=5, layers=4)
ENGINES["toy that remembers all"] = lambda: ToyEngine(4, VOCABULARY, memory=None, layers=3)


def same(name: str, ours: Any, theirs: Any) -> None:
    allowed = TOLERANCE.get(name, 1e-9)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=allowed, atol=allowed)


def begun(engine: Any, text: Any = TEXT) -> Any:
    sequence = engine.open(reuse=None)
    sequence.prefill(text)
    return sequence


def part(sequence: Any, tokens: Any, tree: DraftTree = NOTHING, rows: int = 1, hidden: tuple[int, ...] = ()) -> Part:
    return Part(sequence, np.asarray(tokens, dtype=np.int32), tree, rows, hidden)


@pytest.mark.parametrize("name", ENGINES)
def test_a_tree_in_pieces_is_the_tree(name: str) -> None:
    engine = ENGINES[name]()
    whole = begun(engine).forward(5, TREE)
    for path in PATHS:
        sequence = begun(engine)
        pieces = [sequence.forward(5, TREE.prefix(2)), sequence.extend(TREE.prefix(3)), sequence.extend(TREE)]
        same(name, np.concatenate(pieces), whole)
        assert sequence.length == len(TEXT) + 1
        sequence.commit(path)
        said = [*TEXT.tolist(), 5, *TREE.tokens[path].tolist()]
        assert sequence.length == len(said)
        after = sequence.extend(DraftTree.build([20, 21], [-1, -1]))  # below a text whose last row is not scored again
        same(name, after[1], fresh(engine, [*said, 21])[-1])
        sequence.commit([1])
        same(name, sequence.forward(9, NOTHING)[0], fresh(engine, [*said, 21, 9])[-1])


@pytest.mark.parametrize("name", ENGINES)
def test_trees_of_several_sequences_go_on_together(name: str) -> None:
    engine = ENGINES[name]()
    texts = [TEXT, TEXT[:9], TEXT[4:30]]
    alone = [begun(engine, text).forward(5, TREE) for text in texts]
    sequences = [begun(engine, text) for text in texts]
    first = engine.forward([part(sequences[0], LAST, TREE.prefix(3)), part(sequences[1], LAST, TREE.prefix(6))])
    before = [np.asarray(one.logits).copy() for one in first]
    then = engine.forward([
        part(sequences[1], [], TREE, 0), part(sequences[2], LAST, TREE, hidden=(0,)), part(sequences[0], [], TREE, 0),
    ])  # fmt: skip
    same(name, np.concatenate([before[0], then[2].logits]), alone[0])
    same(name, np.concatenate([before[1], then[0].logits]), alone[1])
    same(name, then[1].logits, alone[2])
    assert then[0].hidden == {}
    for sequence, text in zip(sequences, texts, strict=True):
        sequence.commit([0, 1])
        same(name, sequence.forward(9, NOTHING)[0], fresh(engine, [*text.tolist(), 5, 7, 8, 9])[-1])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gpt-oss"])
def test_hidden_states_are_those_that_the_model_itself_tells_of(name: str) -> None:
    model = tiny(name)
    engine = HFEngine(model)
    layers = engine.offers.layers
    asked = tuple(range(layers + 1))
    sequence = engine.open(reuse=None)
    scored = engine.forward([part(sequence, TEXT, rows=2, hidden=asked)])[0]
    told = model(torch.tensor([TEXT.tolist()]), output_hidden_states=True).hidden_states
    assert sorted(scored.hidden) == list(asked)
    for layer in range(layers):  # transformers tells of the last one behind the norm
        torch.testing.assert_close(scored.hidden[layer], told[layer][0], rtol=1e-5, atol=1e-5)
    same(name, engine.head(scored.hidden[layers])[-2:].detach(), scored.logits)


@pytest.mark.parametrize("name", ENGINES)
def test_hidden_states_of_trees_and_neighbours(name: str) -> None:
    engine = ENGINES[name]()
    layers = engine.offers.layers
    asked = (0, layers)
    path = [0, 1, 3, 6]
    alone = engine.forward([part(begun(engine), [*TEXT[:3], 5], TREE, hidden=asked)])[0].hidden
    assert {key: len(rows) for key, rows in alone.items()} == {0: 12, layers: 12}
    chain = engine.forward([part(engine.open(), [*TEXT, *TEXT[:3], 5, *TREE.tokens[path]], hidden=asked)])[0].hidden
    together = engine.forward([
        part(begun(engine, TEXT[:7]), [3]),
        part(begun(engine), [*TEXT[:3], 5], TREE, hidden=asked),
        part(engine.open(reuse=None), TEXT[:4], rows=0, hidden=(1,)),
    ])  # fmt: skip
    assert [sorted(one.hidden) for one in together] == [[], [0, layers], [1]]
    assert len(together[2].hidden[1]) == 4
    rows = [0, 1, 2, 3, *(4 + node for node in path)]
    for layer in asked:
        same(name, alone[layer], together[1].hidden[layer])
        same(name, np.asarray(alone[layer])[rows], chain[layer][-8:])


@pytest.mark.parametrize("name", ENGINES)
def test_drafted_by_the_first_layers_and_verified_by_the_others(name: str) -> None:
    engine = ENGINES[name]()
    assert isinstance(engine, Layered)
    layers = engine.offers.layers
    for first in range(1, layers):
        sequence = begun(engine)
        whole = begun(engine).forward(5, TREE)
        early = [
            engine.forward_layers(part(sequence, LAST, TREE.prefix(count)), 0, first) for count in (0, 1, 5, len(TREE))
        ]
        assert [len(rows) for rows in early] == [1, 1, 4, 3]
        assert sequence.length == len(TEXT)
        with pytest.raises(UsageError, match="not been through all layers"):
            sequence.commit([0])
        with pytest.raises(UsageError, match="through all layers"):
            sequence.extend(TREE)
        late = np.concatenate(early)
        late = late if isinstance(engine, ToyEngine) else torch.from_numpy(late)
        for start in range(first, layers):
            late = engine.forward_layers(part(sequence, LAST, TREE), start, start + 1, late)
        same(name, engine.head(late), whole)
        assert sequence.length == len(TEXT) + 1
        sequence.commit([2, 5])
        same(name, sequence.forward(9, NOTHING)[0], fresh(engine, [*TEXT.tolist(), 5, 9, 12, 9])[-1])


@pytest.mark.parametrize("name", ["llama", "gemma3", "toy"])
def test_what_was_begun_can_be_given_up(name: str) -> None:
    engine = ENGINES[name]()
    for give_up in (lambda one: one.rewind(len(TEXT)), lambda one: one.commit([]), lambda _: None):
        sequence = begun(engine)
        engine.forward_layers(part(sequence, LAST, TREE), 0, 1)
        assert sequence.written()[:2] == [1 + len(TREE), 0]
        give_up(sequence)
        assert sequence.length == len(TEXT)
        same(name, sequence.forward(6, TREE), begun(engine).forward(6, TREE))
        assert sequence.length == len(TEXT) + 1
        assert set(sequence.written()) == {len(TREE)}


@pytest.mark.parametrize("name", ["llama", "toy"])
def test_what_makes_no_sense_is_refused_and_changes_nothing(name: str) -> None:
    engine = ENGINES[name]()
    layers = engine.offers.layers
    sequence = begun(engine)
    wanted = np.asarray(sequence.forward(5, TREE))
    other = DraftTree.build([7, 9, 9], [-1, 0, -1])
    for tree in (other, TREE, TREE.prefix(3)):
        with pytest.raises(ValueError, match="does not go on"):
            sequence.extend(tree)
    for bad in ((layers + 1,), (-1,), (0, 99)):
        with pytest.raises(UsageError, match=f"layers 0 to {layers}"):
            engine.forward([part(sequence, LAST, hidden=bad)])
    sequence.rewind(len(TEXT))
    run = engine.forward_layers
    hidden = run(part(sequence, LAST, TREE.prefix(2)), 0, 1)
    wrong = [
        (part(sequence, LAST, TREE.prefix(2)), 0, 1, None),  # had them
        (part(sequence, LAST, TREE), 1, 2, None),  # the layer before has not
        (part(sequence, LAST, TREE.prefix(2)), 1, 2, hidden[:1]),
        (part(sequence, LAST, TREE.prefix(2)), 1, 2, None),
        (part(sequence, LAST, TREE.prefix(2)), 2, 3, hidden),
        (part(sequence, LAST, other), 0, 1, None),
        (part(sequence, [6], TREE), 0, 1, None),
        (part(sequence, LAST, TREE), 0, 0, None),
        (part(sequence, LAST, TREE), 1, layers + 1, hidden),
        (part(engine.open(), LAST, TREE), 0, 1, None),
    ]
    for one, first, last, given in wrong:
        with pytest.raises(UsageError):
            run(one, first, last, given)
    rest = run(part(sequence, LAST, TREE.prefix(2)), 1, layers, hidden)
    same(name, engine.head(rest), wanted[:3])
    with pytest.raises(UsageError, match="a part must have tokens"):
        engine.open().extend(TREE)
    sequence.close()
    with pytest.raises(UsageError, match="closed"):
        run(part(sequence, LAST), 0, 1)


def test_a_toy_of_several_layers_against_a_new_one_each_time() -> None:
    """Any order of forwards, trees that go on, layers by themselves, commits, rewinds."""
    chance = random.Random(11)
    for trial in range(60):
        layers = chance.randint(1, 5)
        engine = ToyEngine(trial, 40, memory=chance.choice([None, layers, layers + 3]), layers=layers)
        sequence, text = engine.open(reuse=None), [chance.randrange(40) for _ in range(chance.randint(1, 9))]
        sequence.prefill(text)
        for _ in range(12):
            last, size = chance.randrange(40), chance.randint(1, 8)
            tree = DraftTree.build(
                [chance.randrange(40) for _ in range(size)], [chance.randint(-1, i - 1) for i in range(size)]
            )
            cut = chance.randint(0, size - 1)
            if chance.random() < 0.5:
                rows = np.concatenate([sequence.forward(last, tree.prefix(cut)), sequence.extend(tree)])
            else:
                bounds = sorted({0, layers, chance.randint(0, layers)})
                pieces = [tree.prefix(cut), tree] if cut and len(bounds) > 2 else [tree]
                first = [engine.forward_layers(part(sequence, [last], some), 0, bounds[1]) for some in pieces]
                state = np.concatenate(first)
                for start, end in pairwise(bounds[1:]):
                    state = engine.forward_layers(part(sequence, [last], tree), start, end, state)
                rows = engine.head(state)
            text = [*text, last]
            for node in range(size):
                below = tree.path(node)
                np.testing.assert_array_equal(rows[node + 1], fresh(engine, [*text, *tree.tokens[below].tolist()])[-1])
            path = tree.path(chance.randrange(-1, size))
            sequence.commit(path)
            text += tree.tokens[path].tolist()
            if len(text) > 3 and chance.random() < 0.2:
                text = text[: chance.randint(1, len(text))]
                sequence.rewind(len(text))


class Reader(HARMLESS["OracleInATree"]):  # type: ignore[misc, valid-type]
    """Checks the hidden states of every row of every step against a forward of its own."""

    wants = Wants(hidden=(0, 2))

    def begin(self, engine: Any, name: str) -> None:
        self.engine, self.name, self.said, self.rows = engine, name, [], 0

    def observe(self, step: Any) -> None:
        super().observe(step)
        assert sorted(step.hidden) == [0, 2]
        text = self.prompt if step.prefill else self.said
        found = {layer: np.concatenate([np.asarray(one) for one in step.hidden[layer]]) for layer in (0, 2)}
        wanted = self.engine.forward([part(self.engine.open(), text, rows=0, hidden=(0, 2))])[0].hidden
        for layer in (0, 2):
            if step.prefill:
                same(self.name, found[layer], wanted[layer])
            else:
                assert len(found[layer]) == 1 + len(step.tree)
                same(self.name, found[layer][0], wanted[layer][-1])
        self.rows += len(found[0])
        self.said = [*text, *step.tokens]


@pytest.mark.parametrize("name", ["llama", "gemma3", "toy"])
def test_a_method_reads_the_hidden_states_of_every_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.decoding.loop.CHUNK", 7)
    engine, other = ENGINES[name](), ENGINES[name]()
    prompt = TEXT.tolist()
    truth = run(engine, PlainMethod(), prompt, Options(20))[0]
    for _ in range(2):  # the second time the toy has the prompt already, and reads it again all the same
        reader = Reader(VOCABULARY, prompt + truth, 7)
        reader.prompt = prompt
        reader.begin(other, name)
        assert run(engine, reader, prompt, Options(20, budget=FixedBudget(9)))[0] == truth
        assert reader.rows > len(prompt) + 5


def test_engines_that_do_not_show_them_refuse_by_name() -> None:
    reader = Reader(VOCABULARY, [1], 7)
    with pytest.raises(UsageError, match=r"reads hidden states of layers \[0, 2\], and this engine shows none"):
        run(ReplayEngine(9), reader, [3], Options(1))
    with pytest.raises(UsageError, match="shows those of layers 0 to 1"):
        run(ToyEngine(), reader, [3], Options(1))


def test_models_whose_layers_are_not_all_there_is_are_refused() -> None:
    model = tiny("llama", dtype=torch.float32)
    scale = model.model.norm.forward
    count = iter(range(10**6))
    model.model.norm.forward = lambda rows: scale(rows) * (1 + next(count))
    engine = HFEngine(tiny("llama", dtype=torch.float32))
    engine.model = model
    engine.layers = type(engine.layers)(model, 4)
    with pytest.raises(UnsupportedModelError, match="hidden states cannot be used"):
        engine.forward([part(engine.open(), TEXT, hidden=(1,))])
