"""All methods on Spec-Bench's questions with SmolLM2-135M, greedy and sampled, compared with plain decoding.

    python benchmarks/spec_bench.py --questions question.jsonl --pack python.safetensors [--only greedy]

`--questions` is Spec-Bench's own file, `--pack` a statistics level, which every method that has a use for it gets
(docs/databases.md makes one of the Python standard library). Ten questions of each task, both turns where there are
two, at most 128 new tokens a turn. `auto` runs are for speed and need an idle machine; `nodes` runs give every method
the same 28 nodes at most, for accepted length. `kinds` runs are the default method on the built-in prompts with nothing
but what it brings along. A run continues where it was stopped; benchmarks/spec-bench-*.json are the results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from common import ROOT, machine, write
from hierdraft.bench.report import gather

RIVALS = ("hd", "sam", "suffix", "prompt-lookup", "logitspec", "aded", "rest", "token-recycling", "lookahead")
EVERY = ("hierarchy", *RIVALS, "hd:window=0")
FEW = ("hierarchy", "hd", "prompt-lookup")
RUNS = {
    "greedy": (0.0, "auto", EVERY),
    "sampled": (1.0, "auto", EVERY),
    **{f"temperature-{temperature}": (temperature, "auto", FEW) for temperature in (0.1, 0.3, 0.5, 0.7)},
    "greedy-nodes": (0.0, "28", EVERY),
    "sampled-nodes": (1.0, "28", EVERY),
    "kinds-greedy": (0.0, "auto", ("hierarchy",)),
    "kinds-sampled": (1.0, "auto", ("hierarchy",)),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", help="needed for all runs but those by kind")
    parser.add_argument("--pack", help="likewise")
    parser.add_argument("--only", choices=[*RUNS])
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--limit", type=int, default=10, help="questions of each task")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name, (temperature, budget, methods) in RUNS.items():
        if args.only not in (None, name):
            continue
        kinds = name.startswith("kinds")
        if not kinds and not (args.questions and args.pack):
            parser.error(f"{name} needs --questions and --pack")
        out = ROOT / "build" / "spec-bench" / name
        asked = [
            "bench", "run", "--engine", args.engine,
            "--out", out, "--limit", args.limit, "--max-new-tokens", 128, "--temperature", temperature,
            "--budget", budget, "--methods", ",".join(methods), "--threads", args.threads, "--dtype", "float32",
            "--dataset", "builtin" if kinds else f"spec-bench:{args.questions}",
            *(() if kinds else ("--pack", args.pack)),
        ]  # fmt: skip
        program = Path(sys.executable).with_name("hierdraft")
        subprocess.run([program, *map(str, asked)], check=True)
        report = gather(out)
        del report["example"]
        made = report["settings"]
        made |= {"dataset": "built-in"} if kinds else {"dataset": "Spec-Bench", "pack": Path(args.pack).stem}
        begun = {key: made[key] for key in ("commit", "date") if key in made}  # not those of the day it ended
        write(f"spec-bench-{name}", {"machine": {**machine(), **begun}, **report})


if __name__ == "__main__":
    main()
