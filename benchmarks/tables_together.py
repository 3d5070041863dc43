"""Tables of many requests at a time, and of what it costs to say what plain decoding says."""

from __future__ import annotations

import statistics
from typing import Any

from tables import table


def throughput(record: dict[str, Any]) -> str:
    """Tokens per second at every level, and how the systems stand to each other."""
    m, s, levels = record["machine"], record["settings"], record["levels"]
    names = [name for name in next(iter(levels.values())) if "," in name]
    ours, drafted, theirs, lookup = names
    rows = []
    for level, found in levels.items():
        speed = {name: found[name]["median"] for name in names}
        rows.append([
            level, *(f"{speed[name]:.0f}" for name in names), f"{speed[ours] / speed[theirs]:.2f}",
            f"{speed[drafted] / max(speed[theirs], speed[lookup]):.2f}", f"{speed[drafted] / speed[ours]:.2f}",
            f"{speed[ours] / levels['1'][ours]['median']:.1f}",
        ])  # fmt: skip
    head = [
        "in flight",
        *names,
        "plain over GenAI's",
        "drafted over GenAI's best",
        "drafted over plain",
        "plain over one",
    ]
    different = sum(found["not_as_alone"] for found in levels.values())
    return (
        f"SmolLM2-135M, {s['dtype']}; {m['cpu']}, {s['threads']} threads, openvino {m['openvino']}, openvino-genai "
        f"{m['openvino-genai']}, commit {m['commit'][:8]}. Tokens per second, prompts included, median of "
        f"{len(levels['1'][ours]['all'])} rounds in turns:\n\n{table(head, rows)}\n\nOf our answers, {different} were "
        "not those of plain decoding alone."
    )


def many(record: dict[str, Any]) -> str:
    """Drafting, first tokens, gaps and memory."""
    m, s = record["machine"], record["settings"]
    turns, memory, gaps = record["turns, ms"], record["memory"], record["gaps"]
    worst = [one["worst over median alone"] for one in gaps["then"]]
    counts = list(memory)
    early, late = memory[counts[1]], memory[counts[-1]]
    drafting = record["drafting, ms"]["both"]
    lines = [
        f"Drafting for 16 requests with texts of 2,000 tokens: {drafting['median']:.2f} ms a step for all "
        f"(99 %: {drafting['p99']:.2f} ms).",
        f"First token behind 2,000 tokens: {turns['first']['median']:.0f} ms; of the next turn behind them "
        f"{turns['second']['median']:.0f} ms ({turns['second over first']['median']:.0%}).",
        "A prompt of 4,000 tokens beside four answers: their longest gap between tokens is "
        f"{statistics.median(worst):.1f} times the median gap without it (rounds {', '.join(map(str, worst))}; "
        f"{gaps['first']['worst over median alone']} in the first one of a process).",
        f"Memory of the process after {counts[1]} requests {early['MB']:.0f} MB, after {counts[-1]} {late['MB']:.0f} "
        f"MB; {late['blocks']} blocks.",
    ]
    about = f"SmolLM2-135M, OpenVINO, {s['dtype']}; {m['cpu']}, {s['threads']} threads, commit {m['commit'][:8]}."
    return "\n".join([about, "", *(f"- {line}" for line in lines)])


def exactness(record: dict[str, Any]) -> str:
    """Exact and audited, side by side."""
    m = record["machine"]
    rows = [
        [dtype, mode, str(found["tokens"]), *(
            cell for way in ("exact", "audited")
            for cell in (f"{found[way]['accepted_length']:.3f}", str(found[way]["different"]))
        ), f"{found['accepted_length']:.3f}", f"{found['time']:.3f}"]
        for dtype, modes in record["dtypes"].items() for mode, found in modes.items()
    ]  # fmt: skip
    head = ["type", "mode", "tokens", "accepted, exact", "answers that differ", "accepted, audited",
            "answers that differ", "accepted, exact over audited", "time per token, exact over audited"]  # fmt: skip
    return (
        f"{m['cpu']}, {record['settings']['threads']} threads, {record['answers']} answers of at most "
        f"{record['settings']['tokens']} tokens each, commit {m['commit'][:8]}.\n\n{table(head, rows)}"
    )
