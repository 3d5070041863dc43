"""Models of known shapes with random weights, for what a forward of them costs: nobody's weights are needed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierdraft.choices import number_type, number_types
from hierdraft.engines.shapes import POSITIONS, is_llama, shape
from hierdraft.errors import MissingDependencyError, UsageError
from hierdraft.models import files
from hierdraft.models.load import LoadedEngine, check_choices, has_openvino, on_cpu

_COPIES = 2.1
"""Times the size of a graph that the memory has to hold: its file, and what the kernels make of it."""

_PREFIX = "random-"


def random_engine(
    name: str, cache_dir: Path, *, engine: str = "auto", dtype: str = "auto", device: str | None = None,
    threads: int | None = None, least_vocab: int = 0, **changes: Any,
) -> LoadedEngine:  # fmt: skip
    """An engine for a model of that shape with random weights, its step costs measured.

    name      of a shape (`shapes.SHAPES`); `least_vocab` and `changes`: see `shapes.shape`
    cache_dir where the graph lies while it is made; nothing of it stays
    engine    `auto`: OpenVINO on a CPU where it is installed and knows the shape, else transformers
    dtype     `auto`: float32 on a CPU, bfloat16 on CUDA

    Raises UsageError for a shape, an engine, a number type or a device that is not there, CacheError for want of room,
    MissingDependencyError.
    """
    given = shape(name, least_vocab, **changes)
    check_choices(engine, dtype, threads)
    if engine == "openvino" and not is_llama(name):
        raise UsageError(f"A model like {name} keeps recurrent states, which run on transformers only.")
    if engine == "openvino" and device not in (None, "cpu"):
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device!r}: leave out the device.")
    if engine == "hf" or not (has_openvino() and on_cpu(device) and is_llama(name)):
        made = _on_transformers(name, given, dtype, device, threads)
    else:
        made = _on_openvino(given, "float32" if dtype == "auto" else dtype, threads, cache_dir)
    made.measure_costs()
    return made


def _on_transformers(
    name: str, given: Mapping[str, Any], dtype: str, device: str | None, threads: int | None
) -> LoadedEngine:
    if dtype not in number_types("hf"):
        raise UsageError(f"{dtype} weights need OpenVINO on a CPU: pip install 'hierdraft[openvino]'.")
    from hierdraft.engines.hf.load import check_torch

    check_torch()
    from hierdraft.engines.hf.random_weights import random_hf

    return random_hf(name, given, dtype, device, threads)


def _on_openvino(given: Mapping[str, Any], dtype: str, threads: int | None, cache_dir: Path) -> LoadedEngine:
    """The graph is on disk only until the engine has it."""
    if not has_openvino():
        raise MissingDependencyError("OpenVINO is not installed: pip install 'hierdraft[openvino]'.")
    from hierdraft.engines.openvino.engine import OpenVINOEngine
    from hierdraft.engines.openvino.llama import Sizes
    from hierdraft.engines.openvino.random_weights import size_on_disk, write_random

    weights = number_type(dtype).weights
    size = size_on_disk(Sizes(given), weights)
    _require_memory(_COPIES * size)
    parent = cache_dir.expanduser()
    with files.disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        files.require_space(parent, size, files.free_bytes(parent))
        for leftover in parent.glob(f"{_PREFIX}*"):
            if not _runs(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        prefix = f"{_PREFIX}{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as folder:
            try:
                write_random(given, weights, POSITIONS, Path(folder))
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise files.cache_error(parent, f"the graph could not be written: {reason}") from error
            return OpenVINOEngine(Path(folder), dtype, threads)


def _runs(folder: Path) -> bool:
    """Whether the process that made such a folder still does, as far as can be told; else it was killed."""
    number = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if sys.platform == "win32" or not number.isdecimal():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _require_memory(needed: float) -> None:
    """Raises UsageError where the machine has less memory than that."""
    if sys.platform == "win32":
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if there < needed:
        raise UsageError(
            f"A model of this size takes {needed / 1e9:.0f} GB of memory and there are {there / 1e9:.0f}: choose a "
            "smaller shape or number type."
        )
