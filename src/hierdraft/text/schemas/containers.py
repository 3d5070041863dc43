"""Keywords of objects and lists that a grammar does not know, said with those it knows.

Each function takes a subschema of a bundle and returns one that means the same, or is stricter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations, islice, permutations
from typing import Any

from hierdraft.text.schemas.alternatives import MOST, Alternative, Fact
from hierdraft.text.schemas.bundle import TYPES, Node
from hierdraft.text.schemas.patterns import any_of, none_of

_MOST_ORDERED, _MOST_LISTED = 4, 7
"""Most values of which every list without repetition is allowed, and of which those in the schema's order are."""


def node_of(path: str, **keywords: Any) -> Node:
    """A subschema of our own making that stands at `path`."""
    node = Node(keywords)
    node.path = path
    return node


def closed(node: Node, definitions: Mapping[str, Node]) -> Node:
    """Without `unevaluatedProperties` and `unevaluatedItems`: what is evaluated is listed, the rest is additional."""
    result = Node({name: value for name, value in node.items() if not name.startswith("unevaluated")})
    result.path = node.path
    for keyword, plain in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):
        if keyword not in node:
            continue
        group = next((name for name in ("anyOf", "oneOf") if name in node), None)
        if group is None:
            parts = [*result.get("allOf", []), _closure(node, None, keyword, plain, definitions)]
            result["allOf"] = parts
        else:
            result[group] = [
                node_of(one.path, allOf=[one, _closure(node, one, keyword, plain, definitions)])
                for one in result[group]
            ]
    return result


def _closure(node: Node, branch: Node | None, keyword: str, plain: str, definitions: Mapping[str, Node]) -> Node:
    """What `keyword` adds to a subschema where `branch` of its alternatives is taken."""
    names: dict[str, Node] = {}
    patterns: dict[str, Node] = {}
    items = 0
    for part in _in_place([node] if branch is None else [node, branch], definitions):
        if plain in part:
            return node_of(node.path)
        names |= {name: Node() for name in part.get("properties", ())}
        patterns |= {name: Node() for name in part.get("patternProperties", ())}
        items = max(items, len(part.get("prefixItems", ())))
    if keyword == "unevaluatedItems":
        before = {"prefixItems": [Node() for _ in range(items)]} if items else {}
        return node_of(node.path, **before, items=node[keyword])
    return node_of(node.path, properties=names, patternProperties=patterns, additionalProperties=node[keyword])


def _in_place(nodes: list[Node], definitions: Mapping[str, Node]) -> list[Node]:
    """The subschemas that a value at this place must follow in any case."""
    found: list[Node] = []
    waiting, seen = list(nodes), set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        found.append(node)
        waiting += node.get("allOf", [])
        if "$ref" in node:
            waiting.append(definitions[node["$ref"].rpartition("/")[2]])
    return found


def names_bound(node: Node, fits: Callable[[Node, str], bool], definitions: Mapping[str, Node]) -> Node | None:
    """Without `propertyNames`; None where that cannot be said."""
    rule = node["propertyNames"]
    while list(rule) == ["$ref"]:
        rule = definitions[rule["$ref"].rpartition("/")[2]]
    result = node_of(node.path, **{name: value for name, value in node.items() if name != "propertyNames"})
    never = node_of(node.path, **{"not": Node()})
    listed = dict(node.get("properties", {}))
    result["properties"] = {name: sub if fits(rule, name) else never for name, sub in listed.items()}
    others = node.get("additionalProperties", Node())
    patterned = node.get("patternProperties", {})
    if "enum" in rule:
        for name in rule["enum"]:
            if isinstance(name, str) and name not in listed and fits(rule, name):
                found = [sub for pattern, sub in patterned.items() if _matches(pattern, name)]
                result["properties"][name] = node_of(node.path, allOf=found) if found else others
        result.pop("patternProperties", None)
        result["additionalProperties"] = never
        return result
    pattern = _names_pattern(rule)
    if others.get("not") == {} and all(pattern == known for known in patterned):
        return result
    if pattern is None or patterned:
        return None
    result["patternProperties"] = {pattern: others}
    result["additionalProperties"] = never
    return result


def _names_pattern(rule: Node) -> str | None:
    """A rule about names as one pattern, if it is one."""
    keys = set(rule) - {"type", "format"}
    if "type" in rule and "string" not in rule["type"]:
        return None
    if not keys:
        return ""
    if keys == {"pattern"}:
        return str(rule["pattern"])
    if keys <= {"minLength", "maxLength"}:
        return f"^(?s:.){{{rule.get('minLength', 0)},{rule.get('maxLength', '')}}}$"
    if keys == {"anyOf"} or keys == {"oneOf"}:
        parts = [_names_pattern(one) for one in rule[keys.pop()]]
        return any_of([part for part in parts if part is not None]) if any(part is not None for part in parts) else None
    if keys == {"enum"}:
        return any_of(f"^{_literal(name)}$" for name in rule["enum"] if isinstance(name, str))
    if keys == {"not"} and list(rule["not"]) == ["enum"]:
        return none_of(name for name in rule["not"]["enum"] if isinstance(name, str))
    return None


