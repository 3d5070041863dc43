"""Tenants: what is learned in one namespace is visible in no other, and can be erased.

Each namespace of a model has a folder of its own, named by a keyed hash of the namespace's name: without the file
`salt`, nobody can tell whose folder it is. Nothing is shared between the folders.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hierdraft.databases.catalog import journal_path, journals_in
from hierdraft.databases.disk import Disk, write_file
from hierdraft.databases.journal import documents_in
from hierdraft.databases.pack import SUFFIX, Pack, PackInfo
from hierdraft.databases.store import ModelStore, StoreOptions
from hierdraft.databases.writer import take_lock
from hierdraft.errors import PackError, StoreError, UsageError
from hierdraft.tree import Int32

_KEY = re.compile(r"[0-9a-f]{32}")
FORGET_WAIT = 5.0
"""Seconds that `forget` waits for another process to let go of a namespace."""

_PASSAGE = 12
_PASSAGES = 64


@dataclass(frozen=True)
class Erasure:
    """What `forget` did.

    folders, files, bytes   what was removed
    passages   how many passages of `_PASSAGE` tokens were taken from it before
    found      how many of them are still found under its name (0, or an error is raised)
    elsewhere  how many of them other namespaces hold too, because the model said the same there
    """

    folders: int = 0
    files: int = 0
    bytes: int = 0
    passages: int = 0
    found: int = 0
    elsewhere: int = 0


class Namespaces:
    """The growing databases of one model, one per namespace, opened when they are first used."""

    def __init__(
        self, root: Path | None, info: PackInfo, options: StoreOptions | None = None, expire_days: float | None = None
    ) -> None:
        """`root`: where all models' namespaces lie; None keeps everything in memory.

        What was not used for `expire_days` is erased. Raises StoreError.
        """
        self.info = info
        self.options = options or StoreOptions()
        self._root = root if self.options.durability != "none" else None
        self._stores: dict[str, ModelStore] = {}
        self._closed = False
        self._guard = threading.Lock()
        self._salt = b"" if self._root is None else read_salt(self._root)
        if self._root is not None and expire_days is not None:
            expire(self._root, expire_days)

    def store(self, name: str) -> ModelStore:
        """The namespace's database. Raises StoreError, also after `close`, and UsageError for an invalid name."""
        check_name(name)
        with self._guard:
            if self._closed:
                raise StoreError("These databases are closed: load the model again.")
            if name not in self._stores:
                folder = None
                if self._root is not None:
                    folder = self._root / model_key(self.info) / namespace_key(self._salt, name)
                self._stores[name] = ModelStore(folder, self.info, self.options)
            return self._stores[name]

    def forget(self, name: str) -> Erasure:
        """Erase what was learned in a namespace, here and on disk; see `forget`. Raises StoreError."""
        with self._guard:
            store = self._stores.pop(name, None)
        if store is not None:
            store.close()
        return Erasure() if self._root is None else forget(self._root, name)

    def close(self) -> None:
        """Close every database; none is opened again. Raises StoreError."""
        with self._guard:
            self._closed = True
            stores, self._stores = self._stores, {}
        with ExitStack() as closing:  # one that fails leaves none of the others open
            for store in stores.values():
                closing.callback(store.close)


def check_name(name: str) -> None:
    """Raises UsageError for a namespace's name that is empty or is not Unicode text."""
    if not name:
        raise UsageError("A namespace needs a name.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The namespace {name!r} is not Unicode text: choose another name.") from error


def model_key(info: PackInfo) -> str:
    """The folder name of a model: what is learned depends on its name and its tokenizer."""
    return hashlib.blake2b(f"{info.model}\n{info.tokenizer}\n{info.vocab_size}".encode(), digest_size=16).hexdigest()


def namespace_key(salt: bytes, name: str) -> str:
    """The folder name of a namespace."""
    return hashlib.blake2b(name.encode(), key=salt, digest_size=16).hexdigest()


