"""Tables of recorded results: methods compared on Spec-Bench, forwards on a GPU, mutants."""

from __future__ import annotations

from typing import Any

Rows = list[list[str]]


def table(head: list[str], rows: Rows) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def _about(record: dict[str, Any]) -> str:
    m, s = record["machine"], record["settings"]
    how = ", ".join(f"{key} {value}" for key, value in s["sampling"].items()) or "greedy"
    tokens = sum(row["tokens"] for name, row in record["methods"].items() if name != "none")
    wrong = [name for name, row in record["methods"].items() if not row["identical"]]
    same = (
        "every one equal to plain decoding's" if not wrong else f"but for {', '.join(wrong)} equal to plain decoding's"
    )
    return (
        f"{m['cpu']}, {s['threads']} threads, {s['model']} in {s['dtype']}, {how}, budget {s['budget']}, at most "
        f"{s['max_new_tokens']} new tokens; {record['answers']} answers by each method, {tokens} drafted tokens, "
        f"{same}. {'Statistics level: ' + s['pack'] + '. ' if 'pack' in s else ''}Commit {m['commit'][:8]}."
    )


def spec_bench(record: dict[str, Any]) -> str:
    """Over all answers, then by task; speeds only where the run was one for speed."""
    fast = record["settings"]["budget"] == "auto"
    methods = record["methods"]
    if not fast:
        methods = dict(sorted(methods.items(), key=lambda item: -item[1]["accepted_length"]))
    overall = [
        [
            f"`{name}`",
            f"{row['accepted_length']:.2f}",
            f"{row['accepted_interval']['low']:.2f} to {row['accepted_interval']['high']:.2f}",
            *(
                [
                    f"{row['speedup']['median']:.2f}",
                    f"{row['speedup']['low']:.2f} to {row['speedup']['high']:.2f}",
                    f"{row['tokens_per_second']:.1f}",
                    f"{1e3 * row['seconds']['draft'] / max(1, row['steps']):.2f}",
                ]
                if fast
                else []
            ),
        ]
        for name, row in methods.items()
    ]
    speeds = ["speed-up, median", "95 %", "tokens/s", "drafting, ms a step"] if fast else []
    tasks = list(next(iter(methods.values()))["tasks"])
    figures = [("Accepted length", lambda part: part["accepted_length"])]
    if fast:
        figures.insert(0, ("Speed-up, median", lambda part: part["speedup"]["median"]))
    parts = [_about(record), "", table(["method", "accepted length", "95 %", *speeds], overall)]
    for title, figure in figures:
        parts += ["", f"{title} by task:", "", table(["method", *tasks], [
            [f"`{name}`", *(f"{figure(row['tasks'][task]):.2f}" for task in tasks)]
            for name, row in methods.items() if name != "none"
        ])]  # fmt: skip
    return "\n".join(parts)


def budgets(record: dict[str, Any]) -> str:
    """Accepted length by number of nodes and task."""
    m, everything = record["machine"], record["all"]
    sizes = list(everything["accepted_length"])
    rows = [
        [task, *(f"{part['accepted_length'][nodes]:.2f}" for nodes in sizes)]
        for task, part in [*record["tasks"].items(), ("all", everything)]
    ]
    return "\n".join([
        f"{m['cpu']}, greedy, float32, {everything['answers']} answers, {everything['tokens']} tokens with each "
        f"budget; {everything['identical']} answers are plain decoding's with every budget. Commit {m['commit'][:8]}.",
        "",
        table(["task", *(f"{nodes} nodes" for nodes in sizes)], rows),
    ])  # fmt: skip


def gpu(record: dict[str, Any]) -> str:
    """Forward costs by rows, and the replay at their pace."""
    costs = [
        [rows, *(f"{cost[kind]['median']:.2f}" for kind in ("eager", "graph"))]
        for rows, cost in record["forward_ms"].items()
    ]
    parts = [
        f"{record['device']}, {record['settings']['shape']} with random weights, torch {record['versions']['torch']}.",
        "",
        table(["rows", "forward, ms", "as a CUDA graph, ms"], costs),
    ]
    for budget, methods in record.get("replay", {}).get("budgets", {}).items():
        rows = [
            [
                f"`{name}`", f"{row['accepted_length']:.2f}", f"{row['tokens_per_second']:.1f}",
                f"{row['speedup']['median']:.2f}", f"{row['forward_ms_per_step']:.2f}", f"{row['draft_us_median']:.0f}",
            ]
            for name, row in methods.items()
        ]  # fmt: skip
        head = [
            "method",
            "accepted length",
            "tokens/s",
            "speed-up, median",
            "forward, ms a step",
            "drafting, us a step",
        ]
        parts += ["", f"Budget {budget}, {record['replay']['records']} records:", "", table(head, rows)]
    return "\n".join(parts)


def mutation(record: dict[str, Any]) -> str:
    """Killed mutants by file, and those that are left."""
    rows = [
        [f"`{name}`", str(row["mutants"]), str(row["killed"]), f"{row['killed'] / row['mutants']:.0%}"]
        for name, row in record["files"].items()
    ]
    rows.append(["all", str(record["mutants"]), str(record["killed"]), f"{record['share']:.1%}"])
    left = [
        [f"`{row['file']}`", *(f"`{line[2:]}`".replace("|", "\\|") for line in (row["change"] + ["- ", "+ "])[:2])]
        for row in record["left"]
    ]
    return "\n".join([
        table(["file", "mutants", "killed", ""], rows), "", "Not noticed:", "",
        table(["file", "instead of", "was"], left),
    ])  # fmt: skip
