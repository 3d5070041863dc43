"""Zero differing tokens: SmolLM2-135M, plain against drafted decoding, greedy and sampled, every difference audited.

    python benchmarks/lossless.py --dtype float32 --greedy 210 --sampled 200

Prompts are the built-in ones, then those that the embedded pack was made with; end-of-sequence ids are ignored so
that every prompt gives its full number of tokens. `--greedy` and `--sampled` say how many answers there shall be of
each; answers that the result file already holds are kept, so a run can be stopped and continued. For number types
that only promise agreement up to ties, `--itself` also decodes plainly in passes of 8 rows, all but one of them
useless: that is how often plain decoding differs from itself when the shape of its passes changes. With `--together`
the drafted answers are written 1 to 16 at a time, another number for every 32 of them, and compared with plain
decoding, of which every `--alone-every`th 32 are written one after another and the others 16 at a time. `--exact` asks
for plain decoding's ids in a number type that does not promise them by itself.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch

import hierdraft
from common import RESULTS, ROOT, machine, prompts, write
from hierdraft.bench.audit import explain, first_difference
from hierdraft.drafting.plain import PlainMethod
from hierdraft.protocols import Budget
from hierdraft.text import encode_prompt
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.sampling import Sampling

BUDGETS: tuple[int | str, ...] = ("auto", 16, 48)
SAMPLED: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 40, "repetition_penalty": 1.1},
    {"temperature": 1.0, "min_p": 0.05},
)


GROUP, MOST = 32, 16
"""With `--together`: answers that are written with the same number at a time, and the largest such number."""


class Useless(PlainMethod):
    """Seven rows beside the one that counts."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.build(np.full(7, tokens[-1]), np.arange(-1, 6), probe=True).limited(budget.depth)


def questions() -> Iterator[dict[str, str]]:
    """id and prompt: the built-in ones first."""
    yield from prompts()
    sys.path.insert(0, str(ROOT / "packs"))
    from smollm2_prompts import prompts as of_the_pack

    rows = [{"id": f"pack-{number}", "prompt": text} for number, (_, text) in enumerate(of_the_pack())]
    yield from random.Random(0).sample(rows, len(rows))


Job = tuple[str, int, dict[str, str], str]
"""What the answer is called, the number of its question, the question, and `greedy` or `sampled`."""


def _budget(number: int) -> int | str:
    return BUDGETS[number % len(BUDGETS)]


class Comparison:
    """One model, decoding every prompt plainly and with drafts."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.groups = 0
        self.model = hierdraft.load(
            args.model, engine=args.engine, dtype=args.dtype, exact=args.exact, learn=False, threads=args.threads
        )
        exact = self.model.engine.exact
        self.exact = None if exact else hierdraft.load(args.model, engine="hf", dtype="float32", learn=False).engine

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What came of each."""
        if not self.args.together:
            for key, number, row, mode in jobs:
                ids, options = self._asked(number, row, mode)
                plain = self.model.generate(ids, method="none", **options).token_ids
                drafted = self.model.generate(ids, method="hierarchy", budget=_budget(number), **options)
                yield key, self._compared(number, row, options, plain, drafted)
            return
        asked = [self._asked(number, row, mode) for _, number, row, mode in jobs]
        alone = self.groups % self.args.alone_every == 0
        self.groups += 1
        plain = self._together([(ids, {"method": "none", **options}) for ids, options in asked], 1 if alone else MOST)
        at_a_time = random.Random(jobs[0][0]).randint(1, MOST)
        drafting = [
            (ids, {"method": "hierarchy", "budget": _budget(number), **options})
            for (_, number, _, _), (ids, options) in zip(jobs, asked, strict=True)
        ]
        drafted = self._together(drafting, at_a_time)
        for place, (key, number, row, _) in enumerate(jobs):
            found = self._compared(number, row, asked[place][1], plain[place].token_ids, drafted[place])
            yield key, found | {"at_a_time": at_a_time, "alone": alone}

    def _together(self, asked: Sequence[tuple[list[int], dict[str, Any]]], most: int) -> list[Any]:
        """Answers in order, at most so many being written at a time."""
        flying: deque[Any] = deque()
        found = []
        for ids, options in asked:
            if len(flying) == most:
                found.append(flying.popleft().wait())
            flying.append(self.model.submit(ids, **options))
        return found + [stream.wait() for stream in flying]

    def _asked(self, number: int, row: dict[str, str], mode: str) -> tuple[list[int], dict[str, Any]]:
        """A prompt's ids, and how its answers are chosen."""
        ids = encode_prompt(self.model.tokenizer, row["prompt"], chat=True)
        chosen = SAMPLED[number % len(SAMPLED)] | {"seed": number} if mode == "sampled" else {}
        return ids, {"max_new_tokens": self.args.tokens, "ignore_eos": True, **chosen}

    def _compared(
        self, number: int, row: dict[str, str], options: dict[str, Any], plain: list[int], drafted: Any
    ) -> dict[str, Any]:
        ids = encode_prompt(self.model.tokenizer, row["prompt"], chat=True)
        chosen = {name: value for name, value in options.items() if name not in ("max_new_tokens", "ignore_eos")}
        found: dict[str, Any] = {
            "tokens": len(plain), "budget": _budget(number), "accepted_length": round(drafted.accepted_length, 3),
        }  # fmt: skip
        difference = self._explained(row["id"], ids, plain, drafted.token_ids, chosen)
        if difference:
            found["difference"] = difference
        if self.args.itself:
            again = self.model.generate(ids, method=Useless(), budget=8, **options).token_ids
            found["itself"] = self._explained(row["id"], ids, plain, again, chosen)
        return found

    def _explained(
        self, name: str, ids: list[int], one: list[int], other: list[int], chosen: dict[str, Any]
    ) -> dict[str, Any] | None:
        place = first_difference(one, other)
        if place is None:
            return None
        tokens = one[place], other[place]
        found = explain(name, ids, one[:place], tokens, Sampling(**chosen), self.model.engine, self.exact)
        return asdict(found)


