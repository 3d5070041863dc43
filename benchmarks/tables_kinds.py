"""Tables of kinds of heads, exits, groups of layers and loops."""

from __future__ import annotations

from typing import Any

from tables import table


def kinds(record: dict[str, Any]) -> str:
    """One table for each part that was measured."""
    parts = record["parts"]
    made = {
        "heads": _heads, "calls": _calls, "search": _search, "exits": _exits, "groups": _groups, "loops": _loops
    }  # fmt: skip
    some = next(iter(parts.values()))
    commits = sorted({part["machine"]["commit"][:8] for part in parts.values()})
    where = f"{some['machine']['cpu']}, commit {', '.join(commits)}."
    return "\n\n".join(made[name](parts[name]) for name in made if name in parts) + "\n\n" + where


def _range(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} ({found['min']:.3f} to {found['max']:.3f})"


def _heads(part: dict[str, Any]) -> str:
    found, settings = part["found"], part["settings"]
    depths = [*found[0]["top1"]]
    rows = [
        [one["kind"], str(one["seeds"]), f"{one['parameters'] / 1e6:.1f}",
         _range(one["accepted_length"]), _range(one["loss"]),
         *(f"{one['top1'][depth]['median']:.3f}" for depth in depths)]
        for one in found
    ]  # fmt: skip
    head = [
        "kind",
        "seeds",
        "million weights",
        "accepted length, chains of six",
        "loss",
        *(f"top-1, {depth}" for depth in depths),
    ]
    return (
        f"{settings['steps']} steps ({found[0]['tokens']:,} tokens), held-out documents; median, lowest "
        "and highest:\n\n" + table(head, rows)
    )


def _calls(part: dict[str, Any]) -> str:
    rows = [
        [name, f"{one['median']:.2f} ({one['min']:.2f} to {one['max']:.2f})"] for name, one in part["found"].items()
    ]
    return f"Milliseconds of a draft of six tokens, {part['settings']['threads']} threads:\n\n" + table(
        ["kind", "milliseconds"], rows
    )


def _search(part: dict[str, Any]) -> str:
    rows = [
        [one["kind"], _yes(one["search"]), _yes(one["adaptive"]), _range(one["accepted_length"])]
        for one in part["found"]
    ]
    return "`diffuspec`, tokens per forward, greedy; median, lowest and highest of the seeds:\n\n" + table(
        ["head", "search", "adaptive length", "accepted length"], rows
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _exits(part: dict[str, Any]) -> str:
    rows = [
        [one["exit"], f"{one['accepted_length']:.2f}", f"{one['speed']['median']:.2f}"] for one in part["found"]
    ]  # fmt: skip
    return "`early-exit` on transformers; fixed: layer, length:\n\n" + table(
        ["exit", "accepted length", "tokens a second over plain"], rows
    )


def _groups(part: dict[str, Any]) -> str:
    base = part["found"][0]["accepted_length"]
    rows = [
        [one["groups"], f"{one['accepted_length']:.2f}", f"{100 * (one['accepted_length'] / base - 1):+.1f} %"]
        for one in part["found"]
    ]
    return "`easyspec`, SmolLM2-135M drafting for itself, chains of five:\n\n" + table(
        ["layers", "accepted length", "over none"], rows
    )


def _loops(part: dict[str, Any]) -> str:
    rows = [
        [str(one["early"]), f"{one['calls']:.2f}", f"{one['right']:.3f}", f"{one['speed']['median']:.2f}"]
        for one in part["found"]["early"]
    ]
    return (
        f"A looped drafter of {part['found']['layers']} layers, {part['found']['loops']} times, by itself; the next "
        "token starts after so many times:\n\n"
        + table(["times", "calls of the layers per token", "right", "tokens a second over one after another"], rows)
    )
