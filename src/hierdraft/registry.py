"""Names of drafting methods: name -> "module:attribute", imported on use.

A package can add methods of its own through the entry point group `hierdraft.drafters`. A method may be named with
settings, which its class takes as arguments: `hd:window=0:order=model+context`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from hierdraft.errors import UsageError
from hierdraft.protocols import Drafter

DRAFTERS = {
    "aded": "hierdraft.drafting.baselines.aded:AdedDrafter",
    "hd": "hierdraft.drafting.hd:HdDrafter",
    "hierarchy": "hierdraft.drafting.hierarchy:HierarchyDrafter",
    "logitspec": "hierdraft.drafting.baselines.logitspec:LogitSpecDrafter",
    "lookahead": "hierdraft.drafting.baselines.lookahead:LookaheadDrafter",
    "none": "hierdraft.drafting.plain:PlainDrafter",
    "prompt-lookup": "hierdraft.drafting.baselines.prompt_lookup:PromptLookupDrafter",
    "rest": "hierdraft.drafting.baselines.rest:RestDrafter",
    "sam": "hierdraft.drafting.baselines.sam:SamDrafter",
    "suffix": "hierdraft.drafting.baselines.suffix:SuffixDrafter",
    "token-recycling": "hierdraft.drafting.baselines.token_recycling:TokenRecyclingDrafter",
}


def drafter_names() -> list[str]:
    """Every method's name, built in and from plug-ins."""
    return sorted({*DRAFTERS, *(found.name for found in entry_points(group="hierdraft.drafters"))})


def make_drafter(name: str) -> Drafter:
    """A new drafter of the named method. Raises UsageError for an unknown name or setting."""
    name, *settings = name.split(":")
    plugins = {found.name: found.value for found in entry_points(group="hierdraft.drafters")}
    target = DRAFTERS.get(name) or plugins.get(name)
    if target is None:
        near = difflib.get_close_matches(name, drafter_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(drafter_names())}."
        raise UsageError(f"There is no drafting method {name!r}: {hint}")
    module, _, attribute = target.partition(":")
    kind = cast(Callable[..., Drafter], getattr(import_module(module), attribute))
    return kind(**_arguments(name, kind, settings))


def _arguments(name: str, kind: Callable[..., Drafter], settings: list[str]) -> dict[str, Any]:
    """`key=value` texts as arguments, each of the type that its default has."""
    known = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if key not in known or not equals:
            raise UsageError(f"The method {name!r} has no setting {setting!r}: it takes {', '.join(known) or 'none'}.")
        default = known[key].default
        try:
            arguments[key] = tuple(text.split("+")) if isinstance(default, tuple) else type(default)(text)
        except ValueError:
            wanted = type(default).__name__
            raise UsageError(f"The setting {key!r} of {name!r} must be of type {wanted}, not {text!r}.") from None
    return arguments
