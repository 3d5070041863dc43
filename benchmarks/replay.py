"""Drafting judged on recorded output of large models, and what each idea in it is worth.

    python benchmarks/replay.py --data FOLDER [--only scores|ideas]

FOLDER holds recorded output, one JSON a line with prompt_ids, output_ids and task, and the databases:

    specbench_vicuna7b_odd.jsonl, gsm8k_abel7b_first300.jsonl, classeval_deepseek6.7b.jsonl,
    taubench_airline_first20.jsonl    records
    alpaca_vicuna7b.jsonl             the model level: other answers of the first of these models
    statistics_llama_6m.npy           the statistics level: uint16 ids, 65535 between documents

Scores: accepted length of every method on every file. The first file has its model's answers as the model level; the
others have none and learn online, as a service would. Ideas: the default drafter on the first file with one thing
changed. Both go into benchmarks/replay.json. Nothing of the recordings is part of hierdraft.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write

RECORDS = {
    "Spec-Bench, Vicuna-7B": "specbench_vicuna7b_odd.jsonl",
    "GSM8K, Abel-7B": "gsm8k_abel7b_first300.jsonl",
    "ClassEval, DeepSeek-Coder-6.7B": "classeval_deepseek6.7b.jsonl",
    "tau-bench airline, GPT-4o": "taubench_airline_first20.jsonl",
}
VOCAB = 32_000
BUDGETS = (28, 60)
RIVALS = ("prompt-lookup", "sam", "suffix", "rest", "aded")
METHODS = ("hierarchy", "hierarchy:levels=context", "hd", *RIVALS)
ORDERS = tuple(f"hd:order={'+'.join(order)}" for order in permutations(("context", "model", "statistics")))[1:]
MORE = ("hierarchy:levels=context+model", "hd:order=context", "hd:order=context+model", *ORDERS)

Change = dict[str, Any]
IDEAS: dict[str, Change] = {
    "as it is": {},
    "begins with the prior instead of the default calibration": {"method": "hierarchy:calibration=none"},
    "no weights for single tokens": {"_RATE_TOKEN": 0.0},
    "no weights for pairs of levels": {"_RATE_PAIR": 0.0, "method": "hierarchy:calibration=none"},
    "no weights by age and agreement of levels": {"_RATE_MIX": 0.0, "method": "hierarchy:calibration=none"},
    "12 occurrences per look": {"OCCURRENCES": 12},
    "48 occurrences per look": {"OCCURRENCES": 48},
    "a node is expanded at 0.5 of its probability": {"LAZY": 0.5},
    "nothing below a path probability of 0.008": {"method": "hierarchy:least=0.008"},
}


def packs_of(data: Path) -> list[Any]:
    """The model and the statistics level."""
    import numpy as np

    from hierdraft.bench.replay import warm_pack
    from hierdraft.databases.pack import Pack, PackInfo
    from hierdraft.databases.suffixsort import build

    text = np.load(data / "statistics_llama_6m.npy")
    ids = text.astype(np.int32)
    ids[text == np.iinfo(text.dtype).max] = -1
    statistics = Pack(Path("statistics"), PackInfo("statistics", VOCAB), build(ids, VOCAB))
    return [warm_pack(data / "alpaca_vicuna7b.jsonl", VOCAB), statistics]


def scores(data: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Every file, every budget, every method, or only some."""
    from hierdraft.bench.replay import compare
    from hierdraft.corpus.records import read_records

    model, statistics = packs_of(data)
    found: dict[str, Any] = {}
    for number, (title, name) in enumerate(RECORDS.items()):
        records = list(read_records(data / name, VOCAB))
        if number:
            records = [{**record, "task": "all"} for record in records]
        for nodes in BUDGETS:
            methods = only or [*METHODS, *(MORE if number == 0 and nodes == 28 else ())]
            packs = [statistics] if number else [model, statistics]
            scored = compare(records, methods, packs, VOCAB, nodes, online=number > 0)
            found.setdefault(title, {})[str(nodes)] = {method: score.as_dict() for method, score in scored.items()}
            print(title, nodes, {m: round(score.accepted_length(), 3) for m, score in scored.items()}, flush=True)
    return found


def idea(data: Path, change: Change) -> dict[str, Any]:
    """The default drafter with something changed in its source before it is compiled."""
    import hierdraft.drafting.hierarchy.method  # noqa: F401
    from hierdraft.bench.replay import compare
    from hierdraft.corpus.records import read_records

    method = change.pop("method", "hierarchy")
    for name, value in change.items():
        owners = [module for title, module in sys.modules.items() if title.startswith("hierdraft.drafting")]
        owners = [module for module in owners if hasattr(module, name)]
        if not owners:
            raise SystemExit(f"nothing is called {name}")
        for module in owners:
            setattr(module, name, value)
    records = list(read_records(data / RECORDS["Spec-Bench, Vicuna-7B"], VOCAB))
    packs = packs_of(data)
    found = {}
    for nodes in (28, 60):
        score = compare(records, [method], packs, VOCAB, nodes)[method].as_dict()
        found[str(nodes)] = score["accepted_length"]
    return found


def ideas(data: Path) -> dict[str, Any]:
    """Every idea in a process and with compiled code of its own."""
    found = {}
    for title, change in IDEAS.items():
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, __file__, "--data", str(data), "--idea", json.dumps(change)],
                env={**os.environ, "NUMBA_CACHE_DIR": cache}, capture_output=True, text=True, check=True,
            )  # fmt: skip
        found[title] = json.loads(done.stdout.splitlines()[-1])
        print(title, found[title], flush=True)
    return found


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=("scores", "ideas"))
    parser.add_argument("--methods", nargs="+", help="score these again; what is known of others stays")
    parser.add_argument("--idea", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.idea is not None:
        print(json.dumps(idea(arguments.data, json.loads(arguments.idea))))
        return
    kept = RESULTS / "replay.json"
    if arguments.methods:
        record = json.loads(kept.read_text())
        for title, by_budget in scores(arguments.data, arguments.methods).items():
            for nodes, found in by_budget.items():
                record["scores"][title][nodes] |= found
        record.setdefault("again", {}).update(dict.fromkeys(arguments.methods, machine()["commit"]))
        write("replay", record)
        return
    for part, measure in (("scores", scores), ("ideas", ideas)):
        if arguments.only in (None, part):
            found = measure(arguments.data)
            result = json.loads(kept.read_text()) if kept.exists() else {}  # the other part may run at the same time
            result["machine"] = {**machine(), "command": "python benchmarks/replay.py --data FOLDER"}
            result[part] = found
            write("replay", result)


if __name__ == "__main__":
    main()
