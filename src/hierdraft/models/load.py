"""From a model's name to a running engine: which one, and what it is given."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hierdraft.choices import engine_names, listed, number_type, number_types
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.engines.measure import forward
from hierdraft.engines.trimmed import trimmed_rows
from hierdraft.errors import CacheError, MissingDependencyError, UnsupportedModelError, UsageError
from hierdraft.models.exits import read_exits
from hierdraft.models.fusing import reads_of
from hierdraft.models.heads import FoundHead, composed, find_head, torch_head
from hierdraft.models.named import resolve
from hierdraft.models.openvino_folders import is_openvino
from hierdraft.protocols import Engine, Opened
from hierdraft.settings import MOST_THREADS, load_settings
from hierdraft.tree import DraftTree


class LoadedEngine(Engine, Protocol):
    """An engine that tells what it runs and on how many CPU threads.

    windows   each layer's attention window, None for full attention
    source    the name that it was loaded by
    """

    name: str
    architecture: str
    dtype: str
    device: str
    windows: Any
    costs: StepCosts
    source: str

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        ...

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`."""
        ...


def load_engine(
    name: str, *, engine: str = "auto", dtype: str = "auto", device: str | None = None, threads: int | None = None,
    exact: bool | None = None, lean: bool = True, trimmed: bool = False,
) -> tuple[LoadedEngine, Any]:  # fmt: skip
    """(engine, tokenizer) of a model; see `hierdraft.load` for the arguments and errors, and `load_parts`."""
    loaded, tokenizer, _ = load_parts(
        name, engine=engine, dtype=dtype, device=device, threads=threads, exact=exact, lean=lean, said=False,
        trimmed=trimmed,
    )  # fmt: skip
    return loaded, tokenizer


def open_beside(name: str, target: Engine | None = None) -> Opened:
    """Another model, to draft for `target` with: on the same engine, device and threads; None: on what is best.

    Raises what `load_engine` raises.
    """
    from hierdraft.text import tokenizer_fingerprint

    head = find_head(name, load_settings().cache_dir, getattr(target, "source", ""))
    if head is not None:
        return _open_head(head, target)
    kind, device = getattr(target, "name", "auto"), getattr(target, "device", None)
    loaded, tokenizer = load_engine(
        name, engine=kind if kind in engine_names() else "auto", device=device if kind in engine_names() else None,
        threads=getattr(target, "threads", None), trimmed=True,
    )  # fmt: skip
    cache_dir, full = load_settings().cache_dir, _wants_transformers(kind, device)
    _warm(loaded)
    ids = trimmed_rows(resolve(name, cache_dir, full=full, trimmed=True).path)

    def close() -> None:
        if isinstance(loaded.costs, LearnedCosts):
            loaded.costs.keep()

    return Opened(loaded, tokenizer_fingerprint(tokenizer), close, ids)


def _open_head(head: FoundHead, target: Engine | None) -> Opened:
    """A head: on OpenVINO beside whatever runs on a CPU, else, or where that is not installed, in torch.

    Raises as `open_beside`.
    """
    from hierdraft.engines.hf.load import load_tokenizer
    from hierdraft.text import tokenizer_fingerprint

    cache_dir, device = load_settings().cache_dir, str(getattr(target, "device", None) or "cpu")
    threads, fingerprint = getattr(target, "threads", None), tokenizer_fingerprint(load_tokenizer(head.target))
    if head.exits:
        if target is None:
            raise UsageError(f"{head.folder} holds exits, which draft in their target: name it beside that.")
        exits, ids = read_exits(head)
        return Opened(target, fingerprint, ids=ids, exits=exits)
    engine: LoadedEngine
    if has_openvino() and device == "cpu":
        from hierdraft.engines.openvino.engine import OpenVINOEngine

        made = composed(head.folder, head.target, cache_dir)
        engine, ids = OpenVINOEngine(made, "int8", threads), trimmed_rows(made)
        reads = reads_of(made, engine.vocab_size)
        stored = made / f"costs-{engine.fingerprint}.json"
    else:
        from hierdraft.engines.hf.engine import HFEngine

        dtype = str(getattr(target, "dtype", "float32"))
        model, reads, ids = torch_head(head.folder, head.target, device, dtype)
        engine = HFEngine(model, threads=threads, graphs=False)
        stored = cache_dir / "costs" / f"{engine.fingerprint}.json"
    costs = engine.measure_costs(stored=stored)
    _warm(engine)

    def close() -> None:
        if isinstance(costs, LearnedCosts):
            costs.keep()

    return Opened(engine, fingerprint, close, ids, reads)


def _warm(engine: Engine) -> None:
    """What an engine makes when it is first used should not be a part of somebody's answer."""
    with closing(engine.open(reuse=None)) as sequence:
        for nodes in (0, 2):
            forward(engine, sequence, [0], DraftTree.chain(np.zeros(nodes, dtype=np.int32)))


