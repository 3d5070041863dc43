"""What can be chosen by name: engines and number types, one row each."""

from __future__ import annotations

from typing import NamedTuple

ENGINES = ("hf", "openvino")
"""Engines: each is a folder in `engines/` and an extra of the package, and `models/load.py` loads it."""


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


def listed(names: tuple[str, ...]) -> str:
    """Names in words: "auto, hf or openvino"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
