"""Tables of the models that people have: sizes, files, rivals on them."""

from __future__ import annotations

from typing import Any

from tables import table


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
