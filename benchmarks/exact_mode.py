"""What it costs to say in half precision what plain decoding says: accepted length and time, exact and up to ties.

    python benchmarks/exact_mode.py

SmolLM2-135M on OpenVINO in bfloat16 and int8, the built-in prompts, greedy and at temperature 0.8; both ways take turns
on every prompt. benchmarks/exact-mode.json is the result: `accepted_length` and `time` are exact over audited, time per
token after the prompt.
"""

from __future__ import annotations

import argparse
from typing import Any

import hierdraft
from common import machine, prompts, write

MODES: dict[str, dict[str, Any]] = {"greedy": {}, "temperature 0.8": {"temperature": 0.8, "seed": 3}}
WAYS = ("exact", "audited")


def measure(dtype: str, args: argparse.Namespace, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Both ways in one number type."""
    models = {
        way: hierdraft.load(engine="openvino", dtype=dtype, exact=way == "exact", threads=args.threads, learn=False)
        for way in WAYS
    }
    for model in models.values():
        model.generate("Say hello.", max_new_tokens=30)
    found: dict[str, Any] = {}
    for mode, sampling in MODES.items():
        sums = {way: {"tokens": 0, "steps": 0, "seconds": 0.0, "different": 0} for way in WAYS}
        tokens = 0
        for number, row in enumerate(rows):
            options = {"max_new_tokens": args.tokens, **sampling}
            plain = models["exact"].generate(row["prompt"], method="none", **options).token_ids
            tokens += len(plain)
            for way in WAYS if number % 2 else WAYS[::-1]:
                run = models[way].generate(row["prompt"], **options)
                one = sums[way]
                one["tokens"] += len(run.token_ids) - 1
                one["steps"] += run.steps
                one["seconds"] += run.seconds - run.prefill_seconds
                one["different"] += run.token_ids != plain
        ways = {
            way: {
                "accepted_length": round(one["tokens"] / one["steps"], 4),
                "ms_per_token": round(1e3 * one["seconds"] / one["tokens"], 3), "different": one["different"],
            }
            for way, one in sums.items()
        }  # fmt: skip
        exact, audited = (ways[way] for way in WAYS)
        found[mode] = {
            "tokens": tokens, **ways,
            "accepted_length": round(exact["accepted_length"] / audited["accepted_length"], 4),
            "time": round(exact["ms_per_token"] / audited["ms_per_token"], 4),
        }  # fmt: skip
        print(dtype, mode, found[mode], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int)
    args = parser.parse_args()
    rows = prompts(args.per_kind)
    found = {dtype: measure(dtype, args, rows) for dtype in ("bfloat16", "int8")}
    write("exact-mode", {"machine": machine(), "settings": vars(args), "answers": len(rows), "dtypes": found})


if __name__ == "__main__":
    main()
