"""What a transformers model says of itself, and how it is run: where answers end, how long a text may be, threads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from hierdraft.engines.generation_config import GenerationDefaults


def eos_ids(model: Any) -> tuple[int, ...]:
    """The ids after which its answers end; may be empty. Raises ModelError."""
    found = GenerationDefaults(eos=getattr(model.generation_config, "eos_token_id", None))
    return found.eos_ids(None, vocabulary(model, model.config.get_text_config(decoder=True)))


def context_length(model: Any, text_config: Any) -> tuple[int, bool]:
    """How many positions the model knows, and whether going beyond them is impossible.

    It is with learned positions, which end there, and with rotary embeddings that change for the whole text once it
    grows beyond their first range: what is cached would no longer be what a fresh pass computes.
    """
    known = int(getattr(text_config, "max_position_embeddings", None) or 1 << 30)
    ropes = getattr(text_config, "rope_parameters", None) or {}
    for rope in [ropes, *(value for value in ropes.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in ("dynamic", "longrope"):
            first = rope.get("original_max_position_embeddings")
            return int(first or getattr(text_config, "original_max_position_embeddings", None) or known), True
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not model.get_input_embeddings()]
    return known, any(known <= table.num_embeddings <= known + 2 for table in tables)


FEATURES = "hierdraft_features"
"""Attribute of a head: how many numbers go in beside each token."""

TRIMMED_FROM = "hierdraft_trimmed_from"
"""Attribute of a model that has been left only some of its output rows: how many it had."""


def vocabulary(model: Any, text_config: Any) -> int:
    """How many token ids it scores: rows of its output layer, whatever its configuration says, or would if whole."""
    head = model.get_output_embeddings()
    rows = getattr(model, TRIMMED_FROM, None) or getattr(head, "out_features", None)
    rows = rows or getattr(getattr(head, "weight", None), "shape", (None,))[0]
    return int(rows or text_config.vocab_size)


def made_for(model: Any) -> tuple[Any, ...]:
    """What an engine of the model depends on; it differs after the model was resized, cast, moved or rebuilt."""
    modules = sum(1 for _ in model.modules())
    head = model.get_output_embeddings()
    return (
        model.dtype, model.device, tuple(getattr(getattr(head, "weight", None), "shape", ())), modules,
        getattr(head, "out_features", None), model.config._attn_implementation, model.config.to_json_string(),
        drops_out(model),
    )  # fmt: skip


def drops_out(model: Any) -> bool:
    """Whether it is in training mode, where dropout changes what it says from one forward to the next."""
    return bool(model.training) or any(
        module.training and module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout)
    )


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Run with `count` of torch's threads; None: as many as the process has set."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint(model: Any, threads: int, *, graphs: bool = False) -> str:
    """Identifies what a step costs: architecture and sizes, number type, device, threads, kernels."""
    parts = (
        model.config.to_json_string(), str(model.dtype), str(model.device), str(threads),
        torch.__version__, str(any(type(m).__name__ == "PackedLinear" for m in model.modules())),
        *(["graphs"] if graphs else []),
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