def load_parts(
    name: str, *, engine: str = "auto", dtype: str = "auto", device: str | None = None, threads: int | None = None,
    exact: bool | None = None, lean: bool = True, said: bool = True, trimmed: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[LoadedEngine, Any, GenerationDefaults]:  # fmt: skip
    """(engine, tokenizer, what the folder says about answers) of a model; see `hierdraft.load`.

    said       False: leave out what the folder says, but for where answers end
    trimmed    of a trained drafter only the output rows that it was trained with: its logits have a column for each
    meanwhile  called once the work begins that leaves Python free for other threads; may be called again
    """
    check_choices(engine, dtype, threads)
    cache_dir = load_settings().cache_dir
    path = resolve(name, cache_dir, full=_wants_transformers(engine, device), trimmed=trimmed).path
    defaults = GenerationDefaults.read(path, eos_only=not said)
    loaded, tokenizer = _load(
        path, cache_dir, engine=engine, dtype=dtype, device=device, threads=threads, exact=exact, lean=lean,
        meanwhile=meanwhile,
    )  # fmt: skip
    if exact and not loaded.exact:
        raise UsageError(f"In {loaded.dtype} {loaded.name} is only audited: exact takes float32, or OpenVINO.")
    loaded.source = name
    loaded.eos_ids = defaults.eos_ids(tokenizer, loaded.vocab_size)
    defaults.check(loaded.vocab_size)
    return loaded, tokenizer, defaults


def check_choices(engine: str, dtype: str, threads: int | None) -> None:
    """Raises UsageError for an engine, a number type or a number of threads that cannot be."""
    if engine not in engine_names():
        raise UsageError(f"There is no engine {engine!r}: choose {listed(engine_names())}.")
    if dtype not in number_types():
        raise UsageError(f"There is no number type {dtype!r}: choose {listed(number_types())}.")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"The number of threads must be from 1 to {MOST_THREADS}, not {threads}.")


def _load(
    path: Path, cache_dir: Path, *, engine: str, dtype: str, device: str | None, threads: int | None,
    exact: bool | None, lean: bool, meanwhile: Callable[[], None],
) -> tuple[LoadedEngine, Any]:  # fmt: skip
    own = is_openvino(path)
    if own and _wants_transformers(engine, device):
        raise UsageError(f"{path} is an OpenVINO folder: it runs on OpenVINO, on a CPU.")
    if not _wants_transformers(engine, device):
        try:
            return _load_openvino(path, cache_dir, dtype, device, threads, exact, meanwhile)
        except (UnsupportedModelError, CacheError) as error:
            if own or engine == "openvino" or dtype not in number_types("hf"):
                raise
            warnings.warn(f"{error} It runs on transformers instead.", RuntimeWarning, stacklevel=2)
    if dtype not in number_types("hf"):
        raise UsageError(f"{dtype} weights need OpenVINO on a CPU: pip install 'hierdraft[openvino]'.")
    from hierdraft.engines.hf import load as hf_load

    tokenizer = hf_load.load_tokenizer(path)
    meanwhile()
    return hf_load.load_hf(path, cache_dir, dtype=dtype, device=device, threads=threads, lean=lean), tokenizer


def _wants_transformers(engine: str, device: str | None) -> bool:
    """Whether transformers is to run the model, by what was asked for and by what there is."""
    return engine == "hf" or (engine == "auto" and not (has_openvino() and on_cpu(device)))


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def on_cpu(device: str | None) -> bool:
    """Whether a model would run on a CPU: it was asked for, or there is nothing better."""
    if device is not None:
        return device == "cpu"
    if find_spec("torch") is None or ("torch" not in sys.modules and not _sees_accelerator()):
        return True
    from hierdraft.engines.hf.load import check_torch

    return not check_torch().cuda.is_available()


def _sees_accelerator() -> bool:
    """Whether a driver shows a device that torch might use. Importing torch, to ask it, takes seconds."""
    if Path("/dev/kfd").exists():  # AMD's
        return True
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def _load_openvino(
    path: Path,
    cache_dir: Path,
    dtype: str,
    device: str | None,
    threads: int | None,
    exact: bool | None,
    meanwhile: Callable[[], None],
) -> tuple[LoadedEngine, Any]:
    if not has_openvino():
        raise MissingDependencyError("OpenVINO is not installed: pip install 'hierdraft[openvino]'.")
    if device not in (None, "cpu"):
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device!r}: leave out the device.")
    from hierdraft.engines.openvino.engine import OpenVINOEngine
    from hierdraft.engines.openvino.files import Facts
    from hierdraft.models.graphs import OWN, prepare

    if is_openvino(path):
        folder = prepare(path, OWN, cache_dir)
        kind = _computed_in(dtype, Facts.read(folder).weights, path)
    else:
        if missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
            raise MissingDependencyError(
                f"{path} is a transformers folder, which takes {' and '.join(missing)} to convert: pip install "
                "'hierdraft[convert]'."
            )
        kind = "float32" if dtype == "auto" else dtype
        folder = prepare(path, number_type(kind).weights, cache_dir)
    meanwhile()
    engine = OpenVINOEngine(folder, kind, threads, exact=exact)
    engine.measure_costs(stored=folder / f"costs-{engine.fingerprint}.json")
    return engine, _tokenizer(path, folder)


def _computed_in(dtype: str, weights: str, path: Path) -> str:
    """The number type of an engine for a graph that has its weights already. Raises UsageError."""
    if dtype == "auto":
        return weights
    if dtype not in (weights, "float32", "bfloat16"):
        raise UsageError(
            f"{path} has {weights} weights, which stay as they are: leave out the number type, or choose float32 or "
            "bfloat16 to compute in."
        )
    return dtype


def _tokenizer(path: Path, folder: Path) -> Any:
    """The one stored beside the graph, without transformers; the model's own where it needs more than that."""
    from hierdraft.text.tokenizer import StoredTokenizer, stored_in

    def whole() -> Any:
        from hierdraft.engines.hf.load import load_tokenizer

        return load_tokenizer(path)

    if not stored_in(folder):
        return whole()
    try:
        return StoredTokenizer(folder, whole)
    except Exception:  # noqa: BLE001 - the tokenizers library raises no narrower error for damaged files
        return whole()
