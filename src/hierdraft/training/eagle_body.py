"""The layers of an EAGLE-3-like head while it is trained, and how rows go through them: a text, then chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierdraft.scoring import Among

Past = tuple[Tensor, Tensor]
"""Keys and values [heads, T, dim], or those of a step of chains [heads, R, dim]."""


class _Attention(nn.Module):
    def __init__(self, config: Any, given: int) -> None:
        super().__init__()
        heads, cached = config.num_attention_heads, config.num_key_value_heads
        self.dim, self.times = config.head_dim, heads // cached
        self.q_proj = nn.Linear(given, heads * self.dim, bias=False)
        self.k_proj = nn.Linear(given, cached * self.dim, bias=False)
        self.v_proj = nn.Linear(given, cached * self.dim, bias=False)
        self.o_proj = nn.Linear(heads * self.dim, config.hidden_size, bias=False)

    def split(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [heads, T, dim] of [T, given]; keys and values once for every head that reads."""
        found = [one(states).view(len(states), -1, self.dim).transpose(0, 1) for one in
                 (self.q_proj, self.k_proj, self.v_proj)]  # fmt: skip
        return found[0], *(one.repeat_interleave(self.times, 0) for one in found[1:])


class _Layer(nn.Module):
    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

        width, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = _Attention(config, 2 * width if number == 0 else width)
        self.mlp = LlamaMLP(config)
        self.input_layernorm, self.post_attention_layernorm = LlamaRMSNorm(width, eps), LlamaRMSNorm(width, eps)
        self.hidden_norm = LlamaRMSNorm(width, eps) if number == 0 else None

    def given(self, states: Tensor, embedded: Tensor) -> Tensor:
        """What its attention is given: in the first layer the embeddings beside the features."""
        if self.hidden_norm is None:
            found: Tensor = self.input_layernorm(states)
            return found
        return torch.cat([self.input_layernorm(embedded), self.hidden_norm(states)], dim=-1)

    def rest(self, states: Tensor, attended: Tensor) -> Tensor:
        """What comes out of it, [R, H]; `attended`: [heads, R, dim]."""
        states = states + self.self_attn.o_proj(attended.transpose(0, 1).flatten(1))
        found: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return found


class EagleBody(nn.Module):
    """What is trained: `fc`, the layers, the first over embedding and feature side by side, and the norm before the
    output rows.
    """

    def __init__(self, config: Any, states: int) -> None:
        """A head of a Llama's sizes and layers, reading hidden states of so many layers as wide as it is."""
        super().__init__()
        from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

        self.fc = nn.Linear(states * config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([_Layer(config, number) for number in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = LlamaRotaryEmbedding(config)

    def split(self, number: int, given: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries and keys, and values, [heads, T, dim], of what a layer's attention is given at positions."""
        from transformers.models.llama.modeling_llama import rotate_half

        layer: Any = self.layers[number]
        queries, keys, values = layer.self_attn.split(given)
        cosines, sines = (one[0] for one in self.rotary(given, positions[None]))
        return *(one * cosines + rotate_half(one) * sines for one in (queries, keys)), values


def attend(queries: Tensor, seen: Tensor, text: Past, own: Sequence[Past], hidden: Tensor | None = None) -> Tensor:
    """[heads, R, dim]: each row's attention over the text and over its own chain.

    queries   [heads, R, dim]
    seen      bool[R, T]: which of the text's keys and values a row sees
    own       of each step of the rows' chains, of which a row sees its own
    hidden    bool[R, steps]: which of those it does not see all the same
    """
    keys, values = text
    scale = queries.shape[-1] ** -0.5
    scores = [((queries @ keys.transpose(1, 2)) * scale).masked_fill(~seen, -torch.inf)]
    scores += [(queries * key).sum(-1, keepdim=True) * scale for key, _ in own]
    if hidden is not None:
        scores[1:] = [one.masked_fill(hidden[:, step, None], -torch.inf) for step, one in enumerate(scores[1:])]
    weights = torch.cat(scores, dim=-1).softmax(-1)
    found = weights[..., : seen.shape[1]] @ values
    for step, (_, value) in enumerate(own):
        found = found + weights[..., seen.shape[1] + step, None] * value
    return found


class Chains:
    """Rows of a text, and a chain of drafts below each of them, all a step at a time."""

    def __init__(self, body: EagleBody, embedded: Tensor, features: Tensor, positions: Tensor, mask: Tensor) -> None:
        """A text: what goes in at its tokens [T, H], at positions int64[T]; mask bool[T, T]: which sees which."""
        self._body, self._mask = body, mask
        self._embedded, self._features, self._positions = embedded, features, positions
        self._text: list[Past] = []
        self._layers: list[Any] = [*body.layers]
        self._own: list[list[Past]] = [[] for _ in body.layers]
        self._seen = mask

    def begin(self, rows: Tensor) -> Tensor:
        """What comes out at these rows int64[R] of the text, [R, H]: chains begin there."""
        states, last = self._features, len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            queries, keys, values = self._body.split(number, layer.given(states, self._embedded), self._positions)
            self._text.append((keys, values))
            wanted = rows if number == last else torch.arange(len(states))
            attended = attend(queries[:, wanted], self._mask[wanted], self._text[number], [])
            states = layer.rest(states[wanted], attended)
        self._seen = self._mask[rows]
        return states

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What went in at these rows int64[R] of the text: embeddings and features [R, H], positions int64[R]."""
        return self._embedded[rows], self._features[rows], self._positions[rows]

    def further(self, embedded: Tensor, states: Tensor, positions: Tensor) -> Tensor:
        """What comes out one step on, [R, H], of what came out before and the tokens that came, at these positions."""
        for number, layer in enumerate(self._layers):
            queries, *own = self._body.split(number, layer.given(states, embedded), positions)
            self._own[number].append((own[0], own[1]))
            states = layer.rest(states, attend(queries, self._seen, self._text[number], self._own[number]))
        return states

    def block(self, embedded: Tensor, states: Tensor, positions: Tensor, among: Among) -> Tensor:
        """What comes out of S further rows below each of the rows that it began with, all at a time: [S, R, H].

        embedded, states   what goes into them, [S, R, H]; positions int64[S, R]
        among              which other rows of the same S a row sees
        """
        size, count, _ = embedded.shape
        embedded, states = embedded.flatten(0, 1), states.flatten(0, 1)
        seen = self._seen.repeat(size, 1)
        for number, layer in enumerate(self._layers):
            queries, *own = self._body.split(number, layer.given(states, embedded), positions.flatten())
            own = [one.view(len(one), size, count, -1).repeat(1, 1, size, 1) for one in own]
            below = [(own[0][:, step], own[1][:, step]) for step in range(size)]
            hidden = torch.arange(size).repeat_interleave(count)
            states = layer.rest(states, attend(queries, seen, self._text[number], below, _hidden(hidden, size, among)))
        return states.view(size, count, -1)

    def keep(self, kept: Tensor) -> None:
        """Go on with these chains only: bool[R], or their numbers."""
        self._seen = self._seen[kept]
        self._own = [[(keys[:, kept], values[:, kept]) for keys, values in own] for own in self._own]


def _hidden(step: Tensor, size: int, among: Among) -> Tensor | None:
    """bool[R, S]: which of the S rows of its block a row at a step int64[R] does not see."""
    if among == "all":
        return None
    steps = torch.arange(size)[None]
    return steps > step[:, None] if among == "above" else steps != step[:, None]
