"""Kinds of heads, exits and groups of layers: what each paper says of its own, measured on SmolLM2-135M.

    python benchmarks/kinds.py --train --data records.jsonl     # heads of all kinds, three seeds each; hours
    python benchmarks/kinds.py --questions question.jsonl [--only heads calls search exits groups]

benchmarks/kinds.json is the result. Heads are trained with equal steps into build/kinds/NAME-SEED, one after another; a
run continues where it was stopped.

- heads    held-out agreement and accepted length of each kind, three seeds (KOALA: one layer, two, two and the critic)
- calls    milliseconds of a draft: a sequential head's calls one after another, and one call of each head that says
           several tokens
- search   tokens per forward of DiffuSpec's two parts, each on and off, three seeds
- exits    tokens a second of fixed exits and lengths, and of those that are chosen (DEL)
- groups   tokens per forward of a model that drafts for itself in groups of layers (EasySpec)
- loops    tokens a second of a looped model with several tokens at different depths, over one after another (SPEED)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import hierdraft
from common import RESULTS, ROOT, machine, spread, write
from hierdraft.bench.datasets import load_questions
from hierdraft.engines.hf.looped import Looped
from hierdraft.models.drafter_files import TRAINING
from hierdraft.models.load import open_beside
from hierdraft.models.named import resolve
from hierdraft.protocols import Part
from hierdraft.settings import load_settings
from hierdraft.tree import DraftTree

MODEL = "smollm2-135m"
SEEDS = (0, 1, 2)
KINDS = {
    "one layer": ["--kind", "eagle3"],
    "two layers": ["--kind", "eagle3", "--layers", "2"],
    "koala": ["--kind", "koala"],
    "parallel": ["--kind", "parallel"],
    "coral": ["--kind", "coral"],
    "block": ["--kind", "block"],
}
EXITS = "exits"
OFFSETS = 6
FIXED = [*product((6, 12, 18, 24), (1, 2, 4))]
GROUPS = {
    "as it is": "group=1", "pairs": "group=2", "pairs, not calibrated": "group=2:calibrate=false",
    "pairs of all layers": "group=2:ends=0", "fours": "group=4",
}  # fmt: skip
LOOPED, LAYERS, LOOPS = "looped", 2, 5
PARTS = ("heads", "calls", "search", "exits", "groups", "loops")


def folder_of(name: str, seed: int) -> Path:
    """Where a head lies."""
    return ROOT / "build" / "kinds" / f"{name.replace(' ', '-')}-{seed}"


def seeds_of(name: str) -> list[int]:
    """Those that it was trained with."""
    return [seed for seed in SEEDS if (folder_of(name, seed) / TRAINING).is_file()]


def train(args: argparse.Namespace) -> None:
    """All that were asked for and are not there yet."""
    for seed, (name, given) in product(args.seeds, [*KINDS.items(), (EXITS, ["--kind", "exit"])]):
        if name not in args.names or (name == EXITS and seed):
            continue
        command = [
            sys.executable, "-m", "hierdraft", "train", "head", "--model", MODEL, "--data", args.data,
            "--out", str(folder_of(name, seed)), *given, "--steps", str(args.steps), "--seed", str(seed),
            "--logprobs", "8", "--weights", "int8", "--dtype", args.dtype, "--threads", str(args.threads), "--json",
        ]  # fmt: skip
        subprocess.run(command, check=True)
    if LOOPED not in args.names:
        return
    command = [
        sys.executable, "-m", "hierdraft", "train", "drafter", "--model", MODEL, "--data", args.data,
        "--out", str(folder_of(LOOPED, 0)), "--layers", str(LAYERS), "--loops", str(LOOPS), "--init", "random",
        "--steps", str(4 * args.steps), "--dtype", args.dtype, "--threads", str(args.threads), "--json",
    ]  # fmt: skip
    subprocess.run(command, check=True)


def heads(_: argparse.Namespace) -> list[dict[str, Any]]:
    """What training.json has of each, over the seeds."""
    found = []
    for name in KINDS:
        records = [
            json.loads((folder_of(name, seed) / TRAINING).read_text(encoding="utf-8")) for seed in seeds_of(name)
        ]
        held = [record["held_out"] for record in records]
        found.append({
            "kind": name, "seeds": len(records), "parameters": records[0]["parameters"], "tokens": records[0]["tokens"],
            "accepted_length": spread([one["accepted_length"] for one in held]),
            "loss": spread([one["loss"] for one in held]),
            **{
                f"top{k}": {depth: spread([one["agreement"][depth][f"top{k}"] for one in held]) for depth in "123456"}
                for k in (1, 3)
            },
        })  # fmt: skip
    return found


def calls(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a draft of six tokens, all kinds taking turns, after texts of the same length."""
    drafts = {name: _draft(folder_of(name, SEEDS[0]), args.context) for name in KINDS}
    times: dict[str, list[float]] = {name: [] for name in drafts}
    for turn in range(args.repeats + 1):
        for name, draft in drafts.items():
            started = perf_counter()
            draft()
            if turn:
                times[name].append((perf_counter() - started) * 1e3)
    return {name: spread(some) for name, some in times.items()}


