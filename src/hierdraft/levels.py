"""Where a drafted token comes from: every level, one row each, and the code that nodes of a draft tree carry for it.

A package adds levels through the entry point group `hierdraft.levels`: the entry's name is the level's, its value
`module:Class` of a `TextLevel` (`databases/levels.py`). docs/extending.md shows one.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple

from hierdraft.errors import UsageError

GROUP = "hierdraft.levels"


class Level(NamedTuple):
    """One row.

    terminal      its colour in a terminal, as rich names it
    light, dark   its colours on a light and on a dark page, each at least 3:1 against what it is on
    asked         whether `hierarchy` asks it unless told otherwise
    packed        whether packs of it can be made and opened
    made          "module:Class" of the `TextLevel` that `hierarchy` makes for it; "" where it is made in another way
    """

    name: str
    terminal: str = "bright_magenta"
    light: str = "#6b4fa0"
    dark: str = "#b9a2ee"
    asked: bool = False
    packed: bool = False
    made: str = ""


SOURCES = (
    Level("reference", "magenta", "#aa3377", "#e27fb4", asked=True),
    Level("context", "green", "#228833", "#5cc46c", asked=True),
    Level("recycled", "yellow", "#997700", "#e0be4a", asked=True),
    Level("model", "cyan", "#1f8299", "#4cc3da", asked=True, packed=True),
    Level("statistics", "blue", "#4466aa", "#8fadf0", asked=True, packed=True),
    Level("draft", "red", "#d63b4f", "#ff8a97"),
)
"""Levels that can be weighed against each other. A row's place is its code: new ones go after the last."""

ROOM = 8
"""Most levels that can be weighed, those of plug-ins included: kernels and calibrations are made for this many."""

OTHERS = (Level("grammar", "bright_black", "#777777", "#a8a8a8"), Level("window", "bright_green", "#884400", "#d59a5c"))
"""Text that a grammar forces, and what probe nodes have found; their codes follow the room for levels."""

GRAMMAR, WINDOW = range(ROOM, ROOM + len(OTHERS))

CODES = ROOM + len(OTHERS)
"""Codes are below this, or `TARGET`."""

TARGET = 255
"""Code of a token that the target chose itself."""


@cache
def registered() -> dict[int, Level]:
    """Code -> level, those of plug-ins too, in the order in which they are shown. Raises UsageError for too many."""
    known = {level.name for level in (*SOURCES, *OTHERS)}
    found = sorted((entry.name, entry.value) for entry in entry_points(group=GROUP) if entry.name not in known)
    sources = (*SOURCES, *(Level(name, made=value) for name, value in found))
    if len(sources) > ROOM:
        raise UsageError(f"There is room for {ROOM} levels, not for {', '.join(level.name for level in sources)}.")
    return dict(enumerate(sources)) | dict(enumerate(OTHERS, start=ROOM))


@cache
def code_of(name: str) -> int:
    """The code of a level. Raises UsageError for a name that no level has."""
    for place, level in enumerate(SOURCES):  # without a look at what is installed
        if level.name == name:
            return place
    for code, level in registered().items():
        if level.name == name:
            return code
    raise UsageError(
        f"There is no level {name!r}: choose one of {', '.join(level.name for level in registered().values())}."
    )


def level_name(code: int) -> str:
    """The name of a code: a level's, or `target`."""
    return "target" if code == TARGET else registered()[code].name


def level_of(name: str) -> Level:
    """A level's row; a new one for a name that none has, as in the records of another installation."""
    return next((level for level in registered().values() if level.name == name), Level(name))


def level_names() -> tuple[str, ...]:
    """The names of all levels, in the order of their codes."""
    return tuple(level.name for level in registered().values())


def asked_levels() -> tuple[str, ...]:
    """Those that `hierarchy` asks unless told otherwise."""
    return tuple(level.name for level in SOURCES if level.asked)


def askable_levels() -> tuple[str, ...]:
    """Those that it can be told to ask."""
    return tuple(level.name for level in registered().values() if level.asked or level.made or level.packed)


def packed_levels() -> tuple[str, ...]:
    """Those that packs can be made of."""
    return tuple(level.name for level in SOURCES if level.packed)
