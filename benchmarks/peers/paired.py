"""What the scripts in this folder share: the prompts of a `bench run`, systems taking turns, what is written down.

A run's folder gives the prompts as token ids and plain decoding's answers. Every system decodes each prompt plainly
and with its drafts, in turns; each is compared with its own plain decoding, since two systems need not round alike,
and its plain decoding with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

Decode = Callable[[list[int], int], list[int]]
"""(prompt ids, most new tokens) -> new ids, greedy."""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=Path, required=True, help="folder that hierdraft bench run wrote, greedy")
    parser.add_argument("--limit", type=int, help="only N prompts, spread over the run")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def read_prompts(folder: Path, limit: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings and records of plain decoding."""
    lines = (folder / "none.jsonl").read_text(encoding="utf-8").splitlines()
    header, rows = json.loads(lines[0])["run"], [json.loads(line) for line in lines[1:]]
    if header["sampling"]:
        raise SystemExit("The systems in this folder are compared on greedy runs.")
    if limit is not None and limit < len(rows):
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    return header, rows


def interval(values: list[float]) -> dict[str, float | None]:
    """Median, and the 95 % bootstrap interval of the median; None for fewer than six values, as in `bench report`."""
    if len(values) < 6:
        return {"median": round(statistics.median(values), 3), "low": None, "high": None}
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    return {"median": round(statistics.median(values), 3), "low": round(medians[50], 3), "high": round(medians[-51], 3)}


def common_prefix(one: list[int], other: list[int]) -> int:
    """How many ids are equal from the beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def compare(plain: Decode, drafted: dict[str, Decode], rows: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Tokens per second of whole requests, prefill included: of all together, and the speed-up answer by answer."""
    systems = {"plain": plain, **drafted}
    for decode in systems.values():
        decode(rows[0]["prompt_ids"], 8)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    said: dict[str, list[list[int]]] = {name: [] for name in systems}
    names = list(systems)
    for number, row in enumerate(rows):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            started = perf_counter()
            said[name].append(systems[name](row["prompt_ids"], most))
            seconds[name].append(perf_counter() - started)
        print(row["id"], *(f"{name} {seconds[name][-1]:.2f} s" for name in names), flush=True)
    return {name: _figures(name, rows, seconds, said) for name in names}


def _figures(
    name: str, rows: list[dict[str, Any]], seconds: dict[str, list[float]], said: dict[str, list[list[int]]]
) -> dict[str, Any]:
    tokens = [len(ids) for ids in said[name]]
    measured = [
        (row["task"], (count / own) / (len(base) / other))
        for row, count, own, base, other in zip(
            rows, tokens, seconds[name], said["plain"], seconds["plain"], strict=True
        )
        if base and count
    ]
    ratios = [ratio for _, ratio in measured]
    tasks: dict[str, list[float]] = {}
    for task, ratio in measured:
        tasks.setdefault(task, []).append(ratio)
    ours = [row["output_ids"] for row in rows]
    return {
        "tokens_per_second": round(sum(tokens) / sum(seconds[name]), 2),
        "speedup": interval(ratios),
        "tasks": {task: round(statistics.median(found), 3) for task, found in tasks.items()},
        "answers": len(rows),
        "tokens": sum(tokens),
        "same_as_own_plain": sum(a == b for a, b in zip(said[name], said["plain"], strict=True)),
        "same_as_hierdraft": sum(a == b for a, b in zip(said[name], ours, strict=True)),
        "same_tokens_as_hierdraft": sum(common_prefix(a, b) for a, b in zip(said[name], ours, strict=True)),
    }


def write(name: str, packages: list[str], settings: dict[str, Any], found: dict[str, Any]) -> None:
    """benchmarks/NAME.json."""
    machine = {
        "cpu": next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), ""),
        "cpus": os.cpu_count(), "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }  # fmt: skip
    path = Path(__file__).resolve().parent.parent / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "settings": settings, "methods": found}, indent=1) + "\n")
    print(f"wrote {path.name}")


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
