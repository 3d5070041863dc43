"""Tables of recorded results: methods and programs compared, differences found, forwards on a GPU, mutants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[list[str]]


def table(head: list[str], rows: Rows) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def between(found: dict[str, Any]) -> str:
    """A 95 % interval, where there were answers enough for one."""
    return "too few answers" if found["low"] is None else f"{found['low']:.2f} to {found['high']:.2f}"


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
            between(row["accepted_interval"]),
            *(
                [
                    f"{row['speedup']['median']:.2f}",
                    between(row["speedup"]),
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


def temperatures(record: dict[str, Any]) -> str:
    """The runs of all temperatures side by side: this one, those beside it, greedy, and temperature 1."""
    folder = Path(__file__).resolve().parent
    found = {"0": "greedy", **{str(t): f"temperature-{t}" for t in (0.1, 0.3, 0.5, 0.7)}, "1.0": "sampled"}
    runs = {
        t: json.loads((folder / f"spec-bench-{name}.json").read_text(encoding="utf-8")) for t, name in found.items()
    }
    methods = [name for name in record["methods"] if name != "none"]

    def shown(title: str, figure: Callable[[dict[str, Any]], float]) -> list[str]:
        rows = [[f"`{name}`", *(f"{figure(run['methods'][name]):.2f}" for run in runs.values())] for name in methods]
        return ["", f"{title}:", "", table(["method", *runs], rows)]

    m, s = record["machine"], record["settings"]
    answers = ", ".join(f"{run['answers']} at {t}" for t, run in runs.items())
    return "\n".join([
        f"{m['cpu']}, {s['threads']} threads, {s['model']} in {s['dtype']}; answers by each method: {answers}. "
        f"Commit {m['commit'][:8]}.",
        *shown("Speed-up, median over answers", lambda row: row["speedup"]["median"]),
        *shown("The lowest median of a task", lambda row: min(t["speedup"]["median"] for t in row["tasks"].values())),
        *shown("Accepted length", lambda row: row["accepted_length"]),
    ])  # fmt: skip


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


def law(record: dict[str, Any]) -> str:
    """The automatic budget against each fixed one, by kind of work."""
    m, s, found = record["machine"], record["settings"], record["budgets"]
    kinds = list(found["auto"]["auto_over"])
    rows = [
        [name, f"{one['accepted_length']:.2f}", f"{one['nodes']:.1f}",
         *(f"{one['auto_over'][kind]['median']:.2f}" for kind in kinds)]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["budget", "accepted length", "nodes a step", *(f"{kind.replace('_', ' ')}" for kind in kinds)]
    return "\n".join([
        f"{m['cpu']}, {s['engine']} engine, {s['dtype']}, {s['threads']} threads, {record['answers']} prompts. Commit "
        f"{m['commit'][:8]}. How many times the tokens per second of that budget `auto` has, median over prompts:",
        "", table(head, rows),
    ])  # fmt: skip


def against(record: dict[str, Any]) -> str:
    """Two checkouts in turn."""
    m, s = record["machine"], record["settings"]
    rows = [
        [way, f"{one['median']:.2f}", f"{one['lower quartile']:.2f} to {one['upper quartile']:.2f}"]
        for way, one in record["old_over_new"].items()
    ]
    return "\n".join([
        f"{m['cpu']}, {s['engine']} engine, {s['dtype']}, commit {m['commit'][:8]} against {s['before'][:8]}: "
        f"{record['same_ids']} of {record['answers']} answers have the same ids. Seconds, old over new:",
        "", table(["", "median", "quartiles"], rows),
    ])  # fmt: skip


def packs(record: dict[str, Any]) -> str:
    """Accepted length by the size of the model level, and beside foreign packs."""
    m, s = record["machine"], record["settings"]
    methods = list(record["only_foreign"])

    def lengths(found: dict[str, float]) -> list[str]:
        return [f"{found[method]:.2f}" for method in methods]

    def once(row: dict[str, Any]) -> str:
        return f"{row['frequent_once']:.0%}" if "frequent_once" in row else ""

    sizes = [[f"{row['tokens']:,}", once(row), *lengths(row["accepted_length"])] for row in record["sizes"]]
    rows = []
    for name, key in (("its own answers", "beside_model"), ("conversations of another model", "beside_chat")):
        for count, found in record.get(key, {}).items():
            rows.append([name if count == "0" else f"{name}, {count} foreign", *lengths(found)])
    rows.append(["4 foreign alone", *lengths(record["only_foreign"])])
    foreign = ", ".join(f"{name} ({tokens:,} tokens)" for name, tokens in record["foreign"].items())
    names = [f"`{method}`" for method in methods]
    return "\n".join([
        f"{s['answers']} answers ({s['questions']}), {s['nodes']} nodes. The pack that comes with the package has "
        f"{record['bytes'] / 1e6:.2f} MB. Commit {m['commit'][:8]}. `hd` drafts from the 100,000 most frequent 5-grams "
        "of a model level; the second column says how many of these stand in one answer only.",
        "", table(["tokens of its own answers", "in one answer only", *names], sizes),
        "", f"Beside packs that do not fit, statistics levels made of {foreign}; the conversations have "
        f"{record.get('chat_tokens', 0):,} tokens:",
        "", table(["packs", *names], rows),
    ])  # fmt: skip


def gpu(record: dict[str, Any]) -> str:
    """Forward costs by rows, and the replay at their pace."""
    kinds = ("eager", "engine", "graph")
    costs = [
        [
            rows,
            *(f"{cost[kind]['median']:.1f}" for kind in kinds),
            f"{cost['engine']['min']:.1f} to {cost['engine']['max']:.1f}",
        ]
        for rows, cost in record["forward_ms"].items()
    ]
    shared = [
        [size.replace("x", "\u00d7"), *(f"{cost[kind]['median']:.1f}" for kind in kinds[:2])]
        for size, cost in record["batch_ms"].items()
    ]
    s, ways = record["settings"], ("every kernel launched", "replayed, with its inputs")
    parts = [
        f"{record['device']}, {s['shape']} in bfloat16 with random weights, after {s['context']} tokens, torch "
        f"{record['versions']['torch']}. Milliseconds of a forward, median:",
        "",
        table(["rows", *ways, "the graph alone", "replayed, least to most"], costs),
        "",
        table(["texts \u00d7 rows", *ways], shared),
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


def _versions(machine: dict[str, Any]) -> str:
    return ", ".join(str(v) if k in ("cpu",) else f"{k} {v}" for k, v in machine.items() if k != "cpus")


def peers(record: dict[str, Any]) -> str:
    """Another program, plainly and with its drafts."""
    methods = record["methods"]
    answers = methods["plain"]["answers"]
    tasks = list(methods["plain"]["tasks"])
    rows = [
        [
            name, f"{row['tokens_per_second']:.1f}",
            f"{row['speedup']['median']:.2f} ({between(row['speedup'])})",
            *(f"{row['tasks'][task]:.2f}" for task in tasks),
            f"{row['same_as_own_plain']} of {answers}", f"{row['same_as_hierdraft']} of {answers}",
        ]
        for name, row in methods.items()
    ]  # fmt: skip
    head = ["", "tokens/s", "speed-up, median (95 %)", *tasks, "as its own plain text", "as our plain text"]
    return "\n".join([f"{_versions(record['machine'])}.", "", table(head, rows)])


def arctic(record: dict[str, Any]) -> str:
    """arctic-inference's suffix tree on recorded output."""
    tasks = list(next(iter(record["methods"].values()))["tasks"])
    rows = [
        [
            name, f"{row['accepted_length']:.2f}", *(f"{row['tasks'][task]:.2f}" for task in tasks),
            f"{row['draft_us_median']:.0f}",
        ]
        for name, row in record["methods"].items()
    ]  # fmt: skip
    head = ["", "accepted length", *(task.replace("_", " ") for task in tasks), "drafting, us a step"]
    return "\n".join([f"{_versions(record['machine'])}.", "", table(head, rows)])


