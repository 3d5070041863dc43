"""`hierdraft bench run` and `hierdraft bench audit`: how much faster, and is it the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.progress import counting
from hierdraft.errors import AuditError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from hierdraft.bench.audit import Audit
    from hierdraft.bench.runner import Runner
    from hierdraft.protocols import Engine


def run(
    out: Annotated[Path, typer.Option(help="Folder for the records; an unfinished run in it is gone on with.")],
    dataset: Annotated[str, typer.Option(help="builtin, spec-bench, or a JSONL file.")] = "builtin",
    methods: options.Methods = "none,hierarchy",
    model: options.Model = None,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Most new tokens per answer.")] = 128,
    budget: Annotated[str | None, typer.Option(help="auto, or a number of nodes per step.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only N questions of each task.")] = None,
    temperature: Annotated[float, typer.Option(help="0: greedy; above: sample, each answer with its own seed.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many likeliest tokens; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens with this probability.")] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Drop tokens below this share of the likeliest one's probability.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first answer.")] = 0,
    pack: Annotated[list[Path] | None, typer.Option(help="A database to draft from; may be repeated.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Decode a data set with several methods, interleaved, and compare them with plain decoding.

    Every difference from plain decoding is audited; one that rounding does not explain ends with exit code 14.

    Examples:

      hierdraft bench run --dataset builtin --methods none,hierarchy,hd --out runs/today

      hierdraft bench run --dataset spec-bench --limit 10 --temperature 1.0 --out runs/sampled
    """
    from hierdraft.bench.datasets import load_questions
    from hierdraft.bench.metrics import compare
    from hierdraft.bench.runner import Plan, Runner
    from hierdraft.generation import load
    from hierdraft.registry import make_drafter
    from hierdraft.settings import load_settings
    from hierdraft.verify.sampling import Sampling

    names = split_methods(methods)
    for name in names:
        make_drafter(name)
    settings = load_settings(
        model=model, engine=engine, dtype=dtype, threads=threads, budget=budget, packs=pack or None
    )
    questions = load_questions(dataset, limit, settings.cache_dir)
    given: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    Sampling(**given, seed=seed).check(vocab_size=1)
    sampling = given if temperature else {}
    loaded = load(
        settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads, packs=settings.packs,
        learn=False,
    )  # fmt: skip
    about = {"model": settings.model, "dtype": settings.dtype, "dataset": dataset, **versions(loaded.engine)}
    plan = Plan(names, max_new_tokens, settings.budget, sampling, seed, about)
    runner = Runner(loaded, plan, out)
    with counting("decoding") as report:
        runner.run(questions, report)
    asked = [f"{question.id}.{turn + 1}" for question in questions for turn in range(len(question.turns))]
    _report(compare(runner.runs, asked), _audits(runner, loaded.engine, settings), out, as_json=as_json)


def _report(found: dict[str, Any], audits: dict[str, Audit], out: Path, *, as_json: bool) -> None:
    """Print the figures. Raises AuditError where a difference is not explained."""
    from hierdraft.bench.report import AUDITS
    from hierdraft.cli.render import stdout_console

    told = {method: audit.as_dict() for method, audit in audits.items()}
    (out / AUDITS).write_text(json.dumps(told), encoding="utf-8")
    for method, row in found["methods"].items():
        row["audit"] = told[method]
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for table in tables(found["methods"]):
            stdout_console().print(table)
    bugs = sum(audit.count("bug") for audit in audits.values())
    if bugs:
        raise AuditError(f"{bugs} differences from plain decoding are not explained by rounding: see {out}.")


