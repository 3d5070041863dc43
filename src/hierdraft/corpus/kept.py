"""The file of kept answers: JSONL, one line per answer, added to as they come and read again by a later run.

A line has `key` (what was asked, and how), `prompt_ids` and `output_ids`; of a sample also `temperature` and `seed`,
with which `generate` says the same; and where log probabilities were asked for, `top`: the likeliest ids at every
place of the answer. These are packed as base64 text, so that an answer and what belongs to it are one line of one file:
a kill leaves both or neither, and files of several machines can be joined in any order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierdraft.corpus.records import ids_of, read_jsonl
from hierdraft.errors import CorpusError
from hierdraft.protocols import Likely
from hierdraft.tree import Int32

Float16 = NDArray[np.float16]
_IDS, _LOGPROBS = "<i4", "<f2"


class Sampled(NamedTuple):
    """How an answer was drawn."""

    temperature: float
    seed: int


class Kept(NamedTuple):
    """An answer of the file, an end-of-sequence id included, and how many of the likeliest ids stand with it."""

    ids: list[int]
    top: int = 0


def key_of(ids: Sequence[int], most: int, sampled: Sampled | None) -> str:
    """What an answer is found by: the prompt's ids, the most tokens of the answer, and how it was drawn."""
    asked = [ids, most] if sampled is None else [ids, most, *sampled]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]


def pack_top(likely: Sequence[Likely], k: int) -> dict[str, Any]:
    """`top` of a line: k ids and natural log probabilities for each of L tokens, int32[L, k] and float16[L, k]."""
    ids = np.array([[token for token, _ in one.top] for one in likely], dtype=_IDS)
    logprobs = np.array([[value for _, value in one.top] for one in likely], dtype=_LOGPROBS)
    return {"k": k, "ids": _text(ids), "logprobs": _text(logprobs)}


def unpack_top(row: dict[str, Any], place: str, vocab_size: int) -> tuple[Int32, Float16] | None:
    """The likeliest ids int32[L, k] and their log probabilities float16[L, k] of a line; None where it has none.

    Raises CorpusError where they do not fit the answer, or an id is outside the vocabulary.
    """
    top = row.get("top")
    if top is None:
        return None
    try:
        shape = (len(row["output_ids"]), int(top["k"]))
        ids = np.frombuffer(base64.b64decode(top["ids"], validate=True), dtype=_IDS).reshape(shape)
        logprobs = np.frombuffer(base64.b64decode(top["logprobs"], validate=True), dtype=_LOGPROBS).reshape(shape)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise CorpusError(f"{place}: 'top' does not hold the likeliest ids of its answer ({error}).") from error
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise CorpusError(f"{place}: 'top' has an id outside the vocabulary of {vocab_size}.")
    return ids.astype(np.int32), logprobs.astype(np.float16)


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def read_kept(kept: Path) -> dict[str, Kept]:
    """Key -> answer of an earlier run. A last line that was not finished is cut off. Raises CorpusError."""
    if not kept.exists():
        return {}
    try:
        _cut_torn(kept)
    except OSError as error:
        raise CorpusError(f"{kept} cannot be read: {error.strerror or error}.") from error
    found: dict[str, Kept] = {}
    for number, row in read_jsonl(kept):
        if "key" not in row:
            raise CorpusError(f"{kept}, line {number}: not an answer of an earlier run: move the file away.")
        top = row.get("top")
        k = int(top["k"]) if isinstance(top, dict) and isinstance(top.get("k"), int) else 0
        answer = Kept(ids_of(row, "output_ids", f"{kept}, line {number}", None), k)
        found[str(row["key"])] = max(found.get(str(row["key"]), answer), answer, key=lambda one: one.top)
    return found


def keep(kept: Path, row: dict[str, Any]) -> None:
    """Add an answer to the file: a record that `bench replay` and `db inspect` read too. Raises CorpusError."""
    try:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise CorpusError(f"{kept} cannot be written: {error.strerror or error}.") from error


def _cut_torn(kept: Path) -> None:
    data = kept.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with kept.open("r+b") as file:
            file.truncate(whole)