def read_salt(root: Path, disk: Disk | None = None) -> bytes:
    """The secret that folder names depend on, made when it is first needed. Raises StoreError."""
    disk = disk or Disk()
    path = root / "salt"
    try:
        disk.make_folder(root)
        lock = take_lock(root, wait=10.0)
        if lock is None:
            raise StoreError(f"{root} is in use by another process.")
        try:
            if not path.exists():
                write_file(disk, path, [secrets.token_bytes(32)])
            salt = path.read_bytes()
        finally:
            lock.release()
    except OSError as error:
        raise StoreError(f"{root} cannot be used: {error.strerror or error}.") from error
    if len(salt) != 32:
        raise StoreError(f"{path} is damaged: without it no namespace can be found; restore it or delete {root}.")
    return salt


def _namespaces_in(root: Path) -> Iterator[Path]:
    for model in sorted(root.iterdir()) if root.is_dir() else ():
        if _KEY.fullmatch(model.name) and model.is_dir():
            yield from (folder for folder in sorted(model.iterdir()) if _KEY.fullmatch(folder.name))


def expire(root: Path, days: float) -> int:
    """Erase the namespaces in which nothing was written for `days`; returns how many. Raises StoreError."""
    oldest = time.time() - 86_400 * days
    expired = 0
    for folder in _namespaces_in(root):
        newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
        if newest < oldest:
            lock = take_lock(folder)
            if lock is not None:
                lock.release()
                _erase(folder)
                expired += 1
    return expired


def forget(root: Path, name: str) -> Erasure:
    """Erase what was learned in a namespace, for every model, and make sure that it is gone.

    The files are overwritten before they are removed. Raises StoreError if another process uses them or if anything
    is left.
    """
    check_name(name)
    if not root.is_dir():
        return Erasure()
    key = namespace_key(read_salt(root), name)
    folders = [folder for folder in _namespaces_in(root) if folder.name == key]
    passages = [passage for folder in folders for passage in _passages(folder)]
    files = [path for folder in folders for path in folder.iterdir()]
    size = sum(path.stat().st_size for path in files)
    for folder in folders:
        lock = take_lock(folder, FORGET_WAIT)
        if lock is None:
            raise StoreError(f"Another process uses the namespace {name!r}: end it and try again.")
        lock.release()
        _erase(folder)
    left = [path for path in root.rglob("*") if path.is_file()]
    found = _count_found(passages, [path for path in left if key in path.parts])
    if found or any(folder.exists() for folder in folders):
        raise StoreError(f"{folders[0]} could not be erased: {found} passages are still found.")
    elsewhere = _count_found(passages, [path for path in left if key not in path.parts])
    return Erasure(len(folders), len(files), size, len(passages), found, elsewhere)


def _erase(folder: Path) -> None:
    """Overwrite and remove every file of a folder, then the folder. Raises StoreError."""
    try:
        for path in folder.iterdir():
            with path.open("r+b", buffering=0) as file:
                for start in range(0, path.stat().st_size, 1 << 20):
                    file.seek(start)
                    file.write(bytes(min(1 << 20, path.stat().st_size - start)))
                Disk().sync(file.fileno())
            path.unlink()
        shutil.rmtree(folder)
        Disk().sync_folder(folder.parent)
    except OSError as error:
        raise StoreError(f"{folder} could not be erased: {error.strerror or error}.") from error


def _passages(folder: Path) -> list[bytes]:
    """The bytes of up to `_PASSAGES` passages that the files of a namespace hold, the same ones every time."""
    documents: list[Int32] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            documents += list(Pack.open(path).documents())
        except PackError:
            continue  # it is removed all the same
    for number in journals_in(folder):
        documents += documents_in(journal_path(folder, number))
    long = [document for document in documents if len(document) >= _PASSAGE]
    picked = [long[i] for i in np.linspace(0, len(long) - 1, min(_PASSAGES, len(long))).astype(int)] if long else []
    return [document[-_PASSAGE:].astype("<i4").tobytes() for document in picked]


def _count_found(passages: list[bytes], files: list[Path]) -> int:
    found: set[bytes] = set()
    for path in files:
        data = path.read_bytes()
        found.update(passage for passage in passages if passage in data)
    return len(found)
