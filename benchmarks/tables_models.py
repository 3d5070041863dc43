"""Tables of the models that people have: sizes, files, rivals on them, policies of drafting with one."""

from __future__ import annotations

from typing import Any

from tables import between, table


def real_sizes(record: dict[str, Any]) -> str:
    """Costs of forwards, and how fast drafting is at the pace of each model."""
    rows = record["rows"]
    sizes = [
        size for size in ("1", "2", "4", "8", "16", "32", "64") if any(size in r["forward_ms"] for r in rows.values())
    ]
    costs = [
        [name, *(f"{row['forward_ms'][size]:g}" if size in row["forward_ms"] else "" for size in sizes),
         f"{row['seconds_to_ready']:g} s", f"{row['peak_gigabytes']:g} GB"]
        for name, row in rows.items()
    ]  # fmt: skip
    tasks = list(next(iter(rows.values()))["timed"]["auto"]["tasks"])
    speeds = [
        [name, str(row["settings"]["tokens"]),
         *(f"{row['timed']['auto']['tasks'][task]['speedup']:.2f}" for task in tasks),
         *(f"{row['timed']['auto'][what]:.2f}" for what in ("speedup", "limit", "reached"))]
        for name, row in rows.items()
    ]  # fmt: skip
    nodes = [
        [name, str(row["priced"]["best"]), f"{row['priced']['nodes'][str(row['priced']['best'])]['limit']:.2f}",
         f"{row['priced']['nodes']['auto']['limit']:.2f}", f"{row['priced']['auto_over_best']:.3f}"]
        for name, row in rows.items() if "priced" in row
    ]  # fmt: skip
    some = next(iter(rows.values()))
    m, s = some["machine"], some["settings"]
    commits = sorted({row["machine"]["commit"][:8] for row in rows.values()})
    head = ["shape and weights", "tokens", *(task.replace("_", " ") for task in tasks), "median", "limit", "reached"]
    priced = ["shape and weights", "best number of nodes", "limit", "`auto`", "`auto` over best"]
    return "\n".join([
        f"Random weights, {m['cpu']}, {s['threads']} threads, commit {', '.join(commits)}. Milliseconds of a forward "
        "by its rows; until it is ready, and the most memory that was used:",
        "", table(["shape and weights", *sizes, "ready", "memory"], costs), "",
        f"`auto` over plain decoding: records of {s['records']}, answers cut after so many tokens, the model "
        "level from other answers of the recorded model. Medians over records, then of the tasks' medians; `limit` is "
        "what it would be if only forwards took time, `reached` how much of that it is:",
        "", table(head, speeds), "",
        "Priced by these costs on more records, without the model: the best fixed number of nodes, its limit, and that "
        "of `auto`:",
        "", table(priced, nodes),
    ])  # fmt: skip


def installed(record: dict[str, Any]) -> str:
    """What environments take on disk."""
    rows = [
        [name, f"{row['megabytes']} MB", ", ".join(f"{part} {size} MB" for part, size in row["largest"].items())]
        for name, row in record["environments"].items()
    ]
    m = record["machine"]
    return f"Python {m['python']}, Linux, commit {m['commit'][:8]}.\n\n" + table(
        ["extras", "on disk", "most of it"], rows
    )


def policies(record: dict[str, Any]) -> str:
    """TETRIS, MCSD, TABED and HVT, each beside what it is measured against."""
    m, s, shared = record["machine"], record["settings"], record["tetris"]
    batches = [
        [k, law, f"{row['drafts']:.2f}", f"{row['accepted_share']:.3f}", f"{row['tokens_per_forward']:.2f}"]
        for k, laws in shared["capacity"].items()
        for law, row in laws.items()
        if law != "different"
    ]
    drawn, views = (
        [[way, f"{row['accepted_length']:.2f}", f"{row['drafts']:.1f}"] for way, row in record[part].items()]
        for part in ("mcsd", "tabed")
    )
    parts = [
        [f"`{name}`", way, f"{row[way]['rows_per_token']:.2f}", f"{1 / row[way]['accepted_length']:.3f}",
         *(["1", ""] if way == "at once" else [f"{row['time']['median']:.2f}", between(row["time"])])]
        for name, row in record["hvt"].items()
        for way in ("at once", "parts")
    ]  # fmt: skip
    apart = sum(row["different"] for row in (*shared["capacity"].values(), *record["hvt"].values()))
    saved = ", ".join(f"`{name}` {row['rows_saved']:.0%}" for name, row in record["hvt"].items())
    return "\n".join([
        f"{s['model']} with the drafter `{s['draft']}`, {s['dtype']}; {m['cpu']}, {s['threads']} threads, commit "
        f"{m['commit'][:8]}; {record['answers']} answers of at most {s['tokens']} tokens, {s['dataset']}. Greedy "
        f"answers of two ways that differ from each other: {apart}.",
        "", f"TETRIS, {shared['answers']} answers in batches of eight, as many verified drafts a forward either way:",
        "", table(["drafts a request", "law", "verified a request", "accepted of them", "tokens per forward"], batches),
        "", "MCSD, temperature 1:", "", table(["candidates, three deep", "accepted length", "nodes"], drawn),
        "", "TABED, chains of five:", "", table(["views", "accepted length", "nodes"], views),
        "", f"HVT, trees of {s['nodes']} nodes, parts of {s['first']}; of the rows of whole trees were not scored: "
        f"{saved}:",
        "", table(["method", "verified", "rows per token", "forwards per token", "time, at once 1", "95 % interval"],
                  parts),
    ])  # fmt: skip
