"""An answer as it comes: pieces of certain text, and the account of what it took."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from hierdraft.decoding.front import Steps
from hierdraft.levels import level_name
from hierdraft.protocols import Finish, Likely, Step
from hierdraft.text import StopStrings, VisibleText
from hierdraft.tree import DraftTree


@dataclass(frozen=True, slots=True)
class Traced:
    """What one forward was asked, and what it brought.

    tokens   committed by it
    draft    the tree that was scored
    path     nodes of it that were accepted
    seconds  spent in `draft`, `forward` and the `rest`
    at       when it was over, `time.perf_counter`
    """

    tokens: list[int]
    draft: DraftTree
    path: list[int]
    seconds: dict[str, float]
    at: float


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
    likely           for each id how likely the target found it, where `logprobs` was asked for
    by_level         level -> {"proposed": nodes scored, "accepted": of them in the text}
    draft_forwards   of the models that the method drafts with while it was decoded, those for requests beside it
                     included; None: it drafts with none
    trace            every step with its tree, the prompt's first, where `trace` was asked for
    draft_error      why drafting stopped, if the method failed; the answer is complete without it
    stop_string      the one that ended it, if one did
    seed             of the sample, None for a greedy answer
    follows_schema   whether the answer follows the JSON schema it was asked for; None: none was asked for
    schema_errors    why it does not, one line each
    left_to_check    paths of the schema's keywords that were not kept while decoding but checked at the end
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
    likely: list[Likely] = field(default_factory=list)
    draft_forwards: int | None = None
    trace: list[Traced] | None = None
    draft_error: str | None = None
    stop_string: str | None = None
    seed: int | None = None
    follows_schema: bool | None = None
    schema_errors: list[str] = field(default_factory=list)
    left_to_check: list[str] = field(default_factory=list)

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
        self.likely += step.likely
        if self.trace is not None:
            self.trace.append(Traced(step.tokens, step.tree, list(step.path), dict(step.seconds), step.at))
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
        if not len(step.tree):
            return
        for what, codes in (("proposed", step.tree.level), ("accepted", step.tree.level[step.path])):
            for code in codes.tolist():
                self.by_level.setdefault(level_name(code), {"proposed": 0, "accepted": 0})[what] += 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text that has become certain, and the level that drafted it."""

    text: str
    level: str


_ALIVE = ("not begun", "running")


class Stream:
    """The pieces of an answer as they come; `result` is the `Generation` so far.

    Unless it runs in the background, the request begins with the first piece that is asked for, and stands still while
    nobody asks. It ends by itself, with `close`, at the end of a `with` block, or when the stream is dropped; what was
    said until then is learned. A loop that is left early (by `break`, an error, Ctrl-C) only pauses it: another loop
    continues where it stopped. Other requests of the model may run meanwhile.

    Loops in several threads share the pieces: each goes to one of them.
    """

    def __init__(
        self,
        steps: Steps,
        tokenizer: Any,
        stop: StopStrings | None,
        model: object = None,
        look: Callable[[Generation], None] | None = None,
        asked: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`model`: whose request it is, kept as long as the stream is; `look`: what looks at the complete answer;
        `asked`: forwards, until now, of the models that its method drafts with.
        """
        self._look, self._asked = look, asked
        self.result = Generation()
        self._model = model
        self._steps = steps
        self._stop = stop
        self._visible = VisibleText(tokenizer, stop)
        self._pieces: deque[Piece] = deque()
        self._using = threading.RLock()
        self._state = "not begun"
        self._stepping = self._closing = False

    def __iter__(self) -> Stream:
        """Itself: a loop continues where the last one stopped."""
        return self

    def __next__(self) -> Piece:
        piece = self.take()
        if piece is None:
            raise StopIteration
        return piece

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream: {self._state}, {len(self.result.token_ids)} tokens>"

    def close(self, *, wait: bool = True) -> None:
        """End the request early; reading on gives nothing.

        Waits for a step that another thread makes for it; a request in the background ends after that without `wait`.
        """
        self._closing = True  # a thread that reads sees it after its step
        with self._using:
            self._settle(wait=wait)

    def wait(self) -> Generation:
        """Read to the end. Raises what ended the request, if anything but itself or `close` did."""
        while self.take() is not None:
            pass
        return self.result

    @property
    def over(self) -> bool:
        """Whether nothing more has to be waited for: it was closed, or runs in the background and has ended."""
        return self._steps.over or self._state not in _ALIVE

    def __aiter__(self) -> Stream:
        """For `async for`: of a request that runs in the background."""
        return self

    async def __anext__(self) -> Piece:
        while not self._pieces and self._state in _ALIVE and not self._closing:
            await self._steps.arrival()
            with self._using:
                self._advance()
        piece = self.take()
        if piece is None:
            raise StopAsyncIteration
        return piece

    def ready(self) -> list[Piece]:
        """The pieces that have come and were not taken yet."""
        with self._using:
            pieces = [*self._pieces]
            self._pieces.clear()
            self.result.text += "".join(piece.text for piece in pieces)
            return pieces

    async def wait_async(self) -> Generation:
        """As `wait`, without blocking the event loop."""
        async for _ in self:
            pass
        return self.result

    def take(self) -> Piece | None:
        """The next piece, None at the end; raises what ended the request, if it was anything else."""
        with self._using:
            self._settle()
            while not self._pieces and self._state in _ALIVE:
                self._advance()
                self._settle()
            if not self._pieces:
                if self._look is not None and self._state.startswith("ended"):
                    self._look(self.result)
                    self._look = None
                return None
            piece = self._pieces.popleft()
            self.result.text += piece.text
            return piece

    def _advance(self) -> None:
        """Decode until another token is known."""
        started = perf_counter()
        self._stepping = True
        try:
            step = next(self._steps, None)
        except BaseException:  # whatever it was, Ctrl-C included: the request is over
            self._state = "failed"
            self._steps.close()
            raise
        finally:
            self._stepping = False
        self.result.draft_error, self.result.draft_forwards = self._steps.failure, self._asked()
        if step is None:
            self._state = f"ended by {self.result.finish}"
            self.result.stop_string = self._stop.matched if self._stop is not None else None
            self._show(self._visible.finish())
            return
        self._state = "running"
        self.result.add(step)
        for token, level in zip(step.tokens, step.levels, strict=True):
            self._show(self._visible.push(token, level))
        self.result.seconds += perf_counter() - started  # what the reader does with a piece is not counted

    def _show(self, pieces: list[tuple[str, int]]) -> None:
        self._pieces.extend(Piece(text, level_name(code)) for text, code in pieces)

    def _settle(self, *, wait: bool = True) -> None:
        """End the request if that was asked for; from within a step nothing is done, but after it."""
        if self._closing and self._state in _ALIVE and not self._stepping:
            self._state = "closed"
            self._pieces.clear()
            self._steps.close(wait=wait)
