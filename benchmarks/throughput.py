"""Tokens per second with several requests in flight: ours plain and drafted, OpenVINO GenAI's continuous batching too.

    python benchmarks/throughput.py --dtype bfloat16

The built-in prompts, at most 128 new tokens each; when an answer ends, the next begins. All systems take turns in one
process, on the same weights; GenAI gets the form that it asks for and runs with its own settings. Every answer of ours
is compared with the one it gives alone. benchmarks/throughput-DTYPE.json is the result.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino
import openvino_genai

import hierdraft
from common import machine, prompts, write
from hierdraft.choices import number_types
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from openvino_engine import MODEL, for_genai

NEW_TOKENS = 128
LEVELS = (1, 2, 4, 8, 16)
ROUNDS = 3

Serve = Callable[[list[list[int]], int], list[list[int]]]
"""(prompts, how many are in flight) -> answers."""


def ours(model: Any, method: str) -> Serve:
    """Requests in the background of one model."""

    def serve(asked: list[list[int]], level: int) -> list[list[int]]:
        answers: list[list[int]] = []
        flying: deque[Any] = deque()
        for ids in asked:
            if len(flying) == level:
                answers.append(flying.popleft().wait().token_ids)
            flying.append(model.submit(ids, method=method, max_new_tokens=NEW_TOKENS))
        return answers + [stream.wait().token_ids for stream in flying]

    return serve


def genai(folder: Path, threads: int, drafted: int | None, eos: int) -> Serve:
    """GenAI's continuous batching, with prompt lookup of `drafted` tokens or without."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    options = {"INFERENCE_NUM_THREADS": threads} | ({"prompt_lookup": True} if drafted else {})
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", options)
    config = openvino_genai.GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=eos)
    config.stop_token_ids = {eos}
    if drafted:
        config.num_assistant_tokens, config.max_ngram_size = drafted, 3

    def serve(asked: list[list[int]], level: int) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in asked]
        waiting, flying = deque(range(len(asked))), {}
        while waiting or flying:
            while waiting and len(flying) < level:
                number = waiting.popleft()
                tensor = openvino.Tensor(np.array([asked[number]], dtype=np.int64))
                flying[number] = pipeline.add_request(number, tensor, config)
            pipeline.step()
            for number, handle in list(flying.items()):
                while handle.can_read():
                    for part in handle.read().values():
                        answers[number] += part.generated_ids
                if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                    del flying[number]
        return answers

    return serve


def measure(
    systems: dict[str, Serve], asked: list[list[int]], levels: list[int], truth: list[list[int]]
) -> dict[str, Any]:
    """Tokens per second of every system at every level, `ROUNDS` times in turns."""
    names, found = list(systems), {}
    for level in levels:
        some = list(islice(cycle(range(len(asked))), max(len(asked), 3 * level)))
        rates: dict[str, list[float]] = {name: [] for name in names}
        wrong = 0
        for turn in range(ROUNDS):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = perf_counter()
                answers = systems[name]([asked[number] for number in some], level)
                rates[name].append(sum(map(len, answers)) / (perf_counter() - started))
                if name.startswith("hierdraft"):
                    wrong += sum(answer != truth[number] for answer, number in zip(answers, some, strict=True))
        found[str(level)] = {"requests": len(some), "not_as_alone": wrong, **{
            name: {"median": round(statistics.median(one), 1), "all": [round(rate, 1) for rate in one]}
            for name, one in rates.items()
        }}  # fmt: skip
        print(level, found[str(level)], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=number_types("openvino")[1:], default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int, default=2)
    parser.add_argument("--levels", type=int, nargs="*", default=LEVELS)
    args = parser.parse_args()
    model = hierdraft.load(MODEL, engine="openvino", dtype=args.dtype, threads=args.threads, learn=False)
    asked = [model.encode(row["prompt"]) for row in prompts(args.per_kind)]
    truth = [model.generate(ids, method="none", max_new_tokens=NEW_TOKENS).token_ids for ids in asked]
    systems = {"hierdraft, plain": ours(model, "none"), "hierdraft, hierarchy": ours(model, "hierarchy")}
    with tempfile.TemporaryDirectory() as folder:
        for_genai(resolve(MODEL, load_settings().cache_dir).path, args.dtype, Path(folder))
        for name, drafted in (("GenAI, plain", None), ("GenAI, prompt lookup of 5", 5)):
            systems[name] = genai(Path(folder), args.threads, drafted, model.engine.eos_ids[0])
        for serve in systems.values():
            serve(asked[:2], 2)
        found = measure(systems, asked, list(args.levels), truth)
    versions = {name: version(name) for name in ("openvino", "openvino-genai")}
    write(f"throughput-{args.dtype}", {"machine": {**machine(), **versions}, "settings": vars(args), "levels": found})


if __name__ == "__main__":
    main()
