"""`hierdraft bench serve`: a load on a running server, ours or another one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hierdraft.cli import complete, options
from hierdraft.errors import MissingDependencyError, OutputError, UsageError
from hierdraft.progress import counting


def serve(
    server: Annotated[str, typer.Option(help="Its address.")] = "http://127.0.0.1:8008",
    key_file: Annotated[Path | None, typer.Option(help="A file with its key.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="What the server calls the model; without: the first it lists.", autocompletion=complete.models
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="builtin, spec-bench, or a JSONL file.")] = "builtin",
    per_task: Annotated[int | None, typer.Option(min=1, help="At most N questions of each task.")] = None,
    concurrency: Annotated[str, typer.Option(help="Requests in flight, one or several numbers: 1,4,8.")] = "1",
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second at random, in place of at once.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="How many; without: each prompt once.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 128,
    temperature: options.Temperature = None,
    method: Annotated[
        str | None,
        typer.Option(help="How our server is to draft; none: plainly.", autocompletion=complete.served_methods),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write what was measured, as JSON.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a server that speaks OpenAI's chat completions, and tell what its clients wait for.

    Examples:

      hierdraft bench serve --concurrency 1,4,8

      hierdraft bench serve --server http://127.0.0.1:8080 --rate 2 --requests 100 --out load.json

      hierdraft bench serve --method none --concurrency 4 --json
    """
    try:
        from hierdraft.cli.partners import Remote

        name = model or _first(Remote, server, key_file)
    except ImportError as error:
        message = f"Asking a server needs httpx2 ({error}): pip install 'hierdraft[server]'."
        raise MissingDependencyError(message) from error
    levels = _numbers(concurrency)
    prompts = _prompts(dataset, per_task)
    body: dict[str, Any] = {"model": name, "max_tokens": max_new_tokens, "temperature": temperature or 0.0}
    if method is not None:
        body["hierdraft"] = {"method": method, "provenance": True}
    found = []
    for level in levels:
        found.append(_measured(server, _key(key_file), prompts, requests or len(prompts), level, rate, body))
        if not as_json:
            _tell(found[-1])
    told = {"server": server, "model": name, "method": method, "dataset": dataset, "runs": found}
    if as_json:
        typer.echo(json.dumps(told))
    if out is not None:
        try:
            out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from error


def _measured(
    server: str, key: str | None, prompts: list[str], requests: int, concurrency: int, rate: float | None,
    body: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    from hierdraft.bench.load import Plan, measure

    with counting(f"{concurrency} in flight") as report:
        return asyncio.run(measure(server, key, Plan(prompts, requests, concurrency, rate, body), report))


def _first(remote: Any, server: str, key_file: Path | None) -> str:
    """The first model that a server lists."""
    asked = remote(server, _key(key_file))
    asked.close()
    return str(asked.name)


def _key(key_file: Path | None) -> str | None:
    if key_file is None:
        return None
    try:
        return key_file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"The key in {key_file} cannot be read ({error}).") from error


def _prompts(dataset: str, per_task: int | None) -> list[str]:
    from hierdraft.bench.datasets import load_questions

    return [question.turns[0] for question in load_questions(dataset, per_task)]


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UsageError(f"--concurrency must be whole numbers of at least 1, separated by commas, not {text!r}.")
    return found


def _tell(run: dict[str, Any]) -> None:
    """One line for people."""
    first, each = run["time_to_first_token_ms"], run["time_per_token_ms"]
    waits = f", first token {first['p50']:.0f} ms (p99 {first['p99']:.0f})" if first else ""
    waits += f", each token {each['p50']:.1f} ms (p99 {each['p99']:.1f})" if each else ""
    length = f", accepted length {run['accepted_length']:.2f}" if run["accepted_length"] else ""
    failed = f", {run['failed']} failed ({'; '.join(run['failures'])})" if run["failed"] else ""
    typer.echo(f"{run['concurrency']} in flight: {run['tokens_per_second']:.1f} tokens a second{waits}{length}{failed}")
