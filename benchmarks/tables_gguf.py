"""Tables of GGUF files: the same file in other programs, and how long it takes until one answers."""

from __future__ import annotations

from typing import Any

from tables import between, table

BEST = "the best of the others"
KINDS = ("conversation", "translation", "summarisation", "question_answering", "arithmetic", "passages", "all")


def gguf_rivals(record: dict[str, Any]) -> str:
    """Speeds and sameness of every system on one file, and what is over what."""
    m, s, systems = record["machine"], record["settings"], record["systems"]
    about = (
        f"{s['gguf']}; {m['cpu']}, {s['threads']} threads, xllamacpp {m['xllamacpp']} ({m['llama.cpp uses']}), "
        f"openvino {m['openvino']}, openvino-genai {m['openvino-genai']}, commit {m['commit'][:8]}. "
        f"{record['prompts']} prompts, at most {s['tokens']} new tokens, one request at a time, all in turns, rounds: "
        f"{s['rounds']}. Tokens per second, prompts included, median over answers by kind; then after the first token:"
    )
    head = ["", *(kind.replace("_", " ") for kind in KINDS), "after the first token", "first token, ms"]
    rows = [
        [name, *(f"{one['tokens_per_second']['whole'][kind]:.0f}" for kind in KINDS),
         f"{one['tokens_per_second']['after']['all']:.0f}", f"{one['first_token_ms']:.0f}"]
        for name, one in systems.items()
    ]  # fmt: skip
    whole, after = record["ratios"]["whole"], record["ratios"]["after"]
    plain, drafted, *warm = [name for name in whole if name.startswith("hierdraft")]
    most = [(plain, "GenAI, plain"), (plain, "llama.cpp, plain")]
    most += [(name, base) for name in (drafted, *warm) for base in (plain, BEST)]
    lookups = [name for name in whole if not name.startswith("hierdraft") and not name.endswith(", plain")]
    more = [(drafted, name) for name in lookups] + [(name, base) for name in lookups for base in whole[name]]
    return "\n\n".join([
        about, table(head, rows),
        "How many times the tokens per second, prompts included, median over prompts; the best of the others is the "
        "fastest of all others at each single answer:", _ratios(whole, most + more),
        "The same after the first token:", _ratios(after, most), _same(record),
    ])  # fmt: skip


def _ratios(ratios: dict[str, dict[str, Any]], pairs: list[tuple[str, str]]) -> str:
    rows = [
        [f"{name}, over {base}", *(f"{found[kind]['median']:.2f}" for kind in KINDS),
         between(found["all"]), f"{found['all']['min']:.2f}"]
        for name, base in pairs
        for found in [ratios[name][base]]
    ]  # fmt: skip
    return table(["", *(kind.replace("_", " ") for kind in KINDS), "all, 95 %", "least"], rows)


def _same(record: dict[str, Any]) -> str:
    """Who says what its own plain decoding says, and what ours says."""
    rows = []
    for name, one in record["systems"].items():
        parts = one["parts_from_our_plain_at"]
        rows.append([
            name, str(one["same_as_own_plain"]), str(one["same_as_our_plain"]),
            f"{parts['median']:.0f} ({parts['min']:.0f} to {parts['max']:.0f})" if parts else "",
        ])  # fmt: skip
    head = ["", f"as its own plain decoding, of {record['answers']}", "as ours", "the others part at token"]
    audit = record["audit"]
    return (
        f"Answers with the same ids:\n\n{table(head, rows)}\n\nOur drafted answers part from our plain ones at "
        f"{audit['ties'] + audit['bugs']} places: {audit['ties']} ties, {audit['bugs']} unexplained."
    )


def gguf_startup(record: dict[str, Any]) -> str:
    """Until a model is converted, loaded, and has said something."""
    titles = {"new": "the file, never seen before", "again": "the file, converted before"}
    rows = [
        [titles.get(way, way)]
        + [f"{one['median']:.1f} ({one['min']:.1f} to {one['max']:.1f})" for one in found.values()]
        for way, found in record["seconds"].items()
    ]
    head = ["", *(f"{part}, s" for part in next(iter(record["seconds"].values())))]
    m = record["machine"]
    return (
        f"{record['gguf']}; {m['cpu']}, commit {m['commit'][:8]}. New processes, from their start, median of "
        f"{record['turns']} in turns (extremes):\n\n{table(head, rows)}"
    )