def split_methods(methods: str) -> list[str]:
    """Methods as they were given, separated by commas. Raises UsageError for none, or the same twice."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UsageError("--methods needs one or more different names, separated by commas.")
    return names


def versions(engine: Any) -> dict[str, Any]:
    """What a run was made with."""
    import platform
    from importlib.metadata import version

    return {
        "hierdraft": version("hierdraft"), "torch": version("torch"), "transformers": version("transformers"),
        "engine": engine.name, **({"openvino": version("openvino")} if engine.name == "openvino" else {}),
        "python": platform.python_version(), "machine": f"{platform.machine()} {platform.system()}",
        "device": engine.device,
    }  # fmt: skip


def _audits(runner: Runner, engine: Engine, settings: Any) -> dict[str, Audit]:
    """Every method against plain decoding; the model in float32 is only loaded where there is a difference."""
    from hierdraft.bench.audit import audit

    plain = runner.runs["none"]
    exact: list[Engine | None] = []
    found = {}
    for method, run in runner.runs.items():
        same = all(run.records[name]["output_ids"] == row["output_ids"] for name, row in plain.records.items())
        if not same and not exact:
            exact.append(_exact(engine, settings.model))
        found[method] = audit(plain, run, engine, exact[0] if exact else None)
    return found


def _exact(engine: Engine, model: str) -> Engine | None:
    """The model in float32, None where `engine` is."""
    if engine.exact:
        return None
    from hierdraft.generation import load

    return load(model, dtype="float32", learn=False).engine


def tables(methods: dict[str, Any]) -> Iterator[Table]:
    """Over all answers, a line per method; then the speed-up by task, a line per task."""
    from rich.table import Table

    whole = Table(box=None, pad_edge=False)
    for title in ("method", "accepted length", "tokens/s", "speed-up", "95 % interval", "same output"):
        whole.add_column(title, justify="left" if title == "method" else "right")
    for method, row in methods.items():
        middle, audit = row["speedup"], row["audit"]
        whole.add_row(
            method, f"{row['accepted_length']:.2f}", f"{row['tokens_per_second']:.1f}", f"{middle['median']:.2f}",
            f"{middle['low']:.2f} to {middle['high']:.2f}",
            "yes" if row["identical"] else _audited(audit),
        )  # fmt: skip
    yield whole
    by_task = Table(box=None, pad_edge=False)
    by_task.add_column("speed-up by task")
    for method in methods:
        by_task.add_column(method, justify="right")
    for task in next(iter(methods.values()))["tasks"]:
        by_task.add_row(task, *(f"{row['tasks'][task]['speedup']['median']:.2f}" for row in methods.values()))
    yield by_task


def _audited(audit: dict[str, Any] | None) -> str:
    return f"{audit['ties']} ties, {audit['bugs']} bugs" if audit else "no, not audited"


def audit(
    run_a: Annotated[Path, typer.Argument(help="A run's file, as bench run writes it.")],
    run_b: Annotated[Path, typer.Argument(help="Another run of the same model on the same prompts.")],
    model: options.MovedModel = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Explain every difference between two runs: a tie of the target's own, or a bug (exit code 14).

    The text before each first difference is fed to the model again, row by row, in passes of several rows and in
    float32; a tie is a place where these passes differ from each other by as much as the two tokens do.

    Examples:

      hierdraft bench audit runs/today/none.jsonl runs/today/hierarchy.jsonl
    """
    from hierdraft.bench.audit import audit, first_difference
    from hierdraft.bench.runs import read_run
    from hierdraft.cli.render import stdout_console
    from hierdraft.generation import load

    one, other = read_run(run_a), read_run(run_b)
    shared = [(one.records[name], other.records[name]) for name in one.records if name in other.records]
    if all(first_difference(a["output_ids"], b["output_ids"]) is None for a, b in shared):
        found: Audit = audit(one, other, None, None)
    else:
        name = model or str(one.settings.get("model"))
        engine, dtype = (str(one.settings.get(key, usual)) for key, usual in (("engine", "hf"), ("dtype", "auto")))
        loaded = load(name, engine=engine, dtype=dtype, threads=threads, learn=False)
        found = audit(one, other, loaded.engine, _exact(loaded.engine, name))
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _tell(stdout_console(), found)
    if found.count("bug"):
        raise AuditError(f"{found.count('bug')} differences are not explained by rounding.")
    if found.missing:
        raise AuditError(f"{len(found.missing)} answers are in one run only, the first is {found.missing[0]!r}.")


def _tell(console: Any, found: Audit) -> None:
    for one in found.differences:
        gaps = [f"{title} {gap:.2e}" for title, gap in (("margin", one.margin), ("in float32", one.margin_exact),
                ("noise", one.noise), ("distance from float32", one.error)) if gap is not None]  # fmt: skip
        console.print(f"{one.kind:<4} {one.id}, token {one.position}: {one.tokens[0]} or {one.tokens[1]}"
                      f"{': ' if gaps else ''}{', '.join(gaps)}; {one.reason}")  # fmt: skip
    console.print(
        f"{found.answers} answers, {found.tokens} tokens compared: {found.count('tie')} ties, {found.count('bug')} bugs"
    )
