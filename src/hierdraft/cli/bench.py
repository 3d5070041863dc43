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
from hierdraft.errors import UsageError
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
    random_weights: Annotated[str | None, typer.Option(help="A model's shape, run for its time: llama-8b.")] = None,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    device: Annotated[str | None, typer.Option(help="Where that model runs: cpu or cuda.")] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge drafting on recorded output of a real model, whose weights are not needed.

    What is accepted is exact: a record says what the model chose. Times are of drafting, unless --random-weights runs
    a model beside it, whose forwards are timed and whose answers are ignored.

    Examples:

      hierdraft bench replay --records said.jsonl --methods hierarchy,hd,none --pack corpus.safetensors

      hierdraft bench replay --records tuesday.jsonl --warm monday.jsonl --online --budget 60 --json

      hierdraft bench replay --records said.jsonl --random-weights llama-7b --budget auto --limit 30

      hierdraft bench replay --records said.jsonl --random-weights llama-8b --engine openvino --dtype int4 --budget auto
    """
    from hierdraft.bench.replay import account, compare, some_records, vocab_of, warm_pack
    from hierdraft.cli.render import stdout_console
    from hierdraft.databases.pack import Pack
    from hierdraft.registry import make_method

    names, nodes = split_methods(methods), _nodes(budget, timed=random_weights is not None)
    for name in names:
        make_method(name)
    packs = [Pack.open(path) for path in pack or []]
    vocab = vocab_of([records, *(warm or [])], packs)
    rows = some_records(records, vocab, limit)
    chosen = {"engine": engine, "dtype": dtype, "device": device, "threads": threads}
    target = _timed(random_weights, vocab, chosen)
    packs += [warm_pack(path, vocab) for path in warm or []]
    with counting("replaying") as report:
        scores = compare(rows, names, packs, vocab, nodes, online=online, engine=target, report=report)
    about = {"records": records.name, "count": len(rows), "online": online, "budget": nodes}
    found = account(scores, about, packs, target)
    typer.echo(json.dumps(found)) if as_json else stdout_console().print(_table(found["methods"]))


def _nodes(budget: str, *, timed: bool) -> int | str:
    """A budget as it was typed. Raises UsageError."""
    from hierdraft.drafting.budget import make_budget

    nodes = int(budget) if budget.isdecimal() else budget
    make_budget(nodes)
    if nodes == "auto" and not timed:
        raise UsageError("A record does not say what a step costs: give --budget a number, or use --random-weights.")
    return nodes


def _timed(shape: str | None, vocab_size: int, chosen: dict[str, Any]) -> TimedReplay | None:
    """What plays the records beside a model of that shape, None without one. Raises what `random_engine` does."""
    from hierdraft.engines.timed import TimedReplay
    from hierdraft.models.random_models import random_engine
    from hierdraft.settings import load_settings

    given = {name: value for name, value in chosen.items() if value is not None}
    if shape is None:
        if given:
            raise UsageError(f"--{next(iter(given))} belongs to --random-weights: without a model nothing runs.")
        return None
    return TimedReplay(random_engine(shape, load_settings().cache_dir, least_vocab=vocab_size, **given))


def _table(scores: dict[str, Any]) -> Table:
    """Methods as rows: accepted length over all and per task, nodes, drafting time."""
    from rich.table import Table

    tasks = list(next(iter(scores.values()))["tasks"])
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    known = ("tokens_per_second", "speedup", "reached")
    timed = [title for title in known if all(title in score for score in scores.values())]
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
            *(f"{score[title]['median']:.2f}" for title in timed[1:]),
        ]
        table.add_row(method, *cells)
    return table
