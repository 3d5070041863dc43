"""A grammar: drafts stay inside it, the output is that of plain constrained decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hierdraft
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import MissingDependencyError, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.levels import GRAMMAR
from hierdraft.text.grammars import Grammars
from hierdraft.tree import DraftTree
from hierdraft.verify.constraint import Follower
from hierdraft.verify.contracts import Constraint
from hierdraft.verify.sampling import Sampler, Sampling
from tests.distribution.exact import sparse
from tests.lossless.drafters import HARMLESS, REAL
from tests.lossless.harness import check_steps, run
from tests.unit.byte_tokenizer import Bytes

SIZE = 32


class Steps(Constraint):
    """Each token is at most 5 above or below the one before it; every ninth token must be 0 and then 1."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.moves = 0

    def _allowed(self) -> list[int]:
        forced = self.forced()
        last = self.read[-1] if self.read else 10
        return forced[:1] or [token for token in range(SIZE) if abs(token - last) <= 5]

    def ban(self, scores: NDArray[Any]) -> None:
        keep = self._allowed()
        saved = scores[keep].copy()
        scores[:] = -np.inf
        scores[keep] = saved

    def advance(self, token: int) -> bool:
        self.moves += 1
        if token not in self._allowed():
            return False
        self.read.append(token)
        return True

    def rewind(self, count: int) -> None:
        assert 0 < count <= len(self.read)
        del self.read[len(self.read) - count :]

    def forced(self) -> list[int]:
        return {7: [0, 1], 8: [1]}.get(len(self.read) % 9, [])


def options(engine: ToyEngine, prompt: list[int], limit: int, seed: int | None, nodes: int = 12) -> Options:
    follower = Follower(Steps(), len(prompt))
    filters = Sampling(temperature=0.7, top_p=0.9).filters() if seed is not None else []
    sampler = Sampler(engine.values, [follower.rule, *filters], seed)
    return Options(limit, FixedBudget(nodes), sampler, constraint=follower)


def inside(output: list[int]) -> bool:
    machine = Steps()
    return all(machine.advance(token) for token in output)


@pytest.mark.filterwarnings("error::hierdraft.errors.DraftWarning")
@pytest.mark.parametrize("name", [*HARMLESS, "hierarchy", "hd"])
def test_no_drafter_leaves_the_grammar_or_changes_the_text(name: str) -> None:
    forced = 0
    for seed in range(12):
        engine = ToyEngine(seed, SIZE, (2, None)[seed % 2], eos_ids=(3,) if seed % 3 == 0 else ())
        prompt, draw = [4, 9, seed], seed if seed % 2 else None
        expected, _ = run(engine, PlainMethod(), prompt, options(engine, prompt, 90, draw, 0))
        assert inside(expected)
        drafter = HARMLESS[name](SIZE, prompt + expected, seed) if name in HARMLESS else REAL[name]()
        got, steps = run(engine, drafter, prompt, options(engine, prompt, 90, draw))
        assert got == expected, (name, seed)
        check_steps(steps, 90)
        for step in steps[1:]:
            forced += int((step.tree.level[step.path] == GRAMMAR).sum())
    assert forced > 0 or name not in ("RandomTree", "AllWrong", "hierarchy")


def test_a_row_costs_the_tokens_that_are_new_however_long_the_text_is() -> None:
    class Watched(np.ndarray[Any, Any]):
        """Counts what is looked at one by one."""

        seen = 0

        def tolist(self) -> Any:
            Watched.seen += self.size
            return super().tolist()

    follower, machine = Follower(Steps(), 3), Steps()
    for _ in range(400):
        assert machine.advance((machine.forced() or [5])[0])
    text = np.array([1, 2, 3, *machine.read], dtype=np.int32).view(Watched)
    for length in range(3, len(text) + 1):  # a step, and two rows below it that part from one another
        assert follower.moved(text[:length])
        for other in (30, 31):
            follower.moved(np.append(text[:length], np.int32(other)).view(Watched))
    assert Watched.seen == 400 + 2 * 401
    assert follower.moved(text[:103])  # and back
    assert isinstance(follower.machine, Steps)
    assert follower.machine.read == machine.read[:100]


def test_a_tree_is_cut_to_what_the_grammar_allows() -> None:
    follower = Follower(Steps(), 1)
    tree = DraftTree.build([12, 30, 14, 31, 20], [-1, -1, 0, 0, 2], prob=[0.9, 0.8, 0.7, 0.6, 0.5])
    kept = follower.inside(tree, np.array([5, 11], dtype=np.int32), 9, 9)
    assert kept.tokens.tolist() == [12, 14]
    assert kept.parents.tolist() == [-1, 0]
    assert kept.prob == pytest.approx([0.9, 0.7])
    assert follower.inside(tree, np.array([5, 11], dtype=np.int32), 9, 1).tokens.tolist() == [12]
    assert follower.inside(tree, np.array([5, 11], dtype=np.int32), 1, 9).tokens.tolist() == [12]


