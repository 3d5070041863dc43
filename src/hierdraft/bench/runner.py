"""Decoding a data set with several methods: one process, interleaved, paired, resumable.

Every method answers a question before the next one is asked, in an order that rotates, so that what disturbs the
machine disturbs them alike. Later turns of a conversation stand behind plain decoding's answers, so that all methods
see the same text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.bench.datasets import Question
from hierdraft.bench.runs import Run, as_line, read_run
from hierdraft.errors import UsageError
from hierdraft.text import token_texts

PLAIN = "none"


@dataclass(frozen=True)
class Plan:
    """What is run.

    settings   model, dtype, machine and the like: written into every run's header, must agree when going on
    sampling   options of `Sampling` but for the seed
    seed       of the first answer; each answer has its own
    """

    methods: Sequence[str]
    max_new_tokens: int
    budget: int | str = "auto"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """Runs a plan over questions into a folder: one run file per method."""

    def __init__(self, model: Any, plan: Plan, folder: Path) -> None:
        """`model`: a `LanguageModel`. Answers that the folder already holds are kept.

        Raises UsageError where they were made with other settings, or the folder cannot be made.
        """
        self._model = model
        self._plan = plan
        self._methods = [PLAIN, *(name for name in plan.methods if name != PLAIN)]
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"The run cannot be written to {folder} ({error.strerror}).") from error
        self.runs = {method: self._opened(method) for method in self._methods}

    def path(self, method: str) -> Path:
        """Where a method's run lies."""
        return self._folder / f"{method.replace(':', '_').replace('/', '_')}.jsonl"

    def _header(self, method: str) -> dict[str, Any]:
        plan = self._plan
        return {
            **plan.settings,
            "method": method,
            "budget": plan.budget,
            "max_new_tokens": plan.max_new_tokens,
            "sampling": dict(plan.sampling),
            "seed": plan.seed,
        }

    def _opened(self, method: str) -> Run:
        path, header = self.path(method), self._header(method)
        if not path.exists():
            path.write_text(as_line({"run": header}), encoding="utf-8")
            return Run(header)
        whole = path.read_bytes()
        if not whole.endswith(b"\n"):  # the last line was cut off by a kill
            with path.open("r+b") as file:
                file.truncate(whole.rfind(b"\n") + 1)
        run = read_run(path)
        different = [key for key in header if json.loads(json.dumps(header[key])) != run.settings.get(key)]
        if different:
            raise UsageError(f"{path} was made with another {different[0]}: choose another folder to write to.")
        return run

    def run(self, questions: Sequence[Question], report: Callable[[int, int], None]) -> None:
        """Answer what is not answered yet; `report(done, all)` after every question."""
        self._warm_up()
        for number, question in enumerate(questions):
            self._converse(number, question)
            report(number + 1, len(questions))

    def _warm_up(self) -> None:
        for method in self._methods:
            self._model.generate("Hello, hello, hello.", method=method, max_new_tokens=8, budget=self._plan.budget)

    def _converse(self, number: int, question: Question) -> None:
        said: list[str] = []
        for turn in range(len(question.turns)):
            name = f"{question.id}.{turn + 1}"
            ids = self._prompt(question, turn, said)
            shift = (number + turn) % len(self._methods)
            seed = self._plan.seed + 8 * number + turn if self._plan.sampling.get("temperature") else None
            for method in self._methods[shift:] + self._methods[:shift]:
                if name not in self.runs[method].records:
                    self._answer(method, name, question.task, ids, seed)
            said.append(self.runs[PLAIN].records[name]["text"])

    def _prompt(self, question: Question, turn: int, said: list[str]) -> list[int]:
        """Token ids of the conversation up to the user's `turn`."""
        history = list(zip(question.turns, said, strict=False))
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
        }  # fmt: skip
        self.runs[method].records[name] = record
        with self.path(method).open("a", encoding="utf-8") as file:
            file.write(as_line(record))
