"""A fault of vLLM's CPU builds that speculative decoding meets: sampled rows are scaled by memory that nobody wrote.

Without Triton, vLLM 0.32 fills a copy where each drafted row's temperature, top-k and top-p belong, and drops the copy
(vllm-project/vllm, issue 55005). Whatever drafts, tokens are then drawn from another distribution than the model's.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

from hierdraft.errors import DraftWarning

_MODULE = "vllm.v1.sample.rejection_sampler"
_TRIES = 4


def put_right() -> bool:
    """Replace the function where it is wrong on this machine, and say so; whether that was done."""
    try:
        platform = importlib.import_module("vllm.platforms").current_platform
        sampler: Any = importlib.import_module(_MODULE)
    except (ImportError, AttributeError):
        return False
    if not platform.is_cpu() or not hasattr(sampler, "expand_batch_to_tokens") or _is_right(sampler):
        return False
    sampler.expand_batch_to_tokens = expanded
    warnings.warn(
        "This vLLM draws tokens from a wrong distribution where drafts are verified on a CPU (its issue 55005): "
        "hierdraft has put that right in this process.",
        DraftWarning, stacklevel=2,
    )  # fmt: skip
    return True


def expanded(x: Any, cu_num_tokens: Any, num_tokens: int, replace_from: float = 0, replace_to: float = 0) -> Any:
    """Each request's number once for each of its drafted tokens.

    x              [requests], of any type
    cu_num_tokens  int[requests]: drafted tokens of each request and of all before it
    num_tokens     of all
    replace_from, replace_to   a number that stands for another
    """
    import torch

    counts = torch.diff(cu_num_tokens.long(), prepend=cu_num_tokens.new_zeros(1).long())
    found = torch.repeat_interleave(x, counts, output_size=num_tokens)
    return found.masked_fill(found == replace_from, replace_to)


def _is_right(sampler: Any) -> bool:
    """Whether numbers of chance come out where they belong, so that memory from before cannot pass for them."""
    import torch

    chance = np.random.default_rng()
    for _ in range(_TRIES):
        numbers = torch.from_numpy(0.25 + chance.random(3, dtype=np.float32))
        told = sampler.expand_batch_to_tokens(numbers, torch.tensor([2, 2, 5], dtype=torch.int32), 5, 0, 1)
        if told.tolist() != [numbers[request].item() for request in (0, 0, 2, 2, 2)]:
            return False
    return True