def test_what_is_left_of_a_tree_comes_likeliest_first() -> None:
    follower = Follower(Steps(), 1)
    tree = DraftTree.build([12, 10, 14], [-1, -1, 0], prob=[0.9, 0.8, 0.7])
    for nodes in (3, 2):  # the copy is made depth first: 12, 14, 10
        kept = follower.inside(tree, np.array([5, 11], dtype=np.int32), nodes, 9)
        assert kept.tokens.tolist() == [12, 10, 14][:nodes]
        assert kept.parents.tolist() == [-1, -1, 0][:nodes]


def test_forced_text_is_drafted() -> None:
    follower = Follower(Steps(), 0)
    tokens = np.array([10, 9, 8, 7, 6, 5], dtype=np.int32)
    tree = DraftTree.build([4, 6], [-1, -1], prob=[0.5, 0.2], level=1)
    kept = follower.inside(tree, tokens, 9, 9)
    assert [kept.tokens[kept.path(node)].tolist() for node in range(len(kept))] == [
        [4], [4, 0], [4, 0, 1], [6], [6, 0], [6, 0, 1],
    ]  # fmt: skip
    assert kept.level.tolist() == [1, GRAMMAR, GRAMMAR] * 2
    known = DraftTree.build([4, 0], [-1, 0], prob=[0.5, 0.1], level=1)
    again = follower.inside(known, tokens, 9, 9)
    assert again.tokens.tolist() == [4, 0, 1]
    assert again.level.tolist() == [1, 1, GRAMMAR]
    assert again.prob[1] == pytest.approx(0.5 * 0.95)


def test_chances_fall_along_a_path() -> None:
    follower = Follower(Steps(), 0)
    tokens = np.array([10, 9, 8, 7, 6, 5, 4], dtype=np.int32)
    forced = follower.inside(DraftTree.empty(), tokens, 9, 9)
    assert forced.tokens.tolist() == [0, 1]
    assert forced.parents.tolist() == [-1, 0]
    assert forced.prob == pytest.approx([0.95, 0.95**2])
    assert follower.inside(DraftTree.empty(), tokens, 9, 1).tokens.tolist() == [0]
    wrong = DraftTree.build([11, 12, 13], [-1, 0, 1], prob=[0.2, 0.9, 0.1])
    kept = follower.inside(wrong, np.array([10], dtype=np.int32), 9, 9)
    assert kept.tokens.tolist() == [11, 12, 13]
    assert kept.prob == pytest.approx([0.2, 0.2, 0.1])


def test_equal_chances_keep_their_order() -> None:
    tokens = [token for token in range(5, 16) for _ in range(2)][::-1]
    tree = DraftTree.build([*dict.fromkeys(tokens)], [-1] * 11, prob=0.5)
    kept = Follower(Steps(), 0).inside(tree, np.array([10], dtype=np.int32), 9, 9)
    assert kept.tokens.tolist() == tree.tokens[:9].tolist()
    assert len(kept) == 9


def test_forced_text_that_is_not_allowed_is_not_drafted() -> None:
    class Lying(Steps):
        def forced(self) -> list[int]:
            return [0, 31] if len(self.read) == 7 else super().forced()

    follower = Follower(Lying(), 0)
    tokens = np.array([10, 9, 8, 7, 6, 5, 4], dtype=np.int32)
    assert follower.inside(DraftTree.empty(), tokens, 9, 9).tokens.tolist() == [0]
    assert follower.moved(np.append(tokens, np.int32(0)))


def test_drawn_trees_and_texts_outside_are_left_alone() -> None:
    law = np.full(SIZE, 1 / SIZE)
    tree = DraftTree.build([30], [-1], group=0, laws=[sparse(law)])
    follower = Follower(Steps(), 0)
    assert follower.inside(tree, np.array([10], dtype=np.int32), 9, 9) is tree
    free = DraftTree.build([30], [-1])
    assert follower.inside(free, np.array([10, 31], dtype=np.int32), 9, 9) is free
    assert (follower.rule(np.array([10, 31], dtype=np.int32), np.zeros(SIZE)) == -np.inf).all()
    assert follower.moved(np.array([9, 8], dtype=np.int32))


def test_the_machine_is_not_started_over_at_every_row() -> None:
    machine = Steps()
    follower = Follower(machine, 0)
    text = np.array([10, 9, 8, 7, 6, 5], dtype=np.int32)
    for end in range(1, 7):
        assert follower.moved(text[:end])
    assert machine.moves == 6
    assert follower.moved(np.array([10, 9, 8, 9], dtype=np.int32))
    assert machine.moves == 7
    assert machine.read == [10, 9, 8, 9]


# real grammars


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "tags", "age"],
    "additionalProperties": False,
}


