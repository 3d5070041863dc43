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


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set.

    title     what it is called in sentences
    address   where its file is fetched from; "" for the one that comes with the package
    sha256    what the file must be
    licence   of its questions
    """

    title: str
    address: str
    sha256: str
    licence: str


DATASETS = {
    "builtin": Dataset("the built-in prompts", "", "", "Apache-2.0"),
    "spec-bench": Dataset(
        "Spec-Bench's questions",
        "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl",
        "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04", "Apache-2.0",
    ),
}  # fmt: skip
"""Data sets that have a name, one row each. `NAME:FILE` is one whose file is at hand."""

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
    name   one of `DATASETS` (fetched once), `NAME:FILE`, or a JSONL file: one object a line with `prompt` or `turns`,
           and optionally `id`, `task` (or `category`) and `raw`; Spec-Bench's own form is recognised

    Raises UsageError for a name that is none of these, CorpusError for a file that cannot be read.
    """
    known, colon, file = name.partition(":")
    if name in DATASETS and not DATASETS[name].address:
        found = list(_questions(_builtin(), DATASETS[name].title))
    else:
        path = fetched(name, cache) if name in DATASETS else Path(file if colon and known in DATASETS else name)
        if not path.exists():
            raise UsageError(f"There is no data set {name!r}: use {', '.join(DATASETS)} or a JSONL file.")
        found = list(_questions(read_jsonl(path), str(path)))
    if not found:
        raise CorpusError(f"{name} holds no questions.")
    return spread(found, per_task)


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310
        data: bytes = answer.read()
    return data


def fetched(name: str, cache: Path | None, download: Callable[[str], bytes] = _download) -> Path:
    """The file of a data set in the cache, fetched where it is not there yet. Raises UsageError."""
    one = DATASETS[name]
    by_hand = f"fetch {one.address} yourself and give --dataset {name}:FILE."
    if cache is None:
        raise UsageError(f"{one.title} do not come with hierdraft: {by_hand}")
    path = cache / "datasets" / f"{name}.jsonl"
    if path.exists():
        return path
    try:
        data = download(one.address)
    except OSError as error:
        raise UsageError(f"{one.title} cannot be fetched ({error}): {by_hand}") from error
    if hashlib.sha256(data).hexdigest() != one.sha256:
        raise UsageError(f"What came is not the file of {one.title} that is known here: {by_hand}")
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
