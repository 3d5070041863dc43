"""`hierdraft bench run` and `hierdraft bench audit`: how much faster, and is it the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.beforehand import check, tell_unused
from hierdraft.cli.complete import BESIDE
from hierdraft.errors import AuditError, UsageError
from hierdraft.progress import counting

if TYPE_CHECKING:
    from hierdraft.bench.audit import Audit
    from hierdraft.bench.datasets import Question
    from hierdraft.bench.runner import Runner
    from hierdraft.bench.runs import Run
    from hierdraft.protocols import Engine


def run(
    out: Annotated[Path, typer.Option(help="Folder for the records; an unfinished run in it is continued.")],
    dataset: Annotated[str, typer.Option(help="builtin, spec-bench, or a JSONL file.")] = "builtin",
    methods: options.Methods = "none,hierarchy",
    draft: options.DraftOfMethods = None,
    model: options.Model = None,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    exact: options.Exact = None,
    threads: options.Threads = None,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Most new tokens per answer.")] = 128,
    budget: Annotated[str | None, typer.Option(help="auto, or a number of nodes per step.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only N questions of each task.")] = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Each answer's own seed is made from this one; without: from 0.")
    ] = None,
    skip_long: options.SkipLong = False,
    pack: options.Packs = None,
    as_json: options.AsJson = False,
) -> None:
    """Decode a data set with several methods, interleaved, and compare them with plain decoding.

    Every difference from plain decoding is audited; one that rounding does not explain ends with exit code 14.

    Examples:

      hierdraft bench run --dataset builtin --methods none,hierarchy,hd --out runs/today

      hierdraft bench run --dataset spec-bench --limit 10 --temperature 1.0 --out runs/sampled

      hierdraft bench run --methods none,hierarchy+draft --model models/larger --draft models/smaller --out runs/both
    """
    from hierdraft.bench.datasets import load_questions, spread
    from hierdraft.bench.provenance import made_with, questions_digest
    from hierdraft.bench.runner import Plan, Runner
    from hierdraft.generation import load
    from hierdraft.settings import load_settings
    from hierdraft.verify.sampling import Sampling

    names = _with_draft(split_methods(methods), draft)
    settings = load_settings(
        model=model, engine=engine, dtype=dtype, exact=exact, threads=threads, budget=budget, packs=pack or None
    )
    every = load_questions(dataset, None, settings.cache_dir)
    given: dict[str, Any] = {
        "temperature": temperature or 0.0, "top_k": top_k or 0, "top_p": 1.0 if top_p is None else top_p,
        "min_p": min_p or 0.0,
    }  # fmt: skip
    Sampling(**given, seed=seed or 0).check(vocab_size=1)
    tell_unused(temperature, {"top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed})
    check(names, settings)
    loaded = load(
        settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads, exact=settings.exact,
        packs=settings.packs, learn=False, generation_config=False,
    )  # fmt: skip
    about = {"model": settings.model, "dataset": dataset, "questions": questions_digest(every), **made_with(loaded)}
    plan = Plan(names, max_new_tokens, settings.budget, given if temperature else {}, seed or 0, about, skip_long)
    with Runner(loaded, plan, out) as runner:
        found, audits = _compared(runner, spread(every, limit), loaded.engine, out)
    _report(found, audits, out, as_json=as_json)


def _compared(
    runner: Runner, questions: Sequence[Question], engine: Engine, out: Path
) -> tuple[dict[str, Any], dict[str, Audit]]:
    """The run's figures and every method's audit, which also stand in the run's folder afterwards."""
    from hierdraft.bench.known import known_answers
    from hierdraft.bench.metrics import compare
    from hierdraft.bench.report import AUDITS, SKIPPED
    from hierdraft.bench.runner import answer_id

    _write_beside(out, {AUDITS: None, SKIPPED: None})  # they tell of fewer answers
    with counting("decoding") as report:
        runner.run(questions, report)
    asked = [answer_id(question, turn) for question in questions for turn in range(len(question.turns))]
    left_out = {one["id"] for one in runner.skipped}
    names = [name for name in asked if name not in left_out]
    if not names:
        raise UsageError("Every question is too long for the model: nothing is left to compare.")
    plain = runner.runs["none"]
    audits = _audits(runner, engine, str(plain.settings["model"]))
    told = {method: audit.as_dict() for method, audit in audits.items()}
    _write_beside(out, {AUDITS: told, SKIPPED: runner.skipped or None})
    found = {
        "settings": {key: value for key, value in plain.settings.items() if key != "method"},
        "skipped": runner.skipped,
        "known": known_answers(plain.records, names),
        **compare(runner.runs, names),
        "drawn": [method for method in runner.runs if method not in audits],
    }
    for method, row in found["methods"].items():
        row["audit"] = told.get(method)
    return found, audits


def _write_beside(folder: Path, files: dict[str, Any]) -> None:
    """JSON files of a run's folder, whole or not at all; None: no such file. Raises UsageError."""
    from hierdraft.databases.disk import SharedDisk, write_file

    try:
        for name, content in files.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_file(SharedDisk(), folder / name, [json.dumps(content).encode()])
    except OSError as error:
        raise UsageError(f"The run cannot be written to {folder} ({error.strerror or error}).") from error


