"""A schema and all that it refers to as one schema: of draft 2020-12, without what only describes.

Afterwards every reference is `#/$defs/N`, and every subschema knows where it stood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

from hierdraft.errors import UsageError
from hierdraft.text.schemas.documents import Documents, Place, siblings_count

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "multipleOf")
_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "additionalProperties", "propertyNames", "if", "then", "else", "unevaluatedProperties",
           "unevaluatedItems", "contains")  # fmt: skip
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_SINCE = {"const": 6, "contains": 6, "propertyNames": 6, "if": 7, "then": 7, "else": 7, "unevaluatedProperties": 2019,
          "unevaluatedItems": 2019, "dependentSchemas": 2019}  # fmt: skip
_MOST_SUBSCHEMAS = 400_000
_MOST_DEPTH = 200


class Node(dict[str, Any]):
    """A subschema: keywords of draft 2020-12, and `path`, where it stood. `False` stands as {"not": {}}."""

    path: str = "#"


class Bundle:
    """Writes the definitions of a bundle as they are referred to."""

    def __init__(self, documents: Documents) -> None:
        self.definitions: dict[str, Node] = {}
        self._documents = documents
        self._numbers: dict[tuple[int, str], str] = {}
        self._kept: list[Any] = []
        self._waiting: list[tuple[str, Place]] = []
        self._count = 0

    def of(self, root: Place) -> Node:
        """The root; `definitions` holds what its references name. Raises UsageError."""
        top = Node({"$ref": self._number(root)})
        while self._waiting:
            number, place = self._waiting.pop()
            self.definitions[number] = self._node(place, 0)
        return top

    def _number(self, place: Place) -> str:
        """The reference to a place, which is written later."""
        key = (id(place.contents), str(place.resolver._base_uri))
        if key not in self._numbers:
            self._numbers[key] = str(len(self._numbers))
            self._kept.append(place.contents)  # an id may be used again once its object is gone
            self._waiting.append((self._numbers[key], place))
        return f"#/$defs/{self._numbers[key]}"

    def _node(self, place: Place, depth: int) -> Node:
        self._count += 1
        if self._count > _MOST_SUBSCHEMAS or depth > _MOST_DEPTH:
            raise UsageError(f"The JSON schema cannot be used: {place.path}: too large or nested too deeply.")
        node = Node()
        node.path = place.path
        schema = place.contents
        if isinstance(schema, bool):
            if not schema:
                node["not"] = Node()
            return node
        if not isinstance(schema, Mapping):
            raise refused(place.path, f"a schema is an object or a boolean, not {_short(schema)}")
        place = _inside(place)
        if "$ref" in schema and not siblings_count(place.draft):
            node["$ref"] = self._followed(place, "$ref")
            return node
        for keyword, value in schema.items():
            if _SINCE.get(keyword, 0) <= place.draft:
                self._keyword(node, place, keyword, value, depth + 1)
        return node

    def _keyword(self, node: Node, place: Place, keyword: str, value: Any, depth: int) -> None:
        """Write one keyword, in the order of the schema; what is not a keyword, or only describes, is left out."""
        if keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if "$ref" in node:
                node.setdefault("allOf", []).append(Node({"$ref": self._followed(place, keyword)}))
            else:
                node["$ref"] = self._followed(place, keyword)
        elif keyword in _SINGLE:
            if not (keyword in ("then", "else") and "if" not in place.contents):
                node[keyword] = self._node(place.below(value, keyword), depth)
        elif keyword in _LISTS:
            listed = [
                self._node(place.below(one, keyword, i), depth) for i, one in enumerate(_list(place, keyword, value))
            ]
            node[keyword] = node.get(keyword, []) + listed if keyword == "allOf" else listed
        elif keyword in _MAPS:
            named = _map(place, keyword, value).items()
            node[keyword] = {name: self._node(place.below(one, keyword, name), depth) for name, one in named}
            if keyword == "properties" and place.draft <= 3:
                node["required"] = [name for name, one in named if isinstance(one, Mapping) and one.get("required")]
        elif keyword in _PLAIN:
            kept = _PLAIN[keyword](place, keyword, value)
            if keyword in ("enum", "const") and "enum" in node:
                node["enum"] = [one for one in node["enum"] if any(same(one, other) for other in kept)]
            elif kept is not None:
                node["enum" if keyword == "const" else keyword] = kept
        elif keyword in ("items", "prefixItems", "additionalItems"):
            self._items(node, place, keyword, value, depth)
        elif keyword in ("dependencies", "dependentRequired"):
            self._dependencies(node, place, keyword, value, depth)
        elif place.draft <= 3 and keyword in ("extends", "disallow", "divisibleBy"):
            raise refused(f"{place.path}/{keyword}", "draft 3 is not supported as far as that")
        elif keyword in ("minContains", "maxContains") and "contains" in place.contents and place.draft >= 2019:
            node[keyword] = _count(place, keyword, value)

    def _items(self, node: Node, place: Place, keyword: str, value: Any, depth: int) -> None:
        """Lists of items are `prefixItems`, and what comes after them `items`."""
        listed = isinstance(place.contents.get("items"), list)
        if keyword == "prefixItems" and place.draft < 2020:
            return
        if keyword == "prefixItems" or (keyword == "items" and listed):
            node["prefixItems"] = [
                self._node(place.below(one, keyword, i), depth) for i, one in enumerate(_list(place, keyword, value))
            ]
        elif keyword == "items" or listed:
            node["items"] = self._node(place.below(value, keyword), depth)

    def _dependencies(self, node: Node, place: Place, keyword: str, value: Any, depth: int) -> None:
        """What a property brings along: lists of names, or schemas."""
        for name, needed in _map(place, keyword, value).items():
            if isinstance(needed, str):
                needed = [needed]
            if isinstance(needed, list):
                node.setdefault("dependentRequired", {})[name] = _names(place.below(needed, keyword), name, needed)
            else:
                node.setdefault("dependentSchemas", {})[name] = self._node(place.below(needed, keyword, name), depth)

    def _followed(self, place: Place, keyword: str) -> str:
        reference = place.contents[keyword]
        if not isinstance(reference, str):
            raise refused(f"{place.path}/{keyword}", f"a reference is a string, not {_short(reference)}")
        return self._number(self._documents.follow(place, reference, keyword))


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


def refused(path: str, reason: str) -> UsageError:
    """The one line of a refusal: where and why."""
    return UsageError(f"The JSON schema cannot be used: {path}: {reason}.")


def _inside(place: Place) -> Place:
    """The place with the base address that its own `$id` gives it."""
    schema = place.contents
    identity = schema.get("id" if place.draft <= 4 else "$id")
    if place.path == "#" or not isinstance(identity, str) or ("$ref" in schema and not siblings_count(place.draft)):
        return place
    from referencing.jsonschema import DRAFT4, DRAFT202012

    specification: Any = DRAFT4 if place.draft <= 4 else DRAFT202012
    resolver = place.resolver.in_subresource(specification.create_resource(schema))
    return Place(schema, resolver, place.path, place.draft)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _list(place: Place, keyword: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise refused(f"{place.path}/{keyword}", f"expected a list, not {_short(value)}")
    return value


def _map(place: Place, keyword: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise refused(f"{place.path}/{keyword}", f"expected an object, not {_short(value)}")
    return value


def _count(place: Place, keyword: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise refused(f"{place.path}/{keyword}", f"expected a whole number from 0, not {_short(value)}")
    return int(value)


def _number(place: Place, keyword: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Number):
        raise refused(f"{place.path}/{keyword}", f"expected a number, not {_short(value)}")
    return value


def _bound(place: Place, keyword: str, value: Any) -> Any:
    """An exclusive bound: a number, or in draft 4 whether the other bound is one."""
    if isinstance(value, bool):
        return place.contents.get("minimum" if keyword == "exclusiveMinimum" else "maximum") if value else None
    return _number(place, keyword, value)


def _names(place: Place, keyword: str, value: Any) -> list[str] | None:
    if isinstance(value, bool):  # draft 3's, which the property's own schema had
        return None
    for name in _list(place, keyword, value):
        if not isinstance(name, str):
            raise refused(f"{place.path}/{keyword}", f"expected a list of names, not {_short(value)}")
    return list(dict.fromkeys(value))


def _text(place: Place, keyword: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refused(f"{place.path}/{keyword}", f"expected a string, not {_short(value)}")
    return value


def _types(place: Place, keyword: str, value: Any) -> list[str] | None:
    types = [value] if isinstance(value, str) else _list(place, keyword, value)
    if "any" in types and place.draft <= 3:
        return None
    for one in types:
        if one not in TYPES:
            raise refused(f"{place.path}/{keyword}", f"there is no type {_short(one)}")
    return list(dict.fromkeys(types))


def _flag(_place: Place, _keyword: str, value: Any) -> bool | None:
    return True if value is True else None


def _constant(_place: Place, _keyword: str, value: Any) -> list[Any]:
    return [value]


_PLAIN: dict[str, Callable[[Place, str, Any], Any]] = {
    "type": _types, "enum": _list, "const": _constant, "required": _names, "pattern": _text, "format": _text,
    "uniqueItems": _flag, "exclusiveMinimum": _bound, "exclusiveMaximum": _bound,
    **dict.fromkeys(_COUNTS, _count), **dict.fromkeys(_NUMBERS, _number),
}  # fmt: skip
