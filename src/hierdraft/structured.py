"""Output in a given form: JSON schemas, regular expressions and grammars, compiled with llguidance.

It was chosen over xgrammar by measurement (docs/sampling.md): it needs nothing but numpy, takes steps back, and says
which tokens must come next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import MissingDependencyError, UsageError


class Grammars:
    """Compiles grammars for one tokenizer; making it takes about a second, a grammar milliseconds."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Sequence[int]) -> None:
        """`tokenizer`: a fast transformers tokenizer. Raises MissingDependencyError, UsageError."""
        try:
            import llguidance.hf
        except ImportError as error:
            raise MissingDependencyError(
                f"Structured output needs llguidance ({error}): pip install 'hierdraft[structured]'."
            ) from error
        if not eos_ids:
            raise UsageError("Structured output needs a model with an end-of-sequence token.")
        self._matcher = llguidance.LLMatcher
        self._vocab_size = vocab_size
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size, eos_token=list(eos_ids))

    def json(self, schema: str | Mapping[str, Any]) -> Grammar:
        """JSON that follows a schema, given as an object or as text. Raises UsageError."""
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema)
            json.loads(text)
        except (TypeError, ValueError) as error:
            raise UsageError(f"The JSON schema cannot be read: {error}.") from error
        return self._compiled(self._matcher.grammar_from_json_schema, text, "JSON schema")

    def regex(self, pattern: str) -> Grammar:
        """Text that matches a regular expression (Rust syntax) from start to end. Raises UsageError."""
        return self._compiled(self._matcher.grammar_from_regex, pattern, "regular expression")

    def lark(self, grammar: str) -> Grammar:
        """Text of a context-free grammar in Lark syntax. Raises UsageError."""
        return self._compiled(self._matcher.grammar_from_lark, grammar, "grammar")

    def _compiled(self, translate: Any, text: str, kind: str) -> Grammar:
        try:
            matcher = self._matcher(self._tokenizer, translate(text))
        except ValueError as error:
            raise UsageError(f"The {kind} cannot be used: {error}.") from error
        if matcher.is_error():
            reason = str(matcher.get_error()).strip().splitlines()[0]
            raise UsageError(f"The {kind} cannot be used: {reason}.")
        return Grammar(matcher, self._vocab_size)


class Grammar:
    """One request's constraint: satisfies `Constraint`. Ends with an end-of-sequence token."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._mask = np.zeros((1, (vocab_size + 31) // 32), dtype=np.int32)

    def ban(self, scores: NDArray[Any]) -> None:
        """Set every token that may not come next to -inf. Raises UsageError where the grammar became too complex."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask)
        if self._matcher.is_error():
            raise UsageError(f"The grammar cannot be followed any further: {self._matcher.get_error()}.")
        allowed = np.unpackbits(self._mask.view(np.uint8)[0], count=self._vocab_size, bitorder="little")
        scores[allowed == 0] = -np.inf

    def advance(self, token: int) -> bool:
        """Read a token, if it may come next."""
        return bool(self._matcher.try_consume_tokens([token]) == 1)

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens."""
        if count:
            self._matcher.rollback(count)

    def forced(self) -> list[int]:
        """The tokens of the text that must come next."""
        return [int(token) for token in self._matcher.compute_ff_tokens()]
