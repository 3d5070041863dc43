"""What many requests cost beside their forwards, and each other: drafting, first tokens, gaps, memory.

    python benchmarks/many_requests.py

SmolLM2-135M on OpenVINO. benchmarks/many-requests.json is the result:

- drafting   `hierarchy` for 16 sessions with texts of 2,000 tokens: seconds of one `propose_all`, and of all `observe`
- turns      time to the first token of a prompt of 2,000 tokens that nobody has seen, and of the turn after its answer
- gaps       between the tokens of four answers while a prompt of 4,000 tokens is read beside them
- memory     of the process and of the pool over 1,000 requests, at most 16 at a time
"""

from __future__ import annotations

import argparse
import random
import statistics
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

import hierdraft
from common import machine, prompts, quantiles, write
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import END
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.holdings import embedded_pack
from hierdraft.protocols import Budget, Request, Setup, Step
from hierdraft.tree import DraftTree

SESSIONS, CONTEXT, STEPS, NODES = 16, 2000, 200, 28


def texts(pack: Pack, chance: random.Random, count: int, length: int) -> list[Any]:
    """Pieces of what the model has said, int32[length]."""
    words = pack.index.tokens[pack.index.tokens != END]
    starts = [chance.randrange(len(words) - length) for _ in range(count)]
    return [np.array(words[start : start + length], dtype=np.int32) for start in starts]


def drafting(packs: list[Pack]) -> dict[str, Any]:
    """Milliseconds of a step of all sessions; the text goes on by one to three tokens, of which some were drafted."""
    chance = random.Random(0)
    method = HierarchyMethod()
    method.attach(Setup(Databases(packs)))
    rows = texts(packs[0], chance, SESSIONS, CONTEXT + 3 * STEPS + 1)
    sessions = [method.open(Request(row[:CONTEXT], 3 * STEPS)) for row in rows]
    lengths = [CONTEXT] * SESSIONS
    for session, row in zip(sessions, rows, strict=True):
        session.observe(Step([int(row[CONTEXT])], DraftTree.empty(), [], row[CONTEXT : CONTEXT + 1], prefill=True))
    lengths = [length + 1 for length in lengths]
    proposing, observing = [], []
    for _ in range(STEPS):
        asks = [
            (session, row[:length], Budget(NODES, 8))
            for session, row, length in zip(sessions, rows, lengths, strict=True)
        ]
        started = perf_counter()
        trees = method.propose_all(asks)
        proposing.append(perf_counter() - started)
        steps = []
        for place, (tree, row) in enumerate(zip(trees, rows, strict=True)):
            path: list[int] = []
            node, length = -1, lengths[place]
            while len(path) < 2:
                found = [below for below in tree.children(node) if tree.tokens[below] == row[length + len(path)]]
                if not found:
                    break
                node = found[0]
                path.append(node)
            tokens = row[length : length + len(path) + 1]
            choices = np.full(1 + len(tree), -1, dtype=np.int32)
            choices[[0, *(node + 1 for node in path)]] = tokens
            steps.append(Step(tokens.tolist(), tree, path, choices))
            lengths[place] += len(tokens)
        started = perf_counter()
        for session, step in zip(sessions, steps, strict=True):
            session.observe(step)
        observing.append(perf_counter() - started)
    method.close()
    both = [one + other for one, other in zip(proposing, observing, strict=True)]
    return {name: quantiles(one, 1e3) for name, one in (("propose", proposing), ("observe", observing), ("both", both))}


def first_token(model: Any, ids: list[int]) -> float:
    """Seconds from asking to the first token."""
    started = perf_counter()
    with model.stream(ids, method="none", max_new_tokens=2, ignore_eos=True) as stream:
        next(iter(stream))
        return perf_counter() - started


