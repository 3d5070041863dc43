"""What methods are compared on: the built-in prompts, Spec-Bench, or any JSONL of prompts or conversations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from hierdraft.answers import read_jsonl
from hierdraft.errors import CorpusError, UsageError

SPEC_BENCH = "question.jsonl"
"""The file of Spec-Bench's questions (data/spec_bench/ of its public repository)."""

_TASKS = {
    "translation": "translation",
    "summarization": "summarisation",
    "qa": "question answering",
    "math_reasoning": "mathematical reasoning",
    "rag": "retrieval-augmented",
}
_CONVERSATION = "multi-turn conversation"
"""Spec-Bench's task of all its other categories, which are MT-bench's."""


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation: what the user says, turn by turn. `raw`: without the chat template."""

    id: str
    task: str
    turns: tuple[str, ...]
    raw: bool = False


def load_questions(name: str, per_task: int | None = None) -> list[Question]:
    """The questions of a data set, at most `per_task` of each task, spread evenly over those it has.

    name   `builtin`, `spec-bench:FILE` or a JSONL file: one object a line with `prompt` or `turns`, and optionally
           `id`, `task` (or `category`) and `raw`; a file in Spec-Bench's own form is recognised

    Raises UsageError for a name that is none of these, CorpusError for a file that cannot be read.
    """
    if name == "builtin":
        found = list(_questions(_builtin(), "the built-in prompts"))
    elif name == "spec-bench":
        raise UsageError(
            "Spec-Bench's questions do not come with hierdraft: fetch data/spec_bench/question.jsonl from its "
            "public repository (hemingkx/Spec-Bench) and give --dataset spec-bench:FILE."
        )
    else:
        path = Path(name.removeprefix("spec-bench:"))
        if not path.exists():
            raise UsageError(f"There is no data set {name!r}: use builtin, spec-bench:FILE or a JSONL file.")
        found = list(_questions(read_jsonl(path), str(path)))
    if not found:
        raise CorpusError(f"{name} holds no questions.")
    return _spread(found, per_task)


def builtin_prompts() -> list[dict[str, str]]:
    """The prompts that come with the package: {"id", "kind", "prompt"}, several per kind of work."""
    text = files("hierdraft.data").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _builtin() -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(builtin_prompts(), start=1):
        yield number, {**row, "task": row["kind"].replace("_", " ")}


def _questions(rows: Iterable[tuple[int, dict[str, Any]]], place: str) -> Iterator[Question]:
    seen: set[str] = set()
    for number, row in rows:
        turns = row.get("turns") or ([row["prompt"]] if "prompt" in row else [])
        if not isinstance(turns, list) or not turns or not all(isinstance(t, str) and t.strip() for t in turns):
            raise CorpusError(f"{place}, line {number}: a question needs text under 'prompt' or 'turns'.")
        name = str(row.get("id", row.get("question_id", number)))
        if name in seen:
            raise CorpusError(f"{place}, line {number}: the id {name!r} occurs twice.")
        seen.add(name)
        yield Question(name, _task(row), tuple(turns), bool(row.get("raw", False)))


def _task(row: dict[str, Any]) -> str:
    category = str(row.get("task", row.get("category", "all")))
    return _TASKS.get(category, _CONVERSATION) if "question_id" in row else category


def _spread(found: list[Question], per_task: int | None) -> list[Question]:
    """An even choice from each task, so that a small part has all of a task's kinds; in the order of the file."""
    if per_task is None:
        return found
    by_task: dict[str, list[Question]] = {}
    for question in found:
        by_task.setdefault(question.task, []).append(question)
    kept: set[str] = set()
    for group in by_task.values():
        few = min(per_task, len(group))
        kept |= {group[i * len(group) // few].id for i in range(few)}
    return [question for question in found if question.id in kept]
