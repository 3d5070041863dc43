"""A Llama that goes through its layers several times, and several tokens at different depths of it in one call.

SPEED (Hooper et al., arXiv 2310.12072): what comes out of an early time through the layers says which token may come
next, and that token starts at once, while the one before it goes on. All tokens in flight go through the same weights
in one call, which are so read once. A token that has gone through all says which one really comes next: if that was
not the one that has started, the younger ones are dropped with their keys and values.

Such models are made by `hierdraft train drafter --loops`; in a composed folder their layers are repeated, so that every
engine runs them as an ordinary Llama.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from hierdraft.errors import UsageError


@dataclass
class Flight:
    """A token that is on its way.

    place    in the text
    state    what it is by now, [H]
    times    that it has gone through the layers
    draft    the token that started after it, None: none has yet
    """

    place: int
    state: Tensor
    times: int = 0
    draft: int | None = None


@dataclass
class Answer:
    """What was said, in how many calls of the layers, and how many of how many drafts were right."""

    ids: list[int]
    calls: int = 0
    right: int = 0
    drafted: int = 0


class Looped:
    """One text at a time, greedy."""

    def __init__(self, model: Any, loops: int) -> None:
        """A transformers Llama whose layers are `loops` times the same ones. Raises UsageError for another model."""
        layers = model.model.layers
        count, rest = divmod(len(layers), loops)
        if loops < 2 or rest or not all(_same(layers[n], layers[n % count]) for n in range(len(layers))):
            raise UsageError(f"{len(layers)} layers are not {loops} times the same ones.")
        self.loops = loops
        self._model, self._layers = model, layers[:count]
        self._cells: list[list[tuple[Tensor, Tensor]]] = []

    def sequential(self, prompt: Sequence[int], limit: int) -> Answer:
        """`limit` tokens, each going through all of it before the next one starts."""
        return self._answer(prompt, limit, None)

    def pipelined(self, prompt: Sequence[int], limit: int, early: int = 1) -> Answer:
        """The same tokens, each next one starting when this one has gone through the layers `early` times."""
        if not 1 <= early < self.loops:
            raise UsageError(f"early must be from 1 to {self.loops - 1}, not {early}.")
        return self._answer(prompt, limit, early)

    @torch.inference_mode()
    def _answer(self, prompt: Sequence[int], limit: int, early: int | None) -> Answer:
        found = Answer([])
        self._read(prompt, len(prompt) + limit)
        flights = [self._started(len(prompt) - 1, prompt[-1])]
        while len(found.ids) < limit:
            self._advance(flights)
            found.calls += 1
            oldest, youngest = flights[0], flights[-1]
            over = oldest.times == self.loops
            drafts = early is not None and youngest.times == early and youngest.place + 1 < len(prompt) + limit - 1
            said = self._said([*([oldest] if over else []), *([youngest] if drafts else [])])
            if drafts:
                youngest.draft = said[-1]
                flights.append(self._started(youngest.place + 1, said[-1]))
                found.drafted += 1
            if over:
                found.ids.append(said[0])
                found.right += oldest.draft == said[0]
                flights = flights[1:] if oldest.draft == said[0] else [self._started(oldest.place + 1, said[0])]
        return found

    def _started(self, place: int, token: int) -> Flight:
        return Flight(place, self._model.model.embed_tokens.weight[token])

    def _said(self, flights: Sequence[Flight]) -> list[int]:
        """What each would say next if it had gone through all."""
        if not flights:
            return []
        states = self._model.model.norm(torch.stack([one.state for one in flights]))
        found: list[int] = self._model.lm_head(states).argmax(-1).tolist()
        return found

    def _read(self, prompt: Sequence[int], size: int) -> None:
        """All of a prompt but its last token, in room for `size` tokens."""
        config, like = self._model.config, self._model.model.embed_tokens.weight
        shape = (config.num_key_value_heads, size, config.head_dim)
        self._cells = [
            [(like.new_zeros(shape), like.new_zeros(shape)) for _ in self._layers] for _ in range(self.loops)
        ]
        count = len(prompt) - 1
        if count == 0:
            return
        states, where = like[torch.tensor(prompt[:-1])], torch.arange(count)
        for cells in self._cells:
            for layer, (keys, values) in zip(self._layers, cells, strict=True):
                queries, keys[:, :count], values[:, :count] = self._split(layer, states, where)
                attended = self._attended(queries, keys[:, :count], values[:, :count], causal=True)
                states = self._rest(layer, states, attended)

    def _advance(self, flights: Sequence[Flight]) -> None:
        """Every token in flight goes through the layers once, all in one call."""
        states, where = torch.stack([one.state for one in flights]), torch.tensor([one.place for one in flights])
        for number, layer in enumerate(self._layers):
            queries, keys, values = self._split(layer, states, where)
            attended = []
            for row, one in enumerate(flights):
                seen = [held[:, : one.place + 1] for held in self._cells[one.times][number]]
                seen[0][:, -1], seen[1][:, -1] = keys[:, row], values[:, row]
                attended.append(self._attended(queries[:, row : row + 1], *seen))
            states = self._rest(layer, states, torch.cat(attended, dim=1))
        for one, state in zip(flights, states, strict=True):
            one.state, one.times = state, one.times + 1

    def _split(self, layer: Any, states: Tensor, where: Tensor) -> list[Tensor]:
        """Turned queries and keys, and values, [heads, T, dim]."""
        attention, given = layer.self_attn, layer.input_layernorm(states)
        queries, keys, values = (
            one(given).view(len(states), -1, attention.head_dim).transpose(0, 1)
            for one in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        cosines, sines = self._model.model.rotary_emb(given, where[None])
        return [*(one[0] for one in apply_rotary_pos_emb(queries[None], keys[None], cosines, sines)), values]

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False) -> Tensor:
        found: Tensor = scaled_dot_product_attention(queries, keys, values, is_causal=causal, enable_gqa=True)
        return found

    def _rest(self, layer: Any, states: Tensor, attended: Tensor) -> Tensor:
        states = states + layer.self_attn.o_proj(attended.transpose(0, 1).flatten(1))
        found: Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
        return found


def _same(one: Any, other: Any) -> bool:
    """Whether two layers have the same weights."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
