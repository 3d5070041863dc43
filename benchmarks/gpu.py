"""What drafting is worth on a GPU, without anybody's weights: forward costs, then Spec-Bench replayed at that pace.

    python benchmarks/gpu.py --records specbench_vicuna7b.jsonl --warm alpaca_vicuna7b.jsonl [--pack st.safetensors]

Needs torch, transformers, numpy and numba besides hierdraft's own sources (PYTHONPATH=src is enough), and one CUDA
device with 40 GB. A model of Llama-7B's shape with random weights in bfloat16 is made on the device. First the cost of
a forward by its rows: as transformers runs it, the same captured in a CUDA graph as it is, and as the engine runs it,
through graphs of fixed sizes, its inputs prepared and its choices read. Then recorded output of Vicuna-7B is decoded
with each method: real drafting and real forwards, acceptance from the record, one request at a time and, by the
scheduler, several in a forward (`--flights`), with the engine's graphs and without. Writes benchmarks/gpu.json, or
--out, after every part. `--minutes` bounds the replay of single requests with graphs, `--seconds` each of the others:
`--minutes 1 --flights 4 16` takes less than 4 minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from hierdraft.bench.replay import as_dicts, compare, some_records, text_method, warm_pack
from hierdraft.corpus.records import Record
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack
from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.timed import TimedReplay
from hierdraft.models.random_models import random_engine
from hierdraft.protocols import Method, Part
from hierdraft.settings import load_settings
from hierdraft.tree import DraftTree

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
METHODS = ("none", "prompt-lookup", "hd:window=0", "hierarchy")
VOCAB = 32_000
MOST_RECORDS = 60
STARTED = perf_counter()


def say(*words: Any) -> None:
    print(f"{perf_counter() - STARTED:6.1f} s ", *words, flush=True)


def timed(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Milliseconds of `run`, device included: median and extremes, after one that does not count."""
    found = []
    run()
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = perf_counter()
        run()
        torch.cuda.synchronize()
        found.append((perf_counter() - started) * 1e3)
    return {"median": round(statistics.median(found), 3), "min": round(min(found), 3), "max": round(max(found), 3)}


def eager(engine: HFEngine, parts: Sequence[Part]) -> None:
    """Calls of the model as the engine makes them without graphs; nothing is kept."""
    engine.eager(parts)
    for part in parts:
        part.sequence.drop()


def whole(engine: HFEngine, parts: Sequence[Part], context: int) -> None:
    """A forward of the engine with everything that belongs to it, and back to the texts before it."""
    for scored in engine.forward(parts):
        engine.choices(scored.logits)
    for part in parts:
        part.sequence.rewind(context)


