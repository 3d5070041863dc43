"""llguidance against xgrammar on what constrained drafting asks of a grammar: start, mask, step, undo, forced text.

    pip install llguidance xgrammar
    python benchmarks/grammars.py

JSON texts that follow a schema are read token by token with SmolLM2's tokenizer; every call is timed in both, in turn.
xgrammar is not among hierdraft's requirements: without it only llguidance is measured.
"""

from __future__ import annotations

import json
import statistics
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from common import machine, write
from hierdraft.engines.hf.load import load_tokenizer
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from hierdraft.text.grammars import Grammars

VOCABULARY = 49152
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "flat object": (
        {
            "type": "object", "additionalProperties": False, "required": ["name", "age", "email"],
            "properties": {
                "name": {"type": "string"}, "age": {"type": "integer"}, "email": {"type": "string", "maxLength": 40},
            },
        },
        {"name": "Ada Lovelace", "age": 36, "email": "ada@example.org"},
    ),
    "enumerations": (
        {
            "type": "object", "additionalProperties": False, "required": ["colour", "sizes"],
            "properties": {
                "colour": {"enum": ["red", "green", "blue", "ultraviolet"]},
                "sizes": {"type": "array", "items": {"enum": ["small", "medium", "large"]}, "maxItems": 6},
            },
        },
        {"colour": "ultraviolet", "sizes": ["small", "large", "medium", "small"]},
    ),
    "nested list": (
        {
            "type": "array",
            "items": {
                "type": "object", "additionalProperties": False, "required": ["id", "position"],
                "properties": {
                    "id": {"type": "integer"},
                    "position": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3},
                },
            },
        },
        [{"id": i, "position": [1.5 * i, -2.25, 7]} for i in range(8)],
    ),
}  # fmt: skip


class Contender(Protocol):
    """What is timed: a new matcher, a mask over the vocabulary, a token read, tokens taken back, forced text."""

    def start(self, schema: str) -> Any: ...
    def mask(self, matcher: Any) -> np.ndarray: ...
    def read(self, matcher: Any, token: int) -> bool: ...
    def back(self, matcher: Any, count: int) -> None: ...
    def forced(self, matcher: Any) -> bool: ...


class LLGuidance:
    def __init__(self, tokenizer: Any, eos: int) -> None:
        self.grammars = Grammars(tokenizer, VOCABULARY, [eos])

    def start(self, schema: str) -> Any:
        return self.grammars.json(schema)

    def mask(self, matcher: Any) -> np.ndarray:
        scores = np.zeros(VOCABULARY, dtype=np.float32)
        matcher.ban(scores)
        return scores == 0

    def read(self, matcher: Any, token: int) -> bool:
        return bool(matcher.advance(token))

    def back(self, matcher: Any, count: int) -> None:
        matcher.rewind(count)

    def forced(self, matcher: Any) -> bool:
        return bool(matcher.forced())


class XGrammar:
    def __init__(self, tokenizer: Any, eos: int) -> None:
        self.library = import_module("xgrammar")
        info = self.library.TokenizerInfo.from_huggingface(tokenizer, vocab_size=VOCABULARY, stop_token_ids=[eos])
        self.compiler = self.library.GrammarCompiler(info)
        self.bits = self.library.allocate_token_bitmask(1, VOCABULARY)

    def start(self, schema: str) -> Any:
        self.compiler.clear_cache()
        return self.library.GrammarMatcher(self.compiler.compile_json_schema(schema))

    def mask(self, matcher: Any) -> np.ndarray:
        self.bits.fill_(-1)  # left untouched where everything is allowed
        matcher.fill_next_token_bitmask(self.bits)
        words = self.bits.numpy().view(np.uint8)[0]
        return np.unpackbits(words, count=VOCABULARY, bitorder="little") == 1

    def read(self, matcher: Any, token: int) -> bool:
        return bool(matcher.accept_token(token))

    def back(self, matcher: Any, count: int) -> None:
        matcher.rollback(count)

    def forced(self, matcher: Any) -> bool:
        return bool(matcher.find_jump_forward_string())


def timed(call: Any, seconds: list[float]) -> Any:
    started = perf_counter()
    found = call()
    seconds.append(perf_counter() - started)
    return found


def measure(contenders: dict[str, Any], schema: str, ids: list[int]) -> dict[str, Any]:
    """Microseconds per call for every contender, and how often their masks are equal."""
    spent: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in ("start", "mask", "read", "back", "forced")} for name in contenders
    }
    matchers: dict[str, Any] = {}
    for _ in range(5):
        for name, one in contenders.items():
            matchers[name] = timed(lambda one=one: one.start(schema), spent[name]["start"])
    equal = positions = 0
    forced = dict.fromkeys(contenders, 0)
    for token in ids:
        masks = []
        for name, one in contenders.items():
            matcher, times = matchers[name], spent[name]
            masks.append(timed(lambda one=one, m=matcher: one.mask(m), times["mask"]))
            forced[name] += timed(lambda one=one, m=matcher: one.forced(m), times["forced"])
            assert masks[-1][token], f"{name} does not allow {token}"
            assert timed(lambda one=one, m=matcher, t=token: one.read(m, t), times["read"])
            timed(lambda one=one, m=matcher: one.back(m, 1), times["back"])
            assert one.read(matcher, token)
        equal += all((mask == masks[0]).all() for mask in masks)
        positions += 1
    micro = {
        name: {what: round(1e6 * statistics.median(times), 1) for what, times in parts.items()}
        for name, parts in spent.items()
    }
    return {"tokens": positions, "microseconds": micro, "forced_places": forced, "equal_masks": equal}


def needs(name: str) -> dict[str, Any]:
    return {
        "version": version(name),
        "requires": [line.split(";")[0].strip() for line in requires(name) or [] if "extra ==" not in line],
    }


def main() -> None:
    tokenizer = load_tokenizer(resolve("smollm2-135m", load_settings().cache_dir).path)
    eos = int(tokenizer.eos_token_id)
    contenders: dict[str, Any] = {"llguidance": LLGuidance(tokenizer, eos)}
    try:
        version("xgrammar")
        contenders["xgrammar"] = XGrammar(tokenizer, eos)
    except PackageNotFoundError:
        print("xgrammar is not installed: llguidance is measured alone")
    cases = {
        title: measure(contenders, json.dumps(schema), tokenizer(json.dumps(value))["input_ids"])
        for title, (schema, value) in CASES.items()
    }
    write("grammars", {
        "machine": machine(), "libraries": {name: needs(name) for name in contenders}, "cases": cases,
    })  # fmt: skip


if __name__ == "__main__":
    main()
