"""Names of drafting methods: name -> "module:attribute", imported on use.

A package can add methods of its own through the entry point group `hierdraft.drafters`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from hierdraft.errors import UsageError
from hierdraft.protocols import Drafter

DRAFTERS = {
    "hierarchy": "hierdraft.drafting.hierarchy:HierarchyDrafter",
    "none": "hierdraft.drafting.plain:PlainDrafter",
}


def drafter_names() -> list[str]:
    """Every method's name, built in and from plug-ins."""
    return sorted({*DRAFTERS, *(found.name for found in entry_points(group="hierdraft.drafters"))})


def make_drafter(name: str) -> Drafter:
    """A new drafter of the named method. Raises UsageError for an unknown name."""
    plugins = {found.name: found.value for found in entry_points(group="hierdraft.drafters")}
    target = DRAFTERS.get(name) or plugins.get(name)
    if target is None:
        near = difflib.get_close_matches(name, drafter_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(drafter_names())}."
        raise UsageError(f"There is no drafting method {name!r}: {hint}")
    module, _, attribute = target.partition(":")
    return cast(Callable[[], Drafter], getattr(import_module(module), attribute))()
