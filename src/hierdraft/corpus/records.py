"""JSON in files: one object a line, values one after another, or one array; and records of what models said.

Files are read a piece at a time, packed or not (corpus/streams.py). Every function raises CorpusError with file and
line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hierdraft.corpus.streams import MOST_LINE, Reading, read_chunks, read_lines
from hierdraft.databases.levels import LEAD
from hierdraft.errors import CorpusError

Record = dict[str, Any]


def read_jsonl(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not empty."""
    for number, line in read_lines(path, reading or Reading()):
        yield number, _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}, line {number}: not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise CorpusError(f"{path}, line {number}: not a JSON object.")
    return row


def read_values(path: Path, reading: Reading) -> Iterator[tuple[str, Any]]:
    """(where, value) of every JSON value of a file, or of every element where the file is an array.

    An array of messages is one value, a conversation: its elements have a `role` or `from` of their own. What is not
    JSON raises, or is noted and left out up to the end of its line if `reading` may; in an array nothing can be read
    after it, so there it always raises.
    """
    scanner = _Scanner(path, reading)
    while scanner.peek():
        if scanner.peek() == "[":
            yield from scanner.elements()
            continue
        place = f"{path}, line {scanner.line}"
        try:
            value = scanner.value()
        except CorpusError as error:
            if not reading.skip_bad:
                raise
            reading.skipped.append(str(error))
            scanner.skip_line()
        else:
            yield place, value


class _Scanner:
    """Reads one JSON value after another from text that comes in chunks; holds little more than one value."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading
        self._chunks = read_chunks(path, reading)
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in " \t\r\n\x1e":
                at += 1
            self._move(at)
            if at < len(text) or not self._more():
                return text[at : at + 1]

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                found, end = self._decode(self._text, self._at)
            except RecursionError as error:
                raise self._wrong("nested too deeply") from error
            except json.JSONDecodeError as error:
                if self._is_cut(error) and self._more():
                    continue
                raise self._wrong(error.msg, error.pos) from error
            except ValueError as error:
                raise self._wrong(str(error)) from error
            if end == len(self._text) and self._text[end - 1] not in '}]"' and self._more():
                continue  # a number may continue
            self._move(end)
            return found

    def elements(self) -> Iterator[tuple[str, Any]]:
        """The elements of the array that begins here, or the whole array if it is a conversation."""
        self._move(self._at + 1)
        place, number, messages = f"{self._path}, line {self.line}", 0, list[Any]()
        while self.peek() != "]":
            if number and self.peek() != ",":
                raise self._wrong("a comma or the array's end is missing")
            if number:
                self._move(self._at + 1)
                self.peek()
            number += 1
            here = f"{self._path}, record {number} (line {self.line})"
            value = self.value()
            if messages or (number == 1 and isinstance(value, dict) and ("role" in value or "from" in value)):
                messages.append(value)
            else:
                yield here, value
        self._move(self._at + 1)
        if messages:
            yield place, messages

    def skip_line(self) -> None:
        """Go to the end of this line."""
        while (end := self._text.find("\n", self._at)) < 0:
            self._move(len(self._text))
            if not self._more():
                return
        self._move(end)

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Read at least as much again as is waiting. False at the file's end."""
        parts, size = [self._text[self._at :]], 0
        waiting = len(parts[0])
        if waiting > MOST_LINE:
            raise self._wrong(f"a value of more than {MOST_LINE >> 20} million characters")
        while not self._ended and size <= waiting:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            parts.append(chunk or "")
            size += len(chunk or "")
        if size:
            self._text, self._at = "".join(parts), 0
        return size > 0

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more text could help: the error lies at the end, or in a string that the end leaves open."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 16

    def _wrong(self, what: str, at: int | None = None) -> CorpusError:
        line = self.line + (self._text.count("\n", self._at, at) if at is not None else 0)
        end = "" if self._reading.skip_bad else self._reading.skip_option
        return CorpusError(f"{self._path}, line {line}: not JSON ({what}){end}.")


def read_records(path: Path, vocab_size: int | None = None) -> Iterator[Record]:
    """What models said, as `bench run`, `db build --generate` and `db export` write it, or anyone else.

    Gives rows with `prompt_ids`, `output_ids` and `task` ("all" where there is none), neither list empty. A row without
    a prompt is a document: its first `LEAD` tokens stand for the prompt. Answers without a token, and documents that
    leave none, are left out, and so is the first line of a run. Ids are below `vocab_size` where it is given.
    """
    for number, row in read_jsonl(path):
        if number == 1 and isinstance(row.get("run"), dict):
            continue
        place = f"{path}, line {number}"
        if isinstance(row.get("run"), dict):
            raise CorpusError(f"{place}: a second run begins here; give each run a file of its own.")
        names = ("prompt_ids", "output_ids") if "prompt_ids" in row else ("output_ids",)
        for name in names:
            ids_of(row, name, place, vocab_size)
        if names == ("output_ids",):
            lead = min(LEAD, max(1, len(row["output_ids"]) - 1))
            row = {**row, "prompt_ids": row["output_ids"][:lead], "output_ids": row["output_ids"][lead:]}
        elif not row["prompt_ids"]:
            raise CorpusError(f"{place}: a record needs token ids under 'prompt_ids'.")
        if row["output_ids"]:
            yield {**row, "task": str(row.get("task", "all"))}


def ids_of(row: dict[str, Any], field: str, place: str, vocab_size: int | None) -> list[int]:
    """The token ids of a row under `field`."""
    ids = row.get(field)
    if not isinstance(ids, list) or any(type(token) is not int for token in ids):
        raise CorpusError(f"{place}: a row needs a list of token ids under {field!r}.")
    if ids and (min(ids) < 0 or (vocab_size is not None and max(ids) >= vocab_size)):
        wrong = next(token for token in ids if token < 0 or (vocab_size is not None and token >= vocab_size))
        known = f"of {vocab_size}" if vocab_size is not None else "of any model"
        raise CorpusError(f"{place}: id {wrong} is outside the vocabulary {known}.")
    return ids
