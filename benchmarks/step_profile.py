"""Where the time of a decoding step goes: the model's own forward, and everything around it.

python benchmarks/step_profile.py
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import torch

import hierdraft
from common import machine, prompts, write
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import AutoBudget
from hierdraft.registry import make_method
from hierdraft.text import encode_prompt


class Stopwatch:
    """Seconds spent inside the model's own forward."""

    def __init__(self, model: Any) -> None:
        self.seconds = 0.0
        self._started = 0.0
        model.register_forward_pre_hook(self._start)
        model.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self._started = perf_counter()

    def _stop(self, *_: Any) -> None:
        self.seconds += perf_counter() - self._started


def profile(dtype: str, method: str, tokens: int, per_kind: int) -> dict[str, Any]:
    """Milliseconds per step and shares of the total, over the first prompts of each kind; the prefill is left out."""
    model = hierdraft.load("smollm2-135m", engine="hf", dtype=dtype, learn=False)
    watch = Stopwatch(model.engine.model)
    made = make_method(method)
    model.generate("Say hello, then say hello again.", method=made, max_new_tokens=24)  # compiles the kernels
    parts = {"model forward": 0.0, "ids, positions, mask, argmax": 0.0, "drafting": 0.0, "verify, cut, commit": 0.0}
    total, steps, emitted, rows = 0.0, 0, 0, 0
    for row in prompts(per_kind):
        ids = encode_prompt(model.tokenizer, row["prompt"], chat=True)
        run = decode(model.engine, made, ids, Options(tokens, budget=AutoBudget(), eos_ids=()))
        next(run)
        watch.seconds = 0.0
        started = perf_counter()
        for step in run:
            parts["ids, positions, mask, argmax"] += step.seconds["forward"]
            parts["drafting"] += step.seconds["draft"]
            parts["verify, cut, commit"] += step.seconds["rest"]
            steps, emitted, rows = steps + 1, emitted + len(step.tokens), rows + 1 + len(step.tree)
        total += perf_counter() - started
        parts["model forward"] += watch.seconds
        parts["ids, positions, mask, argmax"] -= watch.seconds
    parts["the loop itself"] = total - sum(parts.values())
    return {
        "steps": steps,
        "tokens": emitted,
        "rows_per_step": round(rows / steps, 2),
        "milliseconds_per_step": round(total / steps * 1e3, 3),
        "milliseconds": {name: round(seconds / steps * 1e3, 4) for name, seconds in parts.items()},
        "share": {name: round(seconds / total, 4) for name, seconds in parts.items()},
        "share_outside_the_model": round(1 - parts["model forward"] / total, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs = {
        f"{dtype}, {method}": profile(dtype, method, args.tokens, args.per_kind)
        for dtype in ("float32", "bfloat16")
        for method in ("none", "hierarchy")
    }
    for name, run in runs.items():
        print(f"{name:<22} {run['milliseconds_per_step']:.2f} ms a step, outside {run['share_outside_the_model']:.1%}")
    write("step-profile", {"machine": machine(), "settings": vars(args), "runs": runs})


if __name__ == "__main__":
    main()