def _draft(folder: Path, context: int) -> Any:
    """What makes a draft of six tokens below a text: a chain of calls, or one."""
    opened = open_beside(str(folder))
    engine, reads = opened.engine, opened.reads
    if reads is None:
        raise SystemExit(f"{folder} is no head.")
    drawn, width, out = np.random.default_rng(0), engine.offers.features, engine.offers.layers
    features = drawn.standard_normal((context + OFFSETS, width)).astype(np.float32)
    sequence = engine.open(reuse=None)
    engine.forward([Part(sequence, np.arange(context, dtype=np.int32), DraftTree.empty(), 1, (), features[:context])])
    last, row = np.array([7], dtype=np.int32), features[context : context + 1]
    block = reads.block

    def sequential() -> None:
        sequence.rewind(context)
        found = engine.forward([Part(sequence, last, DraftTree.empty(), 1, (out,), row)])[0]
        for depth in range(1, OFFSETS):
            engine.choices(found.logits)
            chain = DraftTree.chain(np.arange(depth, dtype=np.int32))
            given = np.asarray(found.hidden[out], dtype=np.float32)[-1:]
            found = engine.forward([Part(sequence, last[:0], chain, 0, (out,), given)])[0]
        engine.choices(found.logits)

    def at_once() -> None:
        if block is None:
            return
        sequence.rewind(context)
        chain = DraftTree.chain(np.repeat(last, block.size) if block.ids is None else block.ids)
        beside = np.repeat(row, block.size, axis=0) if block.features is None else block.features
        given = np.concatenate([row, beside])
        engine.choices(engine.forward([Part(sequence, last, chain, 1, (), given, block.among)])[0].logits)

    return sequential if block is None else at_once


