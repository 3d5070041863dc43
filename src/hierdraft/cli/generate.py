"""`hierdraft generate`: one answer, streamed and coloured by the level that drafted each token."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.beforehand import ready, tell_unused
from hierdraft.cli.messages import check_together, conversation
from hierdraft.cli.standard_input import read_prompt
from hierdraft.errors import SchemaError, UsageError

if TYPE_CHECKING:
    from hierdraft.databases.said import SaidBefore
    from hierdraft.generation import LanguageModel
    from hierdraft.stream import Generation

_EXAMPLES = """

Examples:

  hierdraft generate "Why is the sky blue?"

  hierdraft generate "Why is the sky blue?" --system "Answer in one sentence."

  hierdraft generate "And at night?" --messages chat.json

  hierdraft generate "Summarise: ..." --compare --max-new-tokens 200

  hierdraft generate "Correct the spelling: ..." --reference letter.txt

  cat notes.txt | hierdraft generate --json

  hierdraft generate "Tell me a story." --temperature 0.8 --top-p 0.95 --seed 7

  hierdraft generate "Describe a cat as JSON." --schema animal.json

  hierdraft generate "Tell me a story." --model models/larger --draft models/smaller

  hierdraft generate --demo
"""


def generate(
    prompt: options.Prompt = None,
    model: options.Model = None,
    engine: options.Engine = None,
    method: options.Method = None,
    draft: options.Draft = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most new tokens.")] = None,
    budget: Annotated[str | None, typer.Option(help="auto, or a number of nodes per step.")] = None,
    dtype: options.Dtype = None,
    exact: options.Exact = None,
    threads: options.Threads = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may be repeated.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message, before the prompt.")] = None,
    messages: Annotated[Path | None, typer.Option(help="Earlier turns: a JSON file of chat messages.")] = None,
    template: Annotated[str | None, typer.Option(help="Which of several chat templates to use.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Do not put the prompt into the chat template.")] = False,
    pack: options.Packs = None,
    reference: options.References = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    no_generation_config: options.NoGenerationConfig = False,
    schema: options.Schema = None,
    lenient_schema: options.LenientSchema = False,
    schema_folder: options.SchemaFolders = None,
    namespace: Annotated[str, typer.Option(help="Whose database to learn into and draft from.")] = "default",
    no_learn: Annotated[bool, typer.Option("--no-learn", help="Neither keep nor use what was said before.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Decode plainly too and compare.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Decode built-in prompts, plainly and with drafts.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Generate an answer with drafts; the output is that of plain decoding, with the same seed where it samples."""
    from hierdraft.settings import load_settings

    check_together(prompt, system, messages, template, demo=demo, raw=raw)
    settings = load_settings(
        model=model, engine=engine, method=method, max_new_tokens=max_new_tokens, budget=budget, dtype=dtype,
        exact=exact, threads=threads, packs=pack or None, learn=False if no_learn or demo else None,
    )  # fmt: skip
    text = "" if demo or (prompt is None and messages is not None) else read_prompt(prompt)
    asked = conversation(text, system, messages)
    options = {
        **_limit(settings), "budget": settings.budget, "stop": stop or (),
        "chat": template or not raw, "namespace": namespace, "reference": [_text_of(path) for path in reference or []],
        **_schema(schema, lenient_schema, schema_folder),
        **_sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
                    repetition_penalty=repetition_penalty, seed=seed),
    }  # fmt: skip
    tell_unused(temperature, {"top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed})
    method = ready(settings, draft)
    with closing(_load(settings, not no_generation_config)) as loaded:
        if demo:
            from hierdraft.cli.demo import run_demo

            run_demo(loaded, method, options, as_json=as_json)
        else:
            _one(loaded, asked, method, options, compare=compare, as_json=as_json)


generate.__doc__ = (generate.__doc__ or "") + _EXAMPLES


def _text_of(path: Path) -> str:
    """A reference file. Raises CorpusError where it cannot be read or is not UTF-8."""
    from hierdraft.corpus.files import read_text

    return read_text(path)


def _schema(schema: Path | None, lenient: bool, folders: list[Path] | None) -> dict[str, Any]:
    """What the answer must follow, as options of `stream`. Raises UsageError."""
    if schema is None:
        if lenient or folders:
            raise UsageError("--lenient-schema and --schema-folder go with --schema.")
        return {}
    from hierdraft.text.schemas.documents import read_schema

    read_schema(schema)  # what is wrong with the file is said before a model is loaded
    return {"schema": schema, "lenient": lenient, "schema_folders": folders or ()}


def _limit(settings: Any) -> dict[str, int]:
    """Most new tokens where somebody said so; else what the model's folder says holds."""
    return {"max_new_tokens": settings.max_new_tokens} if "max_new_tokens" in settings.model_fields_set else {}


def _sampling(**given: float | None) -> dict[str, Any]:
    """The sampling options that were given, with a seed, so that plain decoding can be asked for the same sample.

    Raises UsageError.
    """
    from hierdraft.arguments import sampling_of

    chosen = sampling_of(given, vocab_size=1)
    return {**{name: value for name, value in given.items() if value is not None}, "seed": chosen.seed}


def _load(settings: Any, generation_config: bool) -> LanguageModel:
    from hierdraft.cli.render import stderr_console
    from hierdraft.generation import load
    from hierdraft.models.named import is_base

    console = stderr_console()
    with console.status(f"loading {settings.model}") if console.is_terminal else _Quiet():
        loaded = load(
            settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads,
            exact=settings.exact, packs=settings.packs, learn=settings.learn, generation_config=generation_config,
        )  # fmt: skip
    if is_base(settings.model, loaded.tokenizer):
        typer.echo(f"hierdraft: {settings.model} is a base model: it continues a text instead of answering.", err=True)
    return loaded


class _Quiet:
    """Stands in for a progress display where stderr is no terminal."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _one(
    model: LanguageModel, prompt: Any, method: str, options: dict[str, Any], *, compare: bool, as_json: bool
) -> None:
    from hierdraft.cli.render import legend, show_stream, shows_colours, stderr_console, stdout_console, summary
    from hierdraft.databases.said import SaidBefore
    from hierdraft.registry import make_method

    plain = _plain(model, prompt, options) if compare else None
    said = SaidBefore(model.databases.open(options["namespace"]))
    stream = model.stream(prompt, method=method, **options)
    run = stream.result
    if as_json:
        for _ in stream:
            pass
        typer.echo(json.dumps(as_record(run, plain, learned_before=_learned_before(run, said))))
        _check_schema(run)
        return
    out, err = stdout_console(), stderr_console()
    show_stream(out, stream)
    if shows_colours(out) and run.by_level:
        err.print(legend(run.levels))
    err.print(summary(run, learned_before=_learned_before(run, said)))
    if plain is not None:
        drawn = run.seed is not None and make_method(method).q_kind == "full"
        err.print(comparison(run, plain, drawn=drawn))
    _check_schema(run)
    if run.left_to_check:
        err.print(f"schema: checked at the end, followed: {', '.join(run.left_to_check)}", markup=False)


def _check_schema(run: Generation) -> None:
    """Raises SchemaError for an answer that does not follow the schema it was asked for."""
    if run.follows_schema is False:
        raise SchemaError(f"The answer does not follow its schema: {'; '.join(run.schema_errors)}.")


def _learned_before(run: Generation, said: SaidBefore) -> bool:
    """Whether the model level held the whole answer, and drafted from it: what such an answer gains says little."""
    return run.by_level.get("model", {"accepted": 0})["accepted"] > 0 and said.holds(run.token_ids)


def _plain(model: LanguageModel, prompt: Any, options: dict[str, Any]) -> Generation:
    """Plain decoding with the same engine, after a short warm-up so that neither run pays for first calls."""
    model.generate(prompt, method="none", **{**options, "max_new_tokens": 4})
    plain: Generation = model.generate(prompt, method="none", **options)
    return plain


def as_record(run: Generation, plain: Generation | None, *, learned_before: bool = False) -> dict[str, Any]:
    """A run as the JSON that `--json` prints."""
    record: dict[str, Any] = {
        "text": run.text,
        "token_ids": run.token_ids,
        "new_tokens": len(run.token_ids),
        "prompt_tokens": run.prompt_tokens,
        "finish": run.finish,
        "steps": run.steps,
        "accepted_length": round(run.accepted_length, 4),
        "seconds": round(run.seconds, 4),
        "tokens_per_second": round(run.tokens_per_second, 2),
        "prefill_seconds": round(run.prefill_seconds, 4),
        "draft_seconds": round(run.draft_seconds, 6),
        "forward_seconds": round(run.forward_seconds, 4),
        "rest_seconds": round(run.rest_seconds, 6),
        "levels": run.by_level,
        "token_levels": run.levels,
        "draft_forwards": run.draft_forwards,
        "seed": run.seed,
        "learned_before": learned_before,
    }
    if run.follows_schema is not None:
        record["schema"] = {
            "follows": run.follows_schema, "errors": run.schema_errors, "left_to_check": run.left_to_check,
        }  # fmt: skip
    if plain is not None:
        record["compare"] = {
            "identical": run.token_ids == plain.token_ids,
            "speedup": round(plain.seconds / run.seconds, 3),
            "baseline_seconds": round(plain.seconds, 4),
        }
    return record


def comparison(run: Generation, plain: Generation, *, drawn: bool = False) -> str:
    """One line: are the texts the same, and how much faster was the drafted one; where drafts were `drawn`, the texts
    are two samples of one distribution.
    """
    other = "another sample" if drawn else "DIFFERENT"
    same = "identical" if run.token_ids == plain.token_ids else other
    return (
        f"plain decoding: {plain.seconds:.2f} s, with drafts: {run.seconds:.2f} s, "
        f"speed-up {plain.seconds / run.seconds:.2f}x, output {same} ({len(plain.token_ids)} tokens)"
    )
