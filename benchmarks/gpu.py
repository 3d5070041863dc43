"""What drafting is worth on a GPU, without anybody's weights: forward costs, then Spec-Bench replayed at that pace.

    python benchmarks/gpu.py --records specbench_vicuna7b.jsonl --warm alpaca_vicuna7b.jsonl [--pack st.safetensors]

Needs torch, transformers, numpy and numba besides hierdraft's own sources (PYTHONPATH=src is enough), and one CUDA
device with 20 GB. A model of Llama-7B's shape with random weights in bfloat16 is made on the device. First the cost of
a forward by its rows, as transformers runs it and captured in a CUDA graph; then recorded output of Vicuna-7B is
decoded with each method: real drafting and real forwards, acceptance from the record, one request at a time and, by the
scheduler, several in a forward (`--flights`). Writes benchmarks/gpu.json, or --out; under 9 minutes (`--minutes` bounds
the replay of single requests, which takes as many records as fit; 0: none).
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from hierdraft.engines.timed import TimedReplay, random_engine
from hierdraft.protocols import Method, Part
from hierdraft.tree import DraftTree

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
METHODS = ("none", "prompt-lookup", "hd:window=0", "hierarchy")
VOCAB = 32_000
MOST_RECORDS = 60
FIRST = 6


def timed(run: Callable[[], None], repeats: int) -> dict[str, float]:
    """Milliseconds of `run`, device included: median and extremes."""
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = perf_counter()
        run()
        torch.cuda.synchronize()
        found.append((perf_counter() - started) * 1e3)
    return {"median": round(statistics.median(found), 3), "min": round(min(found), 3), "max": round(max(found), 3)}


def eager(engine: HFEngine, parts: Sequence[Part]) -> None:
    """A call of the model for each part; nothing is kept."""
    for part in parts:
        engine.run(engine.inputs(part))
        part.sequence.drop()


def shared(engine: HFEngine, parts: Sequence[Part]) -> None:
    """One call of the model for all parts; nothing is kept."""
    engine.side_by_side(parts)
    for part in parts:
        part.sequence.drop()


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


def forward_costs(engine: HFEngine, context: int, repeats: int) -> dict[str, Any]:
    """By number of rows, after `context` tokens: as it is, and as a graph."""
    sequence = engine.open()
    sequence.prefill(np.arange(context, dtype=np.int32) % VOCAB)
    found: dict[str, Any] = {}
    for rows in SIZES:
        tree = DraftTree.chain(np.arange(1, rows, dtype=np.int32))
        part = Part(sequence, np.array([5], dtype=np.int32), tree)
        by_itself = timed(lambda part=part: eager(engine, [part]), repeats)
        found[str(rows)] = {"eager": by_itself, "graph": timed(captured(engine, part), repeats)}
        print(rows, found[str(rows)], flush=True)
    return found


def batch_costs(engine: HFEngine, context: int, repeats: int) -> dict[str, Any]:
    """By number of texts and rows of each, all behind `context` tokens: one call for all; and one for each."""
    found: dict[str, Any] = {}
    for texts in (2, 4, 8, 16):
        sequences = [engine.open() for _ in range(texts)]
        for sequence in sequences:
            sequence.prefill(np.arange(context, dtype=np.int32) % VOCAB)
        for rows in (1, 4, 16):
            tree = DraftTree.chain(np.arange(1, rows, dtype=np.int32))
            parts = [Part(sequence, np.array([5], dtype=np.int32), tree) for sequence in sequences]
            found[f"{texts} x {rows}"] = {
                "together": timed(lambda parts=parts: shared(engine, parts), repeats),
                "apart": timed(lambda parts=parts: eager(engine, parts), 3),
            }
            print(texts, rows, found[f"{texts} x {rows}"], flush=True)
        for sequence in sequences:
            sequence.close()
    return found


def replays(engine: HFEngine, args: argparse.Namespace) -> dict[str, Any]:
    """Every method on as many records as fit into the minutes, judged by the first few."""
    packs = [*(warm_pack(path, VOCAB) for path in args.warm), *map(Pack.open, args.pack)]
    target = TimedReplay(engine)
    compare(some_records(args.records, VOCAB, 1), METHODS, packs, VOCAB, "auto", engine=target)
    started = perf_counter()
    compare(some_records(args.records, VOCAB, FIRST), METHODS, packs, VOCAB, "auto", engine=target)
    each = (perf_counter() - started) / FIRST
    count = max(FIRST, min(MOST_RECORDS, int(60 * args.minutes / each / len(args.budgets))))
    print(f"{each:.1f} s a record: {count} records with each budget", flush=True)
    found = {}
    for budget in args.budgets:
        nodes = int(budget) if budget.isdecimal() else budget
        records = some_records(args.records, VOCAB, count)
        found[budget] = as_dicts(compare(records, METHODS, packs, VOCAB, nodes, engine=target), timed=True)
        print(budget, {name: row["tokens_per_second"] for name, row in found[budget].items()}, flush=True)
    return {"records": count, "budgets": found}


def served(target: TimedReplay, method: Method, records: list[Record], flight: int) -> dict[str, float]:
    """Tokens per second of all records, `flight` of them in a forward at a time, and how many forwards that took."""
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
    while scheduler.waiting or scheduler.running:
        scheduler.step(lambda _: True)
        forwards += 1
    seconds = perf_counter() - started
    for ticket, record in zip(tickets, records, strict=True):
        if ticket.error is not None:
            raise ticket.error
        if [token for step in ticket.steps for token in step.tokens] != record["output_ids"]:
            raise SystemExit(f"{flight} in a forward: a record was not repeated exactly.")
    tokens = sum(len(record["output_ids"]) for record in records)
    return {"tokens_per_second": round(tokens / seconds, 1), "forwards": forwards, "tokens": tokens}


def together(engine: HFEngine, args: argparse.Namespace) -> dict[str, Any]:
    """Plain and drafted with several requests in a forward, the two taking turns."""
    packs = [*(warm_pack(path, VOCAB) for path in args.warm), *map(Pack.open, args.pack)]
    target = TimedReplay(engine)
    methods = {name: text_method(name, Databases(packs, None)) for name in ("none", "hierarchy")}
    found: dict[str, Any] = {}
    for method in methods.values():  # its kernels are compiled
        served(target, method, some_records(args.records, VOCAB, 1), 1)
    for flight in args.flights:
        records = some_records(args.records, VOCAB, max(8, 2 * flight))
        found[str(flight)] = {name: served(target, method, records, flight) for name, method in methods.items()}
        print(flight, found[str(flight)], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--warm", type=Path, nargs="*", default=[], help="records that make the model level")
    parser.add_argument("--pack", type=Path, nargs="*", default=[])
    parser.add_argument("--shape", default="llama-7b")
    parser.add_argument("--budgets", nargs="*", default=["auto", "60"])
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--flights", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "gpu.json")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA device, and torch finds none here.")
    engine = random_engine(args.shape, "cuda")
    record = {
        "device": torch.cuda.get_device_name(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
        "settings": {"shape": args.shape, "context": args.context, "records": args.records.name},
        "forward_ms": forward_costs(engine, args.context, 20),
        "batch_ms": batch_costs(engine, args.context, 20),
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    record["together"] = together(engine, args)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    if args.minutes > 0:
        record["replay"] = replays(engine, args)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
