"""What a model has said, for one namespace: a growing database in a folder of its own.

Finished requests go into memory (hash chains, drafted from at once) and into a journal. When enough have come
together, a thread sorts them into a pack, and the file CURRENT is replaced, which names the packs and the first
journal that is not in them: the one moment at which the state on disk changes. One process writes (it holds `lock`);
others read what is there and keep what they add to themselves, in memory, until they close.

A closed store stays closed: it takes nothing, begins no thread and opens no file again.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hierdraft.databases import catalog as catalogs
from hierdraft.databases import journal as journals
from hierdraft.databases.catalog import Catalog
from hierdraft.databases.compaction import merge
from hierdraft.databases.disk import Disk
from hierdraft.databases.hashchain import Chains, HashChains
from hierdraft.databases.pack import Pack, PackInfo, join, write_pack
from hierdraft.databases.suffixarray import END
from hierdraft.databases.suffixsort import build
from hierdraft.databases.writer import Durability, Writer, begin_thread, take_lock
from hierdraft.errors import DraftWarning, HierdraftError, StoreError
from hierdraft.tree import Int32


@dataclass(frozen=True)
class StoreOptions:
    """How a store behaves.

    durability   `none`: in memory only; `batch`: at most a second or 4 MiB is lost in a power failure (nothing when
                 only the process dies); `always`: nothing
    compact_at   tokens in the journal that are made into a pack
    most_tokens  size limit; above it the documents that were least recently useful go
    """

    durability: Durability = "batch"
    compact_at: int = 1 << 18
    most_tokens: int = 1 << 24


class Snapshot(NamedTuple):
    """What a request drafts from; it stays as it is (but for newer tokens in the chains) until it is let go.

    recent   what is in no pack yet
    older    what is being made into one, or, where another process writes, what this process alone has learned
    """

    packs: tuple[Pack, ...]
    recent: Chains
    older: Chains


class ModelStore:
    """The model level of one namespace. Methods may be called from any thread."""

    def __init__(
        self, folder: Path | None, info: PackInfo, options: StoreOptions | None = None, disk: Disk | None = None
    ) -> None:
        """`folder` None: in memory only. `info` says which model and tokenizer; raises StoreError."""
        self.options = options or StoreOptions()
        self.info = info
        self.folder = folder if self.options.durability != "none" else None
        self._disk = disk or Disk()
        self._guard = threading.RLock()
        self._recent, self._older = HashChains(0), HashChains(0)
        self._packs: tuple[Pack, ...] = ()
        self._catalog = Catalog()
        self._used: dict[str, dict[int, int]] = {}
        self._read: dict[int, int] = {}
        self._writer: Writer | None = None
        self._first = 1
        self._worker: threading.Thread | None = None
        self._closed = False
        self._warned: set[str] = set()
        if self.folder is not None:
            self._open(self.folder)

    @property
    def identity(self) -> journals.Identity:
        """What the ids in the files mean."""
        return {"tokenizer": self.info.tokenizer, "vocab_size": self.info.vocab_size}

    @property
    def writes(self) -> bool:
        """Whether what is learned here is kept on disk."""
        return self._writer is not None

    def __len__(self) -> int:
        """Tokens held, document ends included."""
        with self._guard:
            packs = sum(len(pack.index.tokens) for pack in self._packs)
            return packs + len(self._recent) + len(self._older)

    # --- opening ---------------------------------------------------------------------------------------------------

    def _open(self, folder: Path) -> None:
        lock = None
        try:
            self._disk.make_folder(folder)
            lock = take_lock(folder)
            self._load(folder, self._disk if lock else None)
            if lock is not None:
                catalogs.clean(self._disk, folder, self._catalog)
                first = self._catalog.journal
                writer = Writer(self._disk, folder, lock, self.identity, self.options.durability, first)
                newest = max(self._read, default=None)
                if newest is None:
                    writer.rotate()
                else:
                    writer.resume(newest, self._read[newest])
                self._writer = writer
        except OSError as error:
            if lock is not None:
                lock.release()
            raise StoreError(f"{folder} cannot be used: {error.strerror or error}.") from error

    def _load(self, folder: Path, disk: Disk | None) -> None:
        """Take over what the folder holds; `disk` None: this process only reads. Its own text stays, in `older`."""
        for _ in range(3):
            self._catalog = catalogs.read_catalog(folder)
            try:
                self._packs = catalogs.open_packs(disk, folder, self._catalog, self.info)
                break
            except FileNotFoundError:  # the writer has just replaced it
                continue
        self._used = _copied(self._catalog.used)
        self._recent, self._read = HashChains(0), {}
        self._catch_up(folder)

    def _catch_up(self, folder: Path) -> None:
        """Read what is new in the journals."""
        for number in catalogs.journals_in(folder):
            if number >= self._catalog.journal:
                path = catalogs.journal_path(folder, number)
                found = journals.replay(path, self.identity, self.info.vocab_size, self._read.get(number, 0))
                if found is not None:
                    self._recent.extend(join(found.documents))
                    self._read[number] = found.length

    def refresh(self) -> None:
        """Take over what another process has added; nothing to do for the writer."""
        with self._guard:
            if self.folder is None or self.writes or self._closed:
                return
            try:
                if catalogs.read_catalog(self.folder) != self._catalog:
                    self._load(self.folder, None)
                else:
                    self._catch_up(self.folder)
            except OSError as error:
                self._warn(f"what the model has said cannot be read ({error.strerror or error})")

    # --- use -------------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What there is to draft from now. Never waits for a compaction."""
        with self._guard:
            return Snapshot(self._packs, self._recent.chains, self._older.chains)

    def append(self, tokens: Sequence[int] | Int32) -> None:
        """Learn a finished request: it can be drafted from when this returns. A closed store takes nothing.

        Raises StoreError if it could not be kept on disk (it is still drafted from); the next append tries again.
        """
        document = np.asarray(tokens, dtype=np.int32)
        if len(document) == 0:
            return
        with self._guard:
            if self._closed:
                return
            if self.folder is not None and self._writer is None:
                self._keep_own(document)
                return
            self._recent.extend(np.append(document, np.int32(END)))
            try:
                if self._writer is not None:
                    self._writer.append(document)
            finally:
                if len(self._recent) >= self.options.compact_at:
                    self._start_compaction()

    def _keep_own(self, document: Int32) -> None:
        """Learn in memory beside what another process writes; past `compact_at` tokens the older half goes."""
        self._older.extend(np.append(document, np.int32(END)))
        tokens = self._older.tokens
        if len(tokens) >= self.options.compact_at:
            ends = np.flatnonzero(tokens[: len(tokens) // 2] == END)
            if len(ends):
                self._older = HashChains(0)
                self._older.extend(tokens[ends[-1] + 1 :])

    def touch(self, pack: Pack, documents: Iterable[int]) -> None:
        """Note that documents of a pack, named by their first positions, have just been useful."""
        with self._guard:
            if pack in self._packs:
                self._used.setdefault(pack.path.name, {}).update(dict.fromkeys(documents, int(time.time())))

    def sync(self) -> None:
        """Return when everything learned is on the device. Raises StoreError."""
        if self._writer is not None:
            self._writer.sync()

    # --- compaction ------------------------------------------------------------------------------------------------

    def _start_compaction(self) -> None:
        """Put `recent` aside as `older`, so that a thread can make a pack of it."""
        if self._closed or (self._worker is not None and self._worker.is_alive()):
            return
        if self._writer is None:  # nothing is kept on disk: what is oldest goes
            self._older, self._recent = self._recent, HashChains(0)
            return
        if len(self._older) == 0:
            try:
                self._first = self._writer.rotate()
            except OSError as error:
                self._warn(f"a new journal could not be begun ({error.strerror or error})")
                return
            self._older, self._recent = self._recent, HashChains(0)
        self._worker = begin_thread(self._compact, "hierdraft-compact")  # None: `older` is tried again later

    def _compact(self) -> None:
        try:
            if self.folder is not None:
                self._make_pack(self.folder)
        except (OSError, HierdraftError) as error:
            self._warn(f"the journal could not be made into a pack ({error})")  # it stays, and is tried again

    def _make_pack(self, folder: Path) -> None:
        with self._guard:  # `touch` may be called meanwhile
            stamps = _copied(self._used)
        merged = merge(self._packs, self._older.tokens, stamps, self.options.most_tokens)
        index = build(merged.tokens, self.info.vocab_size)
        path = catalogs.next_pack(folder)
        pack = write_pack(path, index, replace(self.info, level="model", source="generated"), self._disk)
        with self._guard:
            kept = tuple(old for old in self._packs if old not in merged.replaced)
            used = {old.path.name: self._used.get(old.path.name, {}) for old in kept}
            used[path.name] = merged.used
            catalog = Catalog(tuple(p.path.name for p in (*kept, pack)), self._first, _copied(used))
            catalogs.write_catalog(self._disk, folder, catalog)
            self._packs, self._used, self._catalog, self._older = (*kept, pack), used, catalog, HashChains(0)
        catalogs.clean(self._disk, folder, catalog)

    def compact(self) -> None:
        """Make a pack of everything that is not in one, and return when it is done."""
        self.wait()
        with self._guard:
            if len(self._recent) or len(self._older):
                self._start_compaction()
        self.wait()

    def wait(self) -> None:
        """Return when no compaction is running."""
        worker = self._worker
        if worker is not None:
            worker.join()

    def close(self) -> None:
        """Finish what is under way, put everything on the device and let go of the folder. Raises StoreError."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self.wait()
        writer, self._writer = self._writer, None
        if writer is None or self.folder is None:
            return
        try:
            if self._used != self._catalog.used:
                catalogs.write_catalog(self._disk, self.folder, replace(self._catalog, used=self._used))
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error.strerror or error}.") from error
        finally:
            writer.close()

    def _warn(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{what[0].upper()}{what[1:]}. The output does not depend on it.", DraftWarning, stacklevel=3)


def _copied(used: Mapping[str, Mapping[int, int]]) -> dict[str, dict[int, int]]:
    return {name: dict(stamps) for name, stamps in used.items()}
