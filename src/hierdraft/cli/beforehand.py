"""What is checked before a model is loaded, which may take minutes: whether all that was named is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from hierdraft.cli.options import drafting

if TYPE_CHECKING:
    from hierdraft.settings import Settings


def ready(settings: Settings, draft: str | None, *, here: bool = True) -> str:
    """The method to draft with, checked as `check` does. Raises what that raises."""
    method = drafting(settings.method, draft)
    check([method], settings, here=here)
    return method


def check(methods: Sequence[str], settings: Settings, *, here: bool = True) -> None:
    """Methods with their settings, the models that they draft with, and packs.

    here   False: a server drafts, and has models and packs of its own

    Raises UsageError, ModelError, PackError or MissingDependencyError, each with one sentence.
    """
    from hierdraft.databases.pack import Pack
    from hierdraft.models.beside import check_there
    from hierdraft.registry import make_method
    from hierdraft.settings import INDEXES

    for method in methods:
        make_method(method)
    if not here:
        return
    given = [setting.partition("=") for method in methods for setting in method.split(":")[1:]]
    for model in dict.fromkeys(value for key, _, value in given if key == "draft"):
        check_there(model, settings.cache_dir)
    for path in settings.packs:
        Pack.open(path, settings.cache_dir / INDEXES)


def tell_unused(temperature: float | None, given: Mapping[str, float | None], until: str = "--temperature") -> None:
    """Say which options of sampling have no effect, because nothing is drawn. `until`: what would change that."""
    unused = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if unused and not temperature:
        *first, last = unused
        names, have = (f"{', '.join(first)} and {last}", "have") if first else (last, "has")
        typer.echo(f"warning: {names} {have} no effect: without {until} above 0 nothing is drawn.", err=True)
