"""Tiny random transformers models, one per family, with windows far shorter than the texts decoded with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as t

VOCABULARY = 97
WINDOW = 12

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0, "initializer_range": 0.4,
}  # fmt: skip
_MIXED = ["sliding_attention", "full_attention"] * 2


def _gemma(config: Any, **more: Any) -> Any:
    return config(**_SMALL, sliding_window=WINDOW, query_pre_attn_scalar=8, layer_types=_MIXED, **more)


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: t.LlamaConfig(**_SMALL),
    "qwen2": lambda: t.Qwen2Config(**_SMALL),
    "qwen2-sliding": lambda: t.Qwen2Config(
        **_SMALL, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "qwen3": lambda: t.Qwen3Config(**_SMALL),
    "mistral": lambda: t.MistralConfig(**_SMALL, sliding_window=WINDOW),
    "gemma3": lambda: _gemma(t.Gemma3TextConfig),
    "gemma2": lambda: _gemma(t.Gemma2Config),
    "gpt2": lambda: t.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=None,
        initializer_range=0.4,
    ),
    "phi": lambda: t.PhiConfig(**{**_SMALL, "num_key_value_heads": 4}),
    "phi3": lambda: t.Phi3Config(**_SMALL, sliding_window=WINDOW),
    "gpt-oss": lambda: t.GptOssConfig(
        **_SMALL, sliding_window=WINDOW, layer_types=_MIXED, num_local_experts=4, num_experts_per_tok=2
    ),
    "gpt-neox": lambda: t.GPTNeoXConfig(
        **{k: v for k, v in _SMALL.items() if k not in ("head_dim", "num_key_value_heads")}
    ),
}  # fmt: skip


TOLERANCE = {"gemma2": 1e-5, "gpt-oss": 1e-4}
"""How far two passes of one model may differ where it is not computed in float64 throughout: eager attention takes its
softmax in float32, and grouped expert products exist in float32 only. 1e-9 for the other families."""


def tiny(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A random model of the family, the same for the same seed; it has no end-of-sequence id unless a test sets one."""
    torch.manual_seed(seed)
    if name == "gpt-oss":
        dtype = torch.float32
    model = t.AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    return model


def assert_same(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal as far as the family's number types allow."""
    allowed = TOLERANCE.get(name, 1e-9)
    torch.testing.assert_close(ours, theirs, rtol=allowed, atol=allowed)


def reference(model: Any, prompt: list[int], limit: int, **options: Any) -> list[int]:
    """What transformers' own greedy generate says."""
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, **options)
    return [int(token) for token in out[0, len(prompt) :]]
