"""An answer as it comes: pieces of certain text, and the account of what it took."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from hierdraft.protocols import Finish, Step
from hierdraft.text import StopStrings, VisibleText
from hierdraft.tree import level_name


@dataclass(slots=True)
class Generation:
    """One finished request.

    text             what was said, without special tokens; ends before a stop string
    token_ids        every id generated, an end-of-sequence id included
    levels           for each id the level that drafted it, or `target`
    steps            target forwards after the prefill
    seconds          spent decoding, the prefill included; not what the reader of a stream does in between
    prefill_seconds, draft_seconds, forward_seconds, rest_seconds   where they went
    step_tokens      how many tokens each of those forwards gave
    by_level         level -> {"proposed": nodes scored, "accepted": of them in the text}
    seed             of the sample, None for a greedy answer
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    finish: Finish | None = None
    prompt_tokens: int = 0
    steps: int = 0
    seconds: float = 0.0
    prefill_seconds: float = 0.0
    draft_seconds: float = 0.0
    forward_seconds: float = 0.0
    rest_seconds: float = 0.0
    step_tokens: list[int] = field(default_factory=list)
    by_level: dict[str, dict[str, int]] = field(default_factory=dict)
    seed: int | None = None

    @property
    def accepted_length(self) -> float:
        """Tokens per target forward after the first token, the bonus token included; 1.0 is plain decoding."""
        return (len(self.token_ids) - 1) / self.steps if self.steps else 1.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens over all seconds, the prefill's too."""
        return len(self.token_ids) / self.seconds if self.seconds else 0.0

    def add(self, step: Step) -> None:
        """Account for one step."""
        self.token_ids += step.tokens
        self.levels += [level_name(code) for code in step.levels]
        self.finish = step.finish
        self.draft_seconds += step.seconds["draft"]
        self.rest_seconds += step.seconds["rest"]
        if step.prefill:
            self.prefill_seconds += step.seconds["forward"]
        else:
            self.forward_seconds += step.seconds["forward"]
            self.steps += 1
            self.step_tokens.append(len(step.tokens))
        for what, codes in (("proposed", step.tree.level), ("accepted", step.tree.level[step.path])):
            for code in codes.tolist():
                self.by_level.setdefault(level_name(code), {"proposed": 0, "accepted": 0})[what] += 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text that has become certain, and the level that drafted it."""

    text: str
    level: str


class Stream:
    """Iterate over the pieces of an answer as they come; `result` is the `Generation` so far."""

    def __init__(self, steps: Generator[Step], tokenizer: Any, stop: StopStrings | None) -> None:
        self.result = Generation()
        self._steps = steps
        self._visible = VisibleText(tokenizer, stop)
        self._pieces = self._run()

    def __iter__(self) -> Generator[Piece]:
        return self._pieces

    def close(self) -> None:
        """End the request early and free the engine."""
        self._pieces.close()

    def _run(self) -> Generator[Piece]:
        started = perf_counter()
        try:
            for step in self._steps:
                self.result.add(step)
                pieces = [self._visible.push(*pair) for pair in zip(step.tokens, step.levels, strict=True)]
                self.result.seconds += perf_counter() - started  # what the reader does with a piece is not counted
                for piece in pieces:
                    yield from self._show(piece)
                started = perf_counter()
            yield from self._show(self._visible.finish())
        finally:
            self._steps.close()

    def _show(self, pieces: list[tuple[str, int]]) -> Iterator[Piece]:
        for text, code in pieces:
            self.result.text += text
            yield Piece(text, level_name(code))
