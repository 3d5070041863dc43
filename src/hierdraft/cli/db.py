"""`hierdraft db`: make, look at, check, join and exchange databases, and forget what was learned."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hierdraft.cli import db_build, options
from hierdraft.errors import CorpusError, UsageError
from hierdraft.progress import counting

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Databases to draft from.")
app.command("build")(db_build.build)

Out = Annotated[Path, typer.Option(help="The file to write.")]


@app.command("inspect")
def inspect(
    path: options.PackPath,
    top: Annotated[int, typer.Option(min=0, help="How many of the commonest n-grams to show.")] = 10,
    size: Annotated[int, typer.Option(min=1, max=16, help="Tokens of an n-gram.")] = 4,
    tokenizer: options.TextOf = None,
    records: Annotated[Path | None, typer.Option(help="Records to score it on: of a run, --generate, export.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="Nodes per step for scoring.")] = 28,
    as_json: options.AsJson = False,
) -> None:
    """Show what a pack holds and, given records, how it would score on them.

    Examples:

      hierdraft db inspect said.safetensors --tokenizer smollm2-135m

      hierdraft db inspect said.safetensors --records answers.jsonl --json
    """
    from hierdraft.bench.pack import score, top_ngrams
    from hierdraft.corpus.records import read_records
    from hierdraft.databases.pack import Pack

    pack = Pack.open(path)
    bytes_ = path.stat().st_size
    per_token = round(bytes_ / max(1, pack.info.tokens), 2)
    record: dict[str, Any] = {**asdict(pack.info), "bytes": bytes_, "bytes_per_token": per_token}
    grams = top_ngrams(pack, size, top) if top else []
    decode = db_build.load_tokenizer(tokenizer).decode if tokenizer else (lambda ids: " ".join(map(str, ids)))
    record["top"] = [{"ids": ids, "text": decode(ids) if tokenizer else None, "count": count} for ids, count in grams]
    if records is not None:
        rows = list(read_records(records, pack.info.vocab_size))
        if not rows:
            raise CorpusError(f"{records} holds no records.")
        scores = [round(score(some, rows, budget, pack.info.vocab_size), 4) for some in ([], [pack])]
        record["accepted_length"] = {"without": scores[0], "with": scores[1]}
    if as_json:
        typer.echo(json.dumps(record))
        return
    _show(record, records)
    for ids, count in grams:
        typer.echo(f"{count:>8}  {decode(ids)!r}")


def _show(record: dict[str, Any], records: Path | None) -> None:
    """What `inspect` found, for people."""
    for name in ("level", "model", "tokenizer", "vocab_size", "source", "licence", "builder", "tokens", "documents"):
        typer.echo(f"{name:<12} {record[name]}")
    typer.echo(f"{'size':<12} {record['bytes'] / 1e6:.2f} MB, {record['bytes_per_token']} bytes a token")
    if records is not None:
        found = record["accepted_length"]
        typer.echo(f"accepted length on {records}: {found['without']} without this pack, {found['with']} with it")


@app.command("verify")
def verify(path: options.PackPath, as_json: options.AsJson = False) -> None:
    """Read all of a pack and compare it with its checksums.

    Example:

      hierdraft db verify said.safetensors
    """
    from hierdraft.databases.pack import Pack

    pack = Pack.open(path)
    pack.verify()
    _done({"path": str(path), "verified": True, "tokens": pack.info.tokens}, f"{path} is what was written.", as_json)


@app.command("merge")
def merge(
    paths: options.PackPaths,
    out: Out,
    as_json: options.AsJson = False,
) -> None:
    """Join packs into one, also such that do not fit into memory. Needs twice the result's size on disk.

    Example:

      hierdraft db merge monday.safetensors tuesday.safetensors --out week.safetensors
    """
    from hierdraft.databases.merge import merge_packs
    from hierdraft.databases.pack import Pack

    packs = [Pack.open(path) for path in paths]
    first = packs[0].info
    for pack in packs[1:]:
        pack.require(tokenizer=first.tokenizer, vocab_size=first.vocab_size, name=first.model or str(paths[0]))
        if (pack.info.level, pack.info.vocab_size) != (first.level, first.vocab_size):
            raise UsageError(f"{pack.path} and {paths[0]} are of different levels or vocabularies.")
    if out.resolve() in [path.resolve() for path in paths]:
        raise UsageError("--out must be a file of its own.")
    model, source, licence = (
        "; ".join(dict.fromkeys(value for value in values if value))
        for values in zip(*((pack.info.model, pack.info.source, pack.info.licence) for pack in packs), strict=True)
    )
    with counting("merging") as report:
        merged = merge_packs(packs, out, replace(first, model=model, source=source, licence=licence), report)
    record = {"path": str(out), "tokens": merged.info.tokens, "documents": merged.info.documents}
    _done(record, f"{out}: {merged.info.tokens:,} tokens in {merged.info.documents:,} documents", as_json)


@app.command("export")
def export(path: options.PackPath, out: Out, as_json: options.AsJson = False) -> None:
    """Write a pack's documents as JSONL, one {"output_ids": [...]} a line, in their order.

    Example:

      hierdraft db export said.safetensors --out said.jsonl
    """
    from hierdraft.databases.disk import SharedDisk, write_file
    from hierdraft.databases.pack import Pack

    pack = Pack.open(path)
    lines = (json.dumps({"output_ids": ids.tolist()}).encode() + b"\n" for ids in pack.documents())
    try:
        write_file(SharedDisk(), out, lines)
    except OSError as error:
        raise CorpusError(f"{out} cannot be written: {error.strerror or error}.") from error
    _done({"path": str(out), "documents": pack.info.documents}, f"{out}: {pack.info.documents:,} documents", as_json)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="JSONL that `export` wrote, or n-gram counts {'id/id/...': count}.")],
    out: Out,
    level: Annotated[str, typer.Option(help="model or statistics.")] = "model",
    tokenizer: options.Tokenizer = "none",
    vocab_size: Annotated[int | None, typer.Option(help="With --tokenizer none: number of ids.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a pack of exported documents, or of the n-gram counts that the public code of Hierarchy Drafting writes.

    Examples:

      hierdraft db import said.jsonl --tokenizer smollm2-135m --out said.safetensors

      hierdraft db import train_5.json --vocab-size 32000 --out history.safetensors
    """
    from hierdraft.corpus.ids import read_ids, read_ngrams
    from hierdraft.databases.pack import PackInfo

    db_build.check_level(level)
    info = PackInfo(level, 1, source=path.name)
    info, _ = db_build.named(info, tokenizer, vocab_size)
    ngrams = path.suffix == ".json"
    documents = read_ngrams(path, info.vocab_size) if ngrams else read_ids(path, "output_ids", info.vocab_size)
    db_build.written(info, documents, out, as_json=as_json)


@app.command("forget")
def forget(
    namespace: Annotated[str, typer.Argument(help="The namespace, `default` unless another was named.")],
    as_json: options.AsJson = False,
) -> None:
    """Erase everything that was learned in a namespace, for every model, and check that it is gone.

    Example:

      hierdraft db forget default
    """
    from hierdraft.databases.namespace import forget as erase
    from hierdraft.holdings import STORE
    from hierdraft.settings import load_settings

    erasure = erase(load_settings().data_dir / STORE, namespace)
    record = {"namespace": namespace, **asdict(erasure)}
    said = (
        f"Erased {erasure.files} files ({erasure.bytes / 1e6:.2f} MB) of {erasure.folders} models. Of "
        f"{erasure.passages} passages taken from them before, {erasure.found} are found under this name now, and "
        f"{erasure.elsewhere} in other namespaces, where the model said the same."
    )
    _done(record, said if erasure.folders else f"Nothing was learned in {namespace!r}.", as_json)


def _done(record: dict[str, Any], sentence: str, as_json: bool) -> None:
    typer.echo(json.dumps(record) if as_json else sentence)
