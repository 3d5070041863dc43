"""Conditions as alternatives: a value follows a condition where it follows one of its alternatives.

Alternatives of several conditions are joined pair by pair. What an alternative says about single properties (absent,
one of these values, none of those) is kept beside it, so that pairs that exclude each other are left out at once: a
chain of N `if`s over one property stays N + 1 alternatives instead of 2^N.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

MOST = 128
"""Alternatives kept for one subschema. Leaving some out is stricter, never wrong."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one property: its possible values as JSON (None: any), values it has not, may it be absent."""

    values: frozenset[str] | None = None
    never: frozenset[str] = frozenset()
    absent: bool = True

    def joined(self, other: Fact) -> Fact:
        """What both say."""
        values = self.values if other.values is None else other.values
        if self.values is not None and other.values is not None:
            values = self.values & other.values
        never = self.never | other.never
        return Fact(values - never if values is not None else None, never, self.absent and other.absent)

    @property
    def impossible(self) -> bool:
        return self.values == frozenset() and not self.absent


@dataclass(frozen=True, slots=True)
class Alternative:
    """Schemas that must all be followed, and what they say about single properties."""

    schemas: tuple[dict[str, Any], ...] = ()
    facts: Mapping[str, Fact] | None = None

    def joined(self, other: Alternative) -> Alternative | None:
        """Both at once; None where they exclude each other."""
        facts = dict(self.facts or {})
        for name, fact in (other.facts or {}).items():
            facts[name] = facts[name].joined(fact) if name in facts else fact
            if facts[name].impossible:
                return None
        return Alternative(self.schemas + other.schemas, facts)


def product(
    conditions: Iterable[Sequence[Alternative]], known: Mapping[str, Fact], most: int = MOST
) -> list[Alternative]:
    """The alternatives of all conditions together, at most `most`; empty: they exclude each other."""
    found = [Alternative((), known)]
    for options in conditions:
        pairs = (one.joined(option) for one in found for option in options)
        found = list(islice((both for both in pairs if both is not None), most))
    return found


def written(value: Any) -> str:
    """A JSON value as text that is equal for equal values."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def facts_of(node: Mapping[str, Any]) -> dict[str, Fact]:
    """What a schema says about single properties of an object."""
    facts: dict[str, Fact] = {}
    for name, property_ in node.get("properties", {}).items():
        if property_ is False or property_.get("not") == {}:
            facts[name] = Fact(frozenset())
        elif "enum" in property_:
            facts[name] = Fact(frozenset(map(written, property_["enum"])))
    for name in node.get("required", ()):
        facts[name] = facts.get(name, Fact()).joined(Fact(absent=False))
    for part in node.get("allOf", ()):
        for name, fact in facts_of(part).items() if part else ():
            facts[name] = facts.get(name, Fact()).joined(fact)
    return facts
