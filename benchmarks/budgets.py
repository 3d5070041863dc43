"""Accepted length by number of nodes: SmolLM2-135M, greedy, real forwards, first turns of Spec-Bench.

    python benchmarks/budgets.py --questions question.jsonl [--limit 10]

The default drafter with what it brings along: this request's text, its model's embedded pack, and the target's own
runner-up tokens. Every answer is compared with plain decoding. Answers in benchmarks/budgets.json are kept.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import hierdraft
from common import RESULTS, machine, write
from hierdraft.bench.datasets import load_questions
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.text import encode_prompt

BUDGETS = (8, 16, 28, 60)


def answer(
    model: hierdraft.LanguageModel, drafters: dict[int, HierarchyMethod], prompt: str, tokens: int
) -> dict[str, Any]:
    """Steps with each budget, and whether every answer is plain decoding's."""
    ids = encode_prompt(model.tokenizer, prompt, chat=True)
    plain = model.generate(ids, method="none", max_new_tokens=tokens).token_ids
    found: dict[str, Any] = {"tokens": len(plain), "steps": {}, "identical": True}
    for nodes, drafter in drafters.items():
        done = model.generate(ids, method=drafter, budget=nodes, max_new_tokens=tokens)
        found["steps"][str(nodes)] = done.steps
        found["identical"] = found["identical"] and done.token_ids == plain
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tokens after the first one over steps, all answers together."""
    tokens = sum(row["tokens"] - 1 for row in rows)
    steps = {str(nodes): sum(row["steps"][str(nodes)] for row in rows) for nodes in BUDGETS}
    return {
        "answers": len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "identical": sum(row["identical"] for row in rows),
        "accepted_length": {nodes: round(tokens / count, 3) for nodes, count in steps.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", required=True)
    parser.add_argument("--limit", type=int, default=10, help="questions of each task")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    kept = RESULTS / "budgets.json"
    settings = {"tokens": args.tokens, "limit": args.limit, "threads": args.threads}
    record: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"settings": settings}
    if record["settings"]["tokens"] != args.tokens:
        raise SystemExit(f"{kept} holds answers of another length: remove it, or give its --tokens.")
    rows = record.get("per_answer", {})
    runs = record.get("runs", [{"machine": record["machine"], "answers": len(rows)}] if rows else [])
    run = {"machine": machine(), "answers": 0}
    runs.append(run)
    model = hierdraft.load("smollm2-135m", engine="hf", dtype="float32", learn=False, threads=args.threads)
    drafters = {nodes: HierarchyMethod() for nodes in BUDGETS}  # what one has seen, another must not know
    for question in load_questions(f"spec-bench:{args.questions}", args.limit):
        if question.id in rows:
            continue
        rows[question.id] = {"task": question.task, **answer(model, drafters, question.turns[0], args.tokens)}
        print(question.id, question.task, rows[question.id]["steps"], flush=True)
        tasks = dict.fromkeys(row["task"] for row in rows.values())
        run["answers"] += 1
        write("budgets", {
            "machine": run["machine"], "runs": runs, "settings": settings, "all": summary(list(rows.values())),
            "tasks": {task: summary([row for row in rows.values() if row["task"] == task]) for task in tasks},
            "per_answer": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
