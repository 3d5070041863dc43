"""Answers while they are written: pieces of text and of calls, with what is known of their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hierdraft.protocols import Likely
from hierdraft.stream import Generation, Piece, Stream, Traced
from hierdraft.text.tools import CallReader, Spoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from hierdraft.server.failures import ApiError


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its id, the level that drafted it, and how likely it was, where that is told."""

    id: int
    level: str
    likely: Likely | None


@dataclass(slots=True)
class Delta:
    """What has become certain since the last one.

    spoken  text, and calls of tools
    pieces  all text as it was said, with the levels that drafted it
    tokens  where somebody wants to know of them
    steps   where they are traced
    """

    spoken: list[Spoken]
    pieces: list[Piece]
    tokens: list[Token] = field(default_factory=list)
    steps: list[Traced] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Of the answer, without calls."""
        return "".join(spoken.text for spoken in self.spoken if spoken.kind == "text")


class Answer:
    """One answer of a request.

    times  when something came, `perf_counter`
    """

    def __init__(self, stream: Stream, reader: CallReader | None, *, tells_tokens: bool) -> None:
        """`stream`: runs in the background; `reader`: of calls of tools, if there are tools."""
        self.times: list[float] = []
        self._stream = stream
        self._reader = reader
        self._tells_tokens = tells_tokens
        self._told = self._traced = 0
        self._why: ApiError | None = None

    @property
    def result(self) -> Generation:
        """What is known so far."""
        return self._stream.result

    @property
    def called(self) -> bool:
        """Whether it calls a tool, and has done so to the end."""
        return self._reader is not None and self._reader.calls > 0 and not self._reader.within

    @property
    def within(self) -> bool:
        """Whether it has ended within a call."""
        return self._reader is not None and self._reader.within

    async def deltas(self) -> AsyncIterator[Delta]:
        """All of it, as it comes. Raises what ended the request, if anything did."""
        async for piece in self._stream:
            self.times.append(perf_counter())
            yield self._delta([piece, *self._stream.ready()])
        if self._why is not None:
            raise self._why
        last = self._delta([])
        if self._reader is not None:
            last.spoken += self._reader.flush()
        if last.spoken or last.tokens or last.steps:
            yield last

    def _delta(self, pieces: list[Piece]) -> Delta:
        text = "".join(piece.text for piece in pieces)
        spoken = [Spoken("text", text)] if self._reader is None and text else list(self._calls(text))
        return Delta(spoken, pieces, self._tokens(), self._steps())

    def _calls(self, text: str) -> list[Spoken]:
        return list(self._reader.push(text)) if self._reader is not None else []

    def _tokens(self) -> list[Token]:
        """Those since the last time."""
        if not self._tells_tokens:
            return []
        result, start = self.result, self._told
        self._told = len(result.token_ids)
        return [
            Token(result.token_ids[place], result.levels[place], result.likely[place] if result.likely else None)
            for place in range(start, self._told)
        ]

    def _steps(self) -> list[Traced]:
        trace = self.result.trace
        if trace is None:
            return []
        start, self._traced = self._traced, len(trace)
        return trace[start:]

    def cut(self, why: ApiError) -> None:
        """End it early, for a reason that its reader is told."""
        self._why = self._why or why
        self.close()

    def close(self) -> None:
        """Cancel it, if it is not over; it makes no further step."""
        self._stream.close(wait=False)


@dataclass(frozen=True, slots=True)
class Words:
    """What token ids stand for.

    raw    bytes of an id
    count  how many tokens a text has
    """

    raw: Callable[[int], bytes]
    count: Callable[[str], int]

    @classmethod
    def of(cls, tokenizer: Any) -> Words:
        """Of a tokenizer."""
        from hierdraft.text.visible import bytes_of

        return cls(bytes_of(tokenizer), lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))

    def text(self, token: int) -> str:
        """An id as text, as far as it is."""
        return self.raw(token).decode("utf-8", "replace")
