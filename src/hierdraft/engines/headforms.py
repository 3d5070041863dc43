"""In what EAGLE-3-like heads differ from each other, whatever runs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """What of a head its weights do not show.

    layers      of its own: after the first, those of a Llama
    even        whether the first adds to the normalised feature
    hands_on    whether what it hands on is normalised as before the output rows
    even_heads  whether queries and keys are normalised, head by head
    """

    layers: int = 1
    even: bool = False
    hands_on: bool = False
    even_heads: bool = False
