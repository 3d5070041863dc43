"""SmolLM2-135M on the built-in prompts: hierdraft against its own plain decoding and against transformers.

Every prompt is decoded by every method before the next prompt, in a rotating order, in one process. Seconds are
those of a whole request, the prefill included.

    python benchmarks/decoding.py --dtype float32
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import hierdraft
from common import by_kind, machine, prompts, spread, write
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from hierdraft.text import encode_prompt

METHODS = {
    "none": "hierdraft, plain decoding",
    "hierarchy": "hierdraft, drafts",
    "context": "hierdraft, drafts from the request's own text only",
    "transformers": "transformers generate",
    "transformers-lookup": "transformers generate, prompt_lookup_num_tokens=10",
    "packed": "transformers generate on hierdraft's packed model",
    "packed-lookup": "the same with prompt_lookup_num_tokens=10",
    "custom-generate": "transformers generate, custom_generate=hierdraft.hf.decode()",
}


class Contenders:
    """One callable per method: token ids in, new token ids out."""

    def __init__(self, name: str, dtype: str, tokens: int) -> None:
        self.model = hierdraft.load(name, engine="hf", dtype=dtype, learn=False)
        path = resolve(name, load_settings().cache_dir).path
        self.plain = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        self.custom = hierdraft.hf.decode()
        self.tokens = tokens
        self.generation: Any = None

    def own(self, method: str | HierarchyMethod) -> Callable[[list[int]], list[int]]:
        def run(ids: list[int]) -> list[int]:
            self.generation = self.model.generate(ids, method=method, max_new_tokens=self.tokens)
            return self.generation.token_ids

        return run

    def theirs(self, model: Any, **options: Any) -> Callable[[list[int]], list[int]]:
        def run(ids: list[int]) -> list[int]:
            given = torch.tensor([ids])
            out = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                max_new_tokens=self.tokens,
                **options,
            )
            return out[0, len(ids) :].tolist()

        return run

    def all(self) -> dict[str, Callable[[list[int]], list[int]]]:
        packed = self.model.engine.model
        return {
            "none": self.own("none"),
            "hierarchy": self.own("hierarchy"),
            "context": self.own(HierarchyMethod()),
            "transformers": self.theirs(self.plain),
            "transformers-lookup": self.theirs(self.plain, prompt_lookup_num_tokens=10),
            "packed": self.theirs(packed),
            "packed-lookup": self.theirs(packed, prompt_lookup_num_tokens=10),
            "custom-generate": self.theirs(self.plain, custom_generate=self.custom),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int, default=None)
    parser.add_argument("--name", default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    contenders = Contenders(args.model, args.dtype, args.tokens)
    methods = contenders.all()
    for run in methods.values():
        run(encode_prompt(contenders.model.tokenizer, "Say hello, then say hello again.", chat=True))
    rows = []
    for number, row in enumerate(prompts(args.per_kind)):
        rows.append(one_prompt(contenders, methods, row, number))
        print(
            f"{row['id']:<24} " + " ".join(f"{m} {v:.2f}s" for m, v in rows[-1]["seconds"].items()),
            flush=True,
        )
    record = {
        "machine": machine(),
        "settings": vars(args),
        "methods": METHODS,
        "step_milliseconds": {str(n): round(s * 1e3, 2) for n, s in contenders.model.engine.costs.as_dict().items()},
        "summary": summarise(rows, list(methods)),
        "rows": rows,
    }
    write(args.name or f"decoding-{args.dtype}", record)


def one_prompt(contenders: Contenders, methods: dict[str, Any], row: dict[str, str], number: int) -> dict[str, Any]:
    ids = encode_prompt(contenders.model.tokenizer, row["prompt"], chat=True)
    names = list(methods)
    order = names[number % len(names) :] + names[: number % len(names)]
    seconds: dict[str, float] = {}
    said: dict[str, list[int]] = {}
    detail: dict[str, Any] = {}
    for method in order:
        started = perf_counter()
        said[method] = methods[method](ids)
        seconds[method] = round(perf_counter() - started, 5)
        if method in ("none", "hierarchy"):
            run = contenders.generation
            detail[method] = {
                "steps": run.steps,
                "accepted_length": round(run.accepted_length, 4),
                "prefill": round(run.prefill_seconds, 5),
                "draft": round(run.draft_seconds, 6),
                "forward": round(run.forward_seconds, 5),
                "rest": round(run.rest_seconds, 6),
                "levels": run.by_level,
            }
    return {
        "id": row["id"],
        "kind": row["kind"],
        "prompt_tokens": len(ids),
        "new_tokens": len(said["none"]),
        "same_as_plain": {m: said[m] == said["none"] for m in names},
        "first_difference": {
            m: next((i for i, (a, b) in enumerate(zip(said[m], said["none"], strict=False)) if a != b), None)
            for m in names
        },
        "tokens": {m: len(said[m]) for m in names},
        "seconds": {m: seconds[m] for m in names},
        "detail": detail,
    }


def summarise(rows: list[dict[str, Any]], methods: list[str]) -> dict[str, Any]:
    """Per kind and method: seconds per token of plain decoding over those of the method, per prompt."""

    def rate(row: dict[str, Any], method: str) -> float:
        return row["tokens"][method] / row["seconds"][method]

    table: dict[str, Any] = {}
    for kind, group in by_kind(rows).items():
        steps = sum(row["detail"]["hierarchy"]["steps"] for row in group)
        emitted = sum(row["tokens"]["hierarchy"] - 1 for row in group)
        table[kind] = {
            "prompts": len(group),
            "new_tokens": sum(row["new_tokens"] for row in group),
            "accepted_length": round(emitted / steps, 3),
            "speedup_over_plain": {m: spread([rate(r, m) / rate(r, "none") for r in group]) for m in methods},
            "speedup_over_transformers": {
                m: spread([rate(r, m) / rate(r, "transformers") for r in group]) for m in methods
            },
            "tokens_per_second": {
                m: round(sum(r["tokens"][m] for r in group) / sum(r["seconds"][m] for r in group), 1) for m in methods
            },
            "same_as_plain": {m: sum(r["same_as_plain"][m] for r in group) for m in methods},
        }
    return table


if __name__ == "__main__":
    main()