def turns(model: Any, begin: list[Any], chance: random.Random) -> dict[str, Any]:
    """Milliseconds to the first token: a first turn of CONTEXT tokens, and a second of 20 more behind its answer."""
    found: dict[str, list[float]] = {"first": [], "second": []}
    for ids in begin:
        prompt = ids.tolist()
        found["first"].append(first_token(model, prompt))
        said = model.generate(prompt, method="none", max_new_tokens=32, ignore_eos=True).token_ids
        more = [chance.randrange(1000, 40_000) for _ in range(20)]
        found["second"].append(first_token(model, [*prompt, *said, *more]))
    shares = [second / first for first, second in zip(found["first"], found["second"], strict=True)]
    told = {name: quantiles(one, 1e3) for name, one in found.items()}
    return {**told, "second over first": quantiles(shares, 1.0)}


def gaps(model: Any, writing: list[Any], read: Any) -> dict[str, Any]:
    """Milliseconds between the steps of four answers, each of which has a token or more in every step."""
    ends: list[tuple[float, bool]] = []
    real = model.engine.forward

    def noted(parts: Any) -> Any:
        scored = real(parts)
        if sum(part.rows > 0 for part in parts) >= len(writing):
            ends.append((perf_counter(), any(part.rows == 0 for part in parts)))
        return scored

    model.engine.forward = noted
    try:
        streams = [model.submit(ids.tolist(), method="none", max_new_tokens=1500, ignore_eos=True) for ids in writing]
        while len(ends) < 30:
            sleep(0.01)
        model.submit(read.tolist(), method="none", max_new_tokens=1, ignore_eos=True).wait()
        there = len(ends)
        while len(ends) < there + 10:
            sleep(0.01)
        for stream in streams:
            stream.close()
    finally:
        model.engine.forward = real
    gaps = [(after - before, reads) for (before, _), (after, reads) in pairwise(ends[5 : there + 10])]
    alone, beside = ([gap for gap, reads in gaps if reads == which] for which in (False, True))
    return {
        "alone, ms": quantiles(alone, 1e3), "beside a prompt, ms": quantiles(beside, 1e3),
        "worst over median alone": round(max(gap for gap, _ in gaps) / statistics.median(alone), 2),
    }  # fmt: skip


def memory(model: Any, asked: list[Any], requests: int) -> dict[str, Any]:
    """MB of the process, and blocks of the pool, after so many requests."""
    found: dict[str, Any] = {}
    done = 0
    while done < requests:
        runs = model.generate([ids.tolist() for ids in asked], max_new_tokens=16, ignore_eos=True)
        done += len(runs)
        if done % 100 == 0:
            found[str(done)] = {"MB": round(resident() / 1e6, 1), "blocks": model.engine._cache.blocks.count}
    return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    args = parser.parse_args()
    path = embedded_pack("smollm2-135m")
    assert path is not None
    pack = Pack.open(path)
    found: dict[str, Any] = {"drafting, ms": drafting([pack])}
    print(found, flush=True)
    chance = random.Random(1)
    model = hierdraft.load(engine="openvino", dtype=args.dtype, threads=args.threads, learn=False)
    model.engine.measure_costs()  # every number of rows has its kernels then, as after a first start
    found["turns, ms"] = turns(model, texts(pack, chance, args.rounds, CONTEXT), chance)
    print(found["turns, ms"], flush=True)
    writing = [np.array(model.encode(row["prompt"]), dtype=np.int32) for row in prompts(1)[:4]]
    rounds = [
        gaps(model, writing, texts(pack, chance, 1, 2 * CONTEXT)[0]) for _ in range(1 + args.rounds)
    ]  # the first prepares kernels
    found["gaps"] = {"first": rounds[0], "then": rounds[1:]}
    print([one["worst over median alone"] for one in rounds], flush=True)
    found["memory"] = memory(model, texts(pack, chance, 50, 40), args.requests)
    print(found["memory"], flush=True)
    write("many-requests", {"machine": machine(), "settings": vars(args), **found})


if __name__ == "__main__":
    main()
