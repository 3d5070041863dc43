"""What the databases cost: building, opening, looking up, learning; beside published retrievers that install here.

    python benchmarks/databases.py [--sizes 1e6 1e7 3e7 1e8] [--work DIR]

Every stage is a process of its own, so that peak memory is its own. `draftretriever` (REST's) and `arctic-inference`
(SuffixDecoding's tree) are measured where they are installed. Needs about 4 GB of disk for 1e8 tokens.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from common import RESULTS, machine, middle, quantiles, write
from corpus import corpus, library_texts, library_tokens

STEPS = 1_500
MODEL_TOKENS = 10_000_000
CONTEXT = 600
ROUNDS = 7


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def build(work: Path, size: int, level: str) -> dict[str, Any]:
    """Index a corpus and write the pack; peak memory is the whole process's."""
    from hierdraft.databases.pack import Pack, PackInfo, write_pack
    from hierdraft.databases.suffixsort import build as index

    source = corpus(work, size, 1 if level == "statistics" else 2)
    vocab = library_tokens(work)[1]
    index(np.zeros(8, dtype=np.int32), vocab)
    idle = peak_mb()
    started = perf_counter()
    made = index(np.load(source), vocab)
    indexed = perf_counter()
    pack = write_pack(work / f"{level}-{size}.safetensors", made, PackInfo(level, vocab))  # type: ignore[arg-type]
    written = perf_counter()
    opening = []
    for _ in range(50):
        before = perf_counter()
        Pack.open(pack.path)
        opening.append(perf_counter() - before)
    return {
        "tokens": size,
        "index_seconds": round(indexed - started, 2),
        "write_seconds": round(written - indexed, 2),
        "peak_mb": round(peak_mb()),
        "idle_mb": round(idle),
        "bytes_per_token": round(pack.path.stat().st_size / size, 3),
        "open_ms": quantiles(opening, 1e3),
    }


def prepare(work: Path, size: int, level: str) -> dict[str, Any]:
    """Make a corpus; in a process of its own, because a child's peak memory begins with its parent's."""
    return {"file": corpus(work, size, 1 if level == "statistics" else 2).name}


def tokenise(work: Path, size: int, level: str) -> dict[str, Any]:  # noqa: ARG001
    """Our way from texts to documents beside the tokenizers library alone on the same texts, taking turns."""
    from corpus import MODEL
    from hierdraft.cli.db_build import load_tokenizer
    from hierdraft.corpus.tokens import tokenize

    texts, tokenizer = library_texts(), load_tokenizer(MODEL)
    ours, theirs, tokens = [], [], 0
    for _ in range(3):
        started = perf_counter()
        tokens = sum(len(ids) for ids in tokenize(tokenizer, texts))
        ours.append(perf_counter() - started)
        started = perf_counter()
        tokenizer._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        theirs.append(perf_counter() - started)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {"tokens": tokens, "million_tokens_per_second": round(tokens / min(ours) / 1e6, 3),
            "speed_over_library": round(float(np.median(ratios)), 3)}  # fmt: skip


class Timed:
    """The default method with a clock; its own session, since there is one request at a time."""

    def __init__(self, packs: list[Any]) -> None:
        from hierdraft.databases.levels import Databases
        from hierdraft.drafting.hierarchy.method import HierarchyMethod
        from hierdraft.protocols import Offers, Setup

        self.method = HierarchyMethod()
        self.method.attach(Setup(Databases(packs), Offers(scores=False)))
        self.q_kind, self.wants = self.method.q_kind, self.method.wants
        self.proposing: list[float] = []
        self.observing: list[float] = []
        self.nodes: list[int] = []

    def open(self, request: Any) -> Any:
        self.session = self.method.open(request)
        self.finish = self.session.finish
        return self

    def propose(self, tokens: Any, budget: Any) -> Any:
        started = perf_counter()
        tree = self.session.propose(tokens, budget)
        self.proposing.append(perf_counter() - started)
        self.nodes.append(len(tree))
        return tree

    def observe(self, step: Any) -> None:
        started = perf_counter()
        self.session.observe(step)
        self.observing.append(perf_counter() - started)


def lookup(work: Path, size: int, level: str) -> dict[str, Any]:  # noqa: ARG001
    """Proposals from context, a model pack and a statistics pack of `size` tokens, all pages warm."""
    from hierdraft.databases.pack import Pack
    from hierdraft.decoding.loop import Options, decode
    from hierdraft.drafting.budget import FixedBudget
    from hierdraft.engines.replay import ReplayEngine

    vocab = library_tokens(work)[1]
    text = np.load(corpus(work, 200_000, 3))
    text = text[text >= 0]
    packs = [Pack.open(work / f"model-{MODEL_TOKENS}.safetensors"), Pack.open(work / f"statistics-{size}.safetensors")]
    for pack in packs:
        pack.verify()  # reads every page
    result: dict[str, Any] = {"tokens": size}
    for nodes in (28, 60):
        drafter, engine = Timed(packs), ReplayEngine(vocab)
        for begin in range(0, len(text) - 3 * CONTEXT, 3 * CONTEXT):
            engine.play(text[begin + CONTEXT : begin + 3 * CONTEXT])
            options = Options(limit=2 * CONTEXT, budget=FixedBudget(nodes))
            for _ in decode(engine, drafter, text[begin : begin + CONTEXT], options):  # type: ignore[arg-type]
                pass
            if len(drafter.proposing) > STEPS:
                break
        result[str(nodes)] = {
            "proposal_us": quantiles(drafter.proposing[20:]),
            "observe_us": quantiles(drafter.observing[20:]),
            "nodes": round(float(np.mean(drafter.nodes)), 1),
        }
    return result


