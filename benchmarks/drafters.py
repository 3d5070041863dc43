"""A small model, or a head, beside the databases: what it costs, how often it is right, what trees from both are worth.

    python benchmarks/drafters.py --questions question.jsonl [--draft smollm2-tiny] [--only cost accepted ...]
    python benchmarks/drafters.py --questions question.jsonl --draft my-head --name heads

SmolLM2-135M on the first turns of ten questions of each of Spec-Bench's tasks; `--questions` is its own file.
benchmarks/drafters.json is the result; with `--name` another one. A run continues where it was stopped.

- cost       milliseconds of forwards by rows, at the same length of text: the target, the drafter with all output rows,
             and with those that it was trained with (a head has only these)
- accepted   tokens per forward of the target with fixed numbers of nodes, greedy and at temperature 1
- agreement  of the drafter with the target's greedy answers, by depth; and of a small model with other output rows than
             it was trained with
- speed      tokens a second with `auto`, the methods taking turns; needs an idle machine
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hierdraft
from common import RESULTS, ROOT, machine, spread, write
from hierdraft.bench.datasets import Question, load_questions
from hierdraft.engines.measure import forward
from hierdraft.models.drafter_files import read_head, read_own
from hierdraft.models.drafters import composed, shipped
from hierdraft.models.load import open_beside
from hierdraft.models.named import resolve
from hierdraft.protocols import Engine
from hierdraft.registry import make_method
from hierdraft.settings import load_settings
from hierdraft.training.agreement import TOPS, measure
from hierdraft.training.documents import Document
from hierdraft.training.drafter import Drafter, new_drafter
from hierdraft.training.reading import Asked, with_reading
from hierdraft.training.settings import HeadTraining, Training
from hierdraft.training.students import new_student
from hierdraft.training.target import read_target
from hierdraft.tree import DraftTree, Int32

MODEL = "smollm2-135m"
NODES = (8, 16, 28, 60)
TEMPERATURES = (0.0, 1.0)
ROWS = (1, 2, 4, 8, 16, 28)
PARTS = ("cost", "accepted", "agreement", "speed")
SHARED = ("hierarchy", "hierarchy+draft", "draft-model")


class Bench:
    """The model, the drafter in both forms, the questions, and the answers so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model = hierdraft.load(MODEL, engine=args.engine, threads=args.threads, learn=False, dtype="float32")
        self.folder = shipped().get(args.draft, Path(args.draft))
        self.target = resolve(MODEL, load_settings().cache_dir, full=True).path
        self.head = read_head(self.folder) is not None
        self.whole = self.folder if self.head else composed(self.folder, self.target, load_settings().cache_dir)
        self.questions = load_questions(f"spec-bench:{args.questions}", args.limit)
        self.kept = ROOT / "build" / "drafters" / f"{args.name}.jsonl"
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        lines = self.kept.read_text(encoding="utf-8").splitlines() if self.kept.exists() else []
        self.answers = {tuple(row["key"]): row for row in map(json.loads, lines)}
        self._methods: dict[tuple[str, int | str, float], Any] = {}

    def method(self, name: str, nodes: int | str, temperature: float) -> Any:
        """A method of the tables, for each of its rows another: they learn, and all have the same questions."""
        key = name, nodes, temperature
        if key not in self._methods:
            self._methods[key] = make_method(self._spelled(name))
        return self._methods[key]

    def _spelled(self, name: str) -> str:
        """What is written for a method of the tables."""
        return {
            "hierarchy+draft": f"hierarchy:draft={self.args.draft}",
            "draft-model": f"draft-model:draft={self.args.draft}",
            "chain": f"draft-model:draft={self.args.draft}:width=1:depth=5",
            "draft-model, all rows": f"draft-model:draft={self.whole}",
            "chain, all rows": f"draft-model:draft={self.whole}:width=1:depth=5",
        }.get(name, name)

    def answer(self, part: str, number: int, name: str, nodes: int | str, temperature: float) -> dict[str, Any]:
        """What came of one question; asked again only if that is not known."""
        question = self.questions[number]
        key = part, question.id, name, str(nodes), temperature
        if key not in self.answers:
            sampled = {"temperature": temperature, "seed": number} if temperature else {}
            run = self.model.generate(
                self.prompt(question), method=self.method(name, nodes, temperature), budget=nodes,
                max_new_tokens=self.args.tokens, **sampled,
            )  # fmt: skip
            row = {
                "key": key, "task": question.task, "tokens": len(run.token_ids) - 1, "steps": run.steps,
                "seconds": run.seconds - run.prefill_seconds, "ids": [] if temperature else run.token_ids,
            }  # fmt: skip
            self.answers[key] = row
            with self.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return self.answers[key]

    def prompt(self, question: Question) -> list[int]:
        """The first turn."""
        return self.model.encode(question.turns[0])


