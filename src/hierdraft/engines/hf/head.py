"""An EAGLE-3-like head as a transformers model, so that `HFEngine` runs it: see `training/eagle.py`.

Beside ids its forward takes a feature for each of them (zeros where none are given, as in the engine's own checks), and
what comes out of its last layer is what it hands on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, LlamaConfig, Qwen3Config
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from hierdraft.engines.headforms import Form
from hierdraft.engines.hf.facts import FEATURES, TRIMMED_FROM


class HeadLayer(nn.Module):
    """One of its layers; the first is given the embedding of each token beside its feature."""

    def __init__(self, config: Any, number: int, form: Form) -> None:
        """Weights are random."""
        super().__init__()
        made: Any = (Qwen3DecoderLayer if form.even_heads else LlamaDecoderLayer)(config, number)
        self.self_attn, self.mlp = made.self_attn, made.mlp
        self.input_layernorm, self.post_attention_layernorm = made.input_layernorm, made.post_attention_layernorm
        self._even = form.even
        self.hidden_norm: nn.Module | None = None
        if number == 0:
            self.hidden_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            for name in ("q_proj", "k_proj", "v_proj"):
                plain = getattr(self.self_attn, name)
                setattr(self.self_attn, name, nn.Linear(2 * plain.in_features, plain.out_features, bias=False))
        self.then: tuple[nn.Module, ...] = ()  # norms of the head's own, which are not this layer's

    def forward(self, hidden_states: Tensor, embedded: Tensor, **attention: Any) -> Tensor:
        """[B, T, H] of features, or of what came out of the layer before."""
        if self.hidden_norm is None:
            given = self.input_layernorm(hidden_states)
        else:
            even = self.hidden_norm(hidden_states)
            given = torch.cat([self.input_layernorm(embedded), even], dim=-1)
            hidden_states = even if self._even else hidden_states
        attended = hidden_states + self.self_attn(hidden_states=given, **attention)[0]
        states: Tensor = attended + self.mlp(self.post_attention_layernorm(attended))
        for norm in self.then:
            states = norm(states)
        return states


class HeadForCausalLM(LlamaPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A head, with embeddings [V, H] and output rows [K, H]."""

    def __init__(self, config: Any, form: Form, rows: int) -> None:
        """Weights are random."""
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([HeadLayer(config, number, form) for number in range(form.layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)
        self.lm_head = nn.Linear(config.hidden_size, rows, bias=False)
        self._hands_on = form.hands_on
        if form.hands_on:
            self.layers[-1].then = (self.norm,)  # type: ignore[assignment]
        setattr(self, TRIMMED_FROM, config.vocab_size)
        setattr(self, FEATURES, config.hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        """See transformers."""
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """See transformers."""
        return self.lm_head

    def forward(
        self, input_ids: Tensor, features: Tensor | None = None, attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None, past_key_values: Any = None, logits_to_keep: int | Tensor = 0,
        **more: Any,  # noqa: ARG002 - what transformers gives besides
    ) -> CausalLMOutputWithPast:  # fmt: skip
        """Ids [B, T], features [B, T, H], an additive mask [B, 1, T, S + T], positions [B, T]; logits [B, kept, K]."""
        embedded = self.embed_tokens(input_ids)
        states = torch.zeros_like(embedded) if features is None else features.to(embedded.dtype)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        mask = create_causal_mask(
            config=self.config, inputs_embeds=embedded, attention_mask=attention_mask, past_key_values=past_key_values,
            position_ids=position_ids,
        )  # fmt: skip
        attention = {
            "attention_mask": mask, "past_key_values": past_key_values, "position_ids": position_ids,
            "position_embeddings": self.rotary_emb(states, position_ids),
        }  # fmt: skip
        for layer in self.layers:
            states = layer(states, embedded, **attention)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        states = states[:, kept]
        logits = self.lm_head(states if self._hands_on else self.norm(states))
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


def head_model(
    sizes: Mapping[str, Any], own: Mapping[str, Any], embedding: Any, output: Any, form: Form, dtype: torch.dtype
) -> HeadForCausalLM:  # fmt: skip
    """A head with these weights.

    sizes      the numbers of its configuration, as transformers' `LlamaConfig` names them
    own        float32 arrays, as the formats in use name them, without `.weight`
    embedding  float32[V, H]; output float32[K, H]

    Raises KeyError or ValueError for weights that are missing or of other sizes.
    """
    kind: Any = Qwen3Config if form.even_heads else LlamaConfig
    names = (
        "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps",
        "max_position_embeddings", "rope_parameters",
    )  # fmt: skip
    given = {name: sizes[name] for name in names if sizes.get(name) is not None}
    config = kind(
        **given,
        vocab_size=len(embedding),
        num_hidden_layers=form.layers,
        tie_word_embeddings=False,
        attention_bias=False,
    )
    config._attn_implementation = "sdpa"
    model = HeadForCausalLM(config, form, len(output))
    weights = {**own, "embed_tokens": embedding, "lm_head": output}
    with torch.no_grad():
        for name, one in model.named_parameters():
            values = weights[name.removesuffix(".weight")]
            if tuple(values.shape) != tuple(one.shape):
                raise ValueError(f"{name} has the sizes {list(values.shape)} and not {list(one.shape)}")
            one.copy_(torch.from_numpy(values))
    model.to(dtype).eval()
    return model
