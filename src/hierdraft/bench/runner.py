"""Decoding a data set with several methods: one process, interleaved, paired, resumable.

Every method answers a question before the next one is asked, in an order that rotates, so that what disturbs the
machine disturbs them alike. Later turns of a conversation stand after plain decoding's answers, so that all methods
see the same text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hierdraft.bench.datasets import Question
from hierdraft.bench.known import beginning_known
from hierdraft.bench.provenance import differences, now
from hierdraft.bench.runs import Run, as_line, method_of, read_run
from hierdraft.decoding.loop import check_prompt
from hierdraft.errors import ContextLengthError, HierdraftError, UsageError
from hierdraft.text import token_texts

PLAIN = "none"

_LOCK = ".lock"


@dataclass(frozen=True)
class Plan:
    """What is run.

    settings   what the run is made with (`provenance.made_with`, model, data set): written into every run's header;
               must agree when a run is continued, but for `provenance.PASSING`
    sampling   options of `Sampling` but for the seed
    seed       from which each answer's own is made
    skip_long  leave out what is too long for the model instead of refusing it
    """

    methods: Sequence[str]
    max_new_tokens: int
    budget: int | str = "auto"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    skip_long: bool = False


class Runner:
    """Runs a plan over questions into a folder: one run file per method. Close it, or use it in a `with`.

    runs      method -> its run, with the answers that were there before
    skipped   answers that were left out, as `{"id", "reason"}`
    """

    def __init__(self, model: Any, plan: Plan, folder: Path) -> None:
        """`model`: a `LanguageModel`. Answers that the folder already holds are kept.

        Raises UsageError where they were made with other settings, another process writes there, or the folder cannot
        be made.
        """
        self._model = model
        self._plan = plan
        self._methods = [PLAIN, *(name for name in plan.methods if name != PLAIN)]
        self._folder = folder
        self._begun = now()
        self._lock = FileLock(folder / _LOCK)
        self.skipped: list[dict[str, str]] = []
        self._paths: dict[str, Path] = {}
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise UsageError(f"Another bench run writes to {folder}: wait for it, or choose another.") from error
            try:
                self.runs = {method: self._opened(method) for method in self._methods}
            except BaseException:  # whatever it was, the folder is free for others
                self.close()
                raise

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write to the folder."""
        self._lock.release()

    def path(self, method: str) -> Path:
        """Where a method's run lies: under its name, of paths in it the last part; a digest where another has that."""
        if method not in self._paths:
            short = re.sub(r"[:/\\]+", "_", re.sub(r"[^:=+]*[/\\](?=[^:=+/\\])", "", method)).rstrip("_")
            first = self._folder / f"{short}.jsonl"
            digest = hashlib.sha256(method.encode()).hexdigest()[:8]
            taken = first in self._paths.values() or (first.exists() and method_of(first) not in (None, method))
            self._paths[method] = self._folder / f"{short}-{digest}.jsonl" if taken else first
        return self._paths[method]

    def _header(self, method: str) -> dict[str, Any]:
        plan = self._plan
        header = {
            **plan.settings,
            "method": method,
            "budget": plan.budget,
            "max_new_tokens": plan.max_new_tokens,
            "sampling": dict(plan.sampling),
            "seed": plan.seed,
        }
        as_read: dict[str, Any] = json.loads(json.dumps(header))
        return as_read

    def _opened(self, method: str) -> Run:
        path, header = self.path(method), self._header(method)
        kept = path.read_bytes() if path.exists() else b""
        whole = kept.rfind(b"\n") + 1
        if not whole:  # nothing there, or killed while the header was written
            path.write_text(as_line({"run": header}), encoding="utf-8")
            return Run(header)
        if whole < len(kept):  # killed while a record was written
            with path.open("r+b") as file:
                file.truncate(whole)
        run = read_run(path)
        if run.settings.get("method") != method:
            raise UsageError(f"{path} holds a run of {run.settings.get('method')!r}: choose another folder for it.")
        different = differences(run.settings, header)
        if different:
            raise UsageError(f"{path} was made {different[0]}: choose another folder to write to.")
        return run

    def run(self, questions: Sequence[Question], report: Callable[[int, int], None]) -> None:
        """Answer what is not answered yet; `report(done, all)` after every question.

        Raises ContextLengthError or UsageError, naming question and turn, for a prompt that cannot be decoded: before
        anything is answered, but for later turns, whose length hangs on the answers.
        """
        for question in questions:
            self._check(question)
        self._warm_up()
        for number, question in enumerate(questions):
            self._converse(number, question)
            report(number + 1, len(questions))

    def _check(self, question: Question) -> None:
        """Each turn after the answers that are there already; after empty ones where there are none yet."""
        said: list[str] = []
        for turn in range(len(question.turns)):
            if not self._fits(question, turn, self._prompt(question, turn, said)) and self._plan.skip_long:
                return
            answered = self.runs[PLAIN].records.get(answer_id(question, turn))
            said.append(answered["text"] if answered else "")

    def _fits(self, question: Question, turn: int, ids: Sequence[int]) -> bool:
        """Whether the prompt can be decoded, or is to be left out. Raises as `run` does."""
        try:
            with _naming(question, turn):
                check_prompt(self._model.engine, ids, self._plan.max_new_tokens)
        except ContextLengthError as error:
            if self._plan.skip_long:
                return False
            room = self._model.engine.max_length
            raise ContextLengthError(
                f"Question {question.id!r}, turn {turn + 1}, has {len(ids)} tokens and the model's context holds "
                f"{room}: shorten it, or leave such turns out with --skip-long."
            ) from error
        return True

    def _warm_up(self) -> None:
        for method in self._methods:
            self._model.generate("Hello, hello, hello.", method=method, max_new_tokens=8, budget=self._plan.budget)

    def _converse(self, number: int, question: Question) -> None:
        said: list[str] = []
        for turn in range(len(question.turns)):
            name = answer_id(question, turn)
            ids = self._prompt(question, turn, said)
            if not self._fits(question, turn, ids):
                self._skip(question, turn, len(ids))
                return
            shift = (number + turn) % len(self._methods)
            seed = _seed(self._plan.seed, name) if self._plan.sampling.get("temperature") else None
            for method in self._methods[shift:] + self._methods[:shift]:
                if name not in self.runs[method].records:
                    self._answer(method, name, question.task, ids, seed)
            said.append(self.runs[PLAIN].records[name]["text"])

    def _skip(self, question: Question, first: int, tokens: int) -> None:
        reason = f"turn {first + 1} has {tokens} tokens and the model's context holds {self._model.engine.max_length}"
        for turn in range(first, len(question.turns)):
            self.skipped.append({"id": answer_id(question, turn), "reason": reason})

    def _prompt(self, question: Question, turn: int, said: list[str]) -> list[int]:
        """Token ids of the conversation up to the user's `turn`."""
        history = list(zip(question.turns, said, strict=False))
        with _naming(question, turn):
            ids: list[int] = self._model.encode(question.turns[turn], history, chat=not question.raw)
        return ids

    def _answer(self, method: str, name: str, task: str, ids: list[int], seed: int | None) -> None:
        plan = self._plan
        options = {**plan.sampling, "seed": seed} if seed is not None else dict(plan.sampling)
        done = self._model.generate(
            ids, method=method, max_new_tokens=plan.max_new_tokens, budget=plan.budget, **options
        )
        record = {
            "id": name, "task": task, "seed": seed, "prompt_ids": ids, "output_ids": done.token_ids, "text": done.text,
            "finish": done.finish, "steps": done.steps, "step_tokens": done.step_tokens,
            "by_level": done.by_level, "levels": done.levels,
            "pieces": token_texts(self._model.tokenizer, done.token_ids),
            "seconds": round(done.seconds, 6), "prefill_seconds": round(done.prefill_seconds, 6),
            "draft_seconds": round(done.draft_seconds, 6), "forward_seconds": round(done.forward_seconds, 6),
            "rest_seconds": round(done.rest_seconds, 6),
            "draft_forwards": done.draft_forwards, "begun": self._begun,
        }  # fmt: skip
        if method == PLAIN:
            record["known"] = beginning_known(self._model.databases.packs, done.token_ids)
        with _writing(self.path(method)), self.path(method).open("a", encoding="utf-8") as file:
            file.write(as_line(record))
        self.runs[method].records[name] = record


def answer_id(question: Question, turn: int) -> str:
    """What a turn's answer is called, counted from 1; `turn` counts from 0."""
    return f"{question.id}.{turn + 1}"


def _seed(first: int, name: str) -> int:
    """An answer's own seed. It hangs on nothing but its name, so that neither --limit nor a second start moves it."""
    return first + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


@contextmanager
def _naming(question: Question, turn: int) -> Iterator[None]:
    """What is wrong with a question is said with its name."""
    try:
        yield
    except HierdraftError as error:
        raise type(error)(f"Question {question.id!r}, turn {turn + 1}: {error}") from error


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"The run cannot be written to {place} ({error.strerror or error}).") from error
