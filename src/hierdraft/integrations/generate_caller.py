"""What transformers' `generate` was given and does not pass on to a custom callable: taken from its frame.

`generate` puts the prompt into a streamer and then keeps it to itself, so ignoring it would leave its reader waiting
for ever; it needs a tokenizer for stop strings and drops the one it was given; an assistant would be ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import CodeType
from typing import Any

from transformers import GenerationMixin

_DEPTH = 12


def given_to_generate() -> Mapping[str, Any]:
    """The variables of the innermost running `generate`; none outside of one."""
    return _variables(_code(GenerationMixin.generate))


def keep_tokenizer() -> bool:
    """Put the tokenizer back among the keywords of a `generate` that is about to drop it; False outside of one.

    `generate` collects what a custom callable takes beside the usual arguments from its own keywords, but has removed
    the tokenizer from them before; it asks for the callable's signature in between.
    """
    variables = _variables(_code(GenerationMixin._extract_generation_mode_kwargs))
    tokenizer = variables.get("generation_mode_kwargs", {}).get("tokenizer")
    if tokenizer is not None:
        variables["kwargs"]["tokenizer"] = tokenizer
    return bool(variables)


def _code(function: Any) -> CodeType:
    code: CodeType = inspect.unwrap(function).__code__
    return code


def _variables(code: CodeType) -> Mapping[str, Any]:
    frame = inspect.currentframe()
    for _ in range(_DEPTH):
        frame = frame.f_back if frame else None
        if frame is not None and frame.f_code is code:
            return frame.f_locals
    return {}
