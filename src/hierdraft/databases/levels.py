"""The levels: what each one feeds its index, and when."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from hierdraft.databases.hashchain import Chains, HashChains
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack
from hierdraft.databases.store import ModelStore
from hierdraft.databases.suffixarray import END, Shelf, document_start, shelve
from hierdraft.errors import DraftWarning, HierdraftError, MissingDependencyError, UsageError, failed_at
from hierdraft.levels import GROUP, code_of, registered
from hierdraft.protocols import Request
from hierdraft.tree import Int32

LEAD = 8
"""Tokens of the prompt's end that are learned with an answer, so that its beginning can be drafted."""


def reference_chains(texts: Sequence[Sequence[int] | Int32]) -> Chains | None:
    """The index over texts that a caller expects to see again; None where there are none.

    The place in them that an answer has come to is followed with `align`: it moves on with every token that agrees;
    after one that does not, it goes to the nearest place where the last two or more tokens occur, or else takes the
    token for a substitution. An answer is expected to begin as the first text does.
    """
    joined = [np.append(np.asarray(text, dtype=np.int32), np.int32(END)) for text in texts if len(text)]
    if not joined:
        return None
    index = HashChains(sum(map(len, joined)))
    for text in joined:
        index.extend(text)
    return index.chains


class TextLevel(Protocol):
    """A further level: texts that the hierarchy asks as it asks what was said before. See docs/extending.md.

    Made without arguments for a drafter, which serves one request at a time; nothing of a request may be seen in
    another namespace's.
    """

    @property
    def chains(self) -> Chains:
        """The index over its texts as it now is; read before every proposal."""
        ...

    def start(self, request: Request) -> None:
        """A request begins: hold what it may be drafted from."""
        ...

    def extend(self, tokens: Sequence[int] | Int32) -> None:
        """These tokens were committed."""
        ...

    def close(self) -> None:
        """The request is over."""
        ...


def make_text_level(name: str) -> TextLevel:
    """What a level's row in `levels.py`, or its entry point, says to make.

    Raises MissingDependencyError where that cannot be imported, UsageError where it cannot be made.
    """
    target = registered()[code_of(name)].made
    try:
        kind = EntryPoint(name, target, GROUP).load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(f"The level {name!r} is {target}, which cannot be imported ({error}).") from error
    try:
        made: TextLevel = kind()
    except Exception as error:  # a level of another package may raise anything
        raise UsageError(f"The level {name!r} cannot be made ({failed_at(error)}).") from error
    missing = [member for member in ("chains", "start", "extend", "close") if member not in dir(made)]
    if missing:
        raise UsageError(f"The level {name!r} is {target}, which has no {' and no '.join(missing)}.")
    return made


class Shelves(NamedTuple):
    """What one request drafts from, besides its own text.

    packs    the growing store's first, then those that were given; `shelf` is the same for kernels
    grown    how many of them are the store's
    texts    hash chains over what was learned and is in no pack yet
    """

    packs: tuple[Pack, ...]
    grown: int
    shelf: Shelf
    texts: tuple[Chains, ...]


class Databases:
    """The model and statistics levels of one model: packs that were given, and what grows in each namespace."""

    def __init__(
        self, packs: Sequence[Pack] = (), namespaces: Namespaces | None = None, calibration_file: Path | None = None,
        tokenizer: str = "",
    ) -> None:  # fmt: skip
        """Nothing is opened yet.

        namespaces        None: nothing is learned beyond a request
        calibration_file  see `drafting/hierarchy`
        tokenizer         fingerprint of the tokenizer that all of it was made with, empty where that is not known
        """
        self.tokenizer = tokenizer
        self.packs = tuple(packs)
        self.namespaces = namespaces
        self.calibration_file = calibration_file
        self._warned = False
        self._closed = False

    def open(self, namespace: str, levels: Collection[str] = ("model", "statistics")) -> Shelves:
        """What a request of this namespace may draft from. A store that fails is left out with a warning.

        Raises UsageError for an invalid namespace name.
        """
        given = tuple(pack for pack in self.packs if pack.info.level in levels)
        store = self._store(namespace) if "model" in levels else None
        if store is None:
            return Shelves(given, 0, _shelf(given), ())
        store.refresh()
        grown, recent, older = store.snapshot()
        packs = (*grown, *given)
        return Shelves(packs, len(grown), _shelf(packs), (recent, older))

    def learn(self, namespace: str, prompt: Int32, answer: Int32) -> None:
        """A request has ended; what the model said can be drafted from at once."""
        store = self._store(namespace)
        if store is not None and len(answer):
            try:
                store.append(np.concatenate([prompt[-LEAD:], answer]))
            except HierdraftError as error:
                self._warn(error)

    def touch(self, namespace: str, pack: Pack, places: Collection[int]) -> None:
        """The documents around these positions of a grown pack have been useful."""
        store = self._store(namespace)
        tokens = pack.index.tokens
        if store is not None and places:
            starts = {document_start(tokens, place) for place in places if 0 <= place < len(tokens)}
            store.touch(pack, starts)

    def close(self) -> None:
        """Put what was learned on the device; from now on nothing is learned, and packs alone are drafted from.

        Raises StoreError.
        """
        self._closed = True
        if self.namespaces is not None:
            self.namespaces.close()

    def _store(self, namespace: str) -> ModelStore | None:
        if self.namespaces is None or self._closed:
            return None
        try:
            return self.namespaces.store(namespace)
        except UsageError:
            raise
        except HierdraftError as error:
            self._warn(error)
            return None

    def _warn(self, error: HierdraftError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"Nothing is learned on disk: {error}", DraftWarning, stacklevel=4)


def _shelf(packs: Sequence[Pack]) -> Shelf:
    return shelve([pack.index for pack in packs], [code_of(pack.info.level) for pack in packs])
