"""Drafting at the pace of models of 1 to 8 billion parameters, with random weights: acceptance is from records.

    python benchmarks/real_sizes.py --records specbench_vicuna7b_odd.jsonl --warm alpaca_vicuna7b.jsonl \\
        --shape llama-8b --engine openvino --dtype int4

A record is recorded output of a model: prompt_ids, output_ids and task, one JSON a line; `--warm` are other answers of
that model, the model level. What is accepted is what that model said; the time is that of forwards of a model of the
given shape, whose weights are random and whose answers are ignored. First the costs of a forward by its rows. Then,
without the model, every number of nodes and `auto` on many records, priced by these costs: which would be fastest.
Then real forwards: plain decoding, `auto`, and the best fixed number, in turns, on a few records of each task, their
answers cut, and of long prompts only the end read by the model (the drafter reads all). `limit` is what speed-up would
be if only forwards took time: tokens per forward times what a plain one costs over what these cost. Shape and number
type are a row of benchmarks/real-sizes.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from common import RESULTS, machine, spread, write
from hierdraft.bench.replay import Score, replay, some_records, text_method, warm_pack
from hierdraft.corpus.records import Record
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack
from hierdraft.drafting.budget import make_budget
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.replay import ReplayEngine
from hierdraft.engines.timed import TimedReplay
from hierdraft.models.random_models import random_engine
from hierdraft.settings import load_settings

VOCAB = 32_000
NODES = (1, 2, 3, 5, 7, 11, 15, 23, 31, 47, 63)
PLAIN = "none"


class Priced(ReplayEngine):
    """Records, and what a forward would cost: for a law that decides by costs."""

    def __init__(self, costs: StepCosts) -> None:
        super().__init__(VOCAB)
        self._costs = costs

    def cost(self, rows: int, plain: int = 1) -> float:  # noqa: ARG002
        """Of a forward of so many rows."""
        return self._costs.seconds(rows)


def chosen(records: Sequence[Record], per_task: int, tokens: int) -> list[Record]:
    """Records of each task, spread over those it has, their answers cut; tasks take turns."""
    tasks: dict[str, list[Record]] = {}
    for record in records:
        if len(record["output_ids"]) > 1:
            tasks.setdefault(record["task"], []).append(record)
    rows = [
        [
            {
                **every[at * len(every) // per_task],
                "output_ids": every[at * len(every) // per_task]["output_ids"][:tokens],
            }
        ]
        for at in range(per_task)
        for every in tasks.values()
    ]
    return [row for one in rows for row in one]


def by_task(scores: Score, plain: Score, steady: Any) -> dict[str, dict[str, float]]:
    """Per task, medians over records: accepted length, the limit of the speed-up, and the speed-up itself."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    mine, its, speeds, slow = scores.limits(steady), plain.limits(steady), scores.speeds(), plain.speeds()
    for kind, most, base, speed, before in zip(scores.kinds, mine, its, speeds, slow, strict=True):
        if most and base and speed and before:
            rows.setdefault(kind, []).append((most / base, speed / before, speed / before / (most / base)))
    found = {}
    for kind, some in rows.items():
        limit, speedup, reached = (statistics.median(part) for part in zip(*some, strict=True))
        found[kind] = {
            "accepted_length": round(scores.accepted_length(kind), 3), "limit": round(limit, 3),
            "speedup": round(speedup, 3), "reached": round(reached, 3), "records": len(some),
        }  # fmt: skip
    return found


def middle(tasks: dict[str, dict[str, float]], what: str) -> float:
    """The median of the tasks' medians."""
    return round(statistics.median(row[what] for row in tasks.values()), 3)


def priced(costs: StepCosts, packs: Sequence[Pack], records: Sequence[Record]) -> dict[str, Any]:
    """What each number of nodes would bring if only forwards took time, and what `auto` would."""
    engine = Priced(costs)
    databases = Databases(packs, None)
    plain = Score()
    for record in records:
        replay(engine, text_method(PLAIN, databases), record, make_budget(1), plain)
    found: dict[str, Any] = {}
    for nodes in ("auto", *NODES):
        method, law, score = text_method("hierarchy", databases), make_budget(nodes), Score()
        for record in records:
            replay(engine, method, record, law, score)
        tasks = by_task(score, plain, costs.seconds)
        found[str(nodes)] = {
            "limit": middle(tasks, "limit"), "tasks": {kind: row["limit"] for kind, row in tasks.items()},
            "accepted_length": round(score.accepted_length(), 3),
        }  # fmt: skip
    best = max(NODES, key=lambda nodes: float(found[str(nodes)]["limit"]))
    ratio = found["auto"]["limit"] / found[str(best)]["limit"]
    return {"records": len(records), "best": best, "auto_over_best": round(ratio, 3), "nodes": found}


