"""Shapes that llguidance takes more easily, with the same meaning or a stricter one; and who refers to whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hierdraft.text.schemas.bundle import Node

_LARGEST = 1e15
"""Bounds beyond are drawn in: no number that is said needs more digits, and llguidance cannot write such ranges."""


def with_types(schema: Any, types: list[str]) -> Any:
    """A schema beside which these types are asked for, with the same types: llguidance looks at fewer pairs then."""
    if not isinstance(schema, dict) or "type" in schema:
        return schema
    typed = dict(schema)
    for keyword in ("allOf", "anyOf"):
        if keyword in typed:
            typed[keyword] = [with_types(part, types) for part in typed[keyword]]
    return typed | {"type": types} if set(typed) - {"allOf", "anyOf", "$ref", "enum"} else typed


def within(keyword: str, value: float) -> float:
    """A bound that is not too far out."""
    if keyword.lower().endswith("minimum"):
        return int(-_LARGEST) if value < -_LARGEST else value
    return int(_LARGEST) if value > _LARGEST else value


def without_patterned(node: Node) -> Node:
    """Without the properties that a pattern of names describes in the same words.

    llguidance joins both, and cannot where they refer to what they are a part of.
    """
    patterns = node.get("patternProperties", {})
    kept = {
        name: sub
        for name, sub in node.get("properties", {}).items()
        if not any(sub == other and _matches(pattern, name) for pattern, other in patterns.items())
    }
    if len(kept) == len(node.get("properties", {})):
        return node
    result = Node(node)
    result.path = node.path
    result["properties"] = kept
    return result


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


class Circles:
    """Which definitions refer to themselves."""

    def __init__(self, definitions: Mapping[str, Node]) -> None:
        self._definitions = definitions
        self._known: dict[str, bool] = {}

    def through(self, number: str) -> bool:
        """Whether a definition refers to itself, directly or not."""
        if number not in self._known:
            seen: set[str] = set()
            waiting = references(self._definitions[number])
            while waiting:
                other = waiting.pop()
                if other not in seen:
                    seen.add(other)
                    waiting += references(self._definitions[other])
            self._known[number] = number in seen
        return self._known[number]


def references(node: Any) -> list[str]:
    """The definitions that a subschema names."""
    found: list[str] = []
    waiting = [node]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Node) and isinstance(value.get("$ref"), str):
            found.append(value["$ref"].rpartition("/")[2])
        if isinstance(value, dict):
            waiting += [sub for key, sub in value.items() if key != "enum"]
        elif isinstance(value, list):
            waiting += value
    return found


def only_conditions(node: Node) -> bool:
    """Whether a subschema holds nothing but keywords that hold on conditions."""
    conditional = {"if", "then", "else", "not", "dependentRequired", "dependentSchemas"}
    return bool(node) and not set(node) - conditional and node.get("not") != {}
