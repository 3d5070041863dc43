"""Tables of the server: with a real model, by itself, beside others, and as an outsider sees it."""

from __future__ import annotations

import statistics
from typing import Any

from tables import table


def serving(record: dict[str, Any]) -> str:
    """The server with a real model: drafted and plain, edits, and how long it takes to be ready."""
    m, s = record["machine"], record["settings"]
    rows = []
    for level, found in record["load"].items():
        drafted, plain = found["hierarchy"], found["none"]
        first, each = drafted["last"]["time_to_first_token_ms"], drafted["last"]["time_per_token_ms"]
        rows.append([
            level, f"{plain['tokens_per_second']:.0f}", f"{drafted['tokens_per_second']:.0f}",
            f"{found['drafted_over_plain']:.2f}", f"{first['p50']:.0f} / {first['p99']:.0f}",
            f"{each['p50']:.1f} / {each['p99']:.1f}", str(plain["failed"] + drafted["failed"]),
        ])  # fmt: skip
    head = ["in flight", "without drafts", "with drafts", "ratio", "first token, ms, p50 / p99",
            "a token, ms, p50 / p99", "failed"]  # fmt: skip
    edits = record["prediction"]
    ratios = [", ".join(f"{one[name]:.1f}" for one in edits) for name in ("over_plain", "over_drafted")]
    start = record["start"]
    about = f"SmolLM2-135M, OpenVINO, {s['dtype']}; {m['cpu']}, {s['threads']} threads, commit {m['commit'][:8]}"
    return (
        f"{about}, clients on the same machine. Tokens per second, prompts included, median of {s['rounds']} rounds in "
        f"turns; waits are those with drafts:\n\n{table(head, rows)}\n\nAnswers of 400 tokens that were predicted but "
        f"for every 25th word: {ratios[0]} times as fast as plainly, {ratios[1]} times as fast as with drafts and no "
        f"prediction. Ready {statistics.median(start['ready']):.1f} s after its start, where `hierdraft.load` alone "
        f"takes {statistics.median(start['load']):.1f} s."
    )


def server_load(record: dict[str, Any]) -> str:
    """What the server adds to a token, and what rude clients leave behind."""
    m, loads, rude = record["machine"], record["load"], record["rude"]
    more = rude["descriptors"][1] - rude["descriptors"][0]
    rows = [
        [str(one["streams"]), str(one["in_flight"]), f"{one['seconds']:.0f}", str(one["answers"]), str(one["missing"]),
         *(f"{one['added_ms'][share]:.1f}" for share in ("p50", "p99", "p99.9")), f"{one['growth']:+.1%}"]
        for one in loads
    ]  # fmt: skip
    head = ["streams", "in a forward at most", "seconds", "answers", "tokens that did not come", "added, ms, p50",
            "p99", "p99.9", "memory"]  # fmt: skip
    about = f"{m['cpu']}, commit {m['commit'][:8]}, clients on the same machine; a forward takes 20 ms."
    return (
        f"{about}\n\n{table(head, rows)}\n\n{rude['cycles']} rude clients (half a request, a reset, a reader that "
        f"stops, one that leaves) in {rude['seconds']:.0f} s: {rude['requests_left']} requests left after the last "
        f"one, {more:+d} descriptors."
    )


def rivals(record: dict[str, Any]) -> str:
    """Tokens per second of several servers behind the same load."""
    m, s, levels = record["machine"], record["settings"], record["levels"]
    names = list(next(iter(levels.values())))
    rows = [
        [name, *(f"{found[name]['tokens_per_second']:.0f}" for found in levels.values()),
         *(f"{found['hierdraft, hierarchy']['tokens_per_second'] / found[name]['tokens_per_second']:.2f}"
           for found in levels.values())]
        for name in names
    ]  # fmt: skip
    head = ["server", *(f"{level} at a time" for level in levels), *(f"ours over it at {level}" for level in levels)]
    cold = [
        f"{found['hierdraft, hierarchy']['all'][0]:.0f} against at most "
        f"{max(one['all'][0] for name, one in found.items() if not name.startswith('hierdraft')):.0f}"
        for found in levels.values()
    ]
    return (
        f"SmolLM2-135M; {m['cpu']}, {s['threads']} threads, commit {m['commit'][:8]}, xllamacpp {m['xllamacpp']}, "
        f"openvino-genai {m['openvino-genai']}. hierdraft and GenAI in {s['dtype']}, llama.cpp in Q4_1. Tokens per "
        f"second, prompts included, median of {s['rounds']} rounds in turns:\n\n{table(head, rows)}\n\nEvery round "
        f"asks the same, and who keeps something of a text gains; in the first round ours had {', '.join(cold)} "
        "of the others."
    )


def guidellm(record: dict[str, Any]) -> str:
    """What guidellm says of the server."""
    m, s = record["machine"], record["settings"]
    rows = [
        [method, streams, str(one["requests"]), str(one["failed"]), f"{one['tokens_per_second']:.0f}",
         *(f"{one[what]['p50']:.{digits}f} / {one[what]['p95']:.{digits}f}"
           for what, digits in (("first_token_ms", 0), ("between_tokens_ms", 1), ("answer_s", 1)))]
        for method, levels in record["methods"].items() for streams, one in levels.items()
    ]  # fmt: skip
    head = ["method", "at a time", "answers", "failed", "tokens a second", "first token, ms, p50 / p95",
            "between tokens, ms", "answer, s"]  # fmt: skip
    about = f"guidellm {s['guidellm']}, {s['seconds']} s each; SmolLM2-135M, OpenVINO, {s['dtype']}; {m['cpu']}, commit"
    return f"{about} {m['commit'][:8]}.\n\n{table(head, rows)}"


def tenants(record: dict[str, Any]) -> str:
    """How well an attacker tells what another key has asked."""
    m, s = record["machine"], record["settings"]
    rows = [
        [layout, str(found["asked"] + found["not_asked"]),
         *(f"{found[what]:.2f}" for what in ("events", "first", "whole"))]
        for layout, found in record["layouts"].items()
    ]  # fmt: skip
    head = ["keys with", "notes", "by the number of events", "by the time to the first", "by the whole time"]
    return f"SmolLM2-135M, OpenVINO, {s['dtype']}; {m['cpu']}, commit {m['commit'][:8]}.\n\n{table(head, rows)}"