def too_complex() -> Any:
    """Lists of short strings, or of objects with so many properties that llguidance gives up when one begins."""
    pytest.importorskip("llguidance")
    large = {"type": "object", "properties": {f"k{i}": {"type": "integer"} for i in range(5000)}}
    schema = {"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 5}, large]}}
    return Grammars(Bytes(), 257, [256]).json(schema)


def test_a_draft_that_breaks_the_grammars_machine_is_dropped_and_nothing_else_changes() -> None:
    tokens = np.array([1, *Bytes()('["a", ')["input_ids"]], dtype=np.int32)
    brace, quote = Bytes()("{")["input_ids"][0], Bytes()('"')["input_ids"][0]
    allowed = []
    for drafts in ([], [brace, quote]):
        follower = Follower(too_complex(), 1)
        tree = follower.inside(DraftTree.build(drafts, [-1] * len(drafts)), tokens, 9, 9)
        assert tree.tokens.tolist() == drafts[1:]
        allowed.append(follower.rule(tokens, np.zeros(257)))
    np.testing.assert_array_equal(*allowed)
    with pytest.raises(UsageError, match=r"cannot be followed any further: Parser Error: .*items.*\.$") as caught:
        follower.rule(np.append(tokens, np.int32(brace)), np.zeros(257))
    assert len(str(caught.value)) < 400
    np.testing.assert_array_equal(follower.rule(tokens, np.zeros(257)), allowed[0])


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"not": {"$ref": "#"}}])
def test_a_schema_that_only_refers_to_itself_is_refused_in_a_sentence(schema: dict[str, Any]) -> None:
    pytest.importorskip("llguidance")
    with pytest.raises(UsageError, match="The JSON schema") as caught:
        Grammars(Bytes(), 257, [256]).json(schema)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def is_valid(text: str) -> bool:
    value = json.loads(text)
    return (
        sorted(value) == ["age", "name", "tags"]
        and isinstance(value["name"], str)
        and set(value["tags"]) <= {"red", "green", "blue"}
        and 0 <= value["age"] <= 99
    )


@pytest.fixture
def toy() -> LanguageModel:
    pytest.importorskip("llguidance")
    return LanguageModel(ToyEngine(1, 257, eos_ids=(256,)), Bytes(), "toy")


def test_a_regular_expression_on_the_toy(toy: LanguageModel) -> None:
    from hierdraft.text.grammars import Grammars

    grammars = Grammars(toy.tokenizer, 257, (256,))
    for temperature, seed in ((0.0, None), (1.0, 3), (1.0, 4)):
        said = []
        for method in ("none", "hierarchy"):
            constraint = grammars.regex("(abc|abd)(, (abc|abd)){5,9}")
            options = {"chat": False, "max_new_tokens": 99, "temperature": temperature, "seed": seed, "budget": 8}
            said.append(toy.generate("x", method=method, constraint=constraint, **options))
        assert said[0].token_ids == said[1].token_ids
        assert set(said[0].text.split(", ")) <= {"abc", "abd"}
        assert said[1].by_level["grammar"]["accepted"] > 5
        assert said[1].accepted_length > 2


def test_wrong_grammars_are_refused_with_a_reason(toy: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from hierdraft.text.grammars import Grammars

    grammars = Grammars(toy.tokenizer, 257, (256,))
    for make, wrong in ((grammars.json, "{"), (grammars.json, '{"type": "nonsense"}'), (grammars.regex, "("),
                        (grammars.lark, "start: nothing"), (grammars.json, {1: {2}})):  # fmt: skip
        with pytest.raises(UsageError):
            make(wrong)
    with pytest.raises(UsageError, match="end-of-sequence"):
        Grammars(toy.tokenizer, 257, ())
    with pytest.raises(UsageError, match="ignore_eos"):
        toy.generate("x", schema="{}", ignore_eos=True)
    with pytest.raises(UsageError, match="either"):
        toy.generate("x", schema="{}", constraint=grammars.json("{}"))
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(MissingDependencyError, match="structured"):
        Grammars(toy.tokenizer, 257, (256,))


@pytest.mark.model
def test_json_schemas_on_a_real_model(smollm2: Path) -> None:
    pytest.importorskip("llguidance")
    model = hierdraft.load(str(smollm2), engine="hf", dtype="float32", learn=False)
    prompt = "Make up a person as JSON with a name, two or three tags among red, green and blue, and an age."
    for settings in ({}, {"temperature": 0.9, "seed": 1}, {"temperature": 0.9, "seed": 2, "repetition_penalty": 1.1}):
        options: dict[str, Any] = {"max_new_tokens": 120, "schema": SCHEMA, **settings}
        plain = model.generate(prompt, method="none", **options)
        drafted = model.generate(prompt, budget=12, **options)
        assert drafted.token_ids == plain.token_ids
        assert plain.finish == "length" or is_valid(plain.text)
        assert drafted.steps < plain.steps
