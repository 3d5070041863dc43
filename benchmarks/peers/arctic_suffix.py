"""arctic-inference's suffix tree (SuffixDecoding) on recorded output: its accepted length, and what a proposal takes.

    pip install -r benchmarks/peers/arctic_suffix.txt      # with --no-build-isolation --no-deps; see README.md here
    python benchmarks/peers/arctic_suffix.py --records specbench_vicuna7b.jsonl [--warm alpaca_vicuna7b.jsonl]

A tree of the request and a global tree of earlier output, the better of the two proposals by its score, as vLLM asks
it; acceptance is that of the record. Also run: the request's tree alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from arctic_inference.suffix_decoding import SuffixDecodingCache

from paired import write

DEPTH, FACTOR, OFFSET, LEAST = 24, 1.0, 0.0, 0.1


def accepted(parents: list[int], tokens: list[int], truth: list[int]) -> int:
    """How many tokens of the record a proposal follows."""
    at, count = -1, 0
    for token in truth:
        child = next((i for i, (p, t) in enumerate(zip(parents, tokens, strict=True)) if p == at and t == token), None)
        if child is None:
            return count
        at, count = child, count + 1
    return count


def replay(cache: Any, number: int, record: dict[str, Any], most: int, tally: dict[str, Any]) -> None:
    """Decode one record; what was said goes into the global tree when it ends."""
    prompt, output = record["prompt_ids"], record["output_ids"]
    cache.start_request(number, np.array(prompt, dtype=np.int32))
    text = [*prompt, output[0]]
    cache.add_active_response(number, output[:1])
    at = 1
    while at < len(output):
        started = perf_counter()
        draft = cache.speculate(
            number, np.array(text[-DEPTH:], dtype=np.int32), max_spec_tokens=most, max_spec_factor=FACTOR,
            max_spec_offset=OFFSET, min_token_prob=LEAST,
        )  # fmt: skip
        tally["seconds"].append(perf_counter() - started)
        kept = accepted(list(draft.parents), list(draft.token_ids), output[at:])
        said = output[at : at + kept + 1]
        cache.add_active_response(number, said)
        text += said
        at += len(said)
        task = tally["tasks"].setdefault(record.get("task", "all"), [0, 0])
        task[0] += len(said)
        task[1] += 1
    cache.stop_request(number)


def measure(records: list[dict[str, Any]], warm: list[dict[str, Any]], most: int, requests: int) -> dict[str, Any]:
    """All records in their order, one cache for all of them."""
    cache = SuffixDecodingCache(max_tree_depth=DEPTH, max_cached_requests=requests)
    tally: dict[str, Any] = {"seconds": [], "tasks": {}}
    for number, record in enumerate(warm):
        cache.start_request(-1 - number, np.array(record["prompt_ids"], dtype=np.int32))
        cache.add_active_response(-1 - number, record["output_ids"])
        cache.stop_request(-1 - number)
    for number, record in enumerate(records):
        replay(cache, number, record, most, tally)
    tokens, steps = (sum(part) for part in zip(*tally["tasks"].values(), strict=True))
    return {
        "accepted_length": round(tokens / steps, 4),
        "tasks": {task: round(t / s, 4) for task, (t, s) in tally["tasks"].items()},
        "draft_us_median": round(1e6 * statistics.median(tally["seconds"]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--warm", type=Path)
    parser.add_argument("--most", type=int, default=28, help="tokens of a proposal")
    args = parser.parse_args()
    records, warm = (
        [json.loads(line) for line in path.read_text().splitlines()] if path else []
        for path in (args.records, args.warm)
    )
    found = {
        "request and earlier output": measure(records, warm, args.most, 100_000),
        "request only": measure(records, [], args.most, 0),
    }
    settings = {"records": args.records.name, "warm": args.warm and args.warm.name, "most": args.most}
    write("arctic-suffix", ["arctic-inference"], settings, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
