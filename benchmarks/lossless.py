"""Zero differing tokens: SmolLM2-135M, greedy, plain against drafted decoding with several budgets.

    python benchmarks/lossless.py --dtype float32 --tokens 480

End-of-sequence ids are ignored so that every prompt gives its full number of tokens. With --dtype bfloat16 the first
difference of every answer is reported with the gap between the two best logits at that place.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import hierdraft
from common import machine, prompts, write
from hierdraft.text import encode_prompt

BUDGETS: tuple[int | str, ...] = ("auto", 16, 48)


def gap_at(model: Any, ids: list[int], said: list[int], place: int) -> float:
    """Between the two best logits behind `said[:place]`, from one pass over the whole text."""
    logits = model.engine.prefill(ids + said[:place])[0].double()
    best = logits.topk(2).values
    return float(best[0] - best[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=480)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = hierdraft.load(args.model, dtype=args.dtype, learn=False)
    compared, differing, cases = 0, 0, []
    for number, row in enumerate(prompts(args.per_kind)):
        ids = encode_prompt(model.tokenizer, row["prompt"], chat=True)
        options: dict[str, Any] = {"max_new_tokens": args.tokens, "ignore_eos": True}
        plain = model.generate(ids, method="none", **options).token_ids
        budget = BUDGETS[number % len(BUDGETS)]
        drafted = model.generate(ids, method="hierarchy", budget=budget, **options)
        said = drafted.token_ids
        compared += len(plain)
        place = next((i for i, (a, b) in enumerate(zip(plain, said, strict=True)) if a != b), None)
        if place is not None:
            differing += 1
            cases.append({"id": row["id"], "place": place, "gap": round(gap_at(model, ids, plain, place), 6)})
        print(f"{row['id']:<24} budget {budget!s:>4} accepted length {drafted.accepted_length:.2f} "
              f"{'same' if place is None else f'differs at {place}'}", flush=True)  # fmt: skip
    record = {
        "machine": machine(),
        "settings": vars(args),
        "tokens_compared": compared,
        "answers": number + 1,
        "answers_that_differ": differing,
        "first_differences": cases,
    }
    write(f"lossless-{args.dtype}", record)


if __name__ == "__main__":
    main()