def summary(answers: dict[str, Any], mode: str) -> dict[str, Any]:
    """Totals of one mode. Tokens are counted up to the first difference, that place included."""
    rows = [row for key, row in answers.items() if key.startswith(mode)]
    differences = [row["difference"] for row in rows if row.get("difference")]
    itself = [row["itself"] for row in rows if "itself" in row]

    def compared(row: dict[str, Any], name: str) -> int:
        return int(row[name]["position"] + 1 if row.get(name) else row["tokens"])

    found = {
        "answers": len(rows),
        "tokens": sum(compared(row, "difference") for row in rows),
        "ties": sum(one["kind"] == "tie" for one in differences),
        "bugs": sum(one["kind"] == "bug" for one in differences),
    }
    if itself:
        found["itself"] = {
            "answers": len(itself),
            "tokens": sum(compared(row, "itself") for row in rows if "itself" in row),
            "ties": sum(one is not None and one["kind"] == "tie" for one in itself),
            "bugs": sum(one is not None and one["kind"] == "bug" for one in itself),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--engine", default="hf")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=480)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--greedy", type=int, default=42)
    parser.add_argument("--sampled", type=int, default=0)
    parser.add_argument("--itself", action="store_true")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--alone-every", type=int, default=4)
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction)
    args = parser.parse_args()
    name = f"lossless-{args.dtype}" if args.engine == "hf" else f"lossless-{args.engine}-{args.dtype}"
    name += "-together" if args.together else ""
    name += {None: "", True: "-exact", False: "-audited"}[args.exact]
    kept = RESULTS / f"{name}.json"
    record: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    answers, runs = record.get("per_answer", {}), record.get("runs", [])
    if any(row["tokens"] != args.tokens for row in answers.values()):
        raise SystemExit(f"{kept} holds answers of another length: remove it, or give its --tokens.")
    run = {"machine": machine(), "settings": vars(args), "answers": 0}
    runs.append(run)
    comparison = Comparison(args)
    torch.set_num_threads(args.threads)
    jobs: list[Job] = [
        (f"{mode} {row['id']}", number, row, mode)
        for number, row in enumerate(islice(questions(), max(args.greedy, args.sampled)))
        for mode in ("greedy", "sampled")
        if number < getattr(args, mode) and f"{mode} {row['id']}" not in answers
    ]
    for start in range(0, len(jobs), GROUP):
        for key, found in comparison.answers(jobs[start : start + GROUP]):
            answers[key] = found
            run["answers"] += 1
            told = found.get("difference")
            print(key, found["budget"], found["accepted_length"], told["kind"] if told else "same", flush=True)
            write(name, {
                "machine": run["machine"], "settings": vars(args), "runs": runs,
                "greedy": summary(answers, "greedy"), "sampled": summary(answers, "sampled"),
                "per_answer": answers,
            })  # fmt: skip


if __name__ == "__main__":
    main()
