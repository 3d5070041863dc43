"""Text out of files, a piece at a time: compression by what a file begins with, encodings, standard input.

Memory does not grow with a file, whatever it unpacks to. Every function raises CorpusError with the file, and the
line where there is one.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hierdraft.errors import CorpusError, UsageError

Report = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); (bytes, 0) where nobody knows how many there are."""

STANDARD_INPUT = Path("-")
PACKED_NAMES = (".gz", ".zst", ".bz2", ".xz")
MOST_GROWTH = 250
"""How many times its own size a packed file may unpack to, once that is more than `FREE_GROWTH` bytes."""
FREE_GROWTH = 1 << 28
MOST_LINE = 1 << 26
"""Characters of a line or of a record at most."""

_CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_FOREIGN = (
    (b"%PDF-", "a PDF: take its text out first (pdftotext FILE.pdf)"),
    (b"PK\x03\x04", "a zip archive or an office document: unpack it, or save it as text, first"),
    (b"PAR1", "a Parquet file: write its rows as JSONL first"),
    (b"\x7fELF", "a program"),
)
_LONE = re.compile("[\ud800-\udfff]")


@dataclass
class Reading:
    """How files are read, and what became of it.

    encoding  of all files; UTF-8 unless a file begins with the mark of UTF-16 or UTF-32 where it is None
    skip_bad  leave out what cannot be read and note it in `skipped`
    advice    what a message about a wrong encoding tells the user to do
    skip_option  how a message offers to leave things out, where `skip_bad` is not set; "" where nothing can be
    notes     what was done to the text, and how often
    """

    encoding: str | None = None
    skip_bad: bool = False
    report: Report = lambda _done, _all: None
    advice: str = "convert it to UTF-8"
    skip_option: str = ""
    skipped: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for an encoding that does not exist or is not one of text."""
        if self.encoding is not None:
            try:
                info: Any = codecs.lookup(self.encoding)
            except (LookupError, ValueError):
                info = None
            if info is None or not info._is_text_encoding or info.incrementaldecoder is None:
                raise UsageError(
                    f"--encoding {self.encoding!r} is no text encoding that Python knows: try utf-16, latin-1, cp1252."
                )

    def expect(self, files: Sequence[Path]) -> None:
        """Learn the sizes of what will be read. Raises CorpusError for a file that is not there."""
        self.sizes, self.done = {}, 0
        for file in files:
            try:
                self.sizes[file] = 0 if file == STANDARD_INPUT else file.stat().st_size
            except (OSError, ValueError) as error:
                raise CorpusError(_unreadable(file, error)) from error

    def tell(self, place: int) -> None:
        """Report that the present file has been read up to `place`, however long it is by now."""
        total = sum(self.sizes.values())
        self.report(min(self.done + place, total), total)

    def finish(self, file: Path) -> None:
        """Report that one of the expected files has been read."""
        self.done += self.sizes[file]
        self.tell(0)

    def bad(self, sentence: str) -> None:
        """Note what is left out, or raise CorpusError where nothing may be."""
        if not self.skip_bad:
            raise CorpusError(sentence + self.skip_option + ".")
        self.skipped.append(sentence + ".")

    def note(self, what: str) -> None:
        """Count something that was done to the text."""
        self.notes[what] = self.notes.get(what, 0) + 1


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."


def read_chunks(path: Path, reading: Reading) -> Iterator[str]:
    """The text of a file in pieces, without a byte-order mark. `-` is standard input.

    Files packed with gzip, zstd, bzip2 or xz are unpacked. Raises CorpusError: unreadable, damaged, packed too
    densely, binary, or not in the encoding.
    """
    try:
        with _opened(path) as file:
            pieces = _bytes(path, file, reading)
            first = next(pieces, b"")
            _refuse_foreign(path, first)
            known = reading.encoding
            name = known or next((name for mark, name in _MARKS if first.startswith(mark)), "utf-8")
            yield from _decoded(path, first, pieces, name, reading)
    except OSError as error:
        raise CorpusError(_unreadable(path, error)) from error


def starts_with(path: Path, reading: Reading) -> str:
    """The first characters of a file, stripped; "" for standard input, which can be read only once."""
    if path == STANDARD_INPUT:
        return ""
    quiet = Reading(reading.encoding, advice=reading.advice, skip_option=reading.skip_option)
    return next(read_chunks(path, quiet), "")[:4096].strip()


def read_lines(path: Path, reading: Reading) -> Iterator[tuple[int, str]]:
    """(line number, line) of every line that is not empty, split at newlines only."""
    number, waiting, size = 1, list[str](), 0
    for chunk in read_chunks(path, reading):
        *whole, rest = chunk.split("\n")
        for line in whole:
            text = "".join([*waiting, line])
            waiting, size = [], 0
            if text.strip():
                yield number, text
            number += 1
        waiting.append(rest)
        size += len(rest)
        if size > MOST_LINE:
            raise CorpusError(f"{path}, line {number}: longer than {MOST_LINE >> 20} million characters.")
    text = "".join(waiting)
    if text.strip():
        yield number, text


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _bytes(path: Path, raw: Any, reading: Reading) -> Iterator[bytes]:
    """The file's bytes, unpacked. Growth is bounded, so that a small file does not unpack for hours."""
    kind, file = _unpacker(raw)
    errors = _damage(kind)
    can_tell = raw.seekable()
    grown = 0
    while True:
        try:
            data = file.read(_CHUNK)
        except errors as error:
            raise CorpusError(f"{path} is damaged: what {kind} packed cannot be unpacked ({error}).") from error
        if not data:
            return
        place = raw.tell() if can_tell else 0
        grown += len(data)
        if kind and can_tell and grown > max(FREE_GROWTH, MOST_GROWTH * place):
            raise CorpusError(
                f"{path} unpacks to more than {MOST_GROWTH} times its size: if that is meant, unpack it yourself."
            )
        reading.tell(place)
        yield data


