"""Which files there are, and the text in them.

Every function raises CorpusError with the file, and the line where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hierdraft.corpus.streams import PACKED_NAMES, STANDARD_INPUT, Reading, read_chunks, read_lines, starts_with
from hierdraft.errors import CorpusError


def find_files(paths: Sequence[Path], patterns: Sequence[str], excluded: Sequence[str]) -> list[Path]:
    """The files named, and those in named folders whose names match one of `patterns`, sorted; each once.

    Folders called as one of `excluded` are not searched. `-` is standard input.
    """
    found: list[Path] = []
    for path in paths:
        if path != STANDARD_INPUT and path.is_dir():
            matching = {file for pattern in patterns for file in path.rglob(pattern) if file.is_file()}
            inside = [file for file in matching if not set(file.relative_to(path).parts[:-1]) & set(excluded)]
            if not inside:
                raise CorpusError(f"{path} holds no files named {' or '.join(patterns)}.")
            found += sorted(inside)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def with_packed(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of names, and of the same names packed."""
    return tuple(pattern + end for pattern in patterns for end in ("", *PACKED_NAMES))


def read_texts(files: Sequence[Path], reading: Reading) -> Iterator[Iterator[str]]:
    """The text of every file, in pieces. A file that is no text raises, or is noted if `reading` may leave it out.

    Where files may be left out, each is read through before any of its text is given, so that none is given in part.
    """
    reading.expect(files)
    for file in files:
        if _usable(file, reading):
            yield read_chunks(file, reading)
        reading.finish(file)


def read_documents(files: Sequence[Path], reading: Reading) -> Iterator[str]:
    """Every line of every file that is not empty, as a text of its own. Raises as `read_texts` does."""
    reading.expect(files)
    for file in files:
        if _usable(file, reading):
            yield from (line.rstrip("\r") for _, line in read_lines(file, reading))
        reading.finish(file)


def read_text(path: Path) -> str:
    """The text of one file. Raises CorpusError."""
    return "".join(read_chunks(path, Reading()))


def _usable(file: Path, reading: Reading) -> bool:
    if not reading.skip_bad or file == STANDARD_INPUT:
        return True
    try:
        for _ in read_chunks(file, Reading(reading.encoding, skip_bad=True, advice=reading.advice)):
            pass
    except CorpusError as error:
        reading.skipped.append(str(error))
        return False
    return True


def note_kinds(files: Sequence[Path], reading: Reading) -> None:
    """Note files that are more than text and are taken as they are."""
    for file in files:
        kind = _kind(file, reading)
        if kind == "json":
            reading.note("JSON taken as plain text (chat logs are read with --chat, token ids with --ids)")
        elif kind == "html":
            reading.note("HTML taken as plain text, tags and all")


def _kind(file: Path, reading: Reading) -> str:
    """`json` or `html` for a file that is one of these by its name or by what it begins with, else ``."""
    name = file.name.lower()
    for end in PACKED_NAMES:
        name = name.removesuffix(end)
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return "json"
    if name.endswith((".html", ".htm", ".xhtml")):
        return "html"
    if "." in name:
        return ""
    head = starts_with(file, reading).lower()
    if head.startswith(("<!doctype html", "<html")):
        return "html"
    return "json" if head.startswith(('{"', '[{"')) else ""
