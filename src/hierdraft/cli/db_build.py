"""`hierdraft db build`: a pack from text, from chat logs, from token ids, or from what a model says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.errors import CorpusError, UsageError
from hierdraft.levels import packed_levels
from hierdraft.progress import counting

if TYPE_CHECKING:
    from hierdraft.corpus.rendering import Turns
    from hierdraft.corpus.streams import Reading
    from hierdraft.databases.pack import Pack, PackInfo
    from hierdraft.tree import Int32

_TEXT_GLOBS = ("*.txt", "*.md", "*.rst", "*.py")
_CHAT_GLOBS = ("*.json", "*.jsonl", "*.ndjson")
_SHOWN = 20
_OF_GENERATE = (
    "model", "max_new_tokens", "batch", "engine", "dtype", "threads", "method", "temperature", "seed", "samples",
    "logprobs",
)  # fmt: skip
_GOES_WITH = {
    "lines": ("text",), "glob": ("text", "chat"), "exclude": ("text", "chat"), "encoding": ("text", "chat", "generate"),
    "skip_bad": ("text", "chat", "generate"), "turns": ("chat",), "field": ("ids",),
    "tokenizer": ("text", "chat", "ids"), **dict.fromkeys(_OF_GENERATE, ("generate", "own_prompts")),
    "vocab_size": ("text", "chat", "ids"),
}  # fmt: skip
_EXAMPLES = """

Examples:

  hierdraft db build --level statistics --tokenizer smollm2-135m --text notes.txt --text docs/ --out docs.safetensors

  hierdraft db build --level model --tokenizer smollm2-135m --chat sharegpt.json.gz --out chats.safetensors

  hierdraft db build --level model --tokenizer none --vocab-size 32000 --ids answers.jsonl --out answers.safetensors

  hierdraft db build --level model --model smollm2-135m --generate prompts.jsonl --out said.safetensors

  hierdraft db build --model smollm2-135m --generate p.jsonl --temperature 0.7 --samples 4 --out s.safetensors

  hierdraft db build --model smollm2-135m --own-prompts 3000 --out own.safetensors
"""


def build(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The pack to write.")],
    more: Annotated[
        list[Path] | None, typer.Argument(help="More files for --text or --chat.", show_default=False)
    ] = None,
    level: Annotated[str, typer.Option(help="model (what a model said) or statistics (what people write).")] = "model",
    tokenizer: options.Tokenizer = None,
    vocab_size: Annotated[int | None, typer.Option(help="With --tokenizer none: number of ids.")] = None,
    text: Annotated[list[Path] | None, typer.Option(help="Text, a folder of it, or -; may be repeated.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Of --text: every line is a document.")] = False,
    chat: Annotated[
        list[Path] | None, typer.Option(help="Chat logs in JSON or JSONL, a folder, or -; may be repeated.")
    ] = None,
    turns: Annotated[
        str, typer.Option(help="Of --chat: assistant (the model's turns), all, or auto: by the level.")
    ] = "auto",
    encoding: Annotated[str | None, typer.Option(help="Of the files, where it is not UTF-8: latin-1, ...")] = None,
    glob: Annotated[list[str] | None, typer.Option(help="Which files of a folder; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name of a folder to leave out; may be repeated.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files and records that are bad.")] = False,
    ids: Annotated[Path | None, typer.Option(help="Token ids, one document a line, as .jsonl or .npy.")] = None,
    field: Annotated[str, typer.Option(help="Where a row of --ids has its ids.")] = "output_ids",
    model: options.AnsweringModel = None,
    generate: Annotated[
        list[Path] | None, typer.Option(help="Prompts to answer, in any form that --chat reads; may be repeated.")
    ] = None,
    own_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts that the model makes up itself, to answer; it needs a chat template.")
    ] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 256,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Prompts that are answered at once.")] = 32,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    method: options.Method = None,
    temperature: options.Temperature = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples, with --temperature.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Answers per prompt, with --temperature.")] = 1,
    logprobs: Annotated[
        int, typer.Option(min=0, max=256, help="Keep the N likeliest ids at every place, to train a drafter with.")
    ] = 0,
    source: Annotated[str, typer.Option(help="Where the text comes from.")] = "",
    licence: Annotated[str, typer.Option(help="The text's licence.")] = "",
    bare: Annotated[
        bool, typer.Option("--bare", help="Without an index, a quarter of the size: built when it is first used.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Build a pack: one file that holds a database to draft from."""
    from hierdraft.databases.pack import PackInfo

    check_level(level)
    kind, files = _given(context, {
        "text": text, "chat": chat, "ids": ids, "generate": generate, "own_prompts": own_prompts,
    }, more or [])  # fmt: skip
    info = PackInfo(level, 1, source=source, licence=licence)
    reading = _reading(encoding, skip_bad=skip_bad)
    if kind in ("generate", "own_prompts"):
        from hierdraft.cli.answering import Wanted, answered

        wanted = Wanted(max_new_tokens, batch, temperature, seed, samples, logprobs)
        answering = {"model": model, "engine": engine, "dtype": dtype, "threads": threads, "method": method}
        info, documents = answered(info, answering, files or own_prompts, out, wanted, reading)
    elif kind == "ids":
        info, documents = _from_ids(info, tokenizer, vocab_size, files[0], field)
    else:
        chosen = _files(kind, files, glob, exclude)
        found = named(info, tokenizer, vocab_size)
        if kind == "text":
            info, documents = found[0], _from_text(found, chosen, reading, lines=lines)
        else:
            info, documents = found[0], _from_chats(found, chosen, _turns(turns, level), reading)
    written(info, documents, out, as_json=as_json, reading=reading, bare=bare)


