"""What methods are compared on: the built-in prompts, Spec-Bench, or any JSONL of prompts or conversations."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from hierdraft.corpus.records import read_jsonl
from hierdraft.databases.disk import replace_file
from hierdraft.errors import CorpusError, UsageError

SPEC_BENCH = "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl"
"""Spec-Bench's questions (Apache-2.0), in its public repository."""

SPEC_BENCH_SHA256 = "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04"

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


def load_questions(name: str, per_task: int | None = None, cache: Path | None = None) -> list[Question]:
    """The questions of a data set, at most `per_task` of each task, spread evenly over those it has.

    cache  folder in which a fetched file is kept
    name   `builtin`, `spec-bench` (fetched once), `spec-bench:FILE` or a JSONL file: one object a line with `prompt`
           or `turns`, and optionally `id`, `task` (or `category`) and `raw`; Spec-Bench's own form is recognised

    Raises UsageError for a name that is none of these, CorpusError for a file that cannot be read.
    """
    if name == "builtin":
        found = list(_questions(_builtin(), "the built-in prompts"))
    else:
        path = fetched(cache) if name == "spec-bench" else Path(name.removeprefix("spec-bench:"))
        if not path.exists():
            raise UsageError(f"There is no data set {name!r}: use builtin, spec-bench or a JSONL file.")
        found = list(_questions(read_jsonl(path), str(path)))
    if not found:
        raise CorpusError(f"{name} holds no questions.")
    return spread(found, per_task)


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310
        data: bytes = answer.read()
    return data


def fetched(cache: Path | None, download: Callable[[str], bytes] = _download) -> Path:
    """Spec-Bench's questions in the cache, fetched where they are not there yet. Raises UsageError."""
    by_hand = f"fetch {SPEC_BENCH} yourself and give --dataset spec-bench:FILE."
    if cache is None:
        raise UsageError(f"Spec-Bench's questions do not come with hierdraft: {by_hand}")
    path = cache / "datasets" / "spec-bench.jsonl"
    if path.exists():
        return path
    try:
        data = download(SPEC_BENCH)
    except OSError as error:
        raise UsageError(f"Spec-Bench's questions cannot be fetched ({error}): {by_hand}") from error
    if hashlib.sha256(data).hexdigest() != SPEC_BENCH_SHA256:
        raise UsageError(f"What came is not the file of Spec-Bench's questions that is known here: {by_hand}")
    replace_file(path, data)
    return path


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


def spread(found: list[Question], per_task: int | None) -> list[Question]:
    """At most `per_task` of each task in their order, evenly chosen so that a small part has all of a task's kinds."""
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
