"""Tables of long texts."""

from __future__ import annotations

from typing import Any

from tables import table


def contexts(record: dict[str, Any]) -> str:
    """Drafting behind long texts, engines behind them, and how what is outside of the model grows."""
    m, s = record["machine"], record["settings"]
    drafting = [
        [
            f"{int(context):,}", f"{one['text']['index_ms']:.1f}", f"{one['text']['index_us_per_token']:.2f}",
            f"{one['text']['bytes_per_token']:.0f}",
            *(f"{one[kind]['propose_us'][q]:.0f}" for kind in ("text", "loop") for q in ("median", "p99")),
        ]
        for context, one in record["drafting"].items()
    ]  # fmt: skip
    rows = list(next(iter(next(iter(record["engines"].values())).values()))["forward_ms"])
    engines = [
        [
            name, f"{int(context):,}", f"{one['prefill_seconds']:.1f}",
            f"{one['rows_per_second']['first']}, {one['rows_per_second']['last']}",
            *(f"{one['forward_ms'][count]:.0f}" for count in rows), f"{one['cache_bytes_per_token'] / 1024:.1f}",
            f"{one['peak_growth_mb']:.0f}", f"{one['outside']['prompt_us_per_token']:.1f}",
            f"{one['outside']['step_us'] / 1000:.1f}",
        ]
        for name, found in record["engines"].items()
        for context, one in found.items()
    ]  # fmt: skip
    grown = "; ".join(
        f"{name}: " + ", ".join(f"{ratio:.2f}" for ratio in ratios.values())
        for name, ratios in record["doublings"].items()
    )
    return "\n".join([
        f"{m['cpu']}, one thread, float32 where nothing else is said, commit {m['commit'][:8]}. Indexing a prompt, and "
        "proposing 32 nodes behind it: in real text, and in a text that repeats one passage of 20 tokens.",
        "",
        table(
            ["tokens", "index, ms", "us a token", "bytes a token", "a proposal, us", "p99", "repeated, us", "p99"],
            drafting,
        ),
        "",
        f"Whole requests of the default drafter with {s['nodes']} nodes a step:",
        "",
        table(
            [
                "engine", "tokens", "prompt, s", "rows a second, first and last piece",
                *(f"{n} rows, ms" for n in rows), "cache, KiB a token", "peak memory, MB more",
                "outside the model, us a token of the prompt", "ms a step",
            ],
            engines,
        ),
        "",
        f"What is outside of the model, for a prompt of twice the length, takes so many times as long: {grown}.",
    ])  # fmt: skip
