"""Disks for tests: one that does not sync (fast), one that fails, one whose crashes can be replayed."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.databases.disk import Disk


class FastDisk(Disk):
    """Syncing returns at once: nothing here survives a power failure, which no test causes."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


class FailingDisk(FastDisk):
    """The `number`-th operation raises; a write has half its data on disk by then. Counts operations."""

    def __init__(self, number: int, code: int = errno.ENOSPC, lasting: bool = False) -> None:
        self.number = number
        self.code = code
        self.lasting = lasting
        self.count = 0

    def _step(self) -> None:
        self.count += 1
        if self.count == self.number or (self.lasting and self.count > self.number > 0):
            raise OSError(self.code, "injected")

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Half of it, where it fails."""
        try:
            self._step()
        except OSError:
            super().write(descriptor, memoryview(data).cast("B")[: len(memoryview(data).cast("B")) // 2])
            raise
        super().write(descriptor, data)


def _failing(name: str) -> Callable[..., Any]:
    def operation(self: FailingDisk, *arguments: Any) -> Any:
        self._step()
        return getattr(FastDisk, name)(self, *arguments)

    return operation


for _name in ("create", "open", "truncate", "sync", "rename", "remove", "make_folder", "sync_folder"):
    setattr(FailingDisk, _name, _failing(_name))


@dataclass
class Content:
    """A file's contents as operations: (place, data) writes and (length, None) cuts; the first `safe` are synced."""

    operations: list[tuple[int, bytes | None]] = field(default_factory=list)
    length: int = 0
    safe: int = 0


class RecordingDisk(Disk):
    """Notes every operation, so that what a crash can leave behind can be built afterwards."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[tuple[str, Any]] = []
        self._files: dict[int, int] = {}
        self._names: dict[Path, int] = {}
        self._made = 0
        self._guard = threading.RLock()

    def note(self, what: Any) -> None:
        """Something the test wants to find between the operations."""
        with self._guard:
            self.log.append(("note", what))

    def create(self, path: Path) -> int:
        """A new file."""
        with self._guard:
            descriptor = super().create(path)
            self._made += 1
            self._files[descriptor] = self._names[path] = self._made
            self.log.append(("create", (path, self._made)))
            return descriptor

    def open(self, path: Path) -> int:
        """A file that is there."""
        with self._guard:
            descriptor = super().open(path)
            self._files[descriptor] = self._names[path]
            return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """More of a file."""
        with self._guard:
            super().write(descriptor, data)
            self.log.append(("write", (self._files[descriptor], bytes(memoryview(data).cast("B")))))

    def truncate(self, descriptor: int, length: int) -> None:
        """Less of a file."""
        with self._guard:
            super().truncate(descriptor, length)
            self.log.append(("cut", (self._files[descriptor], length)))

    def sync(self, descriptor: int) -> None:
        """Contents are safe from here on."""
        with self._guard:
            self.log.append(("sync", self._files[descriptor]))

    def rename(self, source: Path, target: Path) -> None:
        """Another name."""
        with self._guard:
            super().rename(source, target)
            self._names[target] = self._names.pop(source)
            self.log.append(("rename", (source, target)))

    def remove(self, path: Path) -> None:
        """No name."""
        with self._guard:
            super().remove(path)
            self.log.append(("remove", path))

    def sync_folder(self, path: Path) -> None:
        """Names are safe from here on."""
        with self._guard:
            self.log.append(("sync_folder", path))


def crash(log: list[tuple[str, Any]], chance: random.Random | None) -> dict[Path, bytes]:
    """Files as a power failure right after `log` can leave them.

    What was synced is there. Of the rest: all of it (`chance` None), or at random some of the renames and removals in
    any combination, and of each file's writes a first part, whose last write may be torn or read as zeros.
    """
    contents: dict[int, Content] = {}
    safe_names: dict[Path, int] = {}
    names: list[tuple[str, Any]] = []
    for what, about in log:
        if what == "create":
            contents[about[1]] = Content()
            names.append((what, about))
        elif what == "write":
            content = contents[about[0]]
            content.operations.append((content.length, about[1]))
            content.length += len(about[1])
        elif what == "cut":
            contents[about[0]].operations.append((about[1], None))
            contents[about[0]].length = about[1]
        elif what == "sync":
            contents[about].safe = len(contents[about].operations)
        elif what in {"rename", "remove"}:
            names.append((what, about))
        elif what == "sync_folder":
            for operation in names:
                _apply(safe_names, operation)
            names = []
    for operation in names:
        if chance is None or chance.random() < 0.5:
            _apply(safe_names, operation)
    return {path: _bytes(contents[number], chance) for path, number in safe_names.items()}


def _apply(names: dict[Path, int], operation: tuple[str, Any]) -> None:
    what, about = operation
    if what == "create":
        names[about[0]] = about[1]
    elif what == "remove":
        names.pop(about, None)
    elif about[0] in names:
        names[about[1]] = names.pop(about[0])


def _bytes(content: Content, chance: random.Random | None) -> bytes:
    operations = content.operations
    if chance is not None:
        operations = operations[: chance.randint(content.safe, len(operations))]
    data = bytearray()
    for number, (place, written) in enumerate(operations):
        if written is None:
            del data[place:]
            continue
        if chance is not None and number >= content.safe and number == len(operations) - 1:
            kept = chance.randint(0, len(written))
            written = written[:kept] + bytes(chance.choice((0, len(written) - kept)))
        data[place:] = written
    return bytes(data)
