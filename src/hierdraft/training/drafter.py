"""The drafter while it is trained: a small Llama between the embeddings and the output rows of its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hierdraft.errors import UsageError
from hierdraft.models.drafter_files import Float32
from hierdraft.training.settings import Training
from hierdraft.training.target import Target
from hierdraft.training.windows import Window, mask_of
from hierdraft.tree import Int32


class Loss(NamedTuple):
    """Sums over N tokens, in nats: the cross-entropy, and the divergence from the target's likeliest ids."""

    entropy: Tensor
    divergence: Tensor
    rows: int
    with_top: int


class Drafter(nn.Module):
    """Its parameters are its layers and its norm; embeddings and output rows are the target's and stay.

    Output rows that were left out count as rows of zeros: their logits are 0, so that the law of the next token is one
    over all ids, and the composed model has the same.
    """

    def __init__(self, config: Mapping[str, Any], embedding: Tensor, output: Tensor, kept: Int32 | None) -> None:
        """
        config     of a Llama; its weights are random, as the present state of torch's generator has it
        embedding  float32[V, H]; `output` likewise
        kept       int32[K], rising: the output rows that are used; None: all
        """
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        self.body = LlamaModel(LlamaConfig(**{**config, **ids, "vocab_size": 1, "use_cache": False}))
        self.body.embed_tokens = nn.Identity()  # what goes in is looked up here
        self.embedding = embedding
        self.kept = torch.arange(len(output)) if kept is None else torch.from_numpy(kept).long()
        self.output = output if kept is None else output[self.kept].contiguous()
        self.others = len(output) - len(self.kept)
        self.places = torch.full((len(output),), -1)
        self.places[self.kept] = torch.arange(len(self.kept))

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

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits float32[T, K] of the output rows that are used."""
        return hidden @ self.output.T

    def total(self, scores: Tensor) -> Tensor:
        """float32[T]: the logarithm of what a softmax over all ids divides by."""
        found = scores.logsumexp(-1)
        if not self.others:
            return found
        return torch.logaddexp(found, torch.tensor(float(self.others)).log())

    def logprobs(self, scores: Tensor, total: Tensor, ids: Tensor) -> Tensor:
        """float32[T, k]: the log probabilities of ids int64[T, k]."""
        places = self.places[ids]
        found = scores.gather(1, places.clamp(min=0))
        return torch.where(places >= 0, found, torch.zeros(())) - total[:, None]

    def loss(self, window: Window) -> Loss:
        """Of one window."""
        segment = torch.from_numpy(mask_of(window.segment))
        ids, positions = (torch.from_numpy(one).long() for one in (window.ids, window.positions))
        rows, labels = (torch.from_numpy(one).long() for one in (window.rows, window.labels))
        scores = self.scores(self.hidden(ids, positions, segment)[rows])
        total = self.total(scores)
        entropy = -self.logprobs(scores, total, labels[:, None]).sum()
        if window.top is None:
            return Loss(entropy, torch.zeros(()), len(rows), 0)
        which, top, logprobs = (torch.from_numpy(one) for one in window.top)
        which = which.long()
        ours = self.logprobs(scores[which], total[which], top.long())
        return Loss(entropy, divergence(ours, logprobs.float()).sum(), len(rows), len(which))

    def own(self) -> dict[str, Float32]:
        """The weights that are trained, under the names that they have in a Llama."""
        return {f"model.{name}": one.detach().numpy().copy() for name, one in self.body.named_parameters()}

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""
        with torch.no_grad():
            for name, one in self.body.named_parameters():
                one.copy_(torch.from_numpy(own[f"model.{name}"]))


def divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """float32[T]: Kullback-Leibler divergence of a drafter from its target, where k of its log probabilities are known.

    ours, theirs   natural log probabilities [T, k] of the same ids; all other ids are taken as one
    """
    tiny = torch.finfo(torch.float32).eps
    p = theirs.exp()
    p_rest = (1 - p.sum(-1)).clamp(min=0.0)
    q_rest = (1 - ours.exp().sum(-1)).clamp(min=tiny)
    rest = p_rest * (p_rest.clamp(min=tiny).log() - q_rest.log())
    return (p * (theirs - ours)).sum(-1) + rest


def new_drafter(target: Target, training: Training, kept: Int32 | None) -> tuple[Drafter, str]:
    """A drafter as it begins, and how: `layers:0,29` or `random`. Raises UsageError for layers that do not fit.

    Its norm begins with ones: with the target's, copied layers are very sure of what is wrong.
    """
    config = {**target.config, "num_hidden_layers": training.layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        drafter = Drafter(config, target.embedding, target.output, kept)
    chosen = training.copied(max(1, len(target.layers)))
    if chosen is None:
        return drafter, "random"
    if not _fits(drafter, target):
        if training.init is None:
            return drafter, "random"
        raise UsageError(f"The layers of {target.name} have not the form of Llama's: --init random.")
    with torch.no_grad():
        for layer, number in zip(drafter.body.layers, chosen, strict=True):
            layer.load_state_dict(target.layer(number))
    return drafter, f"layers:{','.join(map(str, chosen))}"


def _fits(drafter: Drafter, target: Target) -> bool:
    """Whether the target's layers are Llama layers of these sizes."""
    wanted = {name: one.shape for name, one in drafter.body.layers[0].state_dict().items()}
    return bool(target.layers) and all(layer == wanted for layer in target.layers)
