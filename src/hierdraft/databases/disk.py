"""The few file operations that databases are written with, one method each, so that tests can fail or replay them.

Nothing is ever changed in place: a file is written beside its final name, synced, renamed, and its folder synced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".tmp"
"""Ends the name of a file that is being written; one that is left over is worthless."""

_BINARY = getattr(os, "O_BINARY", 0)


class Disk:
    """Operations on files and folders. Each raises OSError when the system refuses it."""

    mode = 0o600
    """Permissions of new files: their owner's only."""

    def create(self, path: Path) -> int:
        """A new empty file; returns its descriptor."""
        return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | _BINARY, self.mode)

    def open(self, path: Path) -> int:
        """An existing file, to append to."""
        return os.open(path, os.O_RDWR | os.O_APPEND | _BINARY)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Write all of `data` where the file stands."""
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Return when the file's contents are on the device."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Let go of a file."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, atomically replacing what has that name."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file; no error if there is none."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """A folder for its owner only; no error if it is there."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder are on the device (where the system can say so)."""
        if os.name == "nt":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SharedDisk(Disk):
    """For files that users ask for by name: permissions as for any file they make."""

    mode = 0o666


def write_file(disk: Disk, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that its name stands for all of it or for what it was before."""
    temporary = path.with_name(path.name + TEMPORARY)
    descriptor = disk.create(temporary)
    try:
        try:
            for chunk in chunks:
                disk.write(descriptor, chunk)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        disk.rename(temporary, path)
    except BaseException:  # whatever it was, Ctrl-C included: nothing half written stays
        _discard(disk, temporary)
        raise
    disk.sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file that several processes may write at once: its name stands for one of them, whole.

    It is not flushed to the device: what it holds can be made again. Raises OSError, and then nothing has changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _discard(disk: Disk, temporary: Path) -> None:
    """Remove what was half written, if the system lets us; the next opening tries again."""
    try:
        disk.remove(temporary)
    except OSError:
        return
