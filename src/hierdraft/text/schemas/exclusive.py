"""Whether no value can follow two subschemas at once: what makes `oneOf` the same as `anyOf`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hierdraft.text.schemas.alternatives import Fact, facts_of, written
from hierdraft.text.schemas.bundle import TYPES, Node

_MOST_PARTS = 50
_EVERY_TYPE = frozenset(TYPES)


def simple(node: Node) -> bool:
    """Whether the opposite of a subschema can be said in full: it only asks for properties, or for none."""
    names = set(node) - {"required", "not", "anyOf", "properties"}
    inner = [node["not"]] if "not" in node else []
    return not names and bool(node) and all(map(simple, inner + node.get("anyOf", []))) and (
        "properties" not in node or all(sub.get("not") == {} for sub in node["properties"].values())
    )  # fmt: skip


def exclusive(one: Node, other: Node, definitions: Mapping[str, Node], depth: int = 0) -> bool:
    """Whether it is certain that no value follows both."""
    if depth > 3:
        return False
    for node, against in ((one, other), (other, one)):
        for part in _parts(node, definitions):
            for keyword in ("anyOf", "oneOf"):
                if keyword in part and all(exclusive(sub, against, definitions, depth + 1) for sub in part[keyword]):
                    return True
    types = _types(one, definitions) & _types(other, definitions)
    if not types:
        return True
    values, others = _values(one, definitions), _values(other, definitions)
    if values is not None and others is not None and not values & others:
        return True
    return types == {"object"} and _facts_differ(one, other, definitions)


def _facts_differ(one: Node, other: Node, definitions: Mapping[str, Node]) -> bool:
    facts = _facts(one, definitions)
    return any(facts.get(name, Fact()).joined(fact).impossible for name, fact in _facts(other, definitions).items())


def _parts(node: Node, definitions: Mapping[str, Node]) -> Iterator[Node]:
    """The subschema and what must be followed with it."""
    waiting, count = [node], 0
    while waiting and count < _MOST_PARTS:
        part = waiting.pop()
        count += 1
        yield part
        waiting += part.get("allOf", [])
        if "$ref" in part:
            waiting.append(definitions[part["$ref"].rpartition("/")[2]])


def _types(node: Node, definitions: Mapping[str, Node]) -> frozenset[str]:
    """The types that a value may have; whole numbers count as a type of their own beside the others."""
    types = _EVERY_TYPE
    for part in _parts(node, definitions):
        if "type" in part:
            named = set(part["type"])
            types &= named | ({"integer"} if "number" in named else set())
        if "enum" in part:
            types &= {name for value in part["enum"] for name in _type_of(value)}
    return types


def _type_of(value: Any) -> tuple[str, ...]:
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int | float):
        return ("integer", "number")
    return ("string" if isinstance(value, str) else "array" if isinstance(value, list) else "object",)


def _values(node: Node, definitions: Mapping[str, Node]) -> frozenset[str] | None:
    found: frozenset[str] | None = None
    for part in _parts(node, definitions):
        if "enum" in part:
            values = frozenset(map(written, part["enum"]))
            found = values if found is None else found & values
    return found


def _facts(node: Node, definitions: Mapping[str, Node]) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for part in _parts(node, definitions):
        own = {name: value for name, value in part.items() if name in ("properties", "required")}
        for name, fact in facts_of(own).items():
            facts[name] = facts.get(name, Fact()).joined(fact)
    return facts
