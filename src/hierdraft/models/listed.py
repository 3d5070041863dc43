"""The known models as they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from hierdraft.models import files
from hierdraft.models.known import NAMED_MODELS
from hierdraft.models.named import file_path, model_path
from hierdraft.models.pull import NamedModel, has_file, is_complete


class ModelRow(TypedDict):
    """One line of `hierdraft models list`, ready for JSON. `bytes` is what is on disk, 0 if not pulled."""

    name: str
    source: str
    licence: str
    parameters: int
    instruct: bool
    pulled: bool
    path: str
    bytes: int


def list_models(cache_dir: Path, *, table: Mapping[str, NamedModel] = NAMED_MODELS) -> list[ModelRow]:
    """One row per named model, in the table's order. Raises ModelError if the cache cannot be read."""
    rows = []
    for model in table.values():
        folder, file = model_path(model.name, cache_dir), file_path(model.name, cache_dir)
        pulled = is_complete(folder)
        with files.disk_errors(folder):
            size = sum(path.stat().st_size for path in folder.iterdir()) if pulled else 0
            if not pulled and has_file(model, file):
                folder, pulled, size = file, True, file.stat().st_size
        rows.append(
            ModelRow(
                name=model.name,
                source=model.source,
                licence=model.licence,
                parameters=model.parameters,
                instruct=model.instruct,
                pulled=pulled,
                path=str(folder),
                bytes=size,
            )
        )
    return rows