def search(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per forward, greedy."""
    model, questions = _model(args, "openvino"), load_questions(f"spec-bench:{args.questions}", args.limit)
    found = []
    for kind, searched, adaptive in product(("parallel", "block"), (False, True), (False, True)):
        lengths = []
        for seed in seeds_of(kind):
            told = f"search={searched}:adaptive={adaptive}".lower()
            lengths.append(_length(model, questions, f"diffuspec:draft={folder_of(kind, seed)}:{told}", args)[0])
        found.append({"kind": kind, "search": searched, "adaptive": adaptive, "accepted_length": spread(lengths)})
        print(found[-1], flush=True)
    return found


def exits(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per forward and tokens a second over plain decoding's, each method with all questions in turn."""
    model, questions = _model(args, "hf"), load_questions(f"spec-bench:{args.questions}", args.limit)
    draft = f"early-exit:draft={folder_of(EXITS, 0)}"
    names = {"chosen": draft} | {
        f"{layer}, {length}": f"{draft}:layer={layer}:length={length}" for layer, length in FIXED
    }
    plain = _length(model, questions, "none", args)[1]
    found = []
    for name, method in names.items():
        length, pace = _length(model, questions, method, args)
        ratios = [ours / theirs for ours, theirs in zip(pace, plain, strict=True)]
        found.append({"exit": name, "accepted_length": length, "speed": spread(ratios)})
        print(found[-1], flush=True)
    return found


def groups(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per forward with chains of five."""
    model, questions = _model(args, "hf"), load_questions(f"spec-bench:{args.questions}", args.limit)
    found = []
    for name, settings in GROUPS.items():
        length, _ = _length(model, questions, f"easyspec:draft={MODEL}:width=1:depth=5:{settings}", args)
        found.append({"groups": name, "accepted_length": length})
        print(found[-1], flush=True)
    return found


def loops(args: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, question by question."""
    folder = resolve(str(folder_of(LOOPED, 0)), load_settings().cache_dir).path
    torch.set_num_threads(args.threads)
    made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    looped, model = Looped(made, LOOPS), _model(args, "openvino")
    questions = load_questions(f"spec-bench:{args.questions}", args.limit)
    found = []
    for early in range(1, LOOPS):
        ratios, calls, right, drafted, differ = list[float](), 0, 0, 0, 0
        for question in questions:
            prompt, seconds, said = model.encode(question.turns[0]), list[float](), list[Any]()
            for way in (looped.sequential, lambda ids, limit, early=early: looped.pipelined(ids, limit, early)):
                started = perf_counter()
                said.append(way(prompt, args.tokens))
                seconds.append(perf_counter() - started)
            one = said[1]
            ratios.append(seconds[0] / seconds[1])
            calls, right, drafted = calls + one.calls, right + one.right, drafted + one.drafted
            differ += one.ids != said[0].ids
        found.append({
            "early": early, "speed": spread(ratios), "calls": round(calls / (len(questions) * args.tokens), 3),
            "right": round(right / max(1, drafted), 4), "different": differ,
        })  # fmt: skip
        print(found[-1], flush=True)
    return {"layers": LAYERS, "loops": LOOPS, "early": found}


def _model(args: argparse.Namespace, engine: str) -> Any:
    return hierdraft.load(MODEL, engine=engine, threads=args.threads, learn=False, dtype="float32")


def _length(model: Any, questions: Any, method: str, args: argparse.Namespace) -> tuple[float, list[float]]:
    """(tokens per forward of all questions, tokens a second of each)."""
    tokens = steps = 0
    pace = []
    for question in questions:
        run = model.generate(model.encode(question.turns[0]), method=method, budget=16, max_new_tokens=args.tokens)
        tokens, steps = tokens + len(run.token_ids) - 1, steps + run.steps
        pace.append((len(run.token_ids) - 1) / (run.seconds - run.prefill_seconds))
    return round(tokens / max(1, steps), 3), pace


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--data", default="records.jsonl")
    parser.add_argument("--names", nargs="+", choices=[*KINDS, EXITS, LOOPED], default=[*KINDS, EXITS, LOOPED])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, choices=SEEDS)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--questions")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--limit", type=int, default=2, help="questions of each task")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--context", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.train:
        train(args)
    if not args.questions:
        return
    stored = RESULTS / "kinds.json"
    parts = json.loads(stored.read_text(encoding="utf-8"))["parts"] if stored.exists() else {}
    settings = {name: getattr(args, name) for name in ("steps", "limit", "tokens", "context", "repeats", "threads")}
    for part in PARTS:
        if part in args.only:
            made = {"heads": heads, "calls": calls, "search": search, "exits": exits, "groups": groups, "loops": loops}[
                part
            ](args)
            parts[part] = {"machine": machine(), "settings": settings, "found": made}
            write("kinds", {"parts": parts})


if __name__ == "__main__":
    main()
