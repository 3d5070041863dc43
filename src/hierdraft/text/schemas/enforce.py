"""A bundle as a schema that llguidance can make a grammar of: equal, or stricter; else refused, or left to a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hierdraft.text.schemas.alternatives import MOST, Alternative, facts_of, product
from hierdraft.text.schemas.bundle import Node, refused
from hierdraft.text.schemas.containers import (
    closed,
    contained,
    counted_properties,
    different_items,
    names_bound,
    node_of,
    patterns_apart,
)
from hierdraft.text.schemas.exclusive import exclusive, simple
from hierdraft.text.schemas.negate import Negation
from hierdraft.text.schemas.patterns import conjuncts, name_pattern, translated
from hierdraft.text.schemas.shapes import Circles, only_conditions, references, with_types, within, without_patterned

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_SIZES = ("minItems", "maxItems", "minProperties", "maxProperties")
_COPIED = ("type", "enum", "required", "multipleOf", *_SIZES, *_BOUNDS)
_IN_PLACE = ("allOf", "anyOf", "oneOf", "$ref")
_STRINGS = ("pattern", "format", "minLength", "maxLength")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")


@dataclass
class Enforcer:
    """Rewrites one bundle.

    definitions  of the bundle
    reason       why llguidance cannot use a schema; None where it can
    fits         whether a name follows a subschema
    most         alternatives kept for one subschema; fewer make a smaller, stricter grammar
    lenient      leave to a check of the answer what a grammar cannot hold
    left         paths of the keywords that were left to the check
    """

    definitions: Mapping[str, Node]
    reason: Callable[[dict[str, Any]], str | None]
    fits: Callable[[Node, str], bool]
    lenient: bool = False
    most: int = MOST
    left: list[str] = field(default_factory=list)
    _negation: Negation = field(init=False)
    _done: dict[str, Any] = field(default_factory=dict)
    _waiting: list[str] = field(default_factory=list)
    _own: dict[int, tuple[str, Node]] = field(default_factory=dict)
    _ready: dict[int, tuple[Node, Node, list[list[Alternative]]]] = field(default_factory=dict)
    _inlined: tuple[str, ...] = ()
    _circles: Circles = field(init=False)

    def __post_init__(self) -> None:
        self._negation = Negation(self)
        self._circles = Circles(self.definitions)

    def schema(self, top: Node) -> dict[str, Any]:
        """The whole schema. Raises UsageError with the path of what cannot be kept."""
        found = self.rewritten(top)
        while self._waiting:
            number = self._waiting.pop()
            own = [node for name, node in self._own.values() if name == number]
            self._done[number] = self.rewritten(own[0] if own else self.definitions[number])
        return found | {"$defs": self._done}

    def rewritten(self, node: Node, merging: bool = False) -> dict[str, Any]:
        """One subschema; `merging`: it must be followed beside others, so references in circles are written out."""
        if node.get("not") == {}:
            return {"allOf": [False]}
        node, conditions = self._prepared(node)
        merging = merging or len(node) > 1 or bool(conditions)
        result: dict[str, Any] = {}
        parts: list[Any] = []
        for keyword, value in node.items():
            if keyword in _IN_PLACE:
                parts += self._in_place(node, keyword, value, merging)
            else:
                result |= self._plain(node, keyword, value)
        result |= self._string(node, parts)
        if conditions:
            parts += self._conditions(node, conditions)
        parts = [part for part in parts if part]
        if "type" in result:
            parts = [with_types(part, result["type"]) for part in parts]
        if len(parts) == 1 and not result:
            return dict(parts[0])
        if parts:
            result["allOf"] = parts
        return result

    def _plain(self, node: Node, keyword: str, value: Any) -> dict[str, Any]:
        """A keyword about the value itself or about what is in it."""
        if keyword in _BOUNDS:
            return {keyword: within(keyword, value)}
        if keyword in _COPIED:
            return {keyword: value}
        if keyword in ("properties", "patternProperties"):
            return {keyword: {self._name(node, keyword, name): self._at(sub) for name, sub in value.items()}}
        if keyword in ("items", "additionalProperties"):
            return {keyword: self._at(value)}
        return {keyword: [self._at(sub) for sub in value]} if keyword == "prefixItems" else {}

    def _in_place(self, node: Node, keyword: str, value: Any, merging: bool) -> list[dict[str, Any]]:
        """What a value must follow besides, from one keyword."""
        if keyword == "allOf":
            together = merging or len(value) > 1
            return [self.rewritten(sub, together) for sub in value if not only_conditions(sub)]
        if keyword == "anyOf":
            return [{"anyOf": [self.rewritten(sub, merging) for sub in value]}]
        if keyword == "oneOf":
            return [self._one_of(node, value, merging)]
        return [self._reference(node, value, merging)]

    def _at(self, node: Node) -> Any:
        """A subschema for another value than this one."""
        if node.get("not") == {}:
            return False
        if len(node) > 1 and any(self._circles.through(number) for number in references(node)):
            return self._own_definition(node)
        inlined, self._inlined = self._inlined, ()
        try:
            return self.rewritten(node)
        finally:
            self._inlined = inlined

    def _own_definition(self, node: Node) -> dict[str, Any]:
        """A reference to the subschema, so that a circle through it comes back to the same place."""
        if id(node) not in self._own:
            self._own[id(node)] = (f"own{len(self._own)}", node)
            self._waiting.append(self._own[id(node)][0])
        return {"$ref": f"#/$defs/{self._own[id(node)][0]}"}

    def _name(self, node: Node, keyword: str, name: str) -> str:
        if keyword == "properties":
            return name
        pattern = translated(name_pattern(name))
        why = self.reason({"type": "object", "patternProperties": {pattern: {}}})
        if why is not None:
            raise refused(f"{node.path}/{keyword}/{name}", why)
        return pattern

    def _prepared(self, node: Node) -> tuple[Node, list[list[Alternative]]]:
        """The subschema without the keywords that can be said in other words, and its conditions."""
        given = node
        if id(given) in self._ready:
            node, counted = self._ready[id(given)][1:]
            return node, counted + self._conditions_of(node)
        if "unevaluatedProperties" in node or "unevaluatedItems" in node:
            node = closed(node, self.definitions)
        if "uniqueItems" in node:
            apart = different_items(node, self.definitions)
            node = self._without(node, "uniqueItems") if apart is None else apart
        if "contains" in node:
            node = contained(node)
        if "propertyNames" in node:
            node = self._or_left(node, "propertyNames", names_bound(node, self.fits, self.definitions),
                                 "such names cannot be said in one pattern")  # fmt: skip
        if len(node.get("patternProperties", ())) > 1:
            node = patterns_apart(node, self._apart)
        if "patternProperties" in node:
            node = without_patterned(node)
        conditions: list[list[Alternative]] = []
        if "minProperties" in node or "maxProperties" in node:
            node, conditions = counted_properties(node)
        self._ready[id(given)] = (given, node, conditions)
        return node, conditions + self._conditions_of(node)

    def _or_left(self, node: Node, keyword: str, rewritten: Node | None, why: str) -> Node:
        """`rewritten`, or the subschema without the keyword, which the check looks at. Raises UsageError."""
        if rewritten is not None:
            return rewritten
        self._leave(f"{node.path}/{keyword}", why)
        return self._without(node, keyword)

    def _without(self, node: Node, keyword: str) -> Node:
        """The subschema without the keyword, which the check of the answer looks at."""
        self._check(f"{node.path}/{keyword}")
        return node_of(node.path, **{name: value for name, value in node.items() if name != keyword})

    def _leave(self, path: str, why: str) -> None:
        if not self.lenient:
            raise refused(path, f"{why}; --lenient-schema (lenient=True) leaves it to a check of the answer")
        self._check(path)

    def _check(self, path: str) -> None:
        if path not in self.left:
            self.left.append(path)

    def _apart(self, one: str, other: str) -> bool:
        pair: dict[str, Any] = {translated(name_pattern(name)): {} for name in (one, other)}
        return len(pair) == 2 and self.reason({"type": "object", "patternProperties": pair}) is None

    def _conditions_of(self, node: Node) -> list[list[Alternative]]:
        """Alternatives for each conditional keyword, also those of the parts of `allOf`."""
        found: list[list[Alternative]] = []
        if node.get("not"):
            options = self._negation.of(node["not"])
            if options:
                found.append(options)
            else:
                self._leave(f"{node.path}/not", "its opposite cannot be said")
        if "if" in node and ("then" in node or "else" in node):
            found.append(self._if(node))
        for name, needed in node.get("dependentRequired", {}).items():
            found.append(self._depends(name, node_of(node.path, required=needed)))
        for name, sub in node.get("dependentSchemas", {}).items():
            found.append(self._depends(name, sub))
        for part in node.get("allOf", ()):
            if only_conditions(part):
                found += self._conditions_of(part)
        return found

    def _if(self, node: Node) -> list[Alternative]:
        condition = node["if"]
        yes = [Alternative((self.rewritten(condition, True),), facts_of(condition))]
        no = self._negation.of(condition)
        if "then" in node:
            yes = product([yes, [self._follows(node["then"])]], {})
        if "else" in node:
            no = product([no, [self._follows(node["else"])]], {})
        return no + yes

    def _depends(self, name: str, sub: Node) -> list[Alternative]:
        absent = node_of(sub.path, properties={name: node_of(sub.path, **{"not": Node()})})
        present = node_of(sub.path, required=[name])
        return [self._follows(absent), *product([[self._follows(present)], [self._follows(sub)]], {})]

    def _follows(self, node: Node) -> Alternative:
        return Alternative((self.rewritten(node, True),), facts_of(node))

    def _conditions(self, node: Node, conditions: list[list[Alternative]]) -> list[dict[str, Any]]:
        """The conditions' alternatives as schemas beside the rest."""
        options = product(conditions, facts_of(node), self.most)
        if not options:
            return [{"allOf": [False]}]
        if len(options) == 1:
            return list(options[0].schemas)
        return [{"anyOf": [{"allOf": list(option.schemas)} for option in options]}]

    def _one_of(self, node: Node, options: list[Node], merging: bool) -> dict[str, Any]:
        """Exactly one: any of them where they exclude each other, or each without the others; else a check remains."""
        pairs = [(i, j) for i in range(len(options)) for j in range(len(options)) if i != j]
        near = [(i, j) for i, j in pairs if not exclusive(options[i], options[j], self.definitions)]
        found: list[dict[str, Any]] = []
        for i, option in enumerate(options):
            schema = self.rewritten(option, merging)
            others = [self._negation.of(options[j]) for one, j in near if one == i and simple(options[j])]
            if others:
                schema = {"allOf": [schema, *self._conditions(option, others)]}
            found.append(schema)
        if not all(simple(options[j]) or simple(options[i]) for i, j in near):
            self._check(f"{node.path}/oneOf")
        return {"anyOf": found}

    def _reference(self, node: Node, reference: str, merging: bool) -> dict[str, Any]:
        number = reference.rpartition("/")[2]
        if merging and self._circles.through(number):
            if number in self._inlined:
                raise refused(f"{node.path}/$ref", "the reference leads to itself")
            inlined, self._inlined = self._inlined, (*self._inlined, number)
            try:
                return self.rewritten(self.definitions[number], merging=True)
            finally:
                self._inlined = inlined
        if number not in self._done:
            self._done[number] = None
            self._waiting.append(number)
        return {"$ref": reference}

    def _string(self, node: Node, parts: list[Any]) -> dict[str, Any]:
        """The keywords of strings; a format, which only describes, gives way where it cannot be kept."""
        found = {name: node[name] for name in _STRINGS if name in node}
        if found.get("format") not in FORMATS:
            found.pop("format", None)
        if not found:
            return found
        patterns = [translated(one) for one in conjuncts(found.pop("pattern"))] if "pattern" in found else []
        extra = [{"pattern": one} for one in patterns[1:]]
        found |= {"pattern": patterns[0]} if patterns else {}
        why = self._unusable(found, extra)
        if why is not None and "format" in found:
            del found["format"]
            why = self._unusable(found, extra)
        if why is not None:
            wrong = "pattern" if patterns else "maxLength" if "maxLength" in found else "minLength"
            self._leave(f"{node.path}/{wrong}", why)
            found.pop(wrong, None)
            extra = []
        parts += extra
        return found

    def _unusable(self, found: dict[str, Any], extra: list[dict[str, Any]]) -> str | None:
        return self.reason({"type": "string", **found, "allOf": extra} if extra else {"type": "string", **found})