def _literal(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):x}}}" for letter in text)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def patterns_apart(node: Node, apart: Callable[[str, str], bool]) -> Node:
    """Patterns of properties that may match the same name become one pattern, whose names follow all their schemas."""
    groups: list[tuple[list[str], list[Node]]] = []
    for pattern, sub in node["patternProperties"].items():
        touching = [group for group in groups if not all(apart(pattern, other) for other in group[0])]
        groups = [group for group in groups if group not in touching]
        merged = ([pattern], [sub])
        for group in touching:
            merged = (group[0] + merged[0], group[1] + [one for one in merged[1] if one not in group[1]])
        groups.append(merged)
    result = node_of(node.path, **node)
    result["patternProperties"] = {
        patterns[0] if len(patterns) == 1 else any_of(patterns): subs[0]
        if len(subs) == 1
        else node_of(node.path, allOf=subs)
        for patterns, subs in groups
    }
    return result


def counted_properties(node: Node) -> tuple[Node, list[list[Alternative]]]:
    """Bounds on the number of properties: alternatives of which optional ones are there."""
    result = node_of(node.path, **node)
    required = set(node.get("required", ()))
    never = {name for name, sub in node.get("properties", {}).items() if sub.get("not") == {}}
    optional = [name for name in node.get("properties", {}) if name not in required | never]
    if not optional:
        return result, []
    conditions: list[list[Alternative]] = []
    least = result.pop("minProperties", 0) - len(required)
    if 0 < least <= len(optional):
        chosen = islice(combinations(optional, least), MOST)
        conditions.append([_with(names) for names in chosen])
    elif least > 0:
        result["minProperties"] = least + len(required)
        result["required"] = [*node.get("required", ()), *optional]
    most = result.pop("maxProperties", None)
    if most is not None:
        bounded = node.get("additionalProperties", Node()).get("not") == {} and "patternProperties" not in node
        if not bounded:
            result.pop("patternProperties", None)
            result["additionalProperties"] = node_of(node.path, **{"not": Node()})
        most = max(most - len(required), 0)
        if most < len(optional):
            chosen = islice(combinations(optional, most), MOST)
            conditions.append([_without([name for name in optional if name not in names]) for names in chosen])
    return result, conditions


def _with(names: tuple[str, ...]) -> Alternative:
    other = {"type": [name for name in TYPES if name not in ("object", "integer")]}
    schema = {"anyOf": [{"type": "object", "required": list(names)}, other]}
    return Alternative((schema,), {name: Fact(absent=False) for name in names})


def _without(names: list[str]) -> Alternative:
    schema = {"properties": dict.fromkeys(names, False)}
    return Alternative((schema,), {name: Fact(frozenset()) for name in names})


def contained(node: Node) -> Node:
    """Without `contains`: the first items after the fixed ones are those that must be contained."""
    kept = {name: value for name, value in node.items() if name not in ("contains", "minContains", "maxContains")}
    result = node_of(node.path, **kept)
    wanted, least, most = node["contains"], node.get("minContains", 1), node.get("maxContains")
    fixed, others = list(node.get("prefixItems", [])), node.get("items", Node())
    if most is not None:
        others = node_of(node.path, allOf=[others, node_of(node.path, **{"not": wanted})])
        fixed = [node_of(one.path, allOf=[one, node_of(node.path, **{"not": wanted})]) for one in fixed]
    room = node.get("maxItems", len(fixed) + least) - len(fixed)
    if room >= least:
        fixed += [node_of(node.path, allOf=[node.get("items", Node()), wanted])] * least
    else:
        start = [node_of(one.path, allOf=[one, wanted]) for one in node.get("prefixItems", [])[:least]]
        fixed = start + fixed[len(start) :]
    result["prefixItems"], result["items"] = fixed, others
    result["minItems"] = max(node.get("minItems", 0), len(fixed) if room >= least and least else least)
    return result


def different_items(node: Node, definitions: Mapping[str, Node]) -> Node | None:
    """Without `uniqueItems` where the items come from a short list of values or there is at most one; else None."""
    result = node_of(node.path, **{name: value for name, value in node.items() if name != "uniqueItems"})
    if node.get("maxItems", 2) <= 1 or ("type" in node and "array" not in node["type"]):
        return result
    items = node.get("items", Node())
    while list(items) == ["$ref"]:
        items = definitions[items["$ref"].rpartition("/")[2]]
    if "enum" not in items or "prefixItems" in node or set(items) - {"enum", "type"}:
        return None
    values = items["enum"]
    if len(values) > _MOST_LISTED:
        return None
    sizes = range(node.get("minItems", 0), min(node.get("maxItems", len(values)), len(values)) + 1)
    choose = permutations if len(values) <= _MOST_ORDERED else combinations
    lists = [list(chosen) for size in sizes for chosen in choose(values, size)]
    other = node_of(node.path, type=[name for name in TYPES if name not in ("array", "integer")])
    result.pop("items")
    result["allOf"] = [*result.get("allOf", []), node_of(node.path, anyOf=[node_of(node.path, enum=lists), other])]
    return result
