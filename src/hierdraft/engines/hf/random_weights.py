"""A transformers model of a known shape with random weights, for its time alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Lfm2Config, LlamaConfig, Qwen3_5TextConfig

from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.errors import UsageError

_CONFIGS: dict[str, type] = {"llama": LlamaConfig, "lfm2": Lfm2Config, "qwen3.5": Qwen3_5TextConfig}


def random_hf(name: str, given: Mapping[str, Any], dtype: str, device: str | None, threads: int | None) -> HFEngine:
    """The engine of such a model.

    given   the numbers of its configuration, as `shapes.shape` returns them
    dtype   of weights and computation; `auto`: bfloat16 on CUDA, float32 on a CPU

    Raises UsageError for a device that cannot be used.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype if dtype != "auto" else ("bfloat16" if place.startswith("cuda") else "float32")
    try:
        with torch.device(place):
            config = _CONFIGS[name.partition("-")[0]](**given)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, kind)).eval()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {place!r} cannot be used ({str(error).splitlines()[0]}).") from error
    make_lean(model)
    return HFEngine(model, threads=threads)
