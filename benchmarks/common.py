"""What every benchmark records and how it is written down."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.bench.datasets import builtin_prompts
from hierdraft.bench.metrics import FEWEST
from hierdraft.bench.provenance import cpu_model, now
from hierdraft.databases.disk import replace_file

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent


def machine() -> dict[str, Any]:
    """Commit, hardware, versions and date of a run."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "src"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_shown, sys.argv[1:])]),
        "date": now(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy", "numba")},
    }


def _shown(argument: str) -> str:
    """Folders of a machine are nobody's business: of a full path only the name."""
    before, colon, path = argument.rpartition(":")
    return f"{before}{colon}{Path(path).name}" if os.path.isabs(path) else argument


def prompts(limit: int | None = None) -> list[dict[str, str]]:
    """The built-in prompts, at most `limit` of each kind."""
    seen: dict[str, int] = {}
    kept = []
    for row in builtin_prompts():
        seen[row["kind"]] = seen.get(row["kind"], 0) + 1
        if limit is None or seen[row["kind"]] <= limit:
            kept.append(row)
    return kept


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median with the 95 % bootstrap interval of the median (None for too few values), and the extremes."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    enough = len(values) >= FEWEST
    return {
        "median": round(statistics.median(values), 3),
        "low": round(medians[50], 3) if enough else None,
        "high": round(medians[-51], 3) if enough else None,
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def quantiles(seconds: list[float], scale: float = 1e6) -> dict[str, float]:
    """Median, 99th percentile and mean, in microseconds unless scaled otherwise."""
    values = np.array(seconds) * scale
    return {
        "median": round(float(np.median(values)), 2),
        "p99": round(float(np.percentile(values, 99)), 2),
        "mean": round(float(values.mean()), 2),
    }


def middle(rounds: Sequence[Any]) -> Any:
    """The same measurement made several times, numbers in nested dicts: the median of each."""
    if isinstance(rounds[0], dict):
        return {name: middle([once[name] for once in rounds]) for name in rounds[0]}
    return round(statistics.median(rounds), 2)


def by_kind(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows grouped by their kind of work, and all of them under `all`."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["kind"], []).append(row)
    grouped["all"] = [row for kind in list(grouped.values()) for row in kind]
    return grouped


def write(name: str, record: dict[str, Any]) -> None:
    """Write a result file, replacing the one before only when it is complete."""
    replace_file(RESULTS / f"{name}.json", f"{json.dumps(record, indent=1)}\n".encode())
    print(f"wrote benchmarks/{name}.json")
