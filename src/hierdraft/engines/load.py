"""From a model's name to a running engine: which one, and what it is given."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from hierdraft.engines.costs import StepCosts
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.errors import CacheError, MissingDependencyError, UnsupportedModelError, UsageError
from hierdraft.models import resolve
from hierdraft.protocols import Engine
from hierdraft.settings import load_settings

ENGINES = ("auto", "hf", "openvino")

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


class LoadedEngine(Engine, Protocol):
    """An engine that tells what it runs and on how many CPU threads.

    `windows`: each layer's attention window, None for full attention.
    """

    name: str
    architecture: str
    dtype: str
    device: str
    windows: Any

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        ...

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`."""
        ...


def load_engine(
    name: str, *, engine: str = "auto", dtype: str = "auto", device: str | None = None, threads: int | None = None,
    lean: bool = True,
) -> tuple[LoadedEngine, Any]:  # fmt: skip
    """(engine, tokenizer) of a model; see `hierdraft.load` for the arguments and errors."""
    loaded, tokenizer, _ = load_parts(
        name, engine=engine, dtype=dtype, device=device, threads=threads, lean=lean, said=False
    )
    return loaded, tokenizer


def load_parts(
    name: str, *, engine: str = "auto", dtype: str = "auto", device: str | None = None, threads: int | None = None,
    lean: bool = True, said: bool = True,
) -> tuple[LoadedEngine, Any, GenerationDefaults]:  # fmt: skip
    """(engine, tokenizer, what the folder says about answers) of a model; see `hierdraft.load`.

    said   False: leave out what the folder says, but for where answers end
    """
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}: choose one of {', '.join(ENGINES)}.")
    if dtype not in DTYPES:
        raise UsageError(f"There is no number type {dtype!r}: choose one of {', '.join(DTYPES)}.")
    if threads is not None and threads < 1:
        raise UsageError(f"The number of threads must be at least 1, not {threads}.")
    from hierdraft.engines.hf_load import load_tokenizer

    cache_dir = load_settings().cache_dir
    path = resolve(name, cache_dir).path
    defaults = GenerationDefaults.read(path, eos_only=not said)
    tokenizer = load_tokenizer(path)
    loaded = _load(path, cache_dir, engine=engine, dtype=dtype, device=device, threads=threads, lean=lean)
    loaded.eos_ids = defaults.eos_ids(tokenizer, loaded.vocab_size)
    defaults.check(loaded.vocab_size)
    return loaded, tokenizer, defaults


def _load(
    path: Path, cache_dir: Path, *, engine: str, dtype: str, device: str | None, threads: int | None, lean: bool
) -> LoadedEngine:
    from hierdraft.engines.hf_load import load_hf

    if engine == "openvino" or (engine == "auto" and _has_openvino() and _on_cpu(device)):
        try:
            return _load_openvino(path, cache_dir, dtype, device, threads)
        except (UnsupportedModelError, CacheError) as error:
            if engine == "openvino" or dtype == "int8":
                raise
            warnings.warn(f"{error} It runs on transformers instead.", RuntimeWarning, stacklevel=2)
    if dtype == "int8":
        raise UsageError("int8 weights need OpenVINO on a CPU: pip install 'hierdraft[openvino]'.")
    return load_hf(path, cache_dir, dtype=dtype, device=device, threads=threads, lean=lean)


def _has_openvino() -> bool:
    return find_spec("openvino") is not None


def _on_cpu(device: str | None) -> bool:
    """Whether a model would run on a CPU: it was asked for, or there is nothing better."""
    from hierdraft.engines.hf_load import check_torch

    return device == "cpu" if device is not None else not check_torch().cuda.is_available()


def _load_openvino(path: Path, cache_dir: Path, dtype: str, device: str | None, threads: int | None) -> LoadedEngine:
    if not _has_openvino():
        raise MissingDependencyError("OpenVINO is not installed: pip install 'hierdraft[openvino]'.")
    if device not in (None, "cpu"):
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device!r}: leave out the device.")
    from hierdraft.engines.openvino import DTYPES as KINDS
    from hierdraft.engines.openvino import OpenVINOEngine
    from hierdraft.engines.openvino_files import prepare

    kind = "float32" if dtype == "auto" else dtype
    engine = OpenVINOEngine(prepare(path, KINDS[kind], cache_dir), kind, threads)
    engine.measure_costs(stored=cache_dir / "costs" / f"{engine.fingerprint}.json")
    return engine
