"""The drafter while it is trained: a small Llama between the embeddings and the output rows of its target."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from hierdraft.errors import UsageError
from hierdraft.models.drafter_files import Float32
from hierdraft.training.rows import Loss, OutputRows
from hierdraft.training.settings import Training
from hierdraft.training.target import Target
from hierdraft.training.windows import Window, mask_of
from hierdraft.tree import Int32


class Drafter(OutputRows):
    """Its parameters are its layers and its norm; embeddings and output rows are the target's and stay."""

    def __init__(
        self,
        config: Mapping[str, Any],
        embedding: Tensor,
        output: Tensor,
        kept: Int32 | None,
        sampled: int = 0,
        loops: int = 1,
    ) -> None:
        """
        config     of a Llama; its weights are random, as the present state of torch's generator has it
        embedding  float32[V, H]; `output` likewise
        kept       int32[K], rising: the output rows that are used; None: all
        sampled    see `OutputRows`
        loops      times that the layers are gone through
        """
        super().__init__(output, kept, sampled)
        from transformers import LlamaConfig, LlamaModel

        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        self.body = LlamaModel(LlamaConfig(**{**config, **ids, "vocab_size": 1, "use_cache": False}))
        self.body.embed_tokens = nn.Identity()  # what goes in is looked up here
        self.embedding, self._size = embedding, len(self.body.layers)
        if loops > 1:
            self.body.layers = nn.ModuleList(_again(self.body.layers, loops))
            self.body.config.num_hidden_layers = len(self.body.layers)

    def hidden(self, ids: Tensor, positions: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """float32[T, H] of tokens int64[T] at these positions; mask bool[T, past + T]: which tokens each one sees.

        cache   a transformers cache that holds the past, and then these too
        """
        found = self.body(
            inputs_embeds=self.embedding[ids][None], position_ids=positions[None], attention_mask=mask[None, None],
            past_key_values=cache, use_cache=cache is not None,
        )  # fmt: skip
        states: Tensor = found.last_hidden_state[0]
        return states

    def loss(self, window: Window, done: float) -> Loss:  # noqa: ARG002
        """Of one window."""
        segment = torch.from_numpy(mask_of(window.segment))
        ids, positions, rows = (torch.from_numpy(one).long() for one in (window.ids, window.positions, window.rows))
        return self.loss_of(window, [states[rows] for states in self._after_each(ids, positions, segment)])

    def _after_each(self, ids: Tensor, positions: Tensor, segment: Tensor) -> list[Tensor]:
        """What comes out of the last norm after each time through the layers, [T, H]."""
        found: list[Tensor] = []
        with ExitStack() as hooks:
            for number in range(self._size - 1, len(self.body.layers) - 1, self._size):
                layer = self.body.layers[number]
                hooks.callback(layer.register_forward_hook(lambda _, __, out: found.append(out[0])).remove)
            last = self.hidden(ids, positions, segment)
        return [*(self.body.norm(states) for states in found), last]

    @torch.inference_mode()
    def chains(self, ids: Int32, start: int, places: Int32, states: Any, depth: int, top: int) -> tuple[float, Tensor]:  # noqa: ARG002
        """See `Student`. All chains are drafted at a time: a row sees the text up to its place and its chain's rows."""
        from transformers import DynamicCache

        cache = DynamicCache()
        text = torch.from_numpy(ids).long()
        length, count = len(text), len(places)
        mask = torch.ones(length, length).tril().bool()
        found = self.hidden(text, torch.arange(length), mask, cache)
        scores = self.rows.scores(found[start - 1 : -1])
        nats = -float(self.rows.logprobs(scores, self.rows.total(scores), text[start:, None]).sum())
        where = torch.from_numpy(places).long()
        seen, rows = torch.arange(length)[None] <= where[:, None], torch.eye(count).bool()
        found, best = found[where], list[Tensor]()
        for step in range(1, depth + 1):
            best.append(self.kept[self.rows.scores(found).topk(min(top, len(self.kept)), dim=1).indices])
            if step < depth and count:
                mask = torch.cat([seen, *([rows] * step)], dim=1)
                found = self.hidden(best[-1][:, 0], where + step, mask, cache)
        return nats, torch.stack(best, dim=1)

    def own(self) -> dict[str, Float32]:
        """The weights that are trained, under the names that they have in a Llama."""
        return {f"model.{name}": one.detach().numpy().copy() for name, one in self.body.named_parameters()}

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""
        with torch.no_grad():
            for name, one in self.body.named_parameters():
                one.copy_(torch.from_numpy(own[f"model.{name}"]))


def new_drafter(target: Target, training: Training, kept: Int32 | None) -> tuple[Drafter, str]:
    """A drafter as it begins, and how: `layers:0,29` or `random`. Raises UsageError for layers that do not fit.

    Its norm begins with ones: with the target's, copied layers are very sure of what is wrong.
    """
    config = {**target.config, "num_hidden_layers": training.layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        drafter = Drafter(config, target.embedding, target.output, kept, training.sampled, training.loops)
    chosen = training.copied(max(1, len(target.layers)))
    if chosen is None:
        return drafter, "random"
    if not _fits(drafter, target):
        if training.init is None:
            return drafter, "random"
        raise UsageError(f"The layers of {target.name} have not the form of Llama's: --init random.")
    with torch.no_grad():
        for layer, number in zip(drafter.body.layers[: len(chosen)], chosen, strict=True):
            layer.load_state_dict(target.layer(number))
    return drafter, f"layers:{','.join(map(str, chosen))}"


def _again(layers: Any, loops: int) -> list[nn.Module]:
    """The layers so many times: the same weights, each time with a place of its own in a cache."""
    found: list[nn.Module] = []
    for number in range(loops * len(layers)):
        layer = _shared(layers[number % len(layers)])
        layer.self_attn = _shared(layer.self_attn)
        layer.self_attn.layer_idx = number
        found.append(layer)
    return found


def _shared(module: Any) -> Any:
    """Another module of the same parameters."""
    found = copy(module)
    found._modules, found._parameters = dict(module._modules), dict(module._parameters)
    return found


def _fits(drafter: Drafter, target: Target) -> bool:
    """Whether the target's layers are Llama layers of these sizes."""
    wanted = {name: one.shape for name, one in drafter.body.layers[0].state_dict().items()}
    return bool(target.layers) and all(layer == wanted for layer in target.layers)
