"""The automatic budget beside fixed ones: tokens per second of the same prompts, all budgets in turns.

    python benchmarks/budget_law.py --engine openvino --dtype bfloat16 [--per-kind 2]

A budget is the most nodes of a step's tree; `auto` picks it in every step from what this engine's steps have cost. The
default drafter, one for each budget, so that none knows what another has seen. Built-in prompts, at most 128 new
tokens, whole requests with their prefill. benchmarks/law-ENGINE-DTYPE.json is the result.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import hierdraft
from common import by_kind, machine, prompts, spread, write
from hierdraft.drafting.hierarchy.method import HierarchyMethod

BUDGETS: tuple[int | str, ...] = ("auto", 2, 4, 8, 16, 28, 60)
MODEL = "smollm2-135m"
NEW_TOKENS = 128


def measure(model: hierdraft.LanguageModel, per_kind: int | None) -> list[dict[str, Any]]:
    """For every prompt: tokens per second, steps and tokens with each budget."""
    methods = {str(budget): HierarchyMethod() for budget in BUDGETS}
    asked = dict(zip(methods, BUDGETS, strict=True))
    names = list(methods)
    rows = []
    for number, row in enumerate([{"id": "warm-up", "kind": "", "prompt": "Count to 20."}, *prompts(per_kind)]):
        ids = model.encode(row["prompt"])
        shift = number % len(names)
        found = {}
        for name in names[shift:] + names[:shift]:
            run = model.generate(ids, method=methods[name], budget=asked[name], max_new_tokens=NEW_TOKENS)
            found[name] = {
                "rate": len(run.token_ids) / run.seconds, "steps": run.steps, "tokens": len(run.token_ids) - 1,
                "nodes": sum(level["proposed"] for level in run.by_level.values()),
            }  # fmt: skip
        if number:
            rows.append({"kind": row["kind"], "budgets": found})
            print(row["id"], *(f"{name} {one['rate']:.1f}" for name, one in found.items()), flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each budget: how many times its tokens per second `auto` has, accepted length, nodes of a step."""
    found = {}
    for name in map(str, BUDGETS):
        runs = [row["budgets"][name] for row in rows]
        ratios = [
            {"kind": row["kind"], "ratio": row["budgets"]["auto"]["rate"] / row["budgets"][name]["rate"]}
            for row in rows
        ]
        steps = sum(run["steps"] for run in runs)
        found[name] = {
            "accepted_length": round(sum(run["tokens"] for run in runs) / steps, 3),
            "nodes": round(sum(run["nodes"] for run in runs) / steps, 2),
            "auto_over": {kind: spread([one["ratio"] for one in ones]) for kind, ones in by_kind(ratios).items()},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int)
    args = parser.parse_args()
    model = hierdraft.load(MODEL, engine=args.engine, dtype=args.dtype, threads=args.threads, learn=False)
    torch.set_num_threads(args.threads)
    rows = measure(model, args.per_kind)
    write(f"law-{args.engine}-{args.dtype}", {
        "machine": machine(), "settings": vars(args), "answers": len(rows),
        "step_costs": model.engine.costs.as_dict(), "budgets": summary(rows),
    })  # fmt: skip


if __name__ == "__main__":
    main()