def cost(bench: Bench) -> dict[str, dict[str, Any]]:
    """Milliseconds by rows, all models and sizes taking turns."""
    engines: dict[str, Engine] = {
        "target": bench.model.engine,
        "drafter": open_beside(bench.args.draft, bench.model.engine).engine,
    }
    if not bench.head:
        engines["drafter, all rows"] = open_beside(str(bench.whole), bench.model.engine).engine
    text = np.arange(bench.args.context, dtype=np.int32) % 1000
    times: dict[str, dict[int, list[float]]] = {name: {rows: [] for rows in ROWS} for name in engines}
    sequences = {name: engine.open(reuse=None) for name, engine in engines.items()}
    for name, engine in engines.items():
        forward(engine, sequences[name], text)
    for turn in range(bench.args.repeats + 1):
        for rows in ROWS:
            for name, engine in engines.items():
                tree = DraftTree.chain(list(range(1, rows)))
                sequences[name].rewind(len(text))
                started = perf_counter()
                engine.choices(forward(engine, sequences[name], [5], tree))
                if turn:
                    times[name][rows].append((perf_counter() - started) * 1e3)
    for sequence in sequences.values():
        sequence.close()
    return {name: {str(rows): spread(found) for rows, found in sizes.items()} for name, sizes in times.items()}


def wanted(*, head: bool) -> list[tuple[str, int, float]]:
    """Method, nodes, temperature of what is asked for the accepted lengths."""
    shared = [(name, nodes) for nodes in NODES for name in SHARED[:2]]
    alone = [("chain", 5), *(("draft-model", nodes) for nodes in (NODES if head else NODES[:3]))]
    found = [(name, nodes, 0.0) for name, nodes in [*shared, *alone]]
    found += [] if head else [("chain, all rows", 5, 0.0), ("draft-model, all rows", 16, 0.0)]
    return found + [(name, nodes, 1.0) for name, nodes in [*shared, *alone[:1]]]


def accepted(bench: Bench) -> list[dict[str, Any]]:
    """Tokens per forward, of all and of each task. A question is answered by all methods before the next."""
    for number in range(len(bench.questions)):
        for name, nodes, temperature in wanted(head=bench.head):
            bench.answer("accepted", number, name, nodes, temperature)
        print(f"{number + 1} of {len(bench.questions)} questions", flush=True)
    found = []
    for name, nodes, temperature in wanted(head=bench.head):
        rows = [bench.answer("accepted", n, name, nodes, temperature) for n in range(len(bench.questions))]
        tasks = {row["task"]: [one for one in rows if one["task"] == row["task"]] for row in rows}
        length = {task: _length(some) for task, some in {"all": rows, **tasks}.items()}
        found.append({"method": name, "nodes": nodes, "temperature": temperature, "accepted_length": length})
        print(found[-1], flush=True)
    _same([bench.answers[key] for key in bench.answers if key[0] == "accepted" and key[4] == 0.0])
    return found


def _length(rows: list[dict[str, Any]]) -> float:
    return round(sum(row["tokens"] for row in rows) / max(1, sum(row["steps"] for row in rows)), 3)


def _same(rows: list[dict[str, Any]]) -> None:
    """Greedy answers do not depend on the method."""
    said: dict[str, list[int]] = {}
    differ = [row["key"] for row in rows if said.setdefault(row["key"][1], row["ids"]) != row["ids"]]
    if differ:
        print(f"{len(differ)} greedy answers differ from the first method's, such as {differ[0]}", flush=True)


def agreement(bench: Bench) -> dict[str, Any]:
    """By depth, on greedy answers."""
    documents = []
    for number, question in enumerate(bench.questions):
        prompt, said = bench.prompt(question), bench.answer("accepted", number, "hierarchy", NODES[-1], 0.0)["ids"]
        documents.append(Document(np.array([*prompt, *said], dtype=np.int32), len(prompt)))
    own, kept = read_own(bench.folder)
    if bench.head:
        return agreement_of_head(bench, documents)
    layers = len({name.split(".")[2] for name in own if name.startswith("model.layers.")})
    drafter, _ = new_drafter(read_target(MODEL, bench.target), Training(layers=layers, init="random"), kept)
    drafter.take(own)
    drafter.eval()
    has, own_ids = _covered(drafter.kept.numpy(), documents)
    covered = {"rows": len(drafter.kept), "share": round(float(has.mean()), 4)}
    covered["with_prompt"] = round(float((has | own_ids).mean()), 4)
    whole, _ = new_drafter(read_target(MODEL, bench.target), Training(layers=layers, init="random"), None)
    whole.take(own)
    return {
        "covered": covered, **measure(drafter, documents, 1024, 0).record(),
        "rows": rows_used(whole.eval(), drafter.kept.numpy(), documents),
    }  # fmt: skip


