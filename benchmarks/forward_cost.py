"""Milliseconds per forward by number of rows: the model as transformers loads it, and hierdraft's lean one.

python benchmarks/forward_cost.py
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from common import machine, write
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from hierdraft.tree import DraftTree

SIZES = (1, 2, 4, 8, 16, 32, 64)


def engines(dtype: str) -> dict[str, HFEngine]:
    path = resolve("smollm2-135m", load_settings().cache_dir).path
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    lean = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    make_lean(lean)
    return {"transformers": HFEngine(plain), "lean": HFEngine(lean)}


def measure(dtype: str, context: int, repeats: int) -> dict[str, Any]:
    """Median and extremes per engine and size, both engines and all sizes taking turns."""
    found = engines(dtype)
    times: dict[str, dict[int, list[float]]] = {name: {rows: [] for rows in SIZES} for name in found}
    sequences = {name: engine.open() for name, engine in found.items()}
    for sequence in sequences.values():
        sequence.prefill(np.arange(context) % 1000)
    for turn in range(repeats + 1):
        for rows in SIZES:
            tree = DraftTree.chain(list(range(1, rows)))
            for name, engine in found.items():
                sequences[name].rewind(context)
                started = perf_counter()
                engine.choices(sequences[name].forward(5, tree))
                if turn:
                    times[name][rows].append((perf_counter() - started) * 1e3)
    return {
        name: {
            str(rows): {
                "median": round(statistics.median(v), 2), "min": round(min(v), 2), "max": round(max(v), 2)
            }
            for rows, v in sizes.items()
        }
        for name, sizes in times.items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    costs = {dtype: measure(dtype, args.context, args.repeats) for dtype in ("float32", "bfloat16")}
    write("forward-cost", {"machine": machine(), "settings": vars(args), "milliseconds": costs})


if __name__ == "__main__":
    main()
