"""Graphs on disk: each model is converted once for each kind of weights, and kept complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from hierdraft.errors import MissingDependencyError, ModelError
from hierdraft.model_files import disk_errors

WEIGHTS = ("float32", "float16", "int8")
"""Kinds of weights that a graph can have."""

_FORM = 2
_FACTS, _GRAPH, _DATA = "facts.json", "graph.xml", "graph.bin"


@dataclass(frozen=True)
class Facts:
    """What the engine has to know of a model besides its graph; see `HFEngine` for the fields' meaning."""

    architecture: str
    vocab_size: int
    max_length: int
    bounded: bool
    eos_ids: tuple[int, ...]
    windows: tuple[int | None, ...]

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Those of a folder that `prepare` returned. Raises ModelError."""
        try:
            stored = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            eos, windows = tuple(stored.pop("eos_ids")), tuple(stored.pop("windows"))
            del stored["bytes"]
            return cls(**stored, eos_ids=eos, windows=windows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The converted model in {folder} is damaged: delete that folder.") from error


def graph_file(folder: Path) -> Path:
    """Where the graph itself lies."""
    return folder / _GRAPH


def prepare(model: Path, weights: str, cache_dir: Path) -> Path:
    """The folder with the graph of the model in `model`; converts it where that was not done yet.

    weights   one of `WEIGHTS`

    Two processes at once take turns. Raises ModelError, UnsupportedModelError, MissingDependencyError.
    """
    parent = cache_dir.expanduser() / "openvino"
    with disk_errors(parent):
        folder = parent / _key(model, weights)
        if _is_complete(folder):
            return folder
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{folder.name}.lock"):
            if not _is_complete(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _fill(model, weights, folder)
    return folder


def _key(model: Path, weights: str) -> str:
    """A name that changes with the model's files, the kind of weights and all that takes part in a conversion."""
    packages = ("openvino", "torch", "transformers", *(("nncf",) if weights == "int8" else ()))
    found = hashlib.sha256(repr((_FORM, weights, [version(package) for package in packages])).encode())
    for file in sorted(model.iterdir()):
        if file.suffix == ".json":
            found.update(file.read_bytes())
        elif file.suffix == ".safetensors":
            about = file.stat()
            found.update(repr((file.name, about.st_size, about.st_mtime_ns)).encode())
    return found.hexdigest()[:24]


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fill(model: Path, weights: str, folder: Path) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.*/"):  # of conversions that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        facts = _convert(model, weights, beside)
        sizes = {name: (beside / name).stat().st_size for name in (_GRAPH, _DATA)}
        (beside / _FACTS).write_text(json.dumps({**asdict(facts), "bytes": sizes}), encoding="utf-8")
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _convert(model: Path, weights: str, folder: Path) -> Facts:
    """Write the graph and return what goes with it."""
    import openvino
    import torch

    from hierdraft.engines.hf_facts import context_length, eos_ids
    from hierdraft.engines.hf_load import load_model
    from hierdraft.engines.kvcache import layer_windows
    from hierdraft.engines.openvino_graph import convert
    from hierdraft.engines.openvino_join import join_products

    compress = compressor() if weights == "int8" else None
    loaded = load_model(model, torch.float32)
    text_config = loaded.config.get_text_config(decoder=True)
    windows = tuple(layer_windows(loaded))
    known, bounded = context_length(loaded, text_config)
    with quiet():
        graph = join_products(convert(loaded, windows))
        if compress is not None:
            graph = compress(graph)
        openvino.save_model(graph, folder / _GRAPH, compress_to_fp16=weights == "float16")
    name = loaded.__class__.__name__
    return Facts(name, int(text_config.vocab_size), known, bounded, eos_ids(loaded), windows)


def compressor() -> Any:
    """What turns a graph's weights into int8. Raises MissingDependencyError."""
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(f"int8 weights need nncf ({error}): pip install 'hierdraft[openvino]'.") from error
    return lambda graph: nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Converters talk: about shapes that become fixed while tracing (none of ours do), and of their progress."""
    loggers = [logging.getLogger(name) for name in ("transformers", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
