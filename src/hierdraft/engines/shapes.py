"""Shapes of known models, for random weights: what a forward costs depends on them, not on what the weights say."""

from __future__ import annotations

from typing import Any

from hierdraft.errors import UsageError

POSITIONS = 16_384
"""That models with random weights know."""

_VOCAB = 32_000
_LLAMA_3 = {"vocab_size": 128_256, "num_key_value_heads": 8, "rope_theta": 500_000.0}

SHAPES: dict[str, dict[str, Any]] = {
    "llama-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, **_LLAMA_3,
    },
    "llama-7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "llama-3b": {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
        "tie_word_embeddings": True, **_LLAMA_3,
    },
    "llama-1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "tie_word_embeddings": True, **_LLAMA_3,
    },
    "llama-135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49_152, "tie_word_embeddings": True, "rope_theta": 100_000.0,
    },
    "llama-68m": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 12,
    },
    "lfm2-350m": {
        "hidden_size": 1024, "intermediate_size": 6656, "num_hidden_layers": 16, "num_attention_heads": 16,
        "num_key_value_heads": 8, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "vocab_size": 65_536,
    },
    "qwen3.5-0.8b": {
        "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16, "linear_num_value_heads": 16,
        "vocab_size": 248_320, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""By name, named as in the configurations of transformers; the first two generations of Llama have 32,000 ids."""


def shape(name: str, least_vocab: int = 0, **changes: Any) -> dict[str, Any]:
    """The numbers of a configuration.

    least_vocab   room for ids below this, if the shape's own vocabulary is smaller
    changes       of the shape

    Raises UsageError for an unknown one.
    """
    if name not in SHAPES:
        raise UsageError(f"There is no shape {name!r}: choose one of {', '.join(SHAPES)}.")
    vocab = max(least_vocab, SHAPES[name].get("vocab_size", _VOCAB))
    return {**SHAPES[name], "vocab_size": vocab, "max_position_embeddings": POSITIONS, **changes}


def is_llama(name: str) -> bool:
    """Whether a shape is a Llama's, and not that of a model with recurrent states."""
    return name.startswith("llama")
