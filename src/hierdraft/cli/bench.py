"""`hierdraft bench`: compare drafting methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.bench_report import report
from hierdraft.cli.bench_run import audit, run, split_methods
from hierdraft.cli.bench_serve import serve
from hierdraft.errors import MissingDependencyError, UsageError
from hierdraft.progress import counting

if TYPE_CHECKING:
    from rich.table import Table

    from hierdraft.engines.timed import TimedReplay

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare drafting methods.")


@app.callback()
def bench() -> None:
    """Compare drafting methods."""


app.command("run")(run)
app.command("audit")(audit)
app.command("report")(report)
app.command("serve")(serve)


@app.command("replay")
def replay(
    records: Annotated[Path, typer.Option(help="Recorded output: of a run, of --generate or of db export.")],
    methods: options.Methods = "hierarchy,hd,none",
    pack: options.Packs = None,
    budget: Annotated[str, typer.Option(help="Nodes per step; auto with --random-weights.")] = "28",
    warm: Annotated[list[Path] | None, typer.Option(help="Records that the model level knows from before.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Learn from records as they end.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only N records, spread over the file.")] = None,
    random_weights: Annotated[str | None, typer.Option(help="A model's shape, run for its time: llama-7b.")] = None,
    device: Annotated[str | None, typer.Option(help="Where that model runs: cpu or cuda.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge drafting on recorded output of a real model, whose weights are not needed.

    What is accepted is exact: a record says what the model chose. Times are of drafting, unless --random-weights runs
    a model beside it, whose forwards are timed and whose answers are ignored.

    Examples:

      hierdraft bench replay --records said.jsonl --methods hierarchy,hd,none --pack corpus.safetensors

      hierdraft bench replay --records tuesday.jsonl --warm monday.jsonl --online --budget 60 --json

      hierdraft bench replay --records said.jsonl --random-weights llama-7b --budget auto --limit 30
    """
    from hierdraft.bench.replay import account, compare, some_records, vocab_of, warm_pack
    from hierdraft.cli.render import stdout_console
    from hierdraft.databases.pack import Pack

    names, nodes = split_methods(methods), _nodes(budget, timed=random_weights is not None)
    packs = [Pack.open(path) for path in pack or []]
    vocab = vocab_of([records, *(warm or [])], packs)
    rows = some_records(records, vocab, limit)
    engine = _timed(random_weights, device, vocab) if random_weights else None
    packs += [warm_pack(path, vocab) for path in warm or []]
    with counting("replaying") as report:
        scores = compare(rows, names, packs, vocab, nodes, online=online, engine=engine, report=report)
    about = {"records": records.name, "count": len(rows), "online": online, "budget": nodes}
    found = account(scores, about, packs, engine.about if engine else None)
    typer.echo(json.dumps(found)) if as_json else stdout_console().print(_table(found["methods"]))


def _nodes(budget: str, *, timed: bool) -> int | str:
    """A budget as it was typed. Raises UsageError."""
    from hierdraft.drafting.budget import make_budget

    nodes = int(budget) if budget.isdecimal() else budget
    make_budget(nodes)
    if nodes == "auto" and not timed:
        raise UsageError("A record does not say what a step costs: give --budget a number, or use --random-weights.")
    return nodes


def _timed(shape: str, device: str | None, vocab_size: int) -> TimedReplay:
    """Raises MissingDependencyError, UsageError."""
    try:
        from hierdraft.engines.timed import TimedReplay, random_engine
    except ImportError as error:
        raise MissingDependencyError(
            f"Running a model needs torch and transformers ({error}): pip install 'hierdraft[hf]'."
        ) from error
    return TimedReplay(random_engine(shape, device, vocab_size))


def _table(scores: dict[str, Any]) -> Table:
    """Methods as rows: accepted length over all and per task, nodes, drafting time."""
    from rich.table import Table

    tasks = list(next(iter(scores.values()))["tasks"])
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    timed = [title for title in ("tokens_per_second", "speedup") if all(title in score for score in scores.values())]
    for title in ("all", *(tasks if len(tasks) > 1 else []), "nodes a step", "drafting us a step", *timed):
        table.add_column(title, justify="right")
    for method, score in scores.items():
        values = [score["accepted_length"]]
        values += [score["tasks"][task]["accepted_length"] for task in tasks] if len(tasks) > 1 else []
        cells = [
            *(f"{value:.2f}" for value in values),
            f"{score['nodes_per_step']:.1f}",
            f"{score['draft_us_median']:.0f}",
            *([f"{score['tokens_per_second']:.1f}"] if "tokens_per_second" in timed else []),
            *([f"{score['speedup']['median']:.2f}"] if "speedup" in timed else []),
        ]
        table.add_row(method, *cells)
    return table
