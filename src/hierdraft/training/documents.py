"""What a drafter learns from: documents of token ids, and which of them are held out.

Documents come from packs, from records of answers (`db build --generate`, `bench run`, `db export`), from chat logs and
from text. Prompts are context: no loss is taken on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.corpus.chats import read_chats
from hierdraft.corpus.files import read_texts
from hierdraft.corpus.kept import Float16, unpack_top
from hierdraft.corpus.records import read_records, read_values
from hierdraft.corpus.rendering import documents_of
from hierdraft.corpus.streams import PACKED_NAMES, Reading, starts_with
from hierdraft.corpus.tokens import tokenize
from hierdraft.databases.levels import LEAD
from hierdraft.databases.pack import SUFFIX, Pack
from hierdraft.errors import CorpusError, PackError, TrainingError
from hierdraft.text import tokenizer_fingerprint
from hierdraft.training.states import States
from hierdraft.tree import Int32

_JSON = (".json", ".jsonl", ".ndjson")


@dataclass(frozen=True, eq=False)
class Document:
    """A text as ids int32[L], L >= 2; the loss is taken on those from number `start` >= 1 on.

    top     the target's likeliest ids int32[L - start, k] in the places of these, and natural log probabilities
            float16[L - start, k]; None where they were not kept
    group   documents of one group are held out together: answers to one prompt
    states  the target's hidden states at all tokens but the last, where it was asked for them
    """

    ids: Int32
    start: int
    top: tuple[Int32, Float16] | None = None
    group: bytes = b""
    states: States | None = None

    def digest(self) -> bytes:
        """Of the answer and the last tokens before it: the same for one answer in a pack and in a record."""
        return _digest(self.ids[max(0, self.start - LEAD) :])


@dataclass(frozen=True)
class Source:
    """One file of data, as the drafter's folder tells of it: the file's name without its folder."""

    name: str
    kind: str
    documents: int
    tokens: int
    licence: str = ""
    origin: str = ""


def read_documents(files: Sequence[Path], tokenizer: Any, vocab_size: int) -> tuple[list[Document], list[Source]]:
    """All documents of some files, each once; of equal ones the one with the most context and likeliest ids.

    tokenizer   the target's

    Raises CorpusError or PackError for what cannot be read or has other ids, TrainingError where there is nothing.
    """
    found: dict[bytes, Document] = {}
    sources = []
    for path in files:
        kind = kind_of(path)
        licence = origin = ""
        if kind == "pack":
            pack = _pack(path, tokenizer, vocab_size)
            licence, origin = pack.info.licence, pack.info.source
        count = tokens = 0
        for document in _documents(path, kind, tokenizer, vocab_size):
            count, tokens = count + 1, tokens + len(document.ids) - document.start
            key = document.digest()
            found[key] = max(found.get(key, document), document, key=lambda one: (one.top is not None, one.start))
        sources.append(Source(path.name, kind, count, tokens, licence, origin))
    if not found:
        raise TrainingError("There is nothing to learn from: no file of --data has a document of two tokens or more.")
    return list(found.values()), sources


def kind_of(path: Path) -> str:
    """`pack`, `records`, `chats` or `text`, by its name and what its first record has. Raises CorpusError."""
    if path.suffix == SUFFIX:
        return "pack"
    name = path.name.lower()
    for end in PACKED_NAMES:
        name = name.removesuffix(end)
    if not name.endswith(_JSON):
        return "text"
    first = next((value for _, value in read_values(path, Reading())), None)
    return "records" if isinstance(first, dict) and ("output_ids" in first or "run" in first) else "chats"


def check_files(files: Sequence[Path]) -> None:
    """Raises CorpusError or PackError for a file that cannot be read, before anything larger is."""
    for path in files:
        if kind_of(path) == "pack":
            try:
                path.open("rb").close()
            except OSError as error:
                raise PackError(f"The pack {path} cannot be read: {error.strerror or error}.") from error
        else:
            starts_with(path, Reading())


def _pack(path: Path, tokenizer: Any, vocab_size: int) -> Pack:
    pack = Pack.open(path)
    pack.require(tokenizer=tokenizer_fingerprint(tokenizer), vocab_size=vocab_size, name="the target")
    return pack


def _documents(path: Path, kind: str, tokenizer: Any, vocab_size: int) -> Iterator[Document]:
    if kind == "records":
        yield from _of_records(path, vocab_size)
        return
    lead = LEAD
    if kind == "pack":
        pack = _pack(path, tokenizer, vocab_size)
        pack.verify()
        texts: Iterator[Int32] = pack.documents()
        lead = LEAD if pack.info.level == "model" else 1
    elif kind == "chats":
        texts = tokenize(tokenizer, documents_of(tokenizer, read_chats([path], Reading()), "assistant", Reading()))
    else:
        lead = 1
        texts = tokenize(tokenizer, read_texts([path], Reading()))
    for ids in texts:
        if len(ids) >= 2:
            own = np.array(ids, dtype=np.int32)
            yield _grouped(Document(own, min(lead, len(own) - 1)))


def _of_records(path: Path, vocab_size: int) -> Iterator[Document]:
    for number, row in enumerate(read_records(path, vocab_size), start=1):
        top = unpack_top(row, f"{path}, record {number}", vocab_size)
        prompt = np.array(row["prompt_ids"], dtype=np.int32)
        ids = np.concatenate([prompt, np.array(row["output_ids"], dtype=np.int32)])
        group = _digest(prompt) if len(prompt) > LEAD else b""
        yield _grouped(Document(ids, len(prompt), top, group))


def _grouped(document: Document) -> Document:
    return document if document.group else replace(document, group=document.digest())


def _digest(ids: Int32) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i4").tobytes()).digest()


def digest_of(documents: Sequence[Document]) -> str:
    """SHA-256 of everything that is learned from documents, in order."""
    found = hashlib.sha256()
    for one in documents:
        found.update(_digest(one.ids) + one.start.to_bytes(8, "little") + one.group)
        for part in one.top or ():
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def split(documents: Sequence[Document], share: float, seed: int) -> tuple[list[Document], list[Document]]:
    """(training, held out): whole groups, each by a hash of its own, so that further data moves none of them.

    Raises TrainingError where one of the two would be empty.
    """
    bound = int(share * (1 << 64))
    salt = seed.to_bytes(8, "little")
    chosen = [int.from_bytes(hashlib.sha256(salt + one.group).digest()[:8], "little") < bound for one in documents]
    training = [one for one, held in zip(documents, chosen, strict=True) if not held]
    held_out = [one for one, held in zip(documents, chosen, strict=True) if held]
    if not training or not held_out:
        side = "training" if not training else "measuring"
        raise TrainingError(
            f"{len(documents)} documents leave none for {side}: give more data, or hold out another share "
            f"(--held-out {'0.2' if share < 0.2 else '0.03'})."
        )
    return training, held_out


def worth_a_row(documents: Sequence[Document], special: Sequence[int], most: int, vocab_size: int) -> Int32 | None:
    """The ids that get an output row, rising: `special` ones, and of the answers' the most frequent, `most` in all.

    None: all ids, for `most` 0 or where there are no more.
    """
    if most == 0 or most >= vocab_size:
        return None
    counts = np.zeros(vocab_size, dtype=np.int64)
    for one in documents:
        counts += np.bincount(one.ids[one.start :], minlength=vocab_size)
    forced = np.unique([token for token in special if 0 <= token < vocab_size]).astype(np.int64)
    counts[forced] = counts.max() + 1
    order = np.lexsort((np.arange(vocab_size), -counts))
    return np.sort(order[: max(most, len(forced))]).astype(np.int32)


def require_ids(documents: Sequence[Document], vocab_size: int) -> None:
    """Raises CorpusError for an id that the target does not have."""
    for one in documents:
        if int(one.ids.min()) < 0 or int(one.ids.max()) >= vocab_size:
            raise CorpusError(f"The data has the id {int(one.ids.max())}, outside the vocabulary of {vocab_size}.")
