"""JSON schemas as people write them: every answer that their grammar lets through follows them, drafted or not."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import numpy as np
import pytest

from hierdraft.engines.toy import ToyEngine
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