def agreement_of_head(bench: Bench, documents: list[Document]) -> dict[str, Any]:
    """The same of a head, which is told what the target thinks of the answers."""
    own, kept = read_own(bench.folder)
    head = read_head(bench.folder)
    layers = len({name.split(".")[1] for name in own if name.startswith("layers.")})
    target, training = read_target(MODEL, bench.target), HeadTraining(layers=layers)
    student, _ = new_student(target, training, kept, head.states if head is not None else ())
    student.take(own)
    student.eval()
    with TemporaryDirectory() as folder:
        asked = Asked(0, head.states if head is not None else ())
        read = with_reading(bench.model.engine, documents, asked, Path(folder))
        return measure(student, read, 1024, 0).record()


def _covered(kept: Int32, documents: list[Document]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens of all answers have an output row, and which occur in their prompts."""
    has = [np.isin(one.ids[one.start :], kept) for one in documents]
    asked = [np.isin(one.ids[one.start :], one.ids[: one.start]) for one in documents]
    return np.concatenate(has), np.concatenate(asked)


@torch.inference_mode()
def rows_used(whole: Drafter, kept: Int32, documents: list[Document]) -> dict[str, dict[str, float]]:
    """How often the target's token is the likeliest, or among 3 and 8, of the kept rows, with the prompt's, of all."""
    found = {name: np.zeros(len(TOPS)) for name in ("kept", "kept and the prompt's", "all")}
    tokens = 0
    for one in documents:
        ids = torch.from_numpy(one.ids).long()
        seen = torch.ones(len(ids), len(ids)).tril().bool()
        scores = whole.rows.scores(whole.hidden(ids, torch.arange(len(ids)), seen)[one.start - 1 : -1])
        wanted = ids[one.start :, None]
        tokens += len(wanted)
        for counts, rows in zip(
            found.values(), (kept, np.union1d(kept, one.ids[: one.start]), np.arange(scores.shape[1])), strict=True
        ):
            places = torch.from_numpy(rows).long()
            best = places[scores[:, places].topk(max(TOPS), dim=1).indices]
            counts += [int((best[:, :k] == wanted).any(1).sum()) for k in TOPS]
    return {
        name: {f"top{k}": round(float(count) / tokens, 4) for k, count in zip(TOPS, counts, strict=True)}
        for name, counts in found.items()
    }


def speed(bench: Bench) -> list[dict[str, Any]]:
    """Tokens a second of whole answers but for reading the prompt, over those of `none` and of `hierarchy`."""
    names = ("none", *SHARED)
    found = []
    for temperature in TEMPERATURES:
        for name in names:
            bench.model.warm_up(bench.method(name, "auto", temperature))
        rows = []
        for number in range(len(bench.questions)):
            turn = names[number % len(names) :] + names[: number % len(names)]
            rows.append({name: bench.answer("speed", number, name, "auto", temperature) for name in turn})
        for name in names[1:]:
            for base in dict.fromkeys(("none", "hierarchy")) if name != "hierarchy" else ("none",):
                ratios = [(row[name]["task"], _pace(row[name]) / _pace(row[base])) for row in rows]
                tasks = {task: [ratio for other, ratio in ratios if other == task] for task, _ in ratios}
                found.append({
                    "method": name, "over": base, "temperature": temperature,
                    "all": spread([ratio for _, ratio in ratios]),
                    "tasks": {task: round(statistics.median(some), 3) for task, some in tasks.items()},
                })  # fmt: skip
                print(found[-1], flush=True)
    return found


def _pace(row: dict[str, Any]) -> float:
    return float(row["tokens"]) / float(row["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", required=True)
    parser.add_argument("--draft", default="smollm2-tiny")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--name", default="drafters")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--limit", type=int, default=10, help="questions of each task")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--context", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    bench = Bench(args)
    stored = RESULTS / f"{args.name}.json"
    parts = json.loads(stored.read_text(encoding="utf-8"))["parts"] if stored.exists() else {}
    settings = {key: value for key, value in vars(args).items() if key not in ("questions", "draft", "only", "name")}
    for part in PARTS:
        if part in args.only:
            made = {"cost": cost, "accepted": accepted, "agreement": agreement, "speed": speed}[part](bench)
            parts[part] = {"machine": machine(), "settings": settings, "found": made}
            write(args.name, {"draft": bench.folder.name, "parts": parts})


if __name__ == "__main__":
    main()