def captured(engine: HFEngine, part: Part) -> Callable[[], None]:
    """The forward of a part as one CUDA graph, after its sequence's cache as it is."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    inputs = engine.inputs(part)
    with torch.cuda.stream(stream):
        for _ in range(3):
            engine.run(inputs)
            part.sequence.drop()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        engine.run(inputs)
    part.sequence.drop()
    return graph.replay


def begun(engine: HFEngine, context: int) -> Any:
    sequence = engine.open()
    sequence.prefill(np.arange(context, dtype=np.int32) % VOCAB)
    return sequence


def some_part(sequence: Any, rows: int) -> Part:
    return Part(sequence, np.array([5], dtype=np.int32), DraftTree.chain(np.arange(1, rows, dtype=np.int32)))


def forward_costs(engine: HFEngine, plain: HFEngine, context: int, repeats: int) -> dict[str, Any]:
    """By number of rows, after `context` tokens: as it is, as a graph, and by the engine."""
    ours, theirs = begun(engine, context), begun(plain, context)
    found: dict[str, Any] = {}
    for rows in SIZES:
        part, other = some_part(ours, rows), some_part(theirs, rows)
        found[str(rows)] = {
            "eager": timed(lambda other=other: eager(plain, [other]), repeats // 2),
            "graph": timed(captured(plain, other), repeats),
            "engine": timed(lambda part=part: whole(engine, [part], context), repeats),
        }
        say(rows, {name: times["median"] for name, times in found[str(rows)].items()})
    return found


def batch_costs(engine: HFEngine, plain: HFEngine, context: int, repeats: int) -> dict[str, Any]:
    """By number of texts and rows of each, all behind `context` tokens: as it is, and by the engine."""
    found: dict[str, Any] = {}
    for texts in (2, 4, 8, 16):
        ours, theirs = ([begun(one, context) for _ in range(texts)] for one in (engine, plain))
        for rows in (1, 4, 16):
            parts, others = ([some_part(one, rows) for one in some] for some in (ours, theirs))
            found[f"{texts} x {rows}"] = {
                "eager": timed(lambda others=others: eager(plain, others), max(2, repeats // 8)),
                "engine": timed(lambda parts=parts: whole(engine, parts, context), repeats),
            }
            say(texts, rows, {name: times["median"] for name, times in found[f"{texts} x {rows}"].items()})
        for sequence in [*ours, *theirs]:
            sequence.close()
    return found


def replays(engine: HFEngine, plain: HFEngine, packs: Sequence[Pack], args: argparse.Namespace) -> dict[str, Any]:
    """Every method on as many records as fit into the minutes, judged by the first; a few of them without graphs."""

    def played(runs: HFEngine, count: int, budget: str, methods: Sequence[str] = METHODS) -> dict[str, Any]:
        nodes = int(budget) if budget.isdecimal() else budget
        records = some_records(args.records, VOCAB, count)
        target = TimedReplay(runs)
        return as_dicts(compare(records, methods, packs, VOCAB, nodes, engine=target), target)

    for budget in args.budgets:  # sizes are captured
        played(engine, 1, budget)
    started = perf_counter()
    played(engine, 2, args.budgets[0])
    each = (perf_counter() - started) / 2
    count = max(2, min(MOST_RECORDS, int(60 * args.minutes / each / len(args.budgets))))
    say(f"{each:.1f} s a record: {count} records with each budget")
    found: dict[str, Any] = {"records": count, "budgets": {}}
    for budget in args.budgets:
        found["budgets"][budget] = played(engine, count, budget)
        say(budget, {name: row["tokens_per_second"] for name, row in found["budgets"][budget].items()})
    found["without graphs"] = {"records": 1, **played(plain, 1, args.budgets[0], ("none", "hierarchy"))}
    say("without graphs", {name: found["without graphs"][name]["tokens_per_second"] for name in ("none", "hierarchy")})
    return found


def served(target: TimedReplay, method: Method, records: list[Record], flight: int, most: float) -> dict[str, float]:
    """Tokens per second of the records, `flight` in a forward, until all are there or `most` seconds are over."""
    law = AutoBudget()
    scheduler = Scheduler(target, most=flight)
    target.play(*(record["output_ids"] for record in records))
    tickets = [
        Ticket(open_request(target, method, record["prompt_ids"], Options(len(record["output_ids"]), law)))
        for record in records
    ]
    for ticket in tickets:
        scheduler.add(ticket)
    forwards, started = 0, perf_counter()
    while (scheduler.waiting or scheduler.running) and perf_counter() - started < most:
        scheduler.step(lambda _: True)
        forwards += 1
    seconds, tokens = perf_counter() - started, 0
    for ticket, record in zip(tickets, records, strict=True):
        scheduler.end(ticket, None)
        if ticket.error is not None:
            raise ticket.error
        said = [token for step in ticket.steps for token in step.tokens]
        tokens += len(said)
        if said != record["output_ids"][: len(said)]:
            raise SystemExit(f"{flight} in a forward: a record was not repeated exactly.")
    return {"tokens_per_second": round(tokens / seconds, 1), "forwards": forwards, "tokens": tokens}


def together(engine: HFEngine, plain: HFEngine, packs: Sequence[Pack], args: argparse.Namespace) -> dict[str, Any]:
    """Plain and drafted with several requests in a forward, with graphs and without, in turn."""
    methods = {name: text_method(name, Databases(packs, None)) for name in ("none", "hierarchy")}
    found: dict[str, Any] = {}
    for flight in args.flights:
        records = some_records(args.records, VOCAB, max(8, 2 * flight))
        targets = {"captures": TimedReplay(engine), "graphs": TimedReplay(engine), "eager": TimedReplay(plain)}
        found[str(flight)] = {
            mode: {name: served(target, method, records, flight, args.seconds) for name, method in methods.items()}
            for mode, target in targets.items()
        }
        say(flight, found[str(flight)])
    return found


def compile_kernels(args: argparse.Namespace) -> None:
    """Run every method once, so that its kernels are kept on disk."""
    packs = [warm_pack(path, VOCAB) for path in args.warm]
    compare(some_records(args.records, VOCAB, 1), METHODS, packs, VOCAB, 60)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--warm", type=Path, nargs="*", default=[], help="records that make the model level")
    parser.add_argument("--pack", type=Path, nargs="*", default=[])
    parser.add_argument("--shape", default="llama-7b")
    parser.add_argument("--budgets", nargs="*", default=["auto", "60"])
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--flights", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--compile", action="store_true", help="only compile the kernels, which needs no device")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "gpu.json")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if args.compile:
        compile_kernels(args)
        return
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA device, and torch finds none here.")
    compiling = subprocess.Popen([sys.executable, *sys.argv, "--compile"])
    engine = random_engine(args.shape, load_settings().cache_dir, device="cuda")
    assert isinstance(engine, HFEngine)
    say("model and costs", {rows: round(1e3 * seconds, 2) for rows, seconds in engine.costs.as_dict().items()})
    plain = HFEngine(engine.model, graphs=False)
    plain.measure_costs()
    record: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
        "settings": {"shape": args.shape, "context": args.context, "records": args.records.name},
    }

    def note(name: str, found: dict[str, Any]) -> None:
        record[name] = found
        args.out.write_text(json.dumps(record, indent=1) + "\n")

    note("forward_ms", forward_costs(engine, plain, args.context, args.repeats))
    note("batch_ms", batch_costs(engine, plain, args.context, args.repeats))
    compiling.wait()
    say("kernels are compiled")
    packs = [*(warm_pack(path, VOCAB) for path in args.warm), *map(Pack.open, args.pack)]
    note("together", together(engine, plain, packs, args))
    if args.minutes > 0:
        note("replay", replays(engine, plain, packs, args))
    note("memory", {"gigabytes": round(torch.cuda.max_memory_allocated() / 1e9, 2)})
    say(f"wrote {args.out}")


if __name__ == "__main__":
    main()
