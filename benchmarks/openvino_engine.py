"""Our OpenVINO engine beside OpenVINO GenAI, plainly and with each one's drafts, in turns on the same weights.

    python benchmarks/openvino_engine.py --dtype bfloat16

GenAI gets the same model in the form that it asks for, traced from the same weights and compressed the same way. It
runs with its own settings, which on a CPU means keys and values in 8 bits. All 42 built-in prompts, at most 128 new
tokens, whole requests with their prefill. benchmarks/openvino-DTYPE.json is the result.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino
import openvino_genai
import torch
from openvino_tokenizers import convert_tokenizer

import hierdraft
from common import by_kind, machine, prompts, spread, write
from hierdraft.choices import number_type, number_types
from hierdraft.engines.hf.load import load_model, load_tokenizer
from hierdraft.engines.openvino.graph import CACHED, as_cache, cache_shapes, parts, with_cache
from hierdraft.models.convert import compressor, quiet
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings

MODEL = "smollm2-135m"
NEW_TOKENS = 128
OURS = {"hierdraft, plain": "none", "hierdraft, hierarchy": "hierarchy"}
THEIRS = {"GenAI, plain": None, "GenAI, prompt lookup of 5": 5, "GenAI, prompt lookup of 10": 10}

Answer = Callable[[list[int]], list[int]]


class WithPlainMask(torch.nn.Module):
    """The model as GenAI calls it: attention_mask int64[1, S + T] instead of masks and rows, logits of every row."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, attention_mask: Any, positions: Any, *past: Any) -> Any:
        """Logits [1, T, V], then keys and values."""
        cache = as_cache(past)
        rows, columns = ids.shape[1], attention_mask.shape[1]
        seen = torch.arange(columns)[None, :] <= torch.arange(rows)[:, None] + (columns - rows)
        mask = torch.where(seen, 0.0, float("-inf"))[None, None]
        logits = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
        return (logits, *parts(cache))


def for_genai(path: Path, dtype: str, folder: Path) -> None:
    """Write the model in `path`, and its tokenizer, in GenAI's own form."""
    model = load_model(path, torch.float32)
    inputs = {"input_ids": [1, -1], "attention_mask": [1, -1], "position_ids": [1, -1]}
    rows = 3
    example = (
        torch.zeros(1, rows, dtype=torch.long), torch.ones(1, CACHED + rows, dtype=torch.long),
        torch.arange(CACHED, CACHED + rows)[None],
    )  # fmt: skip
    with quiet():
        graph = with_cache(WithPlainMask(model), inputs, example, cache_shapes(model), "beam_idx")
        graph = compressor("int8")(graph) if dtype == "int8" else graph
        openvino.save_model(
            graph, folder / "openvino_model.xml", compress_to_fp16=number_type(dtype).weights == "float16"
        )
        for part, name in zip(
            convert_tokenizer(load_tokenizer(path), with_detokenizer=True), ("tokenizer", "detokenizer"), strict=True
        ):
            openvino.save_model(part, folder / f"openvino_{name}.xml")


def genai_pipeline(
    path: Path, threads: int, drafted: int | None, eos: Sequence[int], tokens: int = NEW_TOKENS
) -> Callable[[list[int]], Any]:
    """What GenAI says of a greedy answer, with prompt lookup of `drafted` tokens or without; of a folder or GGUF."""
    options = {"INFERENCE_NUM_THREADS": threads} | ({"prompt_lookup": True} if drafted else {})
    pipeline = openvino_genai.LLMPipeline(str(path), "CPU", **options)

    def answer(ids: list[int]) -> Any:
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=eos[0])
        config.stop_token_ids = set(eos)
        if drafted:
            config.num_assistant_tokens, config.max_ngram_size = drafted, 3
        prompt = np.array([ids], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(np.ones_like(prompt)))
        return pipeline.generate(inputs, config)

    return answer


def genai(folder: Path, threads: int, drafted: int | None, eos: int) -> Answer:
    """GenAI's greedy answer."""
    answer = genai_pipeline(folder, threads, drafted, [eos])
    return lambda ids: [int(token) for token in answer(ids).tokens[0]]


class Stopwatch:
    """Seconds inside the graph, call by call."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.calls: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def infer(self, *given: Any, **options: Any) -> Any:
        """The request's own, timed."""
        started = perf_counter()
        found = self._request.infer(*given, **options)
        self.calls.append(perf_counter() - started)
        return found


