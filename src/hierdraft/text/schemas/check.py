"""Does a finished answer follow its schema? Asked of jsonschema where a grammar could not see to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from hierdraft.text.schemas.bundle import Node

_MOST_ERRORS = 3


class Check:
    """Checks answers against one bundle, which is a self-contained schema of draft 2020-12."""

    def __init__(self, top: Node, definitions: Mapping[str, Node]) -> None:
        from jsonschema import Draft202012Validator

        self._validator = Draft202012Validator({**top, "$defs": dict(definitions)})
        self._definitions = definitions

    def fits(self, node: Node, name: str) -> bool:
        """Whether a property's name follows a subschema."""
        return bool(self._validator.evolve(schema={**node, "$defs": dict(self._definitions)}).is_valid(name))

    def errors(self, text: str) -> list[str]:
        """What is wrong with an answer, one line each, at most three; empty: it follows the schema."""
        try:
            value = json.loads(text)
        except ValueError as error:
            return [f"it is not JSON: {error}"]
        found: list[str] = []
        try:
            for wrong in self._validator.iter_errors(value):
                path = "/".join(["#", *map(str, wrong.absolute_path)])
                found.append(f"{path}: {_shortened(wrong.message)}")
                if len(found) == _MOST_ERRORS:
                    break
        except (re.error, RecursionError, TypeError, ValueError) as error:
            found.append(f"it cannot be checked: {error}")
        return found


def _shortened(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 200 else line[:197] + "..."
