"""Which databases a model drafts from: the pack that comes with it, packs that were named, what it has said before."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import SUFFIX, Pack, PackInfo
from hierdraft.databases.store import StoreOptions
from hierdraft.errors import DraftWarning, PackError, StoreError
from hierdraft.settings import INDEXES, Settings
from hierdraft.text import tokenizer_fingerprint

STORE = "model-level"
"""Folder of the growing databases below the data folder."""

CALIBRATION = "calibration"
"""Folder of what was learned about drafting, a file for each tokenizer."""


def embedded_pack(model: str) -> Path | None:
    """The pack that comes with hierdraft for a named model, if there is one."""
    path = Path(str(files("hierdraft.data") / "packs" / f"{model}{SUFFIX}"))
    return path if path.is_file() else None


def open_databases(
    settings: Settings, name: str, tokenizer: Any, vocab_size: int, packs: Sequence[Path | str] | None, learn: bool
) -> Databases:
    """The databases of model `name`.

    packs   packs to draft from instead of those in the settings; the embedded one comes on top
    learn   keep what the model says, as the settings tell

    Raises PackError for a named pack that cannot be used. The embedded pack and the store are left out with a
    warning if they cannot.
    """
    fingerprint = tokenizer_fingerprint(tokenizer)
    opened = []
    indexes = settings.cache_dir / INDEXES
    for path in settings.packs if packs is None else packs:
        pack = Pack.open(path, indexes)
        pack.require(tokenizer=fingerprint, vocab_size=vocab_size, name=name)
        opened.append(pack)
    own = embedded_pack(name)
    if own is not None:
        try:
            pack = Pack.open(own, indexes)
            pack.require(tokenizer=fingerprint, vocab_size=vocab_size, name=name)
            opened.append(pack)
        except PackError as error:
            warnings.warn(f"{error} It is left out; the output does not depend on it.", DraftWarning, stacklevel=3)
    info = PackInfo("model", vocab_size, fingerprint, model=name)
    calibration = settings.data_dir / CALIBRATION / f"{fingerprint[:32]}.safetensors" if learn else None
    return Databases(opened, _namespaces(settings, info) if learn else None, calibration, fingerprint)


def _namespaces(settings: Settings, info: PackInfo) -> Namespaces:
    options = StoreOptions(settings.durability, most_tokens=settings.namespace_tokens)
    try:
        return Namespaces(settings.data_dir / STORE, info, options, settings.expire_days)
    except StoreError as error:
        warnings.warn(f"Nothing is learned on disk: {error}", DraftWarning, stacklevel=4)
        return Namespaces(None, info, StoreOptions("none"))
