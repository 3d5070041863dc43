"""Levels of texts beside the five: one that fails is left out by itself, and named."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from hierdraft.databases.hashchain import Chains
from hierdraft.databases.levels import TextLevel, make_text_level
from hierdraft.errors import DraftWarning, failed_at
from hierdraft.levels import level_of
from hierdraft.protocols import Request
from hierdraft.tree import Int32


class FurtherLevels:
    """The levels among `names` that have a class of their own, for one request at a time.

    One that raises, or holds an id that the model does not have, is left out for the rest of the request, with one
    warning that names it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Make each of them. Raises UsageError and MissingDependencyError for one that cannot be made."""
        self._levels = {name: make_text_level(name) for name in names if level_of(name).made}
        self._failed: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._levels)

    def start(self, request: Request) -> None:
        """A request begins."""
        self._failed = set()

        def begin(_: str, level: TextLevel) -> None:
            level.start(request)
            _check(level.chains, request.vocab_size)

        self._each(begin)

    def extend(self, tokens: Sequence[int] | Int32) -> None:
        """These tokens were committed."""
        self._each(lambda _, level: level.extend(tokens))

    def close(self) -> None:
        """The request is over; those that have failed are told too, so that they let go of its text."""
        failed, self._failed = self._failed, set()
        self._each(lambda _, level: level.close())
        self._failed |= failed

    def chains(self) -> dict[str, Chains]:
        """The indexes as they now are, by name."""
        found: dict[str, Chains] = {}
        self._each(lambda name, level: found.update({name: level.chains}))
        return found

    def _each(self, call: Callable[[str, TextLevel], None]) -> None:
        for name, level in self._levels.items():
            if name in self._failed:
                continue
            try:
                call(name, level)
            except Exception as error:  # noqa: BLE001 - a level of another package may raise anything
                self._failed.add(name)
                what = f"The level {name!r} failed ({failed_at(error)}). This request continues without it."
                warnings.warn(what, DraftWarning, stacklevel=2)


def _check(chains: Chains, vocab_size: int | None) -> None:
    if vocab_size is not None and len(chains.tokens) and int(chains.tokens.max()) >= vocab_size:
        raise ValueError(f"it holds the id {int(chains.tokens.max())}, and the model has {vocab_size} ids")
