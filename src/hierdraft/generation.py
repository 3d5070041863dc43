"""`hierdraft.load(name)`: a model that decodes with drafts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from hierdraft.decoding.scheduler import WAITING
from hierdraft.errors import GenerationConfigWarning
from hierdraft.language_model import LanguageModel
from hierdraft.settings import load_settings

__all__ = ["LanguageModel", "load"]


def load(
    name: str = "smollm2-135m",
    *,
    engine: str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    threads: int | None = None,
    exact: bool | None = None,
    lean: bool = True,
    packs: Sequence[Path | str] | None = None,
    learn: bool | None = None,
    generation_config: bool = True,
    max_requests: int | None = None,
    queue: int = WAITING,
) -> LanguageModel:
    """Load a model for decoding with drafts.

    name     a named model (fetched when missing), a GGUF file, a local folder of a transformers or OpenVINO model or of
             an adapter, or a hub id
    engine   `hf`: transformers; `openvino`: faster on a CPU; `auto`: OpenVINO on a CPU where it is installed
    dtype    `float32` (the exact grade), `bfloat16`, `float16`, with OpenVINO also `int8`, `int4`; `auto`: float32 on a
             CPU, bfloat16 on CUDA, and what the weights are in a GGUF file or an OpenVINO folder
    device, threads   `cpu`, `cuda`, None: CUDA where there is one; CPU threads, None: the engine's own choice
    exact    plain decoding's ids in OpenVINO's bfloat16 and int8 too, not up to near ties, a little slower; None: no
    lean     on a CPU, pack the weights and use attention without copies (`engines/hf/lean.py`); on CUDA, capture
             forwards in graphs (`engines/hf/graphs.py`)
    packs    databases to draft from besides the model's own one; None: those in the settings
    learn    keep what the model says, per namespace, and draft from it; None: as the settings tell
    generation_config   do what the folder's generation_config.json says, as transformers does, but greedily unless a
             temperature is given; a GenerationConfigWarning says what that is
    max_requests, queue   most requests that share a forward, None: as the settings tell; and that wait besides

    Raises ModelError, UnsupportedModelError, MissingDependencyError, PackError or UsageError, each with one sentence.
    """
    from hierdraft.drafting.warming import warming
    from hierdraft.holdings import open_databases
    from hierdraft.models.load import load_parts
    from hierdraft.models.named import known_as

    with warming() as begin:
        loaded, tokenizer, defaults = load_parts(
            name, engine=engine, dtype=dtype, device=device, threads=threads, exact=exact, lean=lean,
            said=generation_config, meanwhile=begin)  # fmt: skip
    if told := defaults.told(name):
        warnings.warn(told, GenerationConfigWarning, stacklevel=2)
    settings = load_settings(learn=learn, max_requests=max_requests)
    databases = open_databases(settings, known_as(name), tokenizer, loaded.vocab_size, packs, settings.learn)
    return LanguageModel(loaded, tokenizer, name, databases, defaults, settings.max_requests, queue)
