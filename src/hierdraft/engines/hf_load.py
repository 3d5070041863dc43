"""From a model's name to a running transformers engine: files, number type, device, lean forward, step costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierdraft.errors import MissingDependencyError, ModelError, UsageError
from hierdraft.models import resolve
from hierdraft.settings import load_settings

if TYPE_CHECKING:
    from hierdraft.engines.hf import HFEngine

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_engine(name: str, *, dtype: str, device: str | None, threads: int | None, lean: bool) -> tuple[HFEngine, Any]:
    """(engine, tokenizer) of a model; see `hierdraft.load` for the arguments and errors."""
    torch = _torch()
    if dtype not in DTYPES:
        raise UsageError(f"There is no number type {dtype!r}: choose one of {', '.join(DTYPES)}.")
    if threads is not None:
        if threads < 1:
            raise UsageError(f"The number of threads must be at least 1, not {threads}.")
        torch.set_num_threads(threads)
    cache_dir = load_settings().cache_dir
    path = resolve(name, cache_dir).path
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype if dtype != "auto" else ("bfloat16" if place.startswith("cuda") else "float32")
    model, tokenizer = _load_files(path, getattr(torch, kind))
    try:
        model = model.to(place)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {place!r} cannot be used ({error}).") from error
    from hierdraft.engines.hf import HFEngine, make_lean

    if lean:
        make_lean(model)
    engine = HFEngine(model)
    engine.measure_costs(stored=cache_dir / "costs" / f"{engine.fingerprint}.json")
    return engine, tokenizer


def _torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"Running a model needs torch and transformers ({error}): pip install 'hierdraft[hf]'."
        ) from error
    return torch


def _load_files(path: Path, dtype: Any) -> tuple[Any, Any]:
    """The model in evaluation mode and its tokenizer, from a local transformers folder. Runs no code from it."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = load_tokenizer(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False
        ).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The model in {path} cannot be loaded: {_first_line(error)}") from error
    return model, tokenizer


def load_tokenizer(path: Path) -> Any:
    """The fast tokenizer in a local transformers folder. Raises ModelError, MissingDependencyError."""
    _torch()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"The tokenizer in {path} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
