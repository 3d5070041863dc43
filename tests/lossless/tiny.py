"""Tiny random transformers models, one per family, with windows far shorter than the texts decoded with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import transformers as t

VOCABULARY = 97
WINDOW = 12
CHUNK = 8

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


_STATES: dict[str, Any] = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_chunk_size": CHUNK,
}  # fmt: skip
_DELTA: dict[str, Any] = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}  # fmt: skip
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}

RECURRENT: dict[str, Callable[[], Any]] = {
    "qwen3-next": lambda: t.Qwen3NextConfig(
        **_SMALL, **_DELTA, **_EXPERTS, moe_intermediate_size=16, shared_expert_intermediate_size=16
    ),
    "qwen3.5": lambda: t.Qwen3_5TextConfig(**_SMALL, **_DELTA),
    "lfm2": lambda: t.Lfm2Config(**_SMALL, layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False),
    "falcon-h1": lambda: t.FalconH1Config(**_SMALL, **{**_STATES, "mamba_n_heads": 4}, mamba_d_ssm=32),
    "granite-hybrid": lambda: t.GraniteMoeHybridConfig(
        **_SMALL, **_STATES, layer_types=["linear_attention", "full_attention"] * 2, num_local_experts=4,
        num_experts_per_tok=2, shared_intermediate_size=48,
    ),
    "bamba": lambda: t.BambaConfig(**_SMALL, **_STATES, attn_layer_indices=[1, 3]),
    "mamba2": lambda: t.Mamba2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=4, num_heads=8, head_dim=8, state_size=8, expand=2,
        n_groups=1, chunk_size=CHUNK, initializer_range=0.4, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    ),
    "jamba": lambda: t.JambaConfig(
        **_SMALL, **_EXPERTS, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
        mamba_d_state=8, mamba_dt_rank=4,
    ),
    "mamba": lambda: t.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=4, state_size=8, time_step_rank=4,
        initializer_range=0.4, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    ),
}  # fmt: skip
"""Models that keep recurrent states, with chunks far shorter than the texts (those of the delta rule have 64 rows)."""


SEVERAL = [*CONFIGS] if os.environ.get("PROOFS") else ["llama", "gemma3", "gpt2", "gpt-oss", "qwen2-sliding"]
"""All families in `make proofs`; otherwise one of each kind of positions, windows and attention: for what stands on the
engine's rows, of which other tests show for every family that they are right."""

SEVERAL_RECURRENT = [*RECURRENT] if os.environ.get("PROOFS") else ["qwen3.5", "lfm2", "falcon-h1", "mamba2", "mamba"]
"""Likewise: one of each kind of states."""


TOLERANCE = {"gemma2": 1e-5, "gpt-oss": 1e-4}
"""How far two passes of one model may differ where it is not computed in float64 throughout: eager attention takes its
softmax in float32, and grouped expert products exist in float32 only. 1e-9 for the other families."""


def tiny(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A random model of the family, the same for the same seed; it has no end-of-sequence id unless a test sets one."""
    torch.manual_seed(seed)
    if name == "gpt-oss":
        dtype = torch.float32
    more = {"experts_implementation": "eager"} if name in RECURRENT else {}
    model = t.AutoModelForCausalLM.from_config({**CONFIGS, **RECURRENT}[name](), dtype=dtype, **more).eval()
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