def _report(found: dict[str, Any], audits: dict[str, Audit], out: Path, *, as_json: bool) -> None:
    """Print the figures. Raises AuditError where a difference is not explained."""
    from hierdraft.cli.bench_tables import remarks, tables
    from hierdraft.cli.render import stderr_console, stdout_console

    if as_json:
        typer.echo(json.dumps(found))
    else:
        for table in tables(found["methods"]):
            stdout_console().print(table)
        for sentence in remarks(found):
            stderr_console().print(sentence)
    bugs = sum(audit.count("bug") for audit in audits.values())
    if bugs:
        raise AuditError(f"{bugs} differences from plain decoding are not explained by rounding: see {out}.")


def _with_draft(methods: Sequence[str], draft: str | None) -> list[str]:
    """Methods with the model that drafts for those that need one. Raises UsageError where none does."""
    from hierdraft.registry import check_name

    for name in methods:
        check_name(name.split(":")[0], [BESIDE])
    needing = [name for name in methods if options.takes_draft(name)]
    if draft is not None and not needing:
        known = f"{', '.join(options.NEEDING)} and {BESIDE}"
        raise UsageError(f"--draft goes with {known}: name one among --methods.")
    return [options.drafting(name, draft) if name in needing else name for name in methods]


def split_methods(methods: str) -> list[str]:
    """Methods as they were given, separated by commas. Raises UsageError for none, or the same twice."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UsageError("--methods needs one or more different names, separated by commas.")
    return names


def _audits(runner: Runner, engine: Engine, model: str) -> dict[str, Audit]:
    """Every method against plain decoding; the model in float32 is only loaded where there is a difference.

    At a temperature methods that draw their drafts are left out: their answers are other samples.
    """
    from hierdraft.bench.audit import audit
    from hierdraft.registry import make_method

    plain = runner.runs["none"]
    exact: list[Engine | None] = []
    found = {}
    for method, run in runner.runs.items():
        if plain.settings["sampling"].get("temperature") and make_method(method).q_kind == "full":
            continue
        shared = [name for name in plain.records if name in run.records]
        same = all(run.records[name]["output_ids"] == plain.records[name]["output_ids"] for name in shared)
        if not same and not exact:
            exact.append(_exact(engine, model))
        found[method] = audit(plain, run, engine, exact[0] if exact else None)
    return found


def _exact(engine: Engine, model: str) -> Engine | None:
    """The model in float32, None where `engine` is."""
    if engine.exact:
        return None
    from hierdraft.generation import load

    return load(model, dtype="float32", learn=False, generation_config=False).engine


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
    from hierdraft.bench.audit import audit, check_comparable, first_difference
    from hierdraft.bench.runs import read_run
    from hierdraft.cli.render import stdout_console

    one, other = read_run(run_a), read_run(run_b)
    check_comparable(one, other)
    shared = [(one.records[name], other.records[name]) for name in one.records if name in other.records]
    if all(first_difference(a["output_ids"], b["output_ids"]) is None for a, b in shared):
        found: Audit = audit(one, other, None, None)
    else:
        engine, name = _engine_of(one, model, threads)
        found = audit(one, other, engine, _exact(engine, name))
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _tell(stdout_console(), found)
    if found.count("bug"):
        raise AuditError(f"{found.count('bug')} differences are not explained by rounding.")
    if found.missing:
        raise AuditError(f"{len(found.missing)} answers are in one run only, the first is {found.missing[0]!r}.")


def _engine_of(run: Run, model: str | None, threads: int | None) -> tuple[Engine, str]:
    """The engine that a run was made with, and its model's name, or that of `model`. Raises UsageError."""
    from hierdraft.generation import load

    made = run.settings
    name = model or made.get("model")
    if not isinstance(name, str):
        raise UsageError("The runs differ and do not say which model made them: give --model.")
    engine, dtype = (str(made.get(key, usual)) for key, usual in (("engine", "hf"), ("dtype", "auto")))
    told = made.get("threads")
    threads = threads or (told if type(told) is int else None)
    loaded = load(name, engine=engine, dtype=dtype, threads=threads, learn=False, generation_config=False)
    return loaded.engine, name


def _tell(console: Any, found: Audit) -> None:
    for one in found.differences:
        gaps = [f"{title} {gap:.2e}" for title, gap in (("margin", one.margin), ("in float32", one.margin_exact),
                ("noise", one.noise), ("distance from float32", one.error)) if gap is not None]  # fmt: skip
        console.print(f"{one.kind:<4} {one.id}, token {one.position}: {one.tokens[0]} or {one.tokens[1]}"
                      f"{': ' if gaps else ''}{', '.join(gaps)}; {one.reason}")  # fmt: skip
    console.print(
        f"{found.answers} answers, {found.tokens} tokens compared: {found.count('tie')} ties, {found.count('bug')} bugs"
    )
