"""From a model's folder to a running transformers engine: number type, device, lean forward, step costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierdraft.choices import listed, number_types
from hierdraft.engines.trimmed import trimmed_rows
from hierdraft.errors import MissingDependencyError, ModelError, UsageError
from hierdraft.privacy import unreported

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine


def load_hf(
    path: Path, cache_dir: Path, *, dtype: str, device: str | None, threads: int | None, lean: bool
) -> HFEngine:
    """The engine for the model in a local transformers folder; see `hierdraft.load` for the arguments and errors."""
    torch = check_torch()
    if dtype not in number_types("hf"):
        raise UsageError(f"transformers does not run {dtype} here: choose {listed(number_types('hf'))}.")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype if dtype != "auto" else ("bfloat16" if place.startswith("cuda") else "float32")
    model = load_model(path, getattr(torch, kind))
    try:
        model = model.to(place)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {place!r} cannot be used ({error}).") from error
    from hierdraft.engines.hf.engine import HFEngine
    from hierdraft.engines.hf.lean import make_lean

    if lean:
        make_lean(model)
    engine = HFEngine(model, threads=threads, graphs=lean)
    engine.measure_costs(stored=cache_dir / "costs" / f"{engine.fingerprint}.json")
    return engine


def check_torch() -> Any:
    """torch, where it and transformers are installed. Raises MissingDependencyError."""
    try:
        with unreported():
            import torch
            import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"Running a model needs torch and transformers ({error}): pip install 'hierdraft[hf]'."
        ) from error
    return torch


def load_model(path: Path, dtype: Any) -> Any:
    """The model in a local transformers folder, in evaluation mode. Runs no code from it. Raises ModelError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, use_safetensors=True, trust_remote_code=False)
        return _trimmed(model.eval(), path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The model in {path} cannot be loaded: {_first_line(error)}") from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()


def _trimmed(model: Any, path: Path) -> Any:
    """Without the output rows that a drafter's folder leaves out (VocabTrim, arXiv 2506.22694)."""
    from torch import from_numpy, nn

    from hierdraft.engines.hf.facts import TRIMMED_FROM

    ids = trimmed_rows(path)
    if ids is not None:
        whole = model.get_output_embeddings().weight.detach()
        rows = whole[from_numpy(ids).long()].contiguous()
        head = nn.Linear(rows.shape[1], rows.shape[0], bias=False, device="meta")
        head.weight = nn.Parameter(rows, requires_grad=False)
        setattr(model, TRIMMED_FROM, len(whole))
        model.set_output_embeddings(head)
    return model


def load_tokenizer(path: Path) -> Any:
    """The fast tokenizer in a local transformers folder. Raises ModelError, MissingDependencyError."""
    check_torch()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"The tokenizer in {path} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
