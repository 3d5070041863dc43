"""JSON schemas as people write them: every answer that their grammar lets through follows them, drafted or not."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.generation import LanguageModel
from tests.unit.byte_tokenizer import Bytes

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

D4, D7 = "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"
NEW = "https://json-schema.org/draft/2020-12/schema"
SHORT = {"type": "string", "maxLength": 3}
SCHEMAS: dict[str, Any] = {
    "not a type": {"not": {"type": ["object", "array", "string"]}},
    "not these values": {"type": "string", "maxLength": 4, "not": {"enum": ["", "a", "ab", "b"]}},
    "not these numbers": {"type": "integer", "minimum": 0, "maximum": 9, "not": {"enum": [0, 5, 9]}},
    "not required": {"type": "object", "properties": {"a": SHORT, "b": SHORT}, "additionalProperties": False,
                     "not": {"required": ["a", "b"]}},
    "not a bound": {"type": "integer", "maximum": 20, "not": {"maximum": 10}},
    "not anyOf": {"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"],
                  "additionalProperties": False, "not": {"anyOf": [{"properties": {"a": {"const": 1}}},
                                                                   {"properties": {"a": {"const": 2}}}]}},
    "if then else": {"$schema": D7, "type": "object", "properties": {"k": {"enum": ["x", "y", "z"]}, "v": True},
                     "required": ["k", "v"], "additionalProperties": False,
                     "if": {"properties": {"k": {"const": "x"}}}, "then": {"properties": {"v": {"type": "integer"}}},
                     "else": {"properties": {"v": {"type": "boolean"}}}},
    "a chain of ifs": {"$schema": D7, "type": "object", "required": ["k"], "additionalProperties": False,
                       "properties": {"k": {"enum": [f"k{i}" for i in range(12)]},
                                      **{f"p{i}": {"type": "null"} for i in range(12)}},
                       "allOf": [{"if": {"properties": {"k": {"const": f"k{i}"}}},
                                  "then": {"required": [f"p{i}"]}} for i in range(12)]},
    "dependencies": {"$schema": D7, "type": "object", "additionalProperties": False,
                     "properties": {"a": SHORT, "b": SHORT, "c": {"enum": [1, 2]}},
                     "dependencies": {"a": ["b"], "b": {"properties": {"c": {"const": 2}}, "required": ["c"]}}},
    "dependentRequired": {"$schema": NEW, "type": "object", "properties": {"a": SHORT, "b": SHORT},
                          "additionalProperties": False, "dependentRequired": {"a": ["b"]},
                          "dependentSchemas": {"b": {"maxProperties": 2}}},
    "unique values": {"type": "array", "items": {"enum": ["a", 1, None]}, "uniqueItems": True, "minItems": 2},
    "unique values in order": {"type": "array", "items": {"enum": list("abcdef")}, "uniqueItems": True, "minItems": 4},
    "contains": {"type": "array", "items": {"type": ["integer", "boolean"]}, "contains": {"type": "boolean"},
                 "maxItems": 4},
    "contains twice": {"$schema": NEW, "type": "array", "items": {"enum": [1, 2, 3]}, "contains": {"const": 2},
                       "minContains": 2, "maxContains": 3, "maxItems": 6},
    "names by pattern": {"type": "object", "propertyNames": {"pattern": "^[a-c]{1,2}$"}, "maxProperties": 3,
                         "additionalProperties": {"enum": [1]}},
    "names by value": {"type": "object", "propertyNames": {"enum": ["x", "y"]}, "additionalProperties": {"enum": [1]}},
    "names by length": {"type": "object", "propertyNames": {"maxLength": 2}, "maxProperties": 2,
                        "properties": {"ok": {"enum": [0]}, "too long": {"enum": [0]}}},
    "patterns that meet": {"type": "object", "patternProperties": {"^a": {"type": "integer"}, "b$": {"minimum": 5}},
                           "additionalProperties": False, "maxProperties": 2},
    "a least number of properties": {"type": "object", "properties": {n: {"enum": [1]} for n in "abcd"},
                                     "minProperties": 2, "additionalProperties": False},
    "a most number of properties": {"type": "object", "properties": {n: {"enum": [1]} for n in "abcd"},
                                    "maxProperties": 2, "minProperties": 1},
    "unevaluated": {"$schema": NEW, "$defs": {"base": {"properties": {"a": SHORT}}}, "type": "object",
                    "allOf": [{"$ref": "#/$defs/base"}], "anyOf": [{"properties": {"b": SHORT}, "required": ["b"]},
                                                                   {"properties": {"c": SHORT}, "required": ["c"]}],
                    "unevaluatedProperties": False},
    "oneOf required": {"type": "object", "properties": {"a": SHORT, "b": SHORT}, "additionalProperties": False,
                       "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "oneOf told apart by a reference": {
        "definitions": {"cat": {"type": "object", "properties": {"is": {"const": "cat"}, "n": {"type": "integer"}},
                                "required": ["is"], "additionalProperties": False},
                        "dog": {"type": "object", "properties": {"is": {"const": "dog"}},
                                "required": ["is"], "additionalProperties": False}},
        "oneOf": [{"$ref": "#/definitions/cat"}, {"$ref": "#/definitions/dog"}]},
    "draft 4": {"$schema": D4, "id": "http://example.org/four", "type": "object", "properties": {
        "n": {"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 6, "exclusiveMaximum": False}},
        "required": ["n"], "additionalProperties": False},
    "lists of items": {"$schema": D7, "type": "array", "items": [{"enum": [1]}, {"enum": [2]}],
                       "additionalItems": {"enum": [3]}, "minItems": 3, "maxItems": 5},
    "prefixItems": {"$schema": NEW, "type": "array", "prefixItems": [{"enum": [1]}], "items": False, "minItems": 1},
    "beside a reference, draft 7": {"$schema": D7, "definitions": {"n": {"enum": [1, 2]}},
                                    "$ref": "#/definitions/n", "maximum": 0},
    "beside a reference, 2020": {"$schema": NEW, "$defs": {"n": {"enum": [1, 2]}}, "$ref": "#/$defs/n", "maximum": 1},
    "anchors and identifiers": {"$schema": NEW, "$id": "https://example.org/a/root.json", "$ref": "other.json#here",
                                "$defs": {"x": {"$id": "other.json", "$defs": {
                                    "y": {"$anchor": "here", "enum": ["found"]}}}}},
    "escaped pointers": {"$ref": "#/definitions/a~1b%20c", "definitions": {"a/b c": {"enum": ["found"]}}},
    "recursive": {"$defs": {"tree": {"type": "object", "properties": {
        "of": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "additionalProperties": False}},
        "$ref": "#/$defs/tree"},
    "recursive beside others": {"$schema": NEW, "$defs": {"tree": {"type": "object", "properties": {
        "of": {"$ref": "#/$defs/tree", "maxProperties": 1, "type": ["object", "null"]}},
        "additionalProperties": False}}, "allOf": [{"$ref": "#/$defs/tree"}, {"required": ["of"]}]},
    "values of any type": {"enum": [None, True, 1.5, "a\"\n", [1, {"a": []}], {"k": [None]}]},
    "what only describes": {"type": "object", "title": "t", "x-mine": {"not": 1}, "markdownDescription": "m",
                            "nullable": True, "deprecated": True, "$comment": "c", "default": [], "properties": {
                                "when": {"type": "string", "format": "no-such-format", "maxLength": 5}},
                            "additionalProperties": False, "required": ["when"]},
    "patterns of ECMA": {"type": "string", "pattern": r"^(?=.{3,4}$)[\/\u0041-\u0043{}[\w-]+$", "maxLength": 6},
    "not some words": {"type": "string", "pattern": "^(?!(?:ab|b)$)[ab]+$", "maxLength": 3},
    "not some beginnings": {"type": "string", "pattern": "^(?!aa|b)[ab]+$", "maxLength": 3},
    "names that are not some words": {"type": "object", "patternProperties": {"^(?!a$).*$": {"enum": [1]}},
                                      "properties": {"a": {"enum": [2]}, "b": {"enum": [1]}}, "maxProperties": 2,
                                      "additionalProperties": False},
    "a circle through names": {"definitions": {"entry": {"type": ["object", "null"], "properties": {
        "import": {"$ref": "#/definitions/entry"}}, "patternProperties": {"^[a-z]+$": {"$ref": "#/definitions/entry"}},
        "additionalProperties": False}}, "$ref": "#/definitions/entry"},
    "always": True,
}  # fmt: skip


def draft_of(schema: Any) -> Any:
    older = isinstance(schema, dict) and ("definitions" in schema or "$schema" in schema)
    return jsonschema.validators.validator_for(
        schema, jsonschema.Draft7Validator if older else jsonschema.Draft202012Validator
    )


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(ToyEngine(1, 257, eos_ids=(256,)), Bytes(), "toy")


def grammars(model: LanguageModel) -> Any:
    from hierdraft.text.grammars import Grammars

    return Grammars(model.tokenizer, 257, (256,))


def said(grammar: Any, tokenizer: Bytes, seed: int, limit: int = 250) -> str | None:
    """A random answer of a grammar; None where it did not come to an end."""
    draw = random.Random(seed)
    ends = [token for token in range(256) if tokenizer.decode([token]) in list('"}],0123456789')] + [256]
    plain = [token for token in range(256) if re.fullmatch(r"[ -~]", tokenizer.decode([token]))]
    ids: list[int] = []
    for _ in range(limit):
        scores = np.zeros(257)
        grammar.ban(scores)
        allowed = [token for token in range(257) if scores[token] == 0]
        assert allowed, tokenizer.decode(ids)
        near = [token for token in ends if token in allowed and draw.random() < 0.8]
        usual = near or [token for token in plain if token in allowed and token != plain[0]] or allowed
        token = draw.choice(usual)
        if token == 256:
            grammar.rewind(len(ids))
            return tokenizer.decode(ids)
        assert grammar.advance(token)
        ids.append(token)
    grammar.rewind(len(ids))
    return None


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_that_a_schema_lets_through_follows_it(name: str, model: LanguageModel) -> None:
    schema = SCHEMAS[name]
    grammar = grammars(model).json(schema)
    assert grammar.left == ()
    validator = draft_of(schema)(schema)
    answers = {said(grammar, model.tokenizer, seed) for seed in range(24)} - {None}
    assert answers
    for answer in answers:
        validator.validate(json.loads(str(answer)))


@pytest.mark.parametrize("name", ["a chain of ifs", "unique values", "oneOf told apart by a reference", "recursive"])
def test_drafts_do_not_change_answers_in_a_schema(name: str, model: LanguageModel) -> None:
    for settings in ({}, {"temperature": 1.0, "seed": 5}):
        options: dict[str, Any] = {"chat": False, "max_new_tokens": 60, "schema": SCHEMAS[name], **settings}
        plain = model.generate("x", method="none", **options)
        drafted = model.generate("x", budget=8, **options)
        assert drafted.token_ids == plain.token_ids
        assert drafted.follows_schema == plain.follows_schema
        assert drafted.follows_schema is (plain.finish == "eos")


REFUSED: dict[str, tuple[Any, str]] = {
    "the opposite of a pattern": ({"properties": {"a/b": {"not": {"pattern": "x"}}}}, r"#/properties/a~1b/not: "),
    "looking around": ({"definitions": {"d": {"pattern": "a(?<!b)c"}}, "$ref": "#/definitions/d"},
                       r"#/definitions/d/pattern: regex parse error: look-around"),
    "a pattern that is none": ({"pattern": "("}, r"#/pattern: regex parse error: unclosed group"),
    "names not in one pattern": ({"propertyNames": {"pattern": "a"}, "patternProperties": {"b": {}}},
                                 r"#/propertyNames: "),
    "a reference to nothing": ({"items": {"$ref": "#/definitions/no"}}, r"#/items/\$ref: there is no '#/defin"),
    "a reference to itself": ({"definitions": {"d": {"$ref": "#/definitions/d", "type": "object"}}, "$schema": NEW,
                               "$ref": "#/definitions/d", "minProperties": 1}, r"\$ref: the reference leads to itself"),
    "the network": ({"$ref": "https://example.org/x.json"}, r"#/\$ref: https://example.org/x.json is on the network"),
    "a type that is none": ({"items": {"type": "strin"}}, r'#/items/type: there is no type "strin"'),
    "a count that is none": ({"minItems": -1}, r"#/minItems: expected a whole number"),
    "properties that are a list": ({"properties": []}, r"#/properties: expected an object, not \[\]"),
    "a schema that is text": ({"items": "x"}, r'#/items: a schema is an object or a boolean, not "x"'),
    "nothing allowed": ({"type": "string", "minLength": 2, "maxLength": 1}, "no answer can follow it"),
    "false": (False, "no answer can follow it"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line_with_the_path(name: str, model: LanguageModel) -> None:
    schema, said = REFUSED[name]
    with pytest.raises(UsageError, match=said) as caught:
        grammars(model).json(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: object\nproperties:\n  a: 1\n", "looks like YAML"),
        ("{", "not JSON"),
        ("[1]", "a schema is an object or a boolean, not a list"),
        ("", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_no_schema(text: str, said: str, model: LanguageModel) -> None:
    with pytest.raises(UsageError, match=said):
        grammars(model).json(text)


LEFT: dict[str, tuple[Any, str, str]] = {  # schema, an answer that the grammar allows and the schema does not, the path
    "uniqueItems": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1,1]", "#/uniqueItems"),
    "not": ({"type": "string", "not": {"pattern": "^a"}}, '"ab"', "#/not"),
    "pattern": ({"type": "string", "pattern": "^b(?!c)"}, '"bc"', "#/pattern"),
    "propertyNames": ({"type": "object", "propertyNames": {"pattern": "a"}, "patternProperties": {"b": {}}},
                      '{"b":1}', "#/propertyNames"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_the_check_is_checked(name: str, model: LanguageModel) -> None:
    schema, wrong, path = LEFT[name]
    grammar = grammars(model).json(schema, lenient=True)
    assert grammar.left == (path,)
    ids = model.tokenizer(wrong)["input_ids"]
    assert all(map(grammar.advance, ids))
    assert not jsonschema.Draft202012Validator(schema).is_valid(json.loads(wrong))
    assert grammar.check.errors(wrong)
    assert not grammar.check.errors({"uniqueItems": "[1,2]", "propertyNames": '{"ab":1}'}.get(name, '"b"'))


def test_one_of_several_that_cannot_be_told_apart_is_checked_at_the_end(model: LanguageModel) -> None:
    schema = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "number", "maximum": 5}]}
    grammar = grammars(model).json(schema)
    assert grammar.left == ("#/oneOf",)
    assert [bool(grammar.check.errors(text)) for text in ("3", "7", "-1", "2.5")] == [True, False, False, False]


def test_items_that_must_differ_are_compared_at_the_end(model: LanguageModel) -> None:
    grammar = grammars(model).json({"properties": {"a": {"type": "array", "uniqueItems": True}}})
    assert grammar.left == ("#/properties/a/uniqueItems",)
    assert [bool(grammar.check.errors(text)) for text in ('{"a":[1,1]}', '{"a":[1,2]}', "{}")] == [True, False, False]


def test_a_cut_answer_does_not_follow_its_schema(model: LanguageModel) -> None:
    schema = {"type": "string", "minLength": 50}
    cut = model.generate("x", schema=schema, max_new_tokens=5, chat=False)
    assert (cut.finish, cut.follows_schema) == ("length", False)
    assert cut.schema_errors == ["it was cut by the limit of new tokens"]
    whole = model.generate("x", schema={"enum": ["abc"]}, max_new_tokens=5, chat=False)
    assert (whole.finish, whole.text, whole.follows_schema) == ("length", '"abc"', True)
    assert model.generate("x", max_new_tokens=5, chat=False).follows_schema is None


def test_an_answer_that_fails_the_check_says_so(model: LanguageModel) -> None:
    schema = {"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    schema["items"] = {"type": "integer", "minimum": 1, "maximum": 1}
    options: dict[str, Any] = {
        "max_new_tokens": 40, "chat": False, "schema": schema, "temperature": 1.0, "seed": 3, "banned": [9, 10, 13, 32],
    }  # fmt: skip
    for method in ("none", "hierarchy"):
        answer = model.generate("x", method=method, **options)
        assert "".join(answer.text.split()) == "[1,1]"
        assert answer.follows_schema is False
        assert answer.left_to_check == ["#/uniqueItems"]
    with pytest.raises(UsageError, match="go with a schema"):
        model.generate("x", lenient=True)


def test_references_to_files(tmp_path: Path, model: LanguageModel) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deeper").mkdir(parents=True)
    outside.mkdir()
    (inside / "deeper" / "b.json").write_text(
        '\ufeff{"$defs": {"x": {"$ref": "../a.json#/$defs/y"}}}', encoding="utf-8"
    )
    (inside / "a.json").write_text(json.dumps({"$defs": {"y": {"enum": ["found"]}}}))
    (inside / "named.json").write_text(json.dumps({"$id": "https://example.org/n.json", "enum": ["named"]}))
    (outside / "c.json").write_text('{"enum": ["outside"]}')
    (inside / "link.json").symlink_to(outside / "c.json")
    made = grammars(model)

    def asked(reference: str, folders: list[Path] | None = None) -> str | None:
        (inside / "root.json").write_text(json.dumps({"$ref": reference}))
        return said(made.json(inside / "root.json", folders=folders or []), model.tokenizer, 1)

    assert asked("deeper/b.json#/$defs/x") == '"found"'
    assert asked("https://example.org/n.json") == '"named"'
    assert asked("http://json-schema.org/draft-07/schema#/definitions/simpleTypes") is not None
    for reference in ("../outside/c.json", "link.json", (outside / "c.json").as_uri(), "none.json", "/etc/hostname"):
        with pytest.raises(UsageError, match=r"#/\$ref: .* is no file in a folder that may be read"):
            asked(reference)
    assert asked("../outside/c.json", [outside]) == '"outside"'
    with pytest.raises(UsageError, match="is no file"):
        made.json({"$ref": "a.json#/$defs/y"})
    assert said(made.json({"$ref": "a.json#/$defs/y"}, folders=[inside]), model.tokenizer, 1) == '"found"'


def test_vocabularies_that_are_padded(model: LanguageModel) -> None:
    from hierdraft.text.grammars import Grammars

    padded = Grammars(model.tokenizer, 300, (256, 299, -1, 10**6)).json({"type": "string"})
    scores = np.zeros(300)
    padded.ban(scores)
    assert (scores[257:299] == -np.inf).all()
    with pytest.raises(UsageError, match="it has 257, the model scores 250"):
        Grammars(model.tokenizer, 250, (3,))
    for ends in ((), (-1,), (300,)):
        with pytest.raises(UsageError, match="end-of-sequence"):
            Grammars(model.tokenizer, 300, ends)


def test_tokenizers_of_every_kind() -> None:
    from hierdraft.text.grammars import Grammars
    from tests.unit import tokenizer_kinds

    schema = {"type": "object", "properties": {"the cat": {"enum": ["the é 世 cat"]}}, "required": ["the cat"],
              "additionalProperties": False}  # fmt: skip
    for kind in ("byte_level", "byte_fallback", "byte_fallback_without_prefix"):
        tokenizer = getattr(tokenizer_kinds, kind)()
        end = tokenizer.convert_tokens_to_ids("<eos>" if kind == "byte_level" else "</s>")
        grammar = Grammars(tokenizer, len(tokenizer) + 5, (end, len(tokenizer) + 3)).json(schema)
        ids: list[int] = []
        for _ in range(120):
            scores = np.zeros(len(tokenizer) + 5)
            grammar.ban(scores)
            if scores[end] == 0:
                break
            allowed = np.flatnonzero(scores == 0)
            visible = [token for token in allowed.tolist() if tokenizer.decode([token]).strip()]
            ids.append((visible or allowed.tolist())[0])
            assert grammar.advance(ids[-1])
        assert json.loads(tokenizer.decode(ids)) == {"the cat": "the é 世 cat"}, kind


def test_slow_tokenizers_are_refused() -> None:
    from hierdraft.text.grammars import Grammars
    from tests.unit.tokenizer_kinds import slow_merges

    with pytest.raises(UsageError, match="fast tokenizer"):
        Grammars(slow_merges(), 10**6, (2,))
