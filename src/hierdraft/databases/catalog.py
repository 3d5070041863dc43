"""The files of a growing database: which packs and journals count, and what to do with the others."""

from __future__ import annotations

import json
import re
import warnings
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.databases.disk import TEMPORARY, Disk, write_file
from hierdraft.databases.pack import SUFFIX, Pack, PackInfo
from hierdraft.errors import DraftWarning, PackError

CURRENT = "CURRENT"
_PACK = re.compile(r"pack-(\d{6})" + re.escape(SUFFIX))
_JOURNAL = re.compile(r"(\d{6})\.journal")


@dataclass(frozen=True)
class Catalog:
    """What CURRENT says.

    packs    file names of the packs that count
    journal  number of the first journal that is in no pack
    used     pack -> first position of a document -> when it was last useful, in seconds since 1970
    """

    packs: tuple[str, ...] = ()
    journal: int = 1
    used: dict[str, dict[int, int]] = field(default_factory=dict)


def journal_path(folder: Path, number: int) -> Path:
    """Where journal `number` lies."""
    return folder / f"{number:06}.journal"


def journals_in(folder: Path) -> list[int]:
    """Numbers of the journals in a folder, ascending."""
    return _numbers(folder, _JOURNAL)


def next_pack(folder: Path) -> Path:
    """A name that no pack in the folder has."""
    return folder / f"pack-{max(_numbers(folder, _PACK), default=0) + 1:06}{SUFFIX}"


def _numbers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    found = (pattern.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def write_catalog(disk: Disk, folder: Path, catalog: Catalog) -> None:
    """Replace CURRENT. Raises OSError."""
    text = json.dumps(asdict(catalog), sort_keys=True)
    write_file(disk, folder / CURRENT, [f"{zlib.crc32(text.encode()):08x} {text}\n".encode()])


def read_catalog(folder: Path) -> Catalog:
    """What CURRENT says; where it is damaged, everything in the folder counts. Raises OSError."""
    try:
        text = (folder / CURRENT).read_bytes()
    except FileNotFoundError:
        return Catalog()
    catalog = _parse(text)
    if catalog is None:
        packs = tuple(f"pack-{number:06}{SUFFIX}" for number in _numbers(folder, _PACK))
        catalog = Catalog(packs, min(journals_in(folder), default=1))
    return catalog


def _parse(data: bytes) -> Catalog | None:
    checksum, _, text = data.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        value: Any = json.loads(text)
        used = {str(p): {int(k): int(v) for k, v in stamps.items()} for p, stamps in value["used"].items()}
        packs = tuple(str(name) for name in value["packs"])
        if any(not _PACK.fullmatch(name) for name in packs):
            return None
        return Catalog(packs, int(value["journal"]), used)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def open_packs(disk: Disk | None, folder: Path, catalog: Catalog, info: PackInfo) -> tuple[Pack, ...]:
    """The packs that count. One that cannot be used is left out with a warning, and set aside by the writer.

    `disk` None: this process only reads.
    """
    found = []
    for name in catalog.packs:
        path = folder / name
        try:
            pack = Pack.open(path)
            pack.require(tokenizer=info.tokenizer, vocab_size=info.vocab_size, name=info.model)
            found.append(pack)
        except PackError as error:
            if disk is None and not path.exists():
                raise FileNotFoundError(path) from error  # replaced meanwhile: read the catalog again
            if disk is not None and path.exists():
                disk.rename(path, path.with_name(path.name + ".corrupt"))
            warnings.warn(f"{error} It is left out; the output does not depend on it.", DraftWarning, stacklevel=2)
    return tuple(found)


def clean(disk: Disk, folder: Path, catalog: Catalog) -> None:
    """Remove what an interrupted writer left behind and nothing counts."""
    for path in folder.iterdir():
        journal, pack = _JOURNAL.fullmatch(path.name), _PACK.fullmatch(path.name)
        old = journal is not None and int(journal[1]) < catalog.journal
        if old or path.name.endswith(TEMPORARY) or (pack is not None and path.name not in catalog.packs):
            disk.remove(path)