def timed(target: TimedReplay, packs: Sequence[Pack], records: Sequence[Record], best: int | None) -> dict[str, Any]:
    """Real forwards: every way on every record, in turns."""
    databases = Databases(packs, None)
    ways: dict[str, Any] = {PLAIN: (PLAIN, 1), "auto": ("hierarchy", "auto")}
    if best is not None:
        ways[f"{best} nodes"] = ("hierarchy", best)
    methods = {way: text_method(name, databases) for way, (name, _) in ways.items()}
    laws = {way: make_budget(nodes) for way, (_, nodes) in ways.items()}
    scores = {way: Score() for way in ways}
    for number, record in enumerate(records):
        for way in sorted(ways, key=lambda way: (list(ways).index(way) + number) % len(ways)):
            replay(target, methods[way], record, laws[way], scores[way])
        speeds = {way: round(score.speeds()[-1] or 0.0, 2) for way, score in scores.items()}
        print(f"{number + 1} of {len(records)}, {record['task']}: tokens a second {speeds}", flush=True)
    found: dict[str, Any] = {"records": len(records)}
    for way, score in scores.items():
        tasks = by_task(score, scores[PLAIN], target.steady)
        ratios = [
            mine / base for mine, base in zip(score.speeds(), scores[PLAIN].speeds(), strict=True) if mine and base
        ]
        found[way] = {
            **{what: middle(tasks, what) for what in ("speedup", "limit", "reached")}, "answers": spread(ratios),
            "nodes_per_step": round(score.nodes / max(1, sum(score.steps.values())), 2), "tasks": tasks,
            "drafting_ms_per_step": round(1e3 * statistics.mean(score.seconds), 3),
        }  # fmt: skip
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--warm", type=Path, nargs="*", default=[], help="records that make the model level")
    parser.add_argument("--shape", required=True)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--dtype", default="int4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-task", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of an answer that is timed")
    parser.add_argument("--context", type=int, default=128, help="tokens of a prompt's end that the model reads")
    parser.add_argument("--without-best", action="store_true", help="do not time the best fixed number of nodes")
    parser.add_argument("--priced", type=int, default=120, help="records that are only priced")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    records = some_records(args.records, VOCAB)
    packs = [warm_pack(path, VOCAB) for path in args.warm]
    started = perf_counter()
    engine = random_engine(
        args.shape, load_settings().cache_dir, engine=args.engine, dtype=args.dtype, threads=args.threads,
        least_vocab=VOCAB,
    )  # fmt: skip
    about = {
        "seconds_to_ready": round(perf_counter() - started, 1),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }
    measured = StepCosts(engine.costs.as_dict())
    costs = {rows: round(1e3 * seconds, 2) for rows, seconds in measured.as_dict().items()}
    print(about, costs, flush=True)
    row: dict[str, Any] = {
        "machine": machine(), "settings": {"engine": args.engine, "dtype": args.dtype, "threads": args.threads,
        "tokens": args.tokens, "context": args.context, "records": args.records.name,
        "warm": [path.name for path in args.warm]},
        **about, "forward_ms": costs,
    }  # fmt: skip
    best = None
    if engine.offers.trees:
        row["priced"] = priced(measured, packs, some_records(args.records, VOCAB, args.priced))
        best = int(row["priced"]["best"])
        print(f"best: {best} nodes; auto reaches {row['priced']['auto_over_best']} of that", flush=True)
    some = chosen(records, args.per_task, args.tokens)
    row["timed"] = timed(TimedReplay(engine, args.context), packs, some, None if args.without_best else best)
    row["peak_gigabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)
    kept = RESULTS / "real-sizes.json"
    known = json.loads(kept.read_text()) if kept.exists() else {"rows": {}}
    known["rows"][f"{args.shape} {args.dtype}"] = row
    write("real-sizes", known)


if __name__ == "__main__":
    main()