build.__doc__ = (build.__doc__ or "") + _EXAMPLES


def _given(context: typer.Context, sources: dict[str, Any], more: list[Path]) -> tuple[str, list[Path]]:
    """Which of the sources was given, and its files. Raises UsageError for none, several and options of others."""
    kinds = [kind for kind, value in sources.items() if value]
    if not kinds and more:
        kinds = ["text"]
    if len(kinds) != 1:
        raise UsageError("Give exactly one of --text, --chat, --ids, --generate and --own-prompts.")
    (kind,) = kinds
    for name, with_kinds in _GOES_WITH.items():
        given = context.get_parameter_source(name)
        if kind not in with_kinds and given is not None and given.name == "COMMANDLINE":
            fits = " and ".join(f"--{one}" for one in with_kinds)
            raise UsageError(f"--{name} goes with {fits}, not with --{kind}.".replace("_", "-"))
    value = sources[kind] or []
    if isinstance(value, int):
        if more:
            raise UsageError(f"--own-prompts takes no files; {more[0]} is one.")
        return kind, []
    if isinstance(value, Path):
        if more:
            raise UsageError(f"--{kind} takes one file; {more[0]} is one more.")
        return kind, [value]
    return kind, [*value, *more]


def _reading(encoding: str | None, *, skip_bad: bool) -> Reading:
    from hierdraft.corpus.streams import Reading

    advice = "name its encoding with --encoding (utf-16, latin-1, cp1252, ...)"
    return Reading(encoding, skip_bad, advice=advice, skip_option="; --skip-bad leaves such things out")


def _turns(turns: str, level: str) -> Turns:
    """Which turns are wanted: of a model level the model's own, of statistics all. Raises UsageError."""
    if turns not in {"auto", "assistant", "all"}:
        raise UsageError(f"--turns must be assistant, all or auto, not {turns!r}.")
    own = turns == "assistant" or (turns == "auto" and level == "model")
    return "assistant" if own else "all"


def _files(kind: str, given: list[Path], glob: list[str] | None, exclude: list[str] | None) -> list[Path]:
    from hierdraft.corpus.files import find_files, with_packed

    return find_files(given, glob or with_packed(_TEXT_GLOBS if kind == "text" else _CHAT_GLOBS), exclude or ())


def load_tokenizer(name: str) -> Any:
    """The fast tokenizer of a named model, a folder or a hub model. Raises ModelError, MissingDependencyError."""
    from hierdraft.engines.hf.load import load_tokenizer as load
    from hierdraft.models.named import resolve
    from hierdraft.settings import load_settings

    return load(resolve(name, load_settings().cache_dir).path)


def check_level(level: str) -> None:
    """Raise UsageError unless packs are made of this level."""
    if level not in packed_levels():
        raise UsageError(f"--level must be {' or '.join(packed_levels())}, the levels of packs, not {level!r}.")