def batch(record: dict[str, Any]) -> str:
    """A step of drafting for a batch, by rows and threads."""
    m = record["machine"]
    rows = [
        [name, count, *(f"{cell[n]['us']['median']:.0f} ({cell[n]['us']['p99']:.0f})" for n in ("1", "2")),
         f"{cell['1']['tokens_a_row']:.1f}", f"{cell['1']['accepted_a_row']:.1f}"]
        for name, found in record["levels"].items()
        for count, cell in found.items()
    ]  # fmt: skip
    head = ["levels", "rows", "1 thread, us (99 %)", "2 threads", "drafted tokens a row", "accepted"]
    return "\n".join([
        f"{m['cpu']}, texts of {record['context']} tokens and more, chains of up to {record['depth']}. "
        f"Commit {m['commit'][:8]}.", "", table(head, rows),
    ])  # fmt: skip


def openvino(record: dict[str, Any]) -> str:
    """Our OpenVINO engine and OpenVINO GenAI, every system against what it has to beat, and where our steps go."""
    m, s, systems = record["machine"], record["settings"], record["systems"]
    ours, plain = "hierdraft, hierarchy", "hierdraft, plain"
    pairs = [(plain, "GenAI, plain"), (ours, plain), *((ours, name) for name in systems if "lookup" in name)]
    kinds = list(systems[ours]["against"][plain])
    rows = [
        [f"{one}, over {other}", *(f"{found[kind]['median']:.2f}" for kind in kinds),
         between(found["all"]), f"{found['all']['min']:.2f}"]
        for one, other in pairs
        for found in [systems[one]["against"][other]]
    ]  # fmt: skip
    speeds = ", ".join(f"{name} {row['tokens_per_second']:.1f}" for name, row in systems.items())
    same = ", ".join(
        f"{name} {row['same_as_own_plain']}" for name, row in systems.items() if not name.endswith("plain")
    )
    parts = [name for name in record["profile"][ours] if name not in ("steps", "milliseconds")]
    steps = [
        [name, f"{row['milliseconds']:.2f}", *(f"{row[part]:.1%}" for part in parts)]
        for name, row in record["profile"].items()
    ]
    return "\n".join([
        f"SmolLM2-135M, {s['dtype']}, {record['answers']} prompts; {m['cpu']}, {s['threads']} threads, openvino "
        f"{m['openvino']}, openvino-genai {m['openvino-genai']}, commit {m['commit'][:8]}. Tokens per second, median "
        "over prompts:", "",
        table(["", *(kind.replace("_", " ") for kind in kinds), "all, 95 %", "least"], rows), "",
        f"Tokens per second over all prompts: {speeds}. Answers equal to the same program's plain decoding, of "
        f"{record['answers']}: {same}.", "", table(["step", "ms", *parts], steps),
    ])  # fmt: skip


