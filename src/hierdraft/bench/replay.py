"""Judging drafters on recorded output: exact acceptance of a model whose weights are not needed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.bench.metrics import interval
from hierdraft.bench.provenance import made_without_model
from hierdraft.corpus.records import Record, read_records
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.guard import check_method
from hierdraft.decoding.loop import Learn, Options, decode
from hierdraft.drafting.budget import BudgetLaw, make_budget
from hierdraft.drafting.single import as_method
from hierdraft.engines.replay import ReplayEngine
from hierdraft.engines.timed import TimedReplay
from hierdraft.errors import CorpusError, UsageError
from hierdraft.protocols import Method, Setup, Step
from hierdraft.registry import make_method


def some_records(path: Path, vocab_size: int, limit: int | None = None) -> list[Record]:
    """All records, or `limit` of them spread evenly over the file. Raises CorpusError for a file without any."""
    rows = list(read_records(path, vocab_size))
    if not rows:
        raise CorpusError(f"{path} holds no records.")
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]


@dataclass
class Score:
    """What became of the steps after the prefill: per task the tokens committed and the steps; nodes; times.

    seconds   of drafting, step by step
    forward   seconds of all forwards, which only mean something where a model really ran
    pace      per record: its tokens after the first one, and the seconds they took
    kinds     per record: its task
    rows      per record: how many forwards had how many rows
    """

    tokens: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    nodes: int = 0
    seconds: list[float] = field(default_factory=list)
    forward: float = 0.0
    pace: list[tuple[int, float]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    rows: list[Counter[int]] = field(default_factory=list)

    def begin(self, task: str) -> None:
        """The steps that follow are those of the next record."""
        self.kinds.append(task)
        self.pace.append((0, 0.0))
        self.rows.append(Counter())

    def add(self, task: str, step: Step) -> None:
        """Account for one step."""
        self.tokens.setdefault(task, 0)
        self.steps.setdefault(task, 0)
        if not step.prefill:
            self.tokens[task] += len(step.tokens)
            self.steps[task] += 1
            self.nodes += len(step.tree)
            self.seconds.append(step.seconds["draft"])
            self.forward += step.seconds["forward"]
            self.rows[-1][1 + len(step.tree)] += 1
            tokens, seconds = self.pace[-1]
            self.pace[-1] = tokens + len(step.tokens), seconds + sum(step.seconds.values())

    def accepted_length(self, task: str | None = None) -> float:
        """Tokens per target forward after the first token, of one task or of all; 1.0 where there was no step."""
        steps = sum(self.steps.values()) if task is None else self.steps[task]
        tokens = sum(self.tokens.values()) if task is None else self.tokens[task]
        return tokens / steps if steps else 1.0

    def speeds(self) -> list[float | None]:
        """Tokens per second of each record, None for one that has no second token."""
        return [tokens / seconds if tokens else None for tokens, seconds in self.pace]

    def limits(self, steady: Callable[[int], float]) -> list[float | None]:
        """Tokens per second of each record if nothing but the forwards themselves took time.

        steady   seconds of a forward by its rows
        """
        seconds = [sum(count * steady(size) for size, count in rows.items()) for rows in self.rows]
        return [
            tokens / took if tokens and took else None for (tokens, _), took in zip(self.pace, seconds, strict=True)
        ]

    def timed(self, plain: Score | None, steady: Callable[[int], float]) -> dict[str, Any]:
        """What may be added to `as_dict` where a model ran: its speed, also over that of plain decoding.

        `reached`: how much of the limit that is, which is tokens per forward times what a plain forward costs over what
        these did.
        """
        steps = sum(self.steps.values()) or 1
        tokens, seconds = (sum(part) for part in zip(*self.pace, strict=True))
        found = {
            "tokens_per_second": round(tokens / seconds, 2) if seconds else 0.0,
            "forward_ms_per_step": round(1e3 * self.forward / steps, 3),
            "rest_us_per_step": round(1e6 * (seconds - self.forward - sum(self.seconds)) / steps, 1),
        }
        if plain is None:
            return found
        mine, its = self.speeds(), plain.speeds()
        limits = zip(self.limits(steady), plain.limits(steady), strict=True)
        rows = [
            (kind, own / base, own / base * slow / most)
            for kind, own, base, (most, slow) in zip(self.kinds, mine, its, limits, strict=True)
            if own and base and most and slow
        ]
        if not rows:
            return found
        by_task = {kind: [ratio for name, ratio, _ in rows if name == kind] for kind, *_ in rows}
        return {
            **found, "speedup": interval([ratio for _, ratio, _ in rows]),
            "reached": interval([reached for *_, reached in rows]),
            "speedups": {kind: round(statistics.median(ratios), 3) for kind, ratios in by_task.items()},
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The fields of `hierdraft bench replay --json`."""
        steps = sum(self.steps.values())
        return {
            "accepted_length": round(self.accepted_length(), 4),
            "steps": steps,
            "tokens": sum(self.tokens.values()),
            "nodes_per_step": round(self.nodes / steps, 2) if steps else 0.0,
            "draft_us_per_step": round(1e6 * sum(self.seconds) / steps, 1) if steps else 0.0,
            "draft_us_median": round(1e6 * statistics.median(self.seconds), 1) if steps else 0.0,
            "tasks": {task: {"accepted_length": round(self.accepted_length(task), 4)} for task in self.tokens},
        }


