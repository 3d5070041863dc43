"""Output in a given form: JSON schemas, regular expressions and grammars, compiled with llguidance.

It was chosen over xgrammar by measurement (docs/sampling.md): it needs nothing but numpy, takes steps back, and says
which tokens must come next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import MissingDependencyError, UsageError
from hierdraft.protocols import Finish
from hierdraft.text.schemas.bundle import Bundle
from hierdraft.text.schemas.check import Check
from hierdraft.text.schemas.documents import Documents, parse_schema, read_schema
from hierdraft.text.schemas.enforce import Enforcer

_LIMITS: dict[str, Any] = {"initial_lexer_fuel": 20_000_000, "step_lexer_fuel": 2_000_000, "step_max_items": 500_000,
           "max_grammar_size": 5_000_000, "max_items_in_row": 20_000}  # fmt: skip
"""Ten and twenty times llguidance's own: public schemas have thousands of properties."""


_ALTERNATIVES = (128, 8, 1)
"""How many alternatives of a subschema's conditions are kept: fewer where the schema is too large otherwise."""


_CUT: dict[Finish, str] = {
    "length": "it was cut by the limit of new tokens",
    "context": "it was cut at the end of the model's context",
    "stop": "it was cut by a stop string",
}


class _TooLargeError(UsageError):
    """A schema whose grammar has more rules than llguidance takes."""


_REASONS = 1024
"""Small schemas of which it is kept whether they can be used."""


class Grammars:
    """Compiles grammars for one tokenizer; making it takes about a second, a grammar milliseconds."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Sequence[int]) -> None:
        """`tokenizer`: a fast transformers tokenizer. Raises MissingDependencyError, UsageError."""
        try:
            import llguidance
        except ImportError as error:
            raise MissingDependencyError(
                f"Structured output needs llguidance ({error}): pip install 'hierdraft[structured]'."
            ) from error
        ends = [token for token in eos_ids if 0 <= token < min(vocab_size, len(tokenizer))]
        if not ends:
            raise UsageError("Structured output needs a model with an end-of-sequence token in its vocabulary.")
        self._matcher = llguidance.LLMatcher
        self._limits = llguidance.LLParserLimits(**_LIMITS)
        self._reasons: dict[str, str | None] = {}
        self._vocab_size = vocab_size
        if len(tokenizer) > vocab_size:
            raise UsageError(
                f"Structured output needs a tokenizer whose ids the model knows: it has {len(tokenizer)}, the model "
                f"scores {vocab_size}."
            )
        fast = getattr(tokenizer, "_tokenizer", None)
        if fast is None:
            name = type(tokenizer).__name__
            raise UsageError(f"Structured output needs a fast tokenizer (tokenizer.json), and {name} is not one.")
        whole = copy(fast)  # the caller's keeps its padding and truncation
        whole.no_padding()
        whole.no_truncation()
        try:  # ids of the model past the tokenizer's, which pad it, are never allowed
            self._tokenizer = llguidance.LLTokenizer(whole.to_str(), n_vocab=vocab_size, eos_token=ends)
        except ValueError as error:
            raise UsageError(f"Structured output cannot use this tokenizer: {_telling(str(error))}.") from error

    def json(
        self, schema: str | Path | bool | Mapping[str, Any], *, lenient: bool = False, folders: Sequence[Path] = ()
    ) -> Grammar:
        """JSON that follows a schema.

        schema   an object, JSON text, or the path of a file
        lenient  leave to a check of the finished answer (`Grammar.look`) what a grammar cannot hold
        folders  where files lie that the schema may refer to, besides the folder of the schema's own file

        Raises UsageError with the path of the keyword that cannot be kept.
        """
        path = schema if isinstance(schema, Path) else None
        if isinstance(schema, Path):
            contents = read_schema(schema)
        else:
            contents = parse_schema(schema) if isinstance(schema, str) else _as_json(schema)
        places = [path.parent, *folders] if path is not None else list(folders)
        documents = Documents(places)
        bundle = Bundle(documents)
        top = bundle.of(documents.root(contents, path))
        check = Check(top, bundle.definitions)
        for most in _ALTERNATIVES:
            enforcer = Enforcer(bundle.definitions, self._reason, check.fits, lenient, most)
            try:
                grammar = self._compiled(self._of_schema, enforcer.schema(top), "JSON schema")
            except _TooLargeError as error:
                if most == _ALTERNATIVES[-1]:
                    raise UsageError(str(error)) from error
            else:
                break
        grammar.check, grammar.left = check, tuple(enforcer.left)
        return grammar

    def regex(self, pattern: str) -> Grammar:
        """Text that matches a regular expression (Rust syntax) from start to end. Raises UsageError."""
        return self._compiled(self._matcher.grammar_from_regex, pattern, "regular expression")

    def lark(self, grammar: str) -> Grammar:
        """Text of a context-free grammar in Lark syntax. Raises UsageError."""
        return self._compiled(self._matcher.grammar_from_lark, grammar, "grammar")

    def _of_schema(self, schema: Mapping[str, Any]) -> str:
        return str(self._matcher.grammar_from_json_schema(json.dumps(schema), overrides={"coerce_one_of": True}))

    def _reason(self, schema: Mapping[str, Any]) -> str | None:
        """Why a small schema cannot be used, None where it can."""
        text = json.dumps(schema)
        if text not in self._reasons:
            if len(self._reasons) >= _REASONS:
                self._reasons.pop(next(iter(self._reasons)))
            said = self._matcher.validate_grammar(self._of_schema(schema), limits=self._limits)
            self._reasons[text] = _telling(said) if said and not said.startswith("WARNING") else None
        return self._reasons[text]

    def _compiled(self, translate: Callable[[Any], str], source: Any, kind: str) -> Grammar:
        try:
            matcher = self._matcher(self._tokenizer, translate(source), limits=self._limits)
        except ValueError as error:
            raise UsageError(f"The {kind} cannot be used: {_telling(str(error))}.") from error
        if matcher.is_error():
            reason = _telling(str(matcher.get_error()))
            raise (_TooLargeError if "too large" in reason else UsageError)(f"The {kind} cannot be used: {reason}.")
        begun = matcher.deep_copy()
        begun.compute_bitmask()  # circles show only here
        if begun.is_error():
            raise UsageError(f"The {kind} cannot be used: {_telling(str(begun.get_error()))}.")
        return Grammar(matcher, self._vocab_size)


def _as_json(schema: Any) -> Any:
    """A schema as it would be read from text. Raises UsageError."""
    try:
        return parse_schema(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The JSON schema cannot be read: {error}.") from error


def _telling(said: str) -> str:
    """The line of llguidance's report that says what is wrong: the first, or the `error:` below a drawing."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    if not lines:
        return "no reason is given"
    reasons = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    first = lines[0]
    if first.endswith(":") and len(lines) > 1:
        first = f"{first} {reasons[0] if reasons else lines[-1]}"
    first = first.replace("Unsatisfiable schema:", "no answer can follow it:")
    return (first if len(first) <= 300 else first[:297] + "...").rstrip(".")


