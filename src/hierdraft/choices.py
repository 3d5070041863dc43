"""What can be chosen by name: engines and number types, one row each."""

from __future__ import annotations

from typing import NamedTuple

from hierdraft.errors import UsageError

ENGINES = ("hf", "openvino")
"""Engines: each is a folder in `engines/` and an extra of the package, and `models/load.py` loads it."""


WEIGHTS = ("float32", "float16", "int8", "int4")
"""What weights can be converted to."""

SCHEME, GROUP = "asym", 64
"""How 4-bit weights are made unless said otherwise: with zero points, and so many of them to a scale."""


class NumberType(NamedTuple):
    """One number type.

    engines   which run it
    weights   what the weights of an OpenVINO graph are stored as
    exact     whether OpenVINO promises the same ids everywhere, or up to near ties
    """

    name: str
    engines: tuple[str, ...]
    weights: str
    exact: bool


NUMBER_TYPES = (
    NumberType("float32", ("openvino", "hf"), "float32", exact=True),
    NumberType("bfloat16", ("openvino", "hf"), "float16", exact=False),
    NumberType("float16", ("openvino", "hf"), "float16", exact=True),
    NumberType("int8", ("openvino",), "int8", exact=False),
    NumberType("int4", ("openvino",), "int4", exact=False),
)


def engine_names() -> tuple[str, ...]:
    """What `engine` can be."""
    return ("auto", *ENGINES)


def number_types(engine: str | None = None) -> tuple[str, ...]:
    """What `dtype` can be, of one engine or at all."""
    return ("auto", *(row.name for row in NUMBER_TYPES if engine is None or engine in row.engines))


def number_type(name: str) -> NumberType:
    """The row of a number type. Raises KeyError."""
    return {row.name: row for row in NUMBER_TYPES}[name]


def int4_weights(scheme: str | None, group_size: int | None) -> str:
    """The name of 4-bit weights: `int4`, or `int4-SCHEME-SIZE`. Raises UsageError.

    scheme      `asym` or `sym`: with zero points or without
    group_size  how many weights share a scale; -1: all of an output channel
    """
    if scheme not in (None, "asym", "sym"):
        raise UsageError(f"There is no scheme {scheme!r}: choose asym or sym.")
    if group_size is not None and group_size != -1 and group_size < 1:
        raise UsageError(f"The group size must be at least 1, or -1, not {group_size}.")
    chosen = (scheme or SCHEME, group_size or GROUP)
    return "int4" if chosen == (SCHEME, GROUP) else f"int4-{chosen[0]}-{chosen[1]}"


def int4_scheme(weights: str) -> tuple[str, int]:
    """(scheme, group size) of a name that `int4_weights` made."""
    _, _, rest = weights.partition("-")
    scheme, _, size = rest.partition("-")
    return scheme or SCHEME, int(size or GROUP)


def listed(names: tuple[str, ...]) -> str:
    """Names in words: "auto, hf or openvino"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
