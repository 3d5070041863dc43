"""Policies of drafting, each beside what it is measured against: TETRIS, MCSD, TABED and HVT, with one drafter.

    python benchmarks/policies.py --draft my-drafter [--model smollm2-135m] [--questions 24]
        [--dataset spec-bench:question.jsonl]

First turns, evenly over the tasks of the data set (default: the built-in prompts), at most 32 new tokens each.
benchmarks/policies.json is the result:

- tetris  batches of eight greedy requests, chains of the drafter, as many verified drafts in each forward: k of each
          request, or of all k + 3 each those that promise most (`trim_together` at a capacity)
- mcsd    temperature 1, three deep: one candidate in each place, or 4, 2 and 2, without and with replacement
- tabed   chains of five: the mixture of three views, and each view alone
- hvt     greedy trees of 28 nodes, at once and in parts of 8 nodes, in turns
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hierdraft
from common import machine, spread, write
from hierdraft.bench.datasets import load_questions
from hierdraft.bench.datasets import spread as spread_questions
from hierdraft.decoding.forwards import advance
from hierdraft.decoding.loop import CHUNK, Options, decode, open_request
from hierdraft.drafting.budget import FixedBudget
from hierdraft.models.load import open_beside
from hierdraft.protocols import Method, Setup, Step
from hierdraft.registry import make_method
from hierdraft.request_rules import set_rules
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampling

BATCH, MORE = 8, 3
NODES, FIRST = 28, 8
DRAWN = {
    "1": (":width=1:depth=3", 3), "4, 2 and 2": (":width=4+2+2", 28),
    "4, 2 and 2, with replacement": (":width=4+2+2:replacement=true", 28),
}  # fmt: skip
VIEWS = ("full+64+ngram", "full", "64", "ngram")


class Sums:
    """What steps after the prompt brought."""

    def __init__(self) -> None:
        self.tokens = self.steps = self.drafts = self.accepted = 0
        self.seconds = 0.0

    def add(self, step: Step) -> None:
        """Account for one step."""
        if step.prefill:
            return
        self.tokens += len(step.tokens)
        self.steps += 1
        self.drafts += len(step.tree)
        self.accepted += len(step.path)
        self.seconds += sum(step.seconds.values())

    def figures(self) -> dict[str, float]:
        """Tokens per forward of a request, drafts per forward, how many of these were accepted, rows per token."""
        return {
            "accepted_length": round(self.tokens / self.steps, 3), "drafts": round(self.drafts / self.steps, 2),
            "accepted_share": round(self.accepted / max(1, self.drafts), 4),
            "rows_per_token": round((self.drafts + self.steps) / self.tokens, 3),
        }  # fmt: skip


class Bench:
    """The target, one drafter for all methods, and prompts as ids."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.draft, self.tokens = args.draft, args.tokens
        self.model = hierdraft.load(
            args.model, engine=args.engine, dtype=args.dtype, threads=args.threads, learn=False, max_requests=BATCH
        )
        self.engine = self.model.engine
        self._opened = replace(open_beside(args.draft, self.engine), close=lambda: None)
        found = load_questions(args.dataset)
        found = spread_questions(found, -(-args.questions // len({question.task for question in found})))
        self.prompts = [self.model.encode(one.turns[0], chat=not one.raw) for one in found[: args.questions]]
        plain = self.method("none")
        for prompt in self.prompts:  # read once, so that no method pays for it, and kernels are there
            list(decode(self.engine, plain, prompt, self.options(0, prompt, Sampling(), 2)))

    def method(self, name: str) -> Method:
        """A new one."""
        made, databases = make_method(name), self.model.databases
        told = self.engine.offers, self.engine.vocab_size, databases.tokenizer
        made.attach(Setup(databases, *told, lambda _: self._opened))
        return made

    def options(self, nodes: int, prompt: Sequence[int], sampling: Sampling, limit: int) -> Options:
        """Of a request that may end where the model does."""
        options = Options(limit, FixedBudget(nodes))
        set_rules(self.engine, self.model.defaults, sampling, options, [], len(prompt))
        return options

    def run(
        self,
        method: Method,
        prompt: Sequence[int],
        nodes: int,
        sums: Sums | None = None,
        sampling: Sampling | None = None,
    ) -> tuple[list[int], float]:
        """An answer, and the seconds of its steps after the prompt."""
        own = Sums()
        said: list[int] = []
        options = self.options(nodes, prompt, sampling or Sampling(), self.tokens)
        for step in decode(self.engine, method, prompt, options):
            said += step.tokens
            for one in (own, *([sums] if sums is not None else [])):
                one.add(step)
        return said, own.seconds


class Capped:
    """An engine whose forwards cost the same up to so many drafts for each request, and too much beyond."""

    def __init__(self, engine: Any, drafts: int) -> None:
        self._engine, self._drafts = engine, drafts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def cost(self, rows: int, plain: int = 1) -> float:
        """One, or a million."""
        return 1.0 if rows <= plain * (1 + self._drafts) else 1e6

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Nothing to learn."""


class Promised(FixedBudget):
    """So many drafts of each request, which may be trimmed by what they promise."""

    def gains(self, tree: DraftTree) -> NDArray[np.float64]:  # type: ignore[override]
        """What the drafter says."""
        return tree.prob.astype(np.float64)


def tetris(bench: Bench, batches: int) -> dict[str, Any]:
    """Accepted tokens per verified draft where k of each request are verified, and where as many of all are."""
    prompts = bench.prompts[: len(bench.prompts) // BATCH * BATCH][: batches * BATCH]
    found: dict[str, Any] = {}
    for k in (2, 4):
        said: dict[str, list[list[int]]] = {}
        for law, drafted, budget in (("uniform", k, FixedBudget), ("shared", k + MORE, Promised)):
            sums, forwards = Sums(), 0
            for start in range(0, len(prompts), BATCH):
                method = bench.method(f"draft-model:draft={bench.draft}:width=1:depth={drafted}")
                texts, count = together(bench, method, prompts[start : start + BATCH], k, budget(drafted), sums)
                said.setdefault(law, []).extend(texts)
                forwards += count
            found.setdefault(str(k), {})[law] = {
                **sums.figures(), "tokens_per_forward": round(sums.tokens / forwards, 3)
            }  # fmt: skip
        found[str(k)]["different"] = sum(a != b for a, b in zip(*said.values(), strict=True))
        print("tetris", k, found[str(k)], flush=True)
    return {"answers": len(prompts), "capacity": found}


def together(
    bench: Bench, method: Method, prompts: Sequence[list[int]], k: int, law: FixedBudget, sums: Sums
) -> tuple[list[list[int]], int]:
    """Answers of one batch, and its forwards after the prompts were read."""
    engine: Any = Capped(bench.engine, k)
    requests = []
    for prompt in prompts:
        options = replace(bench.options(0, prompt, Sampling(), bench.tokens), budget=law, eos_ids=())
        requests.append(open_request(engine, method, prompt, options))
        requests[-1].begin()
    said: dict[int, list[int]] = {id(request): [] for request in requests}
    running, forwards = list(requests), 0

    def failed(_: Any, error: BaseException) -> None:
        raise error

    while running:
        forward = advance(engine, running, CHUNK, failed)
        forwards += forward is not None and not any(part.rows == 0 for part in forward.parts)
        for request in running:
            if request.step is not None:
                said[id(request)] += request.step.tokens
                sums.add(request.step)
        running = [request for request in running if request.step is None or not request.step.finish]
    for request in requests:
        request.end()
    return [said[id(request)] for request in requests], forwards


def alone(bench: Bench, name: Callable[[str], str], ways: dict[str, int], sampling: bool) -> dict[str, Any]:
    """Each way of a method on all prompts, one after another."""
    found = {}
    for way, nodes in ways.items():
        method, sums = bench.method(name(way)), Sums()
        for number, prompt in enumerate(bench.prompts):
            bench.run(method, prompt, nodes, sums, Sampling(temperature=1.0, seed=number) if sampling else None)
        method.close()
        found[way] = sums.figures()
        print(way, found[way], flush=True)
    return found


def hvt(bench: Bench) -> dict[str, Any]:
    """The same drafts at once and in parts, taking turns on every prompt."""
    found = {}
    for title, name in (("draft-model", f"draft-model:draft={bench.draft}"), ("hierarchy", "hierarchy")):
        methods: dict[str, Any] = {"at once": bench.method(name), "parts": bench.method(f"hvt:first={FIRST}:of={name}")}
        sums = {way: Sums() for way in methods}
        ratios, different = list[float](), 0
        for number, prompt in enumerate(bench.prompts):
            runs = {
                way: bench.run(methods[way], prompt, NODES, sums[way])
                for way in ([*methods] if number % 2 else [*methods][::-1])
            }
            (one, before), (other, after) = runs["at once"], runs["parts"]
            different += one != other
            ratios += [after / before] if before > 0 else []
        counts = methods["parts"].counts
        found[title] = {
            **{way: one.figures() for way, one in sums.items()}, "time": spread(ratios), "different": different,
            "drafts": counts.drafts, "parts_of_a_draft": round(counts.parts / max(1, counts.drafts), 3),
            "rows_saved": round(counts.saved / max(1, counts.whole), 4),
        }  # fmt: skip
        for method in methods.values():
            method.close()
        print("hvt", title, found[title], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--draft", required=True)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--dataset", default="builtin", help="as in `hierdraft bench run`")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batches", type=int, default=2, help="of eight requests, for TETRIS")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.questions < BATCH:
        parser.error(f"--questions must be at least {BATCH}")
    bench = Bench(args)
    settings = {
        "model": args.model, "draft": Path(args.draft).name, "tokens": args.tokens, "threads": args.threads,
        "engine": getattr(bench.engine, "name", args.engine), "dtype": getattr(bench.engine, "dtype", args.dtype),
        "dataset": Path(args.dataset.partition(":")[0]).stem, "nodes": NODES, "first": FIRST,
    }  # fmt: skip
    drawn, views = {way: nodes for way, (_, nodes) in DRAWN.items()}, dict.fromkeys(VIEWS, 5)
    write("policies", {
        "machine": machine(), "settings": settings, "answers": len(bench.prompts),
        "tetris": tetris(bench, args.batches),
        "mcsd": alone(bench, lambda way: f"draft-model:draft={args.draft}{DRAWN[way][0]}", drawn, sampling=True),
        "tabed": alone(bench, lambda way: f"tabed:draft={args.draft}:views={way}", views, sampling=False),
        "hvt": hvt(bench),
    })  # fmt: skip


if __name__ == "__main__":
    main()
