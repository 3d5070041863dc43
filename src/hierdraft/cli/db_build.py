"""`hierdraft db build`: a pack from text, from token ids, or from what a model says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.progress import counting
from hierdraft.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from hierdraft.databases.pack import Pack, PackInfo
    from hierdraft.tree import Int32

_GLOBS = ("*.txt", "*.md", "*.rst", "*.py")
_EXAMPLES = """
Examples:

  hierdraft db build --level statistics --tokenizer smollm2-135m --text notes.txt --text docs/ --out docs.safetensors

  hierdraft db build --level model --tokenizer none --vocab-size 32000 --ids answers.jsonl --out answers.safetensors

  hierdraft db build --level model --model smollm2-135m --generate prompts.jsonl --out said.safetensors
"""


def build(
    out: Annotated[Path, typer.Option(help="The pack to write.")],
    more: Annotated[list[Path] | None, typer.Argument(help="More files for --text.", show_default=False)] = None,
    level: Annotated[str, typer.Option(help="model (what a model said) or statistics (what people write).")] = "model",
    tokenizer: options.Tokenizer = None,
    vocab_size: Annotated[int | None, typer.Option(help="With --tokenizer none: number of ids.")] = None,
    text: Annotated[list[Path] | None, typer.Option(help="UTF-8 text, or a folder of it; may be repeated.")] = None,
    glob: Annotated[list[str] | None, typer.Option(help="Which files of a folder; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name of a folder to leave out; may be repeated.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that are not UTF-8.")] = False,
    ids: Annotated[Path | None, typer.Option(help="Token ids, one document a line, as .jsonl or .npy.")] = None,
    field: Annotated[str, typer.Option(help="Where a row of --ids has its ids.")] = "output_ids",
    model: Annotated[str | None, typer.Option(help="With --generate: the model that answers.")] = None,
    generate: Annotated[Path | None, typer.Option(help="Prompts to answer, one object a line.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Prompts that are answered at once.")] = 32,
    dtype: options.AnswerDtype = "auto",
    threads: options.Threads = None,
    source: Annotated[str, typer.Option(help="Where the text comes from.")] = "",
    licence: Annotated[str, typer.Option(help="The text's licence.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Build a pack: one file that holds a database to draft from."""
    from hierdraft.corpus.files import find_files
    from hierdraft.databases.pack import PackInfo

    if level not in {"model", "statistics"}:
        raise UsageError(f"--level must be model or statistics, not {level!r}.")
    texts = [*(text or []), *(more or [])]
    if [bool(texts), ids is not None, generate is not None].count(True) != 1:
        raise UsageError("Give exactly one of --text, --ids and --generate.")
    started = perf_counter()
    info = PackInfo("model" if level == "model" else "statistics", 1, source=source, licence=licence)
    skipped: list[str] = []
    if generate is not None:
        info, documents = _answers(info, model, generate, out, (max_new_tokens, batch), dtype, threads)
    elif ids is not None:
        info, documents = _from_ids(info, tokenizer, vocab_size, ids, field)
    else:
        files = find_files(texts, glob or _GLOBS, exclude or ())
        info, documents = _from_text(named(info, tokenizer, vocab_size), files, skip_bad, skipped)
    pack = _write(out, info, documents)
    _tell(pack, perf_counter() - started, skipped, as_json)


build.__doc__ = (build.__doc__ or "") + _EXAMPLES


def load_tokenizer(name: str) -> Any:
    """The fast tokenizer of a named model, a folder or a hub model. Raises ModelError, MissingDependencyError."""
    from hierdraft.engines.hf_load import load_tokenizer as load
    from hierdraft.models import resolve
    from hierdraft.settings import load_settings

    return load(resolve(name, load_settings().cache_dir).path)


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
) -> tuple[PackInfo, list[Int32]]:
    from hierdraft.corpus.ids import read_ids

    info, _ = named(info, tokenizer, vocab_size)
    return info, list(read_ids(ids, field, info.vocab_size))


def _from_text(
    tokenizer: tuple[PackInfo, Any], files: list[Path], skip_bad: bool, skipped: list[str]
) -> tuple[PackInfo, list[Int32]]:
    from hierdraft.corpus.files import read_texts
    from hierdraft.corpus.tokens import tokenize

    info, found = tokenizer
    if found is None:
        raise UsageError("Text needs a tokenizer: name a model with --tokenizer.")
    with counting("tokenising") as report:
        documents = list(tokenize(found, read_texts(files, skip_bad=skip_bad, skipped=skipped, report=report)))
    return info, documents


def _answers(
    info: PackInfo, model: str | None, prompts: Path, out: Path, size: tuple[int, int], dtype: str, threads: int | None
) -> tuple[PackInfo, list[Int32]]:
    from hierdraft.corpus.answers import answer_prompts, read_prompts
    from hierdraft.engines.hf_load import load_hf
    from hierdraft.models import resolve
    from hierdraft.settings import load_settings

    if info.level != "model" or model is None:
        raise UsageError("--generate needs --model, and makes a pack of --level model.")
    texts = read_prompts(prompts)
    info, tokenizer = named(info, model, None)
    cache_dir = load_settings().cache_dir
    path = resolve(model, cache_dir).path
    engine = load_hf(path, cache_dir, dtype=dtype, device=None, threads=threads, lean=True)
    kept = out.with_name(out.name + ".answers.jsonl")
    with counting("answering") as report:
        documents = answer_prompts(engine.model, tokenizer, texts, kept, most=size[0], batch=size[1], report=report)
    return info, documents


def _write(out: Path, info: PackInfo, documents: Any) -> Pack:
    from hierdraft.databases.pack import join, write_pack
    from hierdraft.databases.suffixsort import build as build_index

    tokens = join(documents)
    if len(tokens) == 0:
        raise CorpusError("There is no text in what was given.")
    try:
        index = build_index(tokens, info.vocab_size)
    except ValueError as error:
        raise CorpusError(f"The pack cannot be built: {error}.") from error
    return write_pack(out, index, info)


def _tell(pack: Pack, seconds: float, skipped: list[str], as_json: bool) -> None:
    size = pack.path.stat().st_size
    record = {
        "path": str(pack.path),
        "level": pack.info.level,
        "tokens": pack.info.tokens,
        "documents": pack.info.documents,
        "bytes": size,
        "seconds": round(seconds, 2),
        "skipped": skipped,
    }
    for reason in skipped:
        typer.echo(f"left out: {reason}", err=True)
    if as_json:
        typer.echo(json.dumps(record))
        return
    typer.echo(
        f"{pack.path}: {pack.info.tokens:,} tokens in {pack.info.documents:,} documents, {size / 1e6:.1f} MB, "
        f"{seconds:.1f} s"
    )


def written(info: PackInfo, documents: Iterator[Int32], out: Path, *, as_json: bool) -> None:
    """Index documents, write the pack and tell about it."""
    started = perf_counter()
    pack = _write(out, info, documents)
    _tell(pack, perf_counter() - started, [], as_json)
