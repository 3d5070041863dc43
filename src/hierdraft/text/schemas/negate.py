"""The opposite of a schema, as alternatives: each keyword broken is one.

Where the opposite of a keyword cannot be said (of a pattern, of unknown properties), its alternative is left out. What
is left is stricter, and still nothing that follows the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Protocol

from hierdraft.text.schemas.alternatives import MOST, Alternative, Fact, facts_of, product, written
from hierdraft.text.schemas.bundle import TYPES, Node
from hierdraft.text.schemas.patterns import none_of

_NUMBER_BOUNDS = {
    "minimum": "exclusiveMaximum", "exclusiveMinimum": "maximum",
    "maximum": "exclusiveMinimum", "exclusiveMaximum": "minimum",
}  # fmt: skip
_KINDS = {"Length": "string", "Items": "array", "Properties": "object"}


class Rewriter(Protocol):
    """What negation needs of the whole: the definitions, and the positive form of a subschema."""

    definitions: Mapping[str, Node]

    def rewritten(self, node: Node) -> dict[str, Any]: ...


class Negation:
    """Negates subschemas of one bundle."""

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter
        self._known: dict[int, tuple[Node, list[Alternative]]] = {}
        self._keywords: dict[str, Callable[[Node, Any], list[Alternative]]] = {
            "type": self._type, "enum": self._enum, "required": self._required, "properties": self._properties,
            "not": self._not, "allOf": self._all_of, "anyOf": self._any_of, "oneOf": self._any_of, "if": self._if,
            "$ref": self._reference, "items": self._items, "contains": self._contains,
            "dependentRequired": self._dependent,
        }  # fmt: skip

    def of(self, node: Node) -> list[Alternative]:
        """Alternatives that together are the opposite of `node`, or stricter; empty: none can be said."""
        if id(node) in self._known:
            return self._known[id(node)][1]
        self._known[id(node)] = (node, [])  # what leads back to itself is left out
        found: list[Alternative] = []
        for keyword, value in node.items():
            if keyword in self._keywords:
                found += self._keywords[keyword](node, value)
            elif keyword in _NUMBER_BOUNDS:
                found.append(_only({"type": "number", _NUMBER_BOUNDS[keyword]: value}))
            elif keyword[:3] in ("min", "max") and keyword[3:] in _KINDS:
                found += _counted(keyword, value)
        self._known[id(node)] = (node, found[:MOST])
        return found[:MOST]

    def _type(self, _node: Node, value: list[str]) -> list[Alternative]:
        excluded = {*value, *(["integer"] if "number" in value else ["number"] if "integer" in value else [])}
        others = [name for name in TYPES if name not in excluded and name != "integer"]
        return [_only({"type": others})] if others else []

    def _enum(self, _node: Node, value: list[Any]) -> list[Alternative]:
        return [_only(other_values(value))]

    def _required(self, _node: Node, value: list[str]) -> list[Alternative]:
        return [_absent(name) for name in value]

    def _properties(self, _node: Node, value: dict[str, Node]) -> list[Alternative]:
        found: list[Alternative] = []
        for name, property_ in value.items():
            present: dict[str, Any] = {"type": "object", "required": [name]}
            for option in self.of(property_):
                never = frozenset(map(written, property_["enum"])) if list(property_) == ["enum"] else frozenset()
                schema = present | {"properties": {name: _all(option.schemas)}}
                found.append(Alternative((schema,), {name: Fact(None, never, absent=False)}))
        return found

    def _not(self, _node: Node, value: Node) -> list[Alternative]:
        return [Alternative((self._rewriter.rewritten(value),), facts_of(value))]

    def _all_of(self, _node: Node, value: list[Node]) -> list[Alternative]:
        return [option for part in value for option in self.of(part)]

    def _any_of(self, _node: Node, value: list[Node]) -> list[Alternative]:
        """None of them; for `oneOf` two at once would do too, which is left out."""
        return product([self.of(part) for part in value], {})

    def _if(self, node: Node, value: Node) -> list[Alternative]:
        yes = Alternative((self._rewriter.rewritten(value),), facts_of(value))
        found: list[Alternative] = []
        if "then" in node:
            found += product([[yes], self.of(node["then"])], {})
        if "else" in node:
            found += product([self.of(value), self.of(node["else"])], {})
        return found

    def _reference(self, _node: Node, value: str) -> list[Alternative]:
        return self.of(self._rewriter.definitions[value.rpartition("/")[2]])

    def _items(self, node: Node, value: Node) -> list[Alternative]:
        """An item that is none of these; the first one has to do."""
        if "prefixItems" in node:
            return []
        return [
            _only({"type": "array", "minItems": 1, "prefixItems": [_all(option.schemas)]}) for option in self.of(value)
        ]

    def _contains(self, node: Node, value: Node) -> list[Alternative]:
        options = [_all(option.schemas) for option in self.of(value)]
        if node.get("minContains", 1) != 1:
            return []
        return [_only({"type": "array", "items": {"anyOf": options}})] if options else [
            _only({"type": "array", "maxItems": 0})
        ]  # fmt: skip

    def _dependent(self, _node: Node, value: dict[str, list[str]]) -> list[Alternative]:
        pairs = [(name, other) for name, needed in value.items() for other in needed]
        return [both for name, other in pairs if (both := _present(name).joined(_absent(other))) is not None]


def other_values(values: list[Any]) -> dict[str, Any]:
    """A schema of everything that is not one of the values; lists and objects are left out where one is among them."""
    strings = [value for value in values if isinstance(value, str)]
    numbers = sorted({value for value in values if isinstance(value, int | float) and not isinstance(value, bool)})
    options: list[dict[str, Any]] = []
    options.append({"type": "string", "pattern": none_of(strings)} if strings else {"type": "string"})
    bounds = [None, *numbers, None]
    for low, high in pairwise(bounds):
        between: dict[str, Any] = {"type": "number"}
        between |= {"exclusiveMinimum": low} if low is not None else {}
        between |= {"exclusiveMaximum": high} if high is not None else {}
        options.append(between)
    truths = [value for value in (True, False) if not any(value is one for one in values)]
    options += [{"enum": truths}] if truths else []
    options += [{"type": "null"}] if None not in values else []
    for kind, name in ((list, "array"), (dict, "object")):
        if not any(isinstance(value, kind) for value in values):
            options.append({"type": name})
    return {"anyOf": options}


def _only(schema: dict[str, Any]) -> Alternative:
    return Alternative((schema,), {})


def _absent(name: str) -> Alternative:
    return Alternative(({"type": "object", "properties": {name: False}},), {name: Fact(frozenset())})


def _present(name: str) -> Alternative:
    return Alternative(({"type": "object", "required": [name]},), {name: Fact(absent=False)})


def _all(schemas: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"allOf": list(schemas)}


def _counted(keyword: str, value: int) -> list[Alternative]:
    kind, what = _KINDS[keyword[3:]], keyword[3:]
    if keyword.startswith("max"):
        return [_only({"type": kind, f"min{what}": value + 1})]
    return [_only({"type": kind, f"max{what}": value - 1})] if value else []