class Answer(Protocol):
    """What `Grammar.look` reads of an answer, and writes into it."""

    text: str
    finish: Finish | None
    follows_schema: bool | None
    schema_errors: list[str]
    left_to_check: list[str]


class Grammar:
    """One request's constraint: satisfies `Constraint`. Ends with an end-of-sequence token."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self.check: Check | None = None
        self.left: tuple[str, ...] = ()
        self._fresh, self._matcher = matcher, matcher.deep_copy()
        self._read: list[int] = []
        self._vocab_size = vocab_size
        self._mask = np.zeros((1, (vocab_size + 31) // 32), dtype=np.int32)

    def look(self, answer: Answer) -> None:
        """Write into a complete answer whether it follows its schema, if this is a schema's grammar."""
        if self.check is None:
            return
        answer.left_to_check = list(self.left)
        if answer.finish != "eos" or self.left:
            answer.schema_errors = self.check.errors(answer.text)
        if answer.schema_errors and answer.finish in _CUT:
            answer.schema_errors = [_CUT[answer.finish]]
        answer.follows_schema = not answer.schema_errors

    def ban(self, scores: NDArray[Any]) -> None:
        """Set every token that may not come next to -inf. Raises UsageError where the grammar became too complex."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask)
        if self._matcher.is_error():
            raise self._restored()
        allowed = np.unpackbits(self._mask.view(np.uint8)[0], count=self._vocab_size, bitorder="little")
        scores[allowed == 0] = -np.inf

    def advance(self, token: int) -> bool:
        """Read a token, if it may come next. Raises UsageError where the grammar became too complex."""
        read = bool(self._matcher.try_consume_tokens([token]) == 1)
        if self._matcher.is_error():
            raise self._restored()
        if read:
            self._read.append(token)
        return read

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens."""
        if count:
            self._matcher.rollback(count)
            del self._read[-count:]

    def forced(self) -> list[int]:
        """The tokens of the text that must come next; none where that cannot be told."""
        found = [int(token) for token in self._matcher.compute_ff_tokens()]
        if self._matcher.is_error():
            self._restored()
            return []
        return found

    def _restored(self) -> UsageError:
        """What went wrong in the matcher, which is made anew: one that failed once does nothing any more."""
        error = UsageError(f"The grammar cannot be followed any further: {_telling(str(self._matcher.get_error()))}.")
        self._matcher = self._fresh.deep_copy()
        self._matcher.try_consume_tokens(self._read)
        return error
