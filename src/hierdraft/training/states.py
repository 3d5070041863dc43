"""Hidden states of a document, as they lie in a file: read in parts, when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hierdraft.corpus.kept import Float16
from hierdraft.errors import TrainingError

STATES = "states"
"""Name of the tensor float16[N, D] in a file."""


@dataclass(frozen=True)
class States:
    """Those of one document: rows `first` and further of a file's."""

    path: Path
    first: int

    def read(self, begin: int, end: int) -> Float16:
        """float16[end - begin, D] of these of the document's tokens. Raises TrainingError."""
        with opened(self.path) as file:
            found: Float16 = file.get_slice(STATES)[self.first + begin : self.first + end]
            return found

    def after(self, count: int) -> States:
        """Of a document without its first `count` tokens."""
        return replace(self, first=self.first + count)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of what the target has read. Raises TrainingError for a damaged one, also while it is read."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}): remove it, and it is made again.") from error
