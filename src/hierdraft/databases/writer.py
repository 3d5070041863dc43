"""The process that writes a growing database: the folder's lock, its newest journal, and syncing in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from hierdraft.databases.catalog import journal_path, journals_in
from hierdraft.databases.disk import Disk
from hierdraft.databases.journal import Identity, Journal
from hierdraft.errors import StoreError
from hierdraft.tree import Int32

Durability = Literal["none", "batch", "always"]

BATCH_SECONDS = 0.5
BATCH_BYTES = 4 << 20


def take_lock(folder: Path, wait: float = 0.0) -> FileLock | None:
    """The folder's lock, or None while another process has it. The system frees it when its holder dies."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        return None
    return lock


def begin_thread(work: Callable[[], None], name: str) -> threading.Thread | None:
    """A running daemon thread, or None where none can be begun: out of threads, or the interpreter is ending."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


class Writer:
    """Appends to the newest journal of a folder whose lock is held. Methods may be called from any thread."""

    def __init__(
        self, disk: Disk, folder: Path, lock: FileLock, identity: Identity, durability: Durability, first: int
    ) -> None:
        """`first`: the number a new journal has at least. `resume` or `rotate` must follow. Raises OSError."""
        self._disk = disk
        self._folder = folder
        self._lock = lock
        self._identity = identity
        self._always = durability == "always"
        self._next = max([first, *(number + 1 for number in journals_in(folder))])
        self._journal: Journal | None = None
        self._using = threading.Lock()
        self._refused: str | None = None
        self._dirty = threading.Event()
        self._stop = threading.Event()
        if not self._always and begin_thread(self._sync_batches, "hierdraft-sync") is None:
            self._always = True

    def resume(self, number: int, length: int) -> None:
        """Continue after the first `length` bytes of a journal. Raises OSError."""
        self._journal = Journal.resume(self._disk, journal_path(self._folder, number), length)

    def rotate(self) -> int:
        """Put what was appended on the device and begin a new journal; returns its number. Raises OSError."""
        with self._using:
            number = self._next
            fresh = Journal.create(self._disk, journal_path(self._folder, number), self._identity)
            self._next += 1
            old, self._journal = self._journal, fresh
            if old is not None:
                old.close()
            return number

    def append(self, document: Int32) -> None:
        """Hand a document to the system, and to the device if every one is to be safe. Raises StoreError."""
        if self._refused is not None:
            raise StoreError(self._refused)
        with self._using:
            if self._journal is None:
                raise StoreError(f"{self._folder} is closed.")
            try:
                self._journal.append(document)
                if self._always or self._journal.unsynced >= BATCH_BYTES:
                    self._journal.sync()
            except OSError as error:
                raise StoreError(f"{self._folder} cannot be written: {error.strerror or error}.") from error
        self._dirty.set()

    def sync(self) -> None:
        """Return when everything appended is on the device. Raises StoreError."""
        with self._using:
            if self._journal is None:
                return
            try:
                self._journal.sync()
            except OSError as error:  # what the device holds is unknown: every append from now on says so
                self._refused = f"{self._folder} cannot be written: {error.strerror or error}."
                raise StoreError(self._refused) from error

    def _sync_batches(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._dirty.clear()
            try:
                self.sync()
            except StoreError:
                return  # `append` reports it
            self._stop.wait(BATCH_SECONDS)

    def close(self) -> None:
        """Put everything on the device and let go of the folder. Raises StoreError."""
        self._stop.set()
        self._dirty.set()
        with self._using:
            journal, self._journal = self._journal, None
            try:
                if journal is not None:
                    journal.close()
            except OSError as error:
                raise StoreError(f"{self._folder} cannot be written: {error.strerror or error}.") from error
            finally:
                self._lock.release()
