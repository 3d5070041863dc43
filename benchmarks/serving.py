"""The server with a real model: with drafts and without, edits with a prediction, and how long it takes to be ready.

    python benchmarks/serving.py --dtype bfloat16

SmolLM2-135M on OpenVINO. One server; rounds with and without drafts take turns at 1, 4 and 8 requests in flight.
benchmarks/serving-TYPE.json is the result:

- load        tokens a second and waits, median over rounds
- prediction  an answer of about 400 tokens that is asked for again with some of its words changed in what is predicted:
              seconds plainly, with drafts, and with drafts and the prediction; nothing is learned meanwhile
- start       seconds until the server is ready, and until `hierdraft.load` returns, in processes of their own, in turns
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2 as httpx

from common import machine, prompts, write
from hierdraft.bench.load import Plan, measure

MODEL = "smollm2-135m"
METHODS = ("none", "hierarchy")
STORIES = (
    "Write a long story about a fox who learns to swim.", "Explain in detail how bread is made.",
    "Describe a long journey by train across a country, town by town.",
)  # fmt: skip


@contextmanager
def server(
    dtype: str, threads: int, *more: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[str, float]]:
    """Its address, and how long it took to be ready, from the start of the process. `more`: words of its command."""
    began = time.perf_counter()
    words = ["serve", "--engine", "openvino", "--dtype", dtype, "--threads", str(threads), "--port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hierdraft", *words, *(more or ("--no-learn",))],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield told["url"], time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(60)


def load(url: str, rows: list[str], levels: list[int], rounds: int, tokens: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for level in levels:
        runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
        asked = rows * max(1, 2 * level // len(rows))
        for number in range(rounds):
            for method in METHODS if number % 2 else METHODS[::-1]:
                body = {"model": MODEL, "max_tokens": tokens, "temperature": 0.0,
                        "hierdraft": {"method": method, "provenance": True}}  # fmt: skip
                plan = Plan(asked, len(asked), level, body=body)
                runs[method].append(asyncio.run(measure(url, None, plan, lambda *_: None)))
        found[str(level)] = {
            method: {
                "tokens_per_second": statistics.median(run["tokens_per_second"] for run in own),
                "all": [run["tokens_per_second"] for run in own], "failed": sum(run["failed"] for run in own),
                "accepted_length": own[0]["accepted_length"], "last": own[-1],
            }
            for method, own in runs.items()
        }  # fmt: skip
        rates = [found[str(level)][method]["tokens_per_second"] for method in METHODS]
        found[str(level)]["drafted_over_plain"] = round(rates[1] / rates[0], 3)
        print(level, rates, found[str(level)]["drafted_over_plain"], flush=True)
    return found


def prediction(url: str, tokens: int) -> list[dict[str, Any]]:
    found = []
    with httpx.Client(base_url=url, timeout=600) as client:

        def ask(text: str, method: str, predicted: str | None) -> tuple[float, Any]:
            body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}],
                                    "max_tokens": tokens, "hierdraft": {"method": method}}  # fmt: skip
            if predicted is not None:
                body["prediction"] = {"type": "content", "content": predicted}
            began = time.perf_counter()
            told = client.post("/v1/chat/completions", json=body).json()
            return time.perf_counter() - began, told

        for text in STORIES:
            said = ask(text, "none", None)[1]["choices"][0]["message"]["content"]
            words = said.split(" ")
            predicted = " ".join("other" if place % 25 == 24 else word for place, word in enumerate(words))
            times: dict[str, list[float]] = {"plain": [], "drafted": [], "predicted": []}
            usage: dict[str, Any] = {}
            for _ in range(3):
                for way, method, given in (
                    ("plain", "none", None), ("drafted", "hierarchy", None), ("predicted", "hierarchy", predicted)
                ):  # fmt: skip
                    seconds, told = ask(text, method, given)
                    times[way].append(seconds)
                    usage = told["usage"] if way == "predicted" else usage
                    assert told["choices"][0]["message"]["content"] == said or way != "plain"
            middle = {way: round(statistics.median(all_of), 3) for way, all_of in times.items()}
            found.append({"seconds": middle, "usage": usage,
                          "over_drafted": round(middle["drafted"] / middle["predicted"], 2),
                          "over_plain": round(middle["plain"] / middle["predicted"], 2)})  # fmt: skip
            print(found[-1], flush=True)
    return found


def start(dtype: str, threads: int, rounds: int) -> dict[str, Any]:
    script = (
        "import time, sys; b = time.perf_counter(); import hierdraft\n"
        f"m = hierdraft.load('{MODEL}', engine='openvino', dtype='{dtype}', threads={threads}, learn=False)\n"
        "print(time.perf_counter() - b); m.close()"
    )
    ready, loaded = [], []
    for _ in range(rounds):
        with server(dtype, threads) as (_, seconds):
            ready.append(round(seconds, 2))
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        loaded.append(round(float(done.stdout), 2))
        assert time.perf_counter() > began
    found = {"ready": ready, "load": loaded, "more": round(statistics.median(ready) - statistics.median(loaded), 2)}
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--per-kind", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = [row["prompt"] for row in prompts(args.per_kind)]
    with server(args.dtype, args.threads) as (url, _):
        found = {
            "load": load(url, rows, [1, 4, 8], args.rounds, args.tokens), "prediction": prediction(url, 400),
        }  # fmt: skip
    found["start"] = start(args.dtype, args.threads, args.rounds)
    write(f"serving-{args.dtype}", {"machine": machine(), "settings": vars(args), **found})


if __name__ == "__main__":
    main()
