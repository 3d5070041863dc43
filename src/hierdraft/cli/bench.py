"""`hierdraft bench`: compare drafting methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli.bench_report import report
from hierdraft.cli.bench_run import audit, run, split_methods
from hierdraft.cli.progress import counting
from hierdraft.errors import CorpusError

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare drafting methods.")


@app.callback()
def bench() -> None:
    """Compare drafting methods."""


app.command("run")(run)
app.command("audit")(audit)
app.command("report")(report)


@app.command("replay")
def replay(
    records: Annotated[Path, typer.Option(help="Recorded output: one JSON a line with prompt_ids, output_ids, task.")],
    methods: Annotated[str, typer.Option(help="Drafting methods, separated by commas.")] = "hierarchy,hd,none",
    pack: Annotated[list[Path] | None, typer.Option(help="A database to draft from; may be repeated.")] = None,
    budget: Annotated[int, typer.Option(min=0, max=128, help="Nodes per step.")] = 28,
    warm: Annotated[list[Path] | None, typer.Option(help="Records that the model level knows from before.")] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Let the model level learn from records as they end.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Judge drafting on recorded output of a real model, whose weights are not needed.

    What is accepted is exact, since a record says what the model chose. Times are drafting times only.

    Examples:

      hierdraft bench replay --records said.jsonl --methods hierarchy,hd,none --pack corpus.safetensors

      hierdraft bench replay --records tuesday.jsonl --warm monday.jsonl --online --budget 60 --json

      hierdraft bench replay --records said.jsonl --methods hd:order=model+context,hd:drafts=4
    """
    from hierdraft.bench.replay import compare, read_records, to_json, vocab_of, warm_pack
    from hierdraft.cli.render import stdout_console
    from hierdraft.databases.pack import Pack

    names, packs = split_methods(methods), [Pack.open(path) for path in pack or []]
    vocab = vocab_of([records, *(warm or [])], packs)
    rows = list(read_records(records, vocab))[:limit]
    if not rows:
        raise CorpusError(f"{records} holds no records.")
    packs += [warm_pack(path, vocab) for path in warm or []]
    with counting("replaying") as report:
        scores = compare(rows, names, packs, vocab, budget, online=online, report=report)
    if as_json:
        typer.echo(to_json(scores))
    else:
        stdout_console().print(_table({name: score.as_dict() for name, score in scores.items()}))


def _table(scores: dict[str, Any]) -> Table:
    """Methods as rows: accepted length over all and per task, nodes, drafting time."""
    from rich.table import Table

    tasks = list(next(iter(scores.values()))["tasks"])
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    for title in ("all", *(tasks if len(tasks) > 1 else []), "nodes a step", "drafting us a step"):
        table.add_column(title, justify="right")
    for method, score in scores.items():
        values = [score["accepted_length"]]
        values += [score["tasks"][task]["accepted_length"] for task in tasks] if len(tasks) > 1 else []
        cells = [
            *(f"{value:.2f}" for value in values),
            f"{score['nodes_per_step']:.1f}",
            f"{score['draft_us_median']:.0f}",
        ]
        table.add_row(method, *cells)
    return table