def named(info: PackInfo, name: str | None, vocab_size: int | None) -> tuple[PackInfo, Any]:
    """`info` for a tokenizer, and the tokenizer; None for bare ids. Raises UsageError."""
    from dataclasses import replace

    from hierdraft import __version__
    from hierdraft.text import tokenizer_fingerprint

    info = replace(info, builder=f"hierdraft {__version__}")
    if name is None:
        raise UsageError("Name the tokenizer with --tokenizer (none for bare ids).")
    if name == "none":
        if vocab_size is None or vocab_size < 1:
            raise UsageError("--tokenizer none needs --vocab-size, the number of ids.")
        return replace(info, vocab_size=vocab_size), None
    if vocab_size is not None:
        raise UsageError("--vocab-size goes with --tokenizer none: a tokenizer knows its own.")
    found = load_tokenizer(name)
    return replace(info, vocab_size=len(found), tokenizer=tokenizer_fingerprint(found), model=name), found


def _from_ids(
    info: PackInfo, tokenizer: str | None, vocab_size: int | None, ids: Path, field: str
) -> tuple[PackInfo, Iterator[Int32]]:
    from hierdraft.corpus.ids import read_ids

    info, _ = named(info, tokenizer, vocab_size)
    return info, read_ids(ids, field, info.vocab_size)


def _from_text(tokenizer: tuple[PackInfo, Any], files: list[Path], reading: Reading, *, lines: bool) -> Iterator[Int32]:
    from hierdraft.corpus.files import note_kinds, read_documents, read_texts
    from hierdraft.corpus.tokens import tokenize

    if tokenizer[1] is None:
        raise UsageError("Text needs a tokenizer: name a model with --tokenizer.")
    with counting("tokenising") as reading.report:
        note_kinds(files, reading)
        yield from tokenize(tokenizer[1], (read_documents if lines else read_texts)(files, reading))


def _from_chats(tokenizer: tuple[PackInfo, Any], files: list[Path], turns: Turns, reading: Reading) -> Iterator[Int32]:
    from hierdraft.corpus.chats import read_chats
    from hierdraft.corpus.rendering import documents_of
    from hierdraft.corpus.tokens import tokenize

    if tokenizer[1] is None:
        raise UsageError("Chat logs need a tokenizer: name a model with --tokenizer.")
    with counting("tokenising") as reading.report:
        chats = read_chats(files, reading)
        yield from tokenize(tokenizer[1], documents_of(tokenizer[1], chats, turns, reading))


def written(
    info: PackInfo, documents: Iterator[Int32], out: Path, *, as_json: bool, reading: Reading | None = None,
    bare: bool = False,
) -> None:  # fmt: skip
    """Index documents, write the pack and tell about it, and about what was left out or done to its text."""
    from hierdraft.databases.merge import build_bare, build_pack

    started = perf_counter()
    with ExitStack() as stack:
        stack.callback(getattr(documents, "close", lambda: None))  # ends a progress bar, also after Ctrl-C
        bar: list[Any] = []

        def merging(done: int, everything: int) -> None:
            bar[:] = bar or [stack.enter_context(counting("merging"))]
            bar[0](done, everything)

        try:
            pack = build_bare(out, documents, info) if bare else build_pack(out, documents, info, merging)
        except ValueError as error:
            raise CorpusError(f"The pack cannot be built: {error}.") from error
    _tell(pack, perf_counter() - started, reading or _reading(None, skip_bad=False), as_json)


def _tell(pack: Pack, seconds: float, reading: Reading, as_json: bool) -> None:
    size = pack.path.stat().st_size
    record = {
        "path": str(pack.path),
        "level": pack.info.level,
        "tokens": pack.info.tokens,
        "documents": pack.info.documents,
        "bytes": size,
        "seconds": round(seconds, 2),
        "skipped": reading.skipped,
        "notes": reading.notes,
    }
    for reason in reading.skipped[:_SHOWN]:
        typer.echo(f"left out: {reason}", err=True)
    if len(reading.skipped) > _SHOWN:
        typer.echo(f"left out: {len(reading.skipped) - _SHOWN} more (--json lists them all)", err=True)
    for what, count in reading.notes.items():
        typer.echo(f"note: {what}: {count}", err=True)
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(
        f"{pack.path}: {pack.info.tokens:,} tokens in {pack.info.documents:,} documents, {size / 1e6:.1f} MB, "
        f"{seconds:.1f} s"
    )