def rivals(work: Path, size: int, level: str) -> dict[str, Any]:  # noqa: ARG001
    """The published retrievers on the same tokens: build, memory, one look-up of up to 60 tokens."""
    tokens = np.load(corpus(work, size, 1))
    text = np.load(corpus(work, 200_000, 3))
    contexts = [text[at - 16 : at] for at in range(1_000, 31_000, 20) if text[at - 16 : at].min() >= 0]
    vocab = library_tokens(work)[1]
    result: dict[str, Any] = {"tokens": size}
    if find_spec("draftretriever"):
        import draftretriever

        path = work / f"rest-{size}.idx"
        started = perf_counter()
        writer = draftretriever.Writer(str(path), vocab_size=vocab)
        for document in np.split(tokens, np.flatnonzero(tokens < 0)):
            writer.add_entry(document[document >= 0].tolist())
        writer.finalize()
        del writer  # what it has buffered is written now
        made, before = perf_counter() - started, _resident()
        reader = draftretriever.Reader(str(path))

        def search(context: Any) -> int:
            for length in range(16, 1, -1):  # as REST does: the longest suffix that is found
                found = reader.search(context[-length:].tolist(), choices=60)
                if found[0]:
                    return len(found[1]) - 1
            return 0

        result["draftretriever"] = {
            "build_seconds": round(made, 2), **_timed(search, contexts),
            "disk_bytes_per_token": round(path.stat().st_size / size, 2),
            "memory_bytes_per_token": round((_resident() - before) / size, 2),
        }  # fmt: skip
    if find_spec("arctic_inference"):
        from arctic_inference.suffix_decoding._C import SuffixTree

        before, started = _resident(), perf_counter()
        tree = SuffixTree(24)
        for number, document in enumerate(np.split(tokens, np.flatnonzero(tokens < 0))):
            tree.extend_ndarray(number, np.ascontiguousarray(document[document >= 0]))
        made = perf_counter() - started
        result["arctic-inference"] = {
            "build_seconds": round(made, 2),
            **_timed(lambda c: len(tree.speculate_ndarray(c, 60, 4.0, 0.0, 0.0, True).token_ids), contexts),
            "disk_bytes_per_token": None,
            "memory_bytes_per_token": round((_resident() - before) / size, 2),
        }
    return result


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def _timed(look_up: Any, contexts: list[Any]) -> dict[str, Any]:
    """Time of `look_up(context)` and how many tokens it proposes."""
    seconds, nodes = [], []
    for context in contexts:
        started = perf_counter()
        nodes.append(look_up(context))
        seconds.append(perf_counter() - started)
    return {"lookup_us": quantiles(seconds[20:]), "nodes": round(float(np.mean(nodes)), 1)}


def learn(work: Path, size: int, level: str) -> dict[str, Any]:  # noqa: ARG001
    """Appending finished requests of 256 tokens to a store on disk; compactions run meanwhile."""
    from hierdraft.databases.pack import PackInfo
    from hierdraft.databases.store import ModelStore

    text = np.load(corpus(work, 1_000_000, 4))
    documents = [text[i : i + 256][text[i : i + 256] >= 0] for i in range(0, len(text), 256)]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        store = ModelStore(Path(folder), PackInfo("model", library_tokens(work)[1]))
        store.append(documents[0])
        seconds = []
        started = perf_counter()
        for document in documents:
            before = perf_counter()
            store.append(document)
            seconds.append((perf_counter() - before) / len(document))
        everything = perf_counter() - started
        store.close()
    return {"tokens": len(text), "us_per_token": quantiles(seconds), "all_us_per_token": everything / len(text) * 1e6}


STAGES = {stage.__name__: stage for stage in (prepare, build, tokenise, lookup, rivals, learn)}


def run(stage: str, work: Path, size: int = 0, level: str = "statistics") -> Any:
    """One stage in a process of its own."""
    command = [sys.executable, __file__, "--stage", stage, "--size", str(size), "--level", level, "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    print(stage, size, json.dumps(result), flush=True)
    return result


def lookups(work: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Every size in turn, ROUNDS times: the median over the rounds of each figure."""
    rounds = [[run("lookup", work, size) for size in sizes] for _ in range(ROUNDS)]
    return [middle([once[place] for once in rounds]) for place in range(len(sizes))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7, 3e7, 1e8])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--lookup", action="store_true", help="measure proposals again, in a --work that has the packs")
    parser.add_argument("--size", type=int)
    parser.add_argument("--level", default="statistics")
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.work, args.size, args.level)))
        return
    sizes = [int(size) for size in args.sizes]
    if args.lookup:
        record = json.loads((RESULTS / "databases.json").read_text())
        record |= {"lookup": lookups(args.work, sizes), "lookup_machine": machine()}
        write("databases", record)
        return
    with tempfile.TemporaryDirectory(prefix="hierdraft-") as folder:
        work = args.work or Path(folder)
        work.mkdir(exist_ok=True)
        run("prepare", work, MODEL_TOKENS, "model")
        for size in sizes:
            run("prepare", work, size)
        run("build", work, MODEL_TOKENS, "model")
        record = {
            "machine": {**machine(), "command": "python benchmarks/databases.py --sizes " + " ".join(map(str, sizes))},
            "model_tokens": MODEL_TOKENS,
            "tokenise": run("tokenise", work),
            "build": [run("build", work, size) for size in sizes],
            "lookup": lookups(work, sizes),
            "rivals": [run("rivals", work, size) for size in sizes if size <= 10_000_000],
            "learn": run("learn", work),
        }
    write("databases", record)


if __name__ == "__main__":
    main()
