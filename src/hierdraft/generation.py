"""`hierdraft.load(name)`: a model, its tokenizer and an engine, with `generate` and `stream`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from hierdraft.databases.levels import Databases
from hierdraft.drafting.budget import make_budget
from hierdraft.engines.loop import Options, check_prompt, decode
from hierdraft.errors import EngineBusyError
from hierdraft.protocols import Budget, Drafter, Engine, Finish, Request, Step, UsesDatabases
from hierdraft.registry import make_drafter
from hierdraft.settings import load_settings
from hierdraft.text import StopStrings, VisibleText, encode_prompt, encode_references
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
    by_level         level -> {"proposed": nodes scored, "accepted": of them in the text}
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
    by_level: dict[str, dict[str, int]] = field(default_factory=dict)

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

    def __init__(self, steps: Generator[Step], tokenizer: Any, stop: StopStrings, strings: Sequence[str]) -> None:
        self.result = Generation()
        self._steps = steps
        self._visible = VisibleText(tokenizer, strings)
        self._stop = stop
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
            yield from self._show(self._visible.finish(self._stop.cut_at))
        finally:
            self._steps.close()

    def _show(self, pieces: list[tuple[str, int]]) -> Iterator[Piece]:
        for text, code in pieces:
            self.result.text += text
            yield Piece(text, level_name(code))


class LanguageModel:
    """A target model ready to decode. One request at a time; a second one raises EngineBusyError."""

    def __init__(self, engine: Engine, tokenizer: Any, name: str, databases: Databases | None = None) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.name = name
        self.databases = databases or Databases()
        self._busy = threading.Lock()
        self._drafters: dict[str, Drafter] = {}
        self._auto = make_budget("auto")

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Generation:
        """The whole answer; takes what `stream` takes, and raises what it raises."""
        stream = self.stream(prompt, **options)
        for _ in stream:
            pass
        return stream.result

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        method: str | Drafter = "hierarchy",
        max_new_tokens: int = 256,
        budget: int | str = "auto",
        stop: str | Sequence[str] = (),
        chat: bool = True,
        ignore_eos: bool = False,
        namespace: str = "default",
        reference: str | Sequence[str | Sequence[int]] = (),
    ) -> Stream:
        """Start a request and return its pieces as they come. Greedy: the ids are those of plain decoding.

        prompt          text, or token ids that are taken as they are
        method          a drafting method's name (`none`: plain decoding) or a `Drafter`
        budget          `auto`: chosen every step from measured costs; or a number of nodes
        stop            strings that end the answer
        chat            put a text prompt into the model's chat template, where it has one
        ignore_eos      go on after an end-of-sequence id (for measuring)
        namespace       what is learned in one namespace is drafted from in no other
        reference       texts or token ids that the answer may repeat: a prediction of it, or documents it draws on

        Raises UsageError for an empty prompt, unknown method, ids outside the vocabulary or a bad number,
        ContextLengthError where nothing fits behind the prompt, EngineBusyError while another request runs.
        """
        strings = (stop,) if isinstance(stop, str) else tuple(stop)
        ids = encode_prompt(self.tokenizer, prompt, chat=chat) if isinstance(prompt, str) else prompt
        stopper = StopStrings(self.tokenizer, strings)
        options = Options(
            limit=max_new_tokens,
            budget=self._auto if budget == "auto" else make_budget(budget),
            stops=[stopper] if strings else [],
            eos_ids=() if ignore_eos else None,
            namespace=namespace,
            reference=encode_references(self.tokenizer, reference, self.engine.vocab_size),
        )
        checked = check_prompt(self.engine, ids, max_new_tokens)
        steps = decode(self.engine, self._drafter(method), checked, options)
        stream = Stream(self._alone(steps), self.tokenizer, stopper, strings)
        stream.result.prompt_tokens = len(checked)
        return stream

    def _drafter(self, method: str | Drafter) -> Drafter:
        """Drafters live as long as the model, so that what they learn serves the next request."""
        if not isinstance(method, str):
            return method
        if method not in self._drafters:
            drafter = make_drafter(method)
            if isinstance(drafter, UsesDatabases):
                drafter.attach(self.databases)
            self._drafters[method] = drafter
        return self._drafters[method]

    def close(self) -> None:
        """Put what was learned on the device. Raises StoreError."""
        for drafter in self._drafters.values():
            if isinstance(drafter, UsesDatabases):
                drafter.close()
        self.databases.close()

    def _alone(self, steps: Iterator[Step]) -> Generator[Step]:
        if not self._busy.acquire(blocking=False):
            raise EngineBusyError("This model is decoding another request: wait for it, or load the model once more.")
        try:
            yield from steps
        finally:
            self._busy.release()


def load(
    name: str = "smollm2-135m",
    *,
    dtype: str = "auto",
    device: str | None = None,
    threads: int | None = None,
    lean: bool = True,
    packs: Sequence[Path | str] | None = None,
    learn: bool | None = None,
) -> LanguageModel:
    """Load a model for decoding with drafts.

    name     a named model (fetched when missing), a local transformers folder, or a hub id
    dtype    `float32` (the exact grade), `bfloat16`, `float16`; `auto`: float32 on a CPU, bfloat16 on CUDA
    device   `cpu`, `cuda`, ...; None: CUDA where there is one
    threads  CPU threads torch may use; None: its own choice
    lean     on a CPU, pack the weights and use attention without copies (`engines/lean.py`)
    packs    databases to draft from besides the one that comes with the model; None: those in the settings
    learn    keep what the model says, per namespace, and draft from it; None: as the settings tell

    Raises ModelError, UnsupportedModelError, MissingDependencyError, PackError or UsageError, each with one sentence.
    """
    from hierdraft.engines.hf_load import load_engine
    from hierdraft.holdings import open_databases

    warming = threading.Thread(target=_warm_up, name="hierdraft-warm-up")
    warming.start()
    try:
        engine, tokenizer = load_engine(name, dtype=dtype, device=device, threads=threads, lean=lean)
    finally:
        warming.join()
    settings = load_settings()
    learns = settings.learn if learn is None else learn
    databases = open_databases(settings, name, tokenizer, engine.vocab_size, packs, learns)
    return LanguageModel(engine, tokenizer, name, databases)


def _warm_up() -> None:
    """Load the compiled kernels (or compile them, the first time on a machine) while the weights are read."""
    drafter = make_drafter("hierarchy:calibration=none")
    prompt = np.array([1, 2, 1, 2], dtype=np.int32)
    drafter.start(Request(prompt, 4, reference=[prompt]))
    tree = drafter.propose(prompt, Budget(2, 2))
    rows = 1 + len(tree)
    ids = np.zeros((rows, max(1, drafter.wants.top_k)), dtype=np.int32)
    drafter.observe(Step([1], tree, [0], np.array([1, 2, 1], dtype=np.int32)[:rows], ids))
    drafter.finish(prompt)
