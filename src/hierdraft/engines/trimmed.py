"""Models that have been left only some of their output rows: folders that say which."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from hierdraft.errors import ModelError
from hierdraft.tree import Int32

TRIMMED = "trimmed.safetensors"
"""Beside the weights: `ids` int32[K], rising, of the rows that are left."""


def trimmed_rows(folder: Path) -> Int32 | None:
    """The ids int32[K] that columns of the model's logits are of; None where it has all its rows. Raises ModelError."""
    if not (folder / TRIMMED).is_file():
        return None
    try:
        ids: Int32 = load_file(folder / TRIMMED)["ids"]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            f"{folder / TRIMMED} is damaged ({error}): delete its folder, and it is made again."
        ) from error
    return ids