def _unpacker(raw: Any) -> tuple[str, IO[bytes] | Any]:
    """(what packed it, the unpacked file); "" and the file itself where nothing did."""
    head: bytes = raw.peek(16)[:16]
    if head.startswith(b"\x1f\x8b"):
        return "gzip", gzip.GzipFile(fileobj=raw)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        from backports import zstd

        return "zstd", zstd.ZstdFile(raw)
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return "bzip2", bz2.BZ2File(raw)
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz", lzma.LZMAFile(raw)
    return "", raw


def _damage(kind: str) -> tuple[type[Exception], ...]:
    """What unpacking raises where the data is damaged."""
    if kind == "zstd":
        from backports import zstd

        return EOFError, zstd.ZstdError
    return EOFError, zlib.error, lzma.LZMAError, OSError if kind == "bzip2" else gzip.BadGzipFile


def _refuse_foreign(path: Path, first: bytes) -> None:
    for mark, what in _FOREIGN:
        if first.startswith(mark):
            raise CorpusError(f"{path} is {what}.")


def _decoded(path: Path, first: bytes, rest: Iterator[bytes], name: str, reading: Reading) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(name)("strict")
    line, begun = 1, False
    data: bytes = first
    while True:
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            raise CorpusError(_undecodable(path, line, name, error, reading)) from error
        if not begun and text:
            text, begun = text.removeprefix("\ufeff"), True
        for wrong, what in ((text.find("\0"), "a NUL character"), (_place_of_half(text), "half a character")):
            if wrong >= 0:
                known = f"no text in {name}" if reading.encoding else "no UTF-8 text"
                raise CorpusError(
                    f"{path}, line {line + text.count(chr(10), 0, wrong)}: {what}, so this is {known}: "
                    f"{reading.advice}, if it is text at all{'' if reading.skip_bad else reading.skip_option}."
                )
        line += text.count("\n")
        if text:
            yield text
        if not data:
            return
        data = next(rest, b"")


def _place_of_half(text: str) -> int:
    found = None if text.isascii() else _LONE.search(text)
    return found.start() if found else -1


def _undecodable(path: Path, line: int, name: str, error: UnicodeError, reading: Reading) -> str:
    where = ""
    if isinstance(error, UnicodeDecodeError):
        line += error.object.decode(name, errors="replace").count("\n") if name != "utf-8" else 0
        line += error.object.count(b"\n", 0, error.start) if name == "utf-8" else 0
        where = f" ({error.reason}, byte {error.object[error.start]:#04x})"
    shown = "UTF-8" if name == "utf-8" else name
    end = "" if reading.skip_bad else reading.skip_option
    return f"{path}, line {line}: not {shown}{where}: {reading.advice}{end}."
