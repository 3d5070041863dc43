"""Turns recorded results into the tables of README and docs, so that no number is typed by hand.

    python benchmarks/render.py          # rewrites every figure block of README.md, RESULTS.md and docs/*.md

A block stands between `<!-- figures: benchmarks/FILE.json -->` and `<!-- end figures -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tables import (
    against,
    arctic,
    batch,
    between,
    budgets,
    gpu,
    law,
    lossless,
    mutation,
    openvino,
    packs,
    peers,
    spec_bench,
    table,
    temperatures,
    vllm,
)
from tables_contexts import contexts
from tables_drafters import drafters
from tables_gguf import gguf_rivals, gguf_startup
from tables_kinds import kinds
from tables_models import installed, policies, real_sizes
from tables_serving import guidellm, rivals, server_load, serving, tenants
from tables_together import exactness, many, throughput

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- figures: (benchmarks/[\w.-]+\.json) -->\n)(.*?)(<!-- end figures -->)", re.DOTALL)
KINDS = ("conversation", "translation", "summarisation", "question_answering", "arithmetic", "passages", "all")


def render(path: Path) -> str:
    """The Markdown for a result file, chosen by the file's name."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for prefix, made in TABLES.items():
        if path.stem.startswith(prefix):
            return made(record) + "\n"
    raise ValueError(f"there is no table for {path.name}")


