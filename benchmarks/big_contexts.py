"""Long texts: what reading them, drafting behind them and a forward behind them takes, and what grows with them.

    python benchmarks/big_contexts.py [--records FILE.jsonl]

The text is the `prompt_ids` of recorded requests, one after another, or else this project's own files. Whole requests
are timed in the model and outside of it: what is outside should take twice as long for a text twice as long, and no
longer for a step. SmolLM2-135M knows 8,192 positions; longer texts are read by a random model of two layers, which
costs little, so that the share of everything else is far larger there than it is with a real model. One thread.
benchmarks/big-contexts.json is the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import hierdraft
from common import ROOT, machine, quantiles, write
from hierdraft.cli.db_build import load_tokenizer
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.engines.openvino.engine import OpenVINOEngine
from hierdraft.models.graphs import prepare
from hierdraft.protocols import Budget, Request
from hierdraft.tree import DraftTree, Int32

MODEL = "smollm2-135m"
CONTEXTS = (2048, 4096, 8192, 16384, 32768)
REAL = (2048, 4096, 8128)
ROWS = (1, 8, 32)
NEW_TOKENS, NODES = 24, 16
LOOP = 20
AGAIN = 5.0
"""Seconds of a prompt below which its request is made three times."""
SMALL = {
    "vocab_size": 49_152, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 33_000, "eos_token_id": None,
}  # fmt: skip
"""Of the random model."""


def text_of(records: Path | None, length: int) -> Int32:
    """int32[length]: real-looking ids below the vocabulary of the models."""
    if records is not None:
        rows = map(json.loads, records.read_text(encoding="utf-8").splitlines())
        ids = np.concatenate([np.array(row["prompt_ids"], dtype=np.int32) for row in rows])
    else:
        files = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")])
        texts = "\n".join(file.read_text(encoding="utf-8") for file in files)
        ids = np.array(load_tokenizer(MODEL)(texts)["input_ids"], dtype=np.int32)
    return np.resize(ids % SMALL["vocab_size"], length)


class Inside:
    """Seconds in the model: in a function that is called for every forward, which this replaces."""

    def __init__(self, engine: Any) -> None:
        self.seconds = 0.0
        if isinstance(engine, HFEngine):
            self._replace(engine.model, "forward")
        else:
            engine._cache._request = Replaced(engine._cache._request, self.timed)

    def _replace(self, owner: Any, name: str) -> None:
        setattr(owner, name, self.timed(getattr(owner, name)))

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)  # the engine asks what the model's forward takes
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += perf_counter() - started

        return timed


class Replaced:
    """OpenVINO's request, with another `infer`."""

    def __init__(self, request: Any, timed: Callable[[Any], Any]) -> None:
        self._request, self.infer = request, timed(request.infer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def resident(name: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` the most since `forget_most`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def forget_most() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def drafting(text: Int32, contexts: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Indexing a prompt, and proposing behind it: in real text, and in a text that repeats one passage."""
    method, found = HierarchyMethod(calibration="none", threads=1), {}
    loop = np.resize(text[:LOOP], len(text))
    for context in (CONTEXTS[0], *contexts):  # the first time kernels are loaded
        found[str(context)] = {
            name: proposals(method, ids, context, steps) for name, ids in (("text", text), ("loop", loop))
        }
    return found


def proposals(method: HierarchyMethod, text: Int32, context: int, steps: int) -> dict[str, Any]:
    started = perf_counter()
    session = method.open(Request(text[:context], steps))
    index, times = perf_counter() - started, []
    held = method.slots.holding(session.slot).own
    for step in range(steps):
        told = text[: context + step + 1]
        started = perf_counter()
        session.propose(told, Budget(32, 16))
        times.append(perf_counter() - started)
    session.finish(told)
    return {
        "index_ms": round(1e3 * index, 3), "index_us_per_token": round(1e6 * index / context, 4),
        "bytes_per_token": round(sum(array.nbytes for array in held) / (context + steps), 1),
        "propose_us": quantiles(times),
    }  # fmt: skip


def request(engine: Any, method: HierarchyMethod, inside: Inside, prompt: Int32) -> dict[str, Any]:
    """One whole request: its prompt, its steps, and then forwards of some sizes behind it."""
    found: dict[str, Any] = {}

    def keep(sequence: Any) -> None:
        found["forward_ms"], found["cache_bytes_per_token"] = forwards(sequence, len(prompt)), cache_bytes(sequence)

    read: list[tuple[int, float]] = []
    plain = engine.forward

    def noted(parts: Any) -> Any:
        started = perf_counter()
        scored = plain(parts)
        read.append((sum(len(part.tokens) for part in parts), perf_counter() - started))
        return scored

    options = Options(
        NEW_TOKENS, FixedBudget(NODES), eos_ids=(), namespace=f"{len(prompt)} {perf_counter()}", keep=keep
    )
    engine.forward = noted
    run = decode(engine, method, prompt, options)
    before = resident("VmRSS")
    forget_most()
    parts: list[tuple[float, float]] = []
    finish = None
    while finish is None:
        inside.seconds, started = 0.0, perf_counter()
        finish = next(run).finish
        parts.append((perf_counter() - started, inside.seconds))
    found["peak_growth_mb"] = round((resident("VmHWM") - before) / 1e6, 1)
    del engine.forward
    run.close()
    chunks = [piece for piece in read if piece[0] > 1]
    found["prefill_seconds"] = round(parts[0][0], 3)
    found["rows_per_second"] = {
        "first": round(chunks[0][0] / chunks[0][1]),
        "last": round(chunks[-1][0] / chunks[-1][1]),
    }
    found["chunks"] = [rows for rows, _ in chunks]
    found["outside"] = {
        "prompt_ms": round(1e3 * (parts[0][0] - parts[0][1]), 3),
        "step_us": round(1e6 * statistics.median(whole - model for whole, model in parts[1:]), 1),
        "step_share": round(1 - sum(model for _, model in parts[1:]) / sum(whole for whole, _ in parts[1:]), 4),
    }
    return found


def forwards(sequence: Any, context: int, repeats: int = 5) -> dict[str, float]:
    """Milliseconds of a forward of some sizes, the median."""
    times: dict[str, list[float]] = {str(rows): [] for rows in ROWS}
    for _ in range(repeats):
        for rows in ROWS:
            sequence.rewind(context - 1)
            started = perf_counter()
            sequence.owner.choices(sequence.forward(5, DraftTree.chain(list(range(1, rows)))))
            times[str(rows)].append(1e3 * (perf_counter() - started))
    return {rows: round(statistics.median(taken), 2) for rows, taken in times.items()}


def cache_bytes(sequence: Any) -> float:
    """Keys and values of a token, of all layers."""
    if isinstance(sequence.owner, HFEngine):
        return sum(2 * layer.keys[0, :, 0].nbytes for layer in sequence.cache.layers)
    buffers = sequence._pool._buffers.values()
    return sum(part[:, 0].nbytes for part in buffers) / sequence._pool._size


def requests(engine: Any, text: Int32, contexts: tuple[int, ...]) -> dict[str, Any]:
    """Every context: once as it comes, and what takes little time twice more for what is outside of the model."""
    method, inside, found = HierarchyMethod(calibration="none", threads=1), Inside(engine), {}
    request(engine, method, inside, text[:300])
    for context in contexts:
        found[str(context)] = request(engine, method, inside, text[:context])
        again = 2 if found[str(context)]["prefill_seconds"] < AGAIN else 0
        more = [request(engine, method, inside, text[:context])["outside"] for _ in range(again)]
        outside = found[str(context)]["outside"]
        for name in outside:
            outside[name] = statistics.median([outside[name], *(one[name] for one in more)])
        outside["prompt_us_per_token"] = round(1e3 * outside["prompt_ms"] / context, 3)
        print(context, found[str(context)], flush=True)
    return found


def engines(work: Path, dtype: str) -> dict[str, tuple[Callable[[], Any], tuple[int, ...]]]:
    """What is measured, and on which contexts: made when it is its turn."""
    torch.manual_seed(0)
    small = work / "small"
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL), dtype=torch.float32).save_pretrained(small)

    def lean() -> HFEngine:
        model = AutoModelForCausalLM.from_pretrained(small, dtype=torch.float32).eval()
        make_lean(model)
        return HFEngine(model, threads=1)

    def loaded(engine: str) -> Any:
        return hierdraft.load(MODEL, engine=engine, dtype=dtype, threads=1, learn=False).engine

    return {
        "openvino, 2 layers": (lambda: OpenVINOEngine(prepare(small, "float32", work), threads=1), CONTEXTS),
        "transformers, 2 layers": (lean, CONTEXTS),
        f"openvino, SmolLM2-135M, {dtype}": (lambda: loaded("openvino"), REAL),
        f"transformers, SmolLM2-135M, {dtype}": (lambda: loaded("hf"), REAL),
    }


def doublings(found: dict[str, Any]) -> dict[str, float]:
    """How many times as long what is outside of the model takes for a prompt, for one twice as long."""
    times = {int(context): one["outside"]["prompt_ms"] for context, one in found.items()}
    lengths = sorted(times)
    pairs = pairwise(lengths)
    return {f"{b}": round((times[b] / times[a]) ** (np.log(2) / np.log(b / a)), 2) for a, b in pairs}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=Path)
    parser.add_argument("--dtype", default="float32", help="of SmolLM2-135M")
    parser.add_argument("--steps", type=int, default=200, help="proposals of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = text_of(args.records, CONTEXTS[-1] + args.steps + 1)
    record: dict[str, Any] = {"drafting": drafting(text, CONTEXTS, args.steps), "engines": {}, "doublings": {}}
    with tempfile.TemporaryDirectory() as work:
        for name, (make, contexts) in engines(Path(work), args.dtype).items():
            print(name, flush=True)
            engine = make()
            record["engines"][name] = requests(engine, text, contexts)
            record["doublings"][name] = doublings(record["engines"][name])
            del engine
    settings = {**vars(args), "records": args.records.name if args.records else None, "threads": 1, "nodes": NODES}
    write("big-contexts", {"machine": machine(), "settings": settings, **record})


if __name__ == "__main__":
    main()