def vllm(record: dict[str, Any]) -> str:
    """Methods in vLLM by concurrent requests."""
    m = record["machine"]
    rows = [
        [
            count, name, f"{row['accepted_length']:.2f}", f"{row['tokens_per_second']:.1f}",
            f"{row['speedup']['median']:.2f} ({row['speedup']['min']:.2f} to {row['speedup']['max']:.2f})",
            f"{row['answers'] - row['answers_that_differ']} of {row['answers']}",
        ]
        for count, methods in record["concurrency"].items()
        for name, row in methods.items()
    ]  # fmt: skip
    head = ["requests", "method", "accepted length", "tokens/s", "speed-up, median (least to most)", "same text"]
    return "\n".join([
        f"{m['cpu']}, vLLM {m['vllm']}, torch {m['torch']}, {record['dtype']}, {record['new_tokens']} new tokens. "
        f"Commit {m['commit'][:8]}.", "", table(head, rows),
    ])  # fmt: skip


def lossless(record: dict[str, Any]) -> str:
    dtype = record["settings"]["dtype"]
    lines = []
    for mode in ("greedy", "sampled"):
        found = record[mode]
        if not found["answers"]:
            continue
        together = ", written 1 to 16 at a time," if record["settings"].get("together") else ""
        line = f"{dtype}, {mode}: {found['tokens']} tokens in {found['answers']} answers{together} compared with plain "
        line += f"decoding{_alone(record, mode) if together else ''}, "
        line += f"{found['ties']} answers part at a tie, {found['bugs']} unexplained."
        if "itself" in found:
            itself = found["itself"]
            line += (
                f" Plain decoding against itself in passes of 8 rows: {itself['tokens']} tokens in "
                f"{itself['answers']} answers, {itself['ties']} part at a tie, {itself['bugs']} unexplained."
            )
        lines.append(line)
    return "\n\n".join([*lines, *_elsewhere(record)])


def _alone(record: dict[str, Any], mode: str) -> str:
    """How much of plain decoding was done one answer after another."""
    rows = [row for key, row in record["per_answer"].items() if key.startswith(mode)]
    return f" ({sum(row['alone'] for row in rows)} of these alone, the others 16 at a time)"


def _elsewhere(record: dict[str, Any]) -> list[str]:
    """With every other recorded run of this number type that compared drafted text with plain decoding's."""
    dtype = record["settings"]["dtype"]
    if record["settings"].get("engine", "hf") != "hf":
        return []
    tokens = {mode: record[mode]["tokens"] for mode in ("greedy", "sampled")}
    before = dict(tokens)
    for path in sorted(Path(__file__).resolve().parent.glob("spec-bench-*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        same = all(row["identical"] for row in run["methods"].values())
        if run["settings"]["dtype"] == dtype and same:
            mode = "sampled" if run["settings"]["sampling"] else "greedy"
            tokens[mode] += sum(row["tokens"] for name, row in run["methods"].items() if name != "none")
    if tokens == before:
        return []
    return [
        f"With the runs of all methods in RESULTS.md, which found no difference either: {tokens['greedy']} greedy and "
        f"{tokens['sampled']} sampled tokens."
    ]


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