def _range(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({between(value)})"


def _where(record: dict[str, Any]) -> str:
    m, s = record["machine"], record["settings"]
    threads = f", {s['threads']} threads" if "threads" in s else ""
    return f"{m['cpu']}{threads}, torch {m['torch']}, transformers {m['transformers']}, commit {m['commit'][:8]}"


def decoding(record: dict[str, Any]) -> str:
    summary, settings = record["summary"], record["settings"]
    own = "context" in record["methods"]  # drafts from the request's own text only, where packs are used too
    head = [
        "kind",
        "accepted length",
        "drafts over plain",
        *(["the same, own text only"] if own else []),
        "drafts over `generate`",
        "`generate` with prompt lookup over `generate`",
        "`custom_generate` over `generate`",
    ]
    rows = [
        [
            kind.replace("_", " "),
            f"{t['accepted_length']:.2f}",
            _range(t["speedup_over_plain"]["hierarchy"]),
            *([_range(t["speedup_over_plain"]["context"])] if own else []),
            _range(t["speedup_over_transformers"]["hierarchy"]),
            _range(t["speedup_over_transformers"]["transformers-lookup"]),
            _range(t["speedup_over_transformers"]["custom-generate"]),
        ]
        for kind, t in ((kind, summary[kind]) for kind in KINDS)
    ]
    whole = summary["all"]
    speeds = whole["tokens_per_second"]
    lines = [
        f"SmolLM2-135M, {settings['dtype']}, {whole['prompts']} prompts, at most {settings['tokens']} new tokens; "
        f"whole requests with their prefill; median over prompts (95 % interval). {_where(record)}.",
        "",
        table(head, rows),
        "",
        "Tokens per second over all prompts: "
        + ", ".join(f"{text} {speeds[m]:.1f}" for m, text in record["methods"].items())
        + ".",
        "",
        f"Answers equal to our plain decoding, of {whole['prompts']}: "
        + ", ".join(f"{text} {whole['same_as_plain'][m]}" for m, text in record["methods"].items() if m != "none")
        + ".",
    ]
    return "\n".join(lines)


def schemas(record: dict[str, Any]) -> str:
    rows = [
        [name, f"{way['accepted']} ({way['accepted'] / record['schemas']:.0%})", str(way.get("checked_at_the_end", "")),
         f"{1000 * way['median_seconds']:.0f} ms"]
        for name, way in record["results"].items()
    ]  # fmt: skip
    lenient = record["results"]["rewritten, lenient"]["refused"]
    network = lenient["a reference to the network"]
    held = record["schemas"] - network
    accepted = record["results"]["rewritten, lenient"]["accepted"]
    head = ["way", f"accepted of {record['schemas']}", "of them checked at the end", "median time"]
    return (
        f"SchemaStore's schemas as they are, commit {record['commit'][:8]}; llguidance {record['llguidance']}.\n\n"
        + table(head, rows)
        + f"\n\n{network} need a schema from the network; of the other {held}, {accepted / held:.1%} are accepted."
    )


def grammars(record: dict[str, Any]) -> str:
    rows = []
    for title, case in record["cases"].items():
        for name, times in case["microseconds"].items():
            rows.append([
                title, name, *(f"{value:g}" for value in times.values()),
                f"{case['forced_places'][name]} of {case['tokens']}", f"{case['equal_masks']} of {case['tokens']}",
            ])  # fmt: skip
    what = list(next(iter(next(iter(record["cases"].values()))["microseconds"].values())))
    versions = ", ".join(f"{name} {about['version']}" for name, about in record["libraries"].items())
    head = ["schema", "library", *(f"{name}, us" for name in what), "places with forced text", "equal masks"]
    return f"Medians per call. {record['machine']['cpu']}, {versions}.\n\n" + table(head, rows)


def profile(record: dict[str, Any]) -> str:
    parts = list(next(iter(record["runs"].values()))["milliseconds"])
    head = ["run", "rows", "ms a step", *parts, "outside the model"]
    rows = [
        [
            name, f"{run['rows_per_step']:.1f}", f"{run['milliseconds_per_step']:.2f}",
            *(f"{run['milliseconds'][part]:.3f}" for part in parts), f"{run['share_outside_the_model']:.1%}",
        ]
        for name, run in record["runs"].items()
    ]  # fmt: skip
    return f"Milliseconds a step. {_where(record)}.\n\n" + table(head, rows)


def forward(record: dict[str, Any]) -> str:
    costs = record["milliseconds"]
    sizes = list(next(iter(costs.values()))["lean"])
    rows = [
        [f"{name}, {dtype}", *(f"{engine[rows]['median']:.1f}" for rows in sizes)]
        for dtype, engines in costs.items()
        for name, engine in engines.items()
    ]
    context = record["settings"]["context"]
    return f"Milliseconds of a forward after {context} cached positions, median. {_where(record)}.\n\n" + table(
        ["rows", *sizes], rows
    )


def databases(record: dict[str, Any]) -> str:
    """Building, looking up and learning, with the rivals."""
    m, learn, tokenise = record["machine"], record["learn"], record["tokenise"]
    build = [
        [
            f"{b['tokens'] / 1e6:.0f} M", f"{b['index_seconds']:.2f} s", f"{b['write_seconds']:.2f} s",
            f"{b['peak_mb'] / 1e3:.2f} GB", f"{b['bytes_per_token']:.2f}", f"{b['open_ms']['median']:.2f} ms",
        ]
        for b in record["build"]
    ]  # fmt: skip
    look = [
        [
            f"{row['tokens'] / 1e6:.0f} M",
            *(f"{row[n]['proposal_us'][q]:.0f}" for n in ("28", "60") for q in ("median", "p99")),
            *(f"{row[n]['observe_us']['median']:.0f}" for n in ("28", "60")),
        ]
        for row in record["lookup"]
    ]
    rivals = [
        [
            name, f"{row['tokens'] / 1e6:.0f} M", f"{r['build_seconds']:.1f} s", f"{r['nodes']:.0f}",
            f"{r['lookup_us']['median']:.0f}", f"{r['lookup_us']['p99']:.0f}", f"{r['memory_bytes_per_token']:.1f}",
            "none" if r["disk_bytes_per_token"] is None else f"{r['disk_bytes_per_token']:.1f}",
        ]
        for row in record["rivals"]
        for name, r in row.items()
        if name != "tokens"
    ]  # fmt: skip
    us = learn["us_per_token"]
    lines = [
        f"{m['cpu']}, commit {m['commit'][:8]}. Tokenising: {tokenise['million_tokens_per_second']:.2f} million tokens "
        f"a second, {tokenise['speed_over_library']:.2f} times the tokenizers library alone on the same texts.",
        "",
        table(["tokens", "index", "write", "peak memory", "bytes a token on disk", "open"], build),
        "",
        "One proposal in microseconds, from the request's own text, a model pack of "
        f"{record['model_tokens'] / 1e6:.0f} M tokens and a statistics pack of the size on the left, one thread; "
        "then what observing a step takes. "
        f"Commit {record.get('lookup_machine', m)['commit'][:8]}.",
        "",
        table(["tokens", "28 nodes", "p99", "60 nodes", "p99", "observe, 28", "observe, 60"], look),
        "",
        "Published retrievers on the same tokens, asked for 60 tokens after the same contexts (microseconds; they look "
        "into one database only):",
        "",
        table(
            [
                "",
                "tokens",
                "build",
                "tokens proposed",
                "look-up",
                "p99",
                "memory, bytes a token",
                "disk, bytes a token",
            ],
            rivals,
        ),
        "",
        f"Learning a finished request of 256 tokens, on disk: {us['median']:.2f} microseconds a token "
        f"(p99 {us['p99']:.2f}), {learn['all_us_per_token']:.2f} on average with the compactions that ran meanwhile.",
    ]
    return "\n".join(lines)


def startup(record: dict[str, Any]) -> str:
    parts = [f"`{name}` {value['median']:.0f} ms" for name, value in record["milliseconds"].items()]
    whole = "Whole processes, median: " + ", ".join(parts) + "."
    if "seconds_to_first_token" not in record:
        return whole
    first = [f"{engine} {value['median']:.1f} s" for engine, value in record["seconds_to_first_token"].items()]
    return f"{whole}\n\n`hierdraft generate` with `{record['model']}` to its first token: {', '.join(first)}."


def replay(record: dict[str, Any]) -> str:
    """Accepted length of every method on every file, per task on the first, and what each idea is worth."""
    m, scores = record["machine"], record["scores"]
    first = next(iter(scores))
    budgets = list(scores[first])
    everywhere = [
        method for method in scores[first][budgets[0]] if all(method in s[budgets[-1]] for s in scores.values())
    ]
    overall = [
        [f"`{method}`", title, *(f"{scores[title][n][method]['accepted_length']:.2f}" for n in budgets)]
        for title in scores
        for method in everywhere
    ]
    at = "28" if "28" in budgets else budgets[-1]
    tasks = list(scores[first][at]["hierarchy"]["tasks"])
    per_task = [
        [
            f"`{method}`", n, *(f"{score['tasks'][task]['accepted_length']:.2f}" for task in tasks),
            f"{score['accepted_length']:.2f}",
        ]
        for n in dict.fromkeys([at, budgets[-1]])
        for method, score in scores[first][n].items()
    ]  # fmt: skip
    ideas = [[title, *(f"{value:.3f}" for value in found.values())] for title, found in record["ideas"].items()]
    sizes = list(next(iter(record["ideas"].values())))
    again = "".join(f"; `{method}` {commit[:8]}" for method, commit in record.get("again", {}).items())
    lines = [
        f"{m['cpu']}, commit {m['commit'][:8]}{again}.",
        "",
        table(["method", "records", *(f"{n} nodes" for n in budgets)], overall),
        "",
        f"{first}, per task:",
        "",
        table(["method", "nodes", *(task.replace("_", " ") for task in tasks), "all"], per_task),
        "",
        f"The default with one thing changed, {first}:",
        "",
        table(["change", *(f"{n} nodes" for n in sizes)], ideas),
    ]
    return "\n".join(lines)


TABLES = {
    "against": against,
    "arctic-suffix": arctic,
    "batch-drafting": batch,
    "drafters": drafters,
    "heads": drafters,
    "kinds": kinds,
    "big-contexts": contexts,
    "flashspec": peers,
    "openvino-genai": peers,
    "openvino": openvino,
    "transformers": peers,
    "spec-bench-temperature": temperatures,
    "spec-bench": spec_bench,
    "vllm": vllm,
    "throughput": throughput,
    "many-requests": many,
    "exact-mode": exactness,
    "server-load": server_load,
    "serving-rivals": rivals,
    "serving": serving,
    "guidellm": guidellm,
    "tenants": tenants,
    "budgets": budgets,
    "gpu": gpu,
    "gguf-rivals": gguf_rivals,
    "gguf-startup": gguf_startup,
    "packs": packs,
    "policies": policies,
    "installed": installed,
    "real-sizes": real_sizes,
    "law": law,
    "mutation": mutation,
    "replay": replay,
    "databases": databases,
    "decoding": decoding,
    "lossless": lossless,
    "grammars": grammars,
    "schemas": schemas,
    "step-profile": profile,
    "forward-cost": forward,
    "startup": startup,
}


def main() -> None:
    pages = [ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda m: m[1] + render(ROOT / m[2]) + m[4], text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"rewrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
