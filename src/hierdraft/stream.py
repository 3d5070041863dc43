"""An answer as it comes: pieces of certain text, the account of what it took, and whose turn it is on a model."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from hierdraft.errors import EngineBusyError, HierdraftError, UsageError
from hierdraft.levels import level_name
from hierdraft.protocols import Finish, Step
from hierdraft.text import StopStrings, VisibleText


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


_ALIVE = ("not begun", "running")


class Stream:
    """The pieces of an answer as they come, for one loop; `result` is the `Generation` so far.

    The request begins with the first piece that is asked for. It ends by itself, with `close`, at the end of a `with`
    block, or when the stream is dropped; what was said until then is learned. A loop that is left early (by `break`,
    an error, Ctrl-C) only pauses it: another loop continues where it stopped. As soon as no loop reads a stream, the
    model's next request ends it, and reading on raises EngineBusyError; while one does, the next request raises it.

    Loops in several threads share the pieces: each goes to one of them.
    """

    def __init__(
        self,
        turns: Turns,
        steps: Iterator[Step],
        tokenizer: Any,
        stop: StopStrings | None,
        model: object = None,
        look: Callable[[Generation], None] | None = None,
    ) -> None:
        """`model`: whose request it is, kept as long as the stream is; `look`: what looks at the complete answer."""
        self._look = look
        self.result = Generation()
        self._model = model
        self._steps = turns.taken(weakref.ref(self), steps)
        self._visible = VisibleText(tokenizer, stop)
        self._pieces: deque[Piece] = deque()
        self._using = threading.RLock()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._state = "not begun"
        self._stepping = False
        self._ending: tuple[HierdraftError | None] | None = None
        self._why: HierdraftError | None = None

    def __iter__(self) -> Iterator[Piece]:
        """A new loop over the pieces that nobody has read yet."""
        reader = _Reader(self)
        self._readers.add(reader)
        return reader

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream: {self._state}, {len(self.result.token_ids)} tokens>"

    def close(self) -> None:
        """End the request early and free the engine; reading on gives nothing. Waits for a step of another thread."""
        self.end(None)

    def end(self, why: HierdraftError | None, *, wait: bool = True) -> bool:
        """End the request; reading on raises `why`. False, and nothing is done, where it runs and `wait` is not set."""
        if wait:
            self._ending = self._ending or (why,)  # a thread that reads sees it after its step
        if not self._using.acquire(blocking=wait):
            return False
        try:
            self._ending = self._ending or (why,)
            self._settle()
            return True
        finally:
            self._using.release()

    def leave(self, why: HierdraftError) -> bool:
        """End the request if no loop reads it; False where one does, and nothing is done."""
        return not self._readers and self.end(why, wait=False)

    def take(self) -> Piece | None:
        """The next piece, None at the end."""
        with self._using:
            self._settle()
            while not self._pieces and self._state in _ALIVE:
                self._advance()
                self._settle()
            if self._why is not None:
                raise type(self._why)(*self._why.args)
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
            raise
        finally:
            self._stepping = False
        if step is None:
            self._state = f"ended by {self.result.finish}"
            self._show(self._visible.finish())
            return
        self._state = "running"
        self.result.add(step)
        for token, level in zip(step.tokens, step.levels, strict=True):
            self._show(self._visible.push(token, level))
        self.result.seconds += perf_counter() - started  # what the reader does with a piece is not counted

    def _show(self, pieces: list[tuple[str, int]]) -> None:
        self._pieces.extend(Piece(text, level_name(code)) for text, code in pieces)

    def _settle(self) -> None:
        """End the request if that was asked for; from within a step nothing is done, but after it."""
        if self._ending is not None and self._state in _ALIVE and not self._stepping:
            self._state, (self._why,) = "closed", self._ending
            self._pieces.clear()
            self._steps.close()


class _Reader:
    """One loop over a stream. The stream knows it by a weak reference only: a loop that was left is gone."""

    __slots__ = ("__weakref__", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Piece:
        piece = self._stream.take()
        if piece is None:
            raise StopIteration
        return piece


class Turns:
    """One request at a time: which stream has its turn on a model."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._busy = threading.Lock()
        self._current: weakref.ref[Stream] | None = None
        self.closed = False

    def taken(self, stream: weakref.ref[Stream], steps: Iterator[Step]) -> Generator[Step]:
        """The steps of `stream`, in its turn: from the first step to the end, or until the generator is closed.

        Raises EngineBusyError in another's turn, UsageError once the model is closed.
        """
        self._take(stream)
        try:
            yield from steps
        finally:
            self._busy.release()

    def _take(self, stream: weakref.ref[Stream]) -> None:
        with self._guard:
            self.check_open()
            if not self._busy.acquire(blocking=False):
                current = self._current() if self._current is not None else None
                ended = EngineBusyError("The model began another request after this stream was left: it is ended.")
                if current is None or not current.leave(ended) or not self._busy.acquire(blocking=False):
                    raise EngineBusyError(
                        "This model is decoding another request: wait for it, close its stream, or load it once more."
                    )
            self._current = stream

    def check_open(self) -> None:
        """Raises UsageError once the model is closed."""
        if self.closed:
            raise UsageError("This model is closed: load it again.")

    def close(self) -> None:
        """End the request that runs, after its present step, and begin no other."""
        with self._guard:
            self.closed = True
            current = self._current() if self._current is not None else None
        if current is not None:
            current.end(UsageError("The model was closed before this answer ended."))
