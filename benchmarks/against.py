"""This checkout against another one, answer by answer: seconds of whole answers, and of drafting, old over new.

    git worktree add --detach ../before COMMIT
    python benchmarks/against.py ../before [--prompts 6] [--rounds 2]

Each runs in a process of its own, both are loaded before anything is timed, and they take turns on every prompt, first
the one and then the other. SmolLM2-135M, 128 tokens: plain decoding, 28 nodes, and the automatic budget. Both read this
environment's packages; the old checkout its own pack.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import ROOT, machine, prompts, write

WAYS: dict[str, dict[str, Any]] = {"plain": {"method": "none"}, "28 nodes": {"budget": 28}, "auto": {"budget": "auto"}}
WORKER = """
import json, sys
import hierdraft
engine, dtype = sys.argv[1:]
model = hierdraft.load("smollm2-135m", engine=engine, dtype=dtype, learn=False, threads=2)
print(hierdraft.__file__, flush=True)
for line in sys.stdin:
    prompt, settings = json.loads(line)
    run = model.generate(prompt, max_new_tokens=128, **settings)
    told = {"seconds": run.seconds, "draft": run.draft_seconds / max(1, run.steps), "ids": run.token_ids}
    print(json.dumps(told), flush=True)
"""


class Side:
    """One checkout, in a process."""

    def __init__(self, root: Path, engine: str, dtype: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, engine, dtype], env=environment, cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        loaded = Path(self._read()).resolve()
        if not loaded.is_relative_to(root.resolve()):
            raise SystemExit(f"{root} is not what was loaded.")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answer(self, prompt: str, settings: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([prompt, settings]) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._read())
        return found


def ratios(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 3), "lower quartile": round(low, 3), "upper quartile": round(high, 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    sides = {"old": Side(args.before, args.engine, args.dtype), "new": Side(ROOT, args.engine, args.dtype)}
    every = prompts()
    chosen = [every[i * len(every) // args.prompts]["prompt"] for i in range(args.prompts)]
    for side in sides.values():
        side.answer(chosen[0], {})
    found: dict[str, list[float]] = {way: [] for way in (*WAYS, "drafting, a step of 28 nodes")}
    same = 0
    for number, prompt in enumerate(chosen * args.rounds):
        for way, settings in WAYS.items():
            order = list(sides) if number % 2 else list(sides)[::-1]
            got = {name: sides[name].answer(prompt, settings) for name in order}
            found[way].append(got["old"]["seconds"] / got["new"]["seconds"])
            same += got["old"]["ids"] == got["new"]["ids"]
            if way == "28 nodes":
                found["drafting, a step of 28 nodes"].append(got["old"]["draft"] / got["new"]["draft"])
        print(number + 1, {way: round(values[-1], 3) for way, values in found.items()}, flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=args.before, capture_output=True, text=True, check=True)
    settings = {"before": commit.stdout.strip(), "engine": args.engine, "dtype": args.dtype, "answers": len(chosen)}
    answers = {"answers": args.rounds * len(chosen) * len(WAYS), "same_ids": same}
    shown = {way: ratios(values) for way, values in found.items()}
    write("against", {"machine": machine(), "settings": settings, **answers, "old_over_new": shown})


if __name__ == "__main__":
    main()