def replay(
    engine: ReplayEngine, method: Method, record: Record, budget: BudgetLaw, score: Score, learn: Learn | None = None,
) -> None:  # fmt: skip
    """Decode one record with its own output as the target."""
    output = record["output_ids"]
    engine.play(output)
    options = Options(limit=len(output), budget=budget, learn=learn)
    score.begin(record["task"])
    said: list[int] = []
    for step in decode(engine, method, record["prompt_ids"], options):
        score.add(record["task"], step)
        said += step.tokens
    if said != output:
        raise UsageError("A record was not repeated exactly: this is a bug in the method or in the loop.")


def text_method(name: str, databases: Databases) -> Method:
    """A method that does without the target's logits. Raises UsageError for one that cannot."""
    method = as_method(make_method(name))
    method.attach(Setup(databases, ReplayEngine.offers))
    check_method(method, ReplayEngine.offers, name)
    return method


def compare(
    records: Sequence[Record],
    methods: Sequence[str],
    packs: Sequence[Pack],
    vocab_size: int,
    budget: int | str,
    *,
    online: bool = False,
    engine: ReplayEngine | None = None,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Score]:
    """Every method on every record, the methods taking turns; with `online` each learns from records as they end.

    budget   nodes per step, or `auto`, which needs an engine that knows what a step costs
    engine   that plays the records; one that takes no time unless given
    """
    info = PackInfo("model", vocab_size)
    databases = {
        name: Databases(packs, Namespaces(None, info, StoreOptions("none")) if online else None) for name in methods
    }
    opened = {name: text_method(name, databases[name]) for name in methods}
    scores = {name: Score() for name in methods}
    engine = engine or ReplayEngine(vocab_size)
    laws = {name: make_budget(budget) for name in methods}
    for number, record in enumerate(records):
        for name, method in opened.items():
            replay(engine, method, record, laws[name], scores[name], databases[name].learn)
        report(number + 1, len(records))
    return scores


def warm_pack(path: Path, vocab_size: int) -> Pack:
    """What the records of a file say, as a model level in memory. Raises CorpusError."""
    said = [np.array(row["output_ids"], dtype=np.int32) for row in read_records(path, vocab_size)]
    info = PackInfo("model", vocab_size, source=str(path), tokens=sum(map(len, said)), documents=len(said))
    return Pack(path, info, build(join(said), vocab_size))


def vocab_of(paths: Sequence[Path], packs: Sequence[Pack]) -> int:
    """The largest vocabulary of the packs, or just room for every id in these records. Raises CorpusError."""
    if packs:
        return max(pack.info.vocab_size for pack in packs)
    most = 0
    for path in paths:
        for row in read_records(path):
            most = max(most, *row["prompt_ids"], *row["output_ids"])
    return most + 1


def account(
    scores: dict[str, Score], about: Mapping[str, Any], packs: Sequence[Pack], ran: TimedReplay | None
) -> dict[str, Any]:
    """What `hierdraft bench replay --json` prints: what the scores were made with, and the scores.

    ran   what played the records where a model ran beside them, None where none did
    """
    found: dict[str, Any] = {"settings": {**about, **made_without_model(packs)}}
    found["methods"] = as_dicts(scores, ran)
    return {**found, "engine": ran.about} if ran is not None else found


def as_dicts(scores: dict[str, Score], ran: TimedReplay | None = None) -> dict[str, Any]:
    """The result of `compare` as the command line prints it, with speeds where a model `ran`."""
    plain = scores.get("none")
    return {
        method: {**score.as_dict(), **(score.timed(plain, ran.steady) if ran is not None else {})}
        for method, score in scores.items()
    }