def ours(model: Any, method: str, watch: Stopwatch, spent: Counter[str]) -> Answer:
    """Our greedy answer; adds to `spent` where the time of its steps went, the prefill left out."""

    def answer(ids: list[int]) -> list[int]:
        run = model.generate(ids, method=method, max_new_tokens=NEW_TOKENS)
        spent.update(
            seconds=run.seconds - run.prefill_seconds, drafting=run.draft_seconds, forward=run.forward_seconds,
            graph=sum(watch.calls[-run.steps :]) if run.steps else 0.0, steps=run.steps,
        )  # fmt: skip
        return list(run.token_ids)

    return answer


def measure(systems: dict[str, Answer], encode: Callable[[str], list[int]], per_kind: int | None) -> dict[str, Any]:
    """Every system answers every prompt, in turns; seconds and ids."""
    names = list(systems)
    for name in names:
        systems[name](encode("Count from one to twenty."))
    answers: dict[str, Any] = {}
    for number, row in enumerate(prompts(per_kind)):
        ids = encode(row["prompt"])
        shift = number % len(names)
        found = {}
        for name in names[shift:] + names[:shift]:
            started = perf_counter()
            said = systems[name](ids)
            found[name] = {"seconds": perf_counter() - started, "ids": said}
        answers[row["id"]] = {"kind": row["kind"], "systems": found}
        print(row["id"], *(f"{name} {len(one['ids']) / one['seconds']:.1f}" for name, one in found.items()), flush=True)
    return answers


def against(answers: dict[str, Any], name: str, base: str) -> dict[str, Any]:
    """How many times the tokens per second of another system, over all prompts and by kind."""

    def rate(row: dict[str, Any], system: str) -> float:
        one = row["systems"][system]
        return float(len(one["ids"]) / one["seconds"])

    grouped = by_kind({"kind": row["kind"], "ratio": rate(row, name) / rate(row, base)} for row in answers.values())
    return {kind: spread([row["ratio"] for row in rows]) for kind, rows in grouped.items()}


def summary(answers: dict[str, Any]) -> dict[str, Any]:
    """Tokens per second, and everything against everything else."""
    names = list(next(iter(answers.values()))["systems"])
    rows = [row["systems"] for row in answers.values()]
    found = {}
    for name in names:
        plain = f"{name.split(',')[0]}, plain"
        found[name] = {
            "tokens_per_second": round(
                sum(len(row[name]["ids"]) for row in rows) / sum(row[name]["seconds"] for row in rows), 2
            ),
            "same_as_own_plain": sum(row[name]["ids"] == row[plain]["ids"] for row in rows),
            "against": {other: against(answers, name, other) for other in names if other != name},
        }
    return {"answers": len(rows), "systems": found}


def profile(spent: Counter[str]) -> dict[str, float]:
    """Milliseconds of a step, and what share of it was spent where."""
    total = spent["seconds"]
    return {
        "steps": spent["steps"],
        "milliseconds": round(1e3 * total / spent["steps"], 3),
        "graph": round(spent["graph"] / total, 4),
        "drafting": round(spent["drafting"] / total, 4),
        "masks and caches": round((spent["forward"] - spent["graph"]) / total, 4),
        "the rest": round((total - spent["forward"] - spent["drafting"]) / total, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=number_types("openvino")[1:], default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-kind", type=int)
    args = parser.parse_args()
    model = hierdraft.load(MODEL, engine="openvino", dtype=args.dtype, threads=args.threads, learn=False)
    watch = Stopwatch(model.engine._cache._request)
    model.engine._cache._request = watch
    spent: dict[str, Counter[str]] = {name: Counter() for name in OURS}
    systems = {name: ours(model, method, watch, spent[name]) for name, method in OURS.items()}
    with tempfile.TemporaryDirectory() as folder:
        for_genai(resolve(MODEL, load_settings().cache_dir).path, args.dtype, Path(folder))
        for name, drafted in THEIRS.items():
            systems[name] = genai(Path(folder), args.threads, drafted, model.engine.eos_ids[0])
    answers = measure(systems, model.encode, args.per_kind)
    versions = {name: version(name) for name in ("openvino", "openvino-genai")}
    write(f"openvino-{args.dtype}", {
        "machine": {**machine(), **versions}, "settings": vars(args), "step_costs": model.engine.costs.as_dict(),
        "profile": {name: profile(found) for name, found in spent.items()}, **summary(answers),
    })  # fmt: skip


if __name__ == "__main__":
    main()
