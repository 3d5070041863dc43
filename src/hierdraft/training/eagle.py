"""An EAGLE-3-like head while it is trained (Li et al., arXiv 2503.01840): layers that read the target's mind.

At every token of a text it is given what the target thought there (hidden states of some of its layers, fused to one
feature by `fc`) and which token came next, and says which one comes after that. In a draft the target has not thought
yet: there the feature is what came out of the head's own layer at the token before. So that it can live with that, it
is trained on its own features too, several steps ahead (the paper's training-time test).

Names of weights are those of the formats in use (speculators, SpecForge).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hierdraft.models.drafter_files import Float32
from hierdraft.training.eagle_body import Chains, EagleBody
from hierdraft.training.rows import Loss, OutputRows, divergence
from hierdraft.training.settings import HeadTraining
from hierdraft.training.target import Target
from hierdraft.training.windows import Window, mask_of
from hierdraft.tree import Int32

_LITTLE = 0.1

FADE = 0.8
"""Weight of the loss of each further step, of the one before."""


class EagleHead(OutputRows):
    """Its parameters are `body`'s; embeddings and output rows are the target's and stay."""

    def __init__(
        self, config: Mapping[str, Any], embedding: Tensor, output: Tensor, kept: Int32 | None, *, states: int,
        unrolled: int,
    ) -> None:  # fmt: skip
        """
        config     of a Llama as wide as the target, with the head's own layers; weights are random, as the state of
                   torch's generator is
        embedding  float32[V, H]; `output` likewise; `kept` int32[K], rising: the output rows that are used; None: all
        states     how many hidden states it reads at a token
        unrolled   steps ahead that it is trained for
        """
        super().__init__(output, kept)
        from transformers import LlamaConfig

        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        self.body = EagleBody(LlamaConfig(**{**config, **ids}), states)
        self.embedding, self.unrolled = embedding, unrolled

    def loss(self, window: Window) -> Loss:
        """Of one window, over all steps: the mean of each, the nearer ones with more weight, times its tokens."""
        ids, positions = (torch.from_numpy(one).long() for one in (window.ids, window.positions))
        learned, segment = _Learned(window), torch.from_numpy(mask_of(window.segment))
        features = self.body.fc(_float(window.states))
        chains = Chains(self.body, self.embedding[ids.roll(-1)], features, positions, segment)
        rows = learned.rows(0, None)
        entropy = divergence_ = torch.zeros(())
        weights, states = [FADE**step for step in range(self.unrolled)], torch.empty(0)
        for step, weight in enumerate(weights):
            if not len(rows):
                break
            came, where = self.embedding[ids[rows + 1 + step]], positions[rows] + step
            states = chains.further(came, states, where) if step else chains.begin(rows)
            share = weight / sum(weights)
            nats, apart = self._step(states, ids[rows + 2 + step], learned.top(rows + 1 + step))
            entropy = entropy + nats * (share * learned.count / len(rows))
            divergence_ = divergence_ + apart * (share * learned.with_top)
            kept = learned.kept(rows, step + 1)
            rows, states = rows[kept], states[kept]
            chains.keep(kept)
        return Loss(entropy, divergence_, learned.count, learned.with_top)

    def _step(self, states: Tensor, labels: Tensor, top: tuple[Tensor, Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """(cross-entropy, summed; divergence from the target's likeliest ids, its mean)."""
        scores = self.scores(self.body.norm(states))
        total = self.total(scores)
        entropy = -self.logprobs(scores, total, labels[:, None]).sum()
        if top is None or not len(top[0]):
            return entropy, torch.zeros(())
        which, ids, logprobs = top
        return entropy, divergence(self.logprobs(scores[which], total[which], ids), logprobs).mean()

    @torch.inference_mode()
    def chains(self, ids: Int32, start: int, places: Int32, states: Any, depth: int, top: int) -> tuple[float, Tensor]:
        """(cross-entropy of ids from `start` on, summed; int64[P, depth, top]: the likeliest ids of chains).

        Each chain begins after the token at its place, of its own likeliest ones. `states`: [L - 1, D] of the text.
        """
        text, where = torch.from_numpy(ids).long(), torch.from_numpy(places).long() - 1
        positions = torch.arange(len(text) - 1)
        mask = torch.ones(len(positions), len(positions)).tril().bool()
        chains = Chains(self.body, self.embedding[text[1:]], self.body.fc(_float(states)), positions, mask)
        found = chains.begin(positions)
        first = max(0, start - 2)
        scores = self.scores(self.body.norm(found[first:-1]))
        nats = -float(self.logprobs(scores, self.total(scores), text[first + 2 :, None]).sum())
        chains.keep(where)
        found, best = found[where], list[Tensor]()
        for step in range(1, depth + 1):
            likeliest = self.scores(self.body.norm(found)).topk(min(top, len(self.kept)), dim=1).indices
            best.append(self.kept[likeliest])
            found = chains.further(self.embedding[best[-1][:, 0]], found, where + step)
        return nats, torch.stack(best, dim=1)

    def own(self) -> dict[str, Float32]:
        """The weights that are trained."""
        return {name: one.detach().numpy().copy() for name, one in self.body.named_parameters()}

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""
        with torch.no_grad():
            for name, one in self.body.named_parameters():
                one.copy_(torch.from_numpy(own[name]))


def new_head(target: Target, training: HeadTraining, kept: Int32 | None, states: int) -> tuple[EagleHead, str]:
    """A head as it begins, and how: with random weights, but for `fc`, which hands on the highest states that it reads.

    These are nearest to what the output rows take, so that the head speaks from its first step on.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        config = {**target.config, "num_hidden_layers": training.layers}
        head = EagleHead(
            config, target.embedding, target.output, kept, states=states, unrolled=training.unrolled
        )  # fmt: skip
    width = target.embedding.shape[1]
    with torch.no_grad():
        head.body.fc.weight *= _LITTLE
        head.body.fc.weight[:, -width:] += torch.eye(width)
    return head, "random, with fc the highest states"


def _float(states: Any) -> Tensor:
    """float32 of what is kept in half precision."""
    return torch.from_numpy(states).float()


class _Learned:
    """Which rows of a window are learned from. Row t says token t + 2 + step at a step; all steps up to one before it
    must have said tokens of an answer too, of one piece.

    count, with_top   tokens of answers, and those with likeliest ids
    """

    def __init__(self, window: Window) -> None:
        size = len(window.ids)
        self._segment = torch.from_numpy(window.segment).long()
        self._says = torch.zeros(size, dtype=torch.bool)  # whether the token after this one is learned
        self._says[torch.from_numpy(window.rows).long()] = True
        self._place = torch.full((size,), -1)
        self._top: tuple[Tensor, Tensor] | None = None
        if window.top is not None:
            which, ids, logprobs = window.top
            self._place[torch.from_numpy(window.rows[which]).long()] = torch.arange(len(which))
            self._top = torch.from_numpy(ids).long(), torch.from_numpy(logprobs).float()
        self.count = len(window.rows)
        self.with_top = 0 if window.top is None else len(window.top[0])

    def rows(self, step: int, of: Tensor | None) -> Tensor:
        """int64[R]: those of `of` (None: all) that are learned from in a step."""
        rows = torch.arange(len(self._says)) if of is None else of
        return rows[self.kept(rows, step)]

    def kept(self, rows: Tensor, step: int) -> Tensor:
        """bool[R]: which of these are."""
        after = rows + 1 + step
        within = after < len(self._says)
        after = after.clamp(max=len(self._says) - 1)
        return within & self._says[after] & (self._segment[after] == self._segment[rows])

    def top(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """For tokens after these places: which of them have likeliest ids, these ids, and log probabilities."""
        if self._top is None:
            return None
        found = self._place[places]
        which = (found >= 0).nonzero()[:, 0]
        return which, self._top[0][found[which]], self._top[1][found[which]]
