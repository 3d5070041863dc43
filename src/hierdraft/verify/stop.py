"""Where a request ends. Applied to the verdict before anything is committed, so that the cache, the databases, the
counts and the stream all see the same tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hierdraft.protocols import Finish
from hierdraft.tree import Int32
from hierdraft.verify.contracts import Stop, Verdict


class EosStop:
    """Ends a request after any of several end-of-sequence ids."""

    def __init__(self, ids: Iterable[int]) -> None:
        """`ids`: may be empty, then it never ends anything."""
        self._ids = frozenset(ids)

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:  # noqa: ARG002
        """`eos` when the newest token is one of the ids."""
        return "eos" if int(tokens[-1]) in self._ids else None


class LengthStop:
    """Ends a request after `limit` output tokens."""

    def __init__(self, limit: int, reason: Finish = "length") -> None:
        """`limit` >= 1; `reason` is `length` for a token limit, `context` where the model's context is full."""
        self._limit = limit
        self._reason: Finish = reason

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """The reason once `limit` tokens follow the prompt."""
        return self._reason if len(tokens) - prompt_length >= self._limit else None


class FirstOf:
    """Several stops; all are asked about every token, the first that ends the request gives the reason."""

    def __init__(self, stops: Sequence[Stop]) -> None:
        """`stops` in order of precedence."""
        self._stops = tuple(stops)

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """The first reason found."""
        reasons = [stop.check(tokens, prompt_length) for stop in self._stops]
        return next((reason for reason in reasons if reason), None)


def cut(verdict: Verdict, tokens: Int32, length: int, prompt_length: int, stop: Stop) -> Verdict:
    """The verdict up to and including the first token after which the request ends.

    tokens  int32 buffer whose first `length` entries are committed; the verdict's tokens are written after them

    All accepted nodes but that token's own stay in the path, so that the cache keeps every token except the last.
    """
    for count, token in enumerate(verdict.tokens, start=1):
        tokens[length] = token
        length += 1
        reason = stop.check(tokens[:length], prompt_length)
        if reason:
            return Verdict(verdict.path[:count], verdict.tokens[:count], reason)
    return verdict
