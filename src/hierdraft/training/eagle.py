"""An EAGLE-3-like head while it is trained (Li et al., arXiv 2503.01840): layers that read the target's mind.

At every token of a text it is given what the target thought there (hidden states of some of its layers, fused to one
feature by `fc`) and which token came next, and says which one comes after that. In a draft the target has not thought
yet: there the feature is what came out of the head's own layer at the token before. So that it can live with that, it
is trained on its own features too, several steps ahead (the paper's training-time test).

Names of weights are those of the formats in use (speculators, SpecForge).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hierdraft.models.drafter_files import Float32
from hierdraft.training.critic import WARM_UP, Critic, expected
from hierdraft.training.eagle_body import Chains, EagleBody
from hierdraft.training.learned import Learned
from hierdraft.training.precision import filled
from hierdraft.training.rows import Loss, OutputRows, Rows, divergence
from hierdraft.training.windows import Window, mask_of
from hierdraft.tree import Int32

_LITTLE = 0.1
_CRITIC = "critic."

FADE = 0.8
"""Weight of the loss of each further step, of the one before."""


class EagleHead(OutputRows):
    """Its parameters are `body`'s; embeddings and output rows are the target's and stay."""

    def __init__(
        self, config: Mapping[str, Any], embedding: Tensor, output: Tensor, kept: Int32 | None, *, states: int,
        unrolled: int, sampled: int = 0, adversarial: float = 0.0,
    ) -> None:  # fmt: skip
        """
        config     of a Llama as wide as the target, with the head's own layers; weights are random, as the state of
                   torch's generator is
        embedding  float32[V, H]; `output` likewise; `kept` int32[K], rising: the output rows that are used; None: all
        states     how many hidden states it reads at a token
        unrolled   steps ahead that it is trained for
        sampled    see `OutputRows`
        adversarial   weight of KOALA's term in the loss; 0: there is none
        """
        super().__init__(output, kept, sampled)
        from transformers import LlamaConfig

        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        self.body = EagleBody(LlamaConfig(**{**config, **ids}), states)
        self.embedding, self.unrolled, self.adversarial = embedding, unrolled, adversarial
        if adversarial:
            self.body.critic = Critic(embedding.shape[1])

    def loss(self, window: Window, done: float) -> Loss:
        """Of one window, over all steps: the mean of each, the nearer ones with more weight, times its tokens."""
        text, learned, output = Text(self, window), Learned(window), self.rows_of(window)
        entropy = divergence_ = torch.zeros(())
        weights = [FADE**step for step in range(self.unrolled)]
        for step, (rows, states) in enumerate(self._steps(text, learned)):
            share = weights[step] / sum(weights)
            top = learned.top(rows + 1 + step)
            scores = output.scores(self.body.norm(states))
            total = output.total(scores)
            nats = -output.logprobs(scores, total, text.ids[rows + 2 + step, None]).sum()
            entropy = entropy + nats * (share * learned.count / len(rows))
            if top is None or not len(top[0]):
                continue
            which, ids, logprobs = top
            apart = divergence(output.logprobs(scores[which], total[which], ids), logprobs).mean()
            divergence_ = divergence_ + apart * (share * learned.with_top)
            if self.adversarial and step == 0:
                said = text.features[rows[which]], scores[which], ids, logprobs
                entropy = entropy + self._fooling(output, said, done) * (learned.count / len(which))
        return Loss(entropy, divergence_, learned.count, learned.with_top)

    def _steps(self, text: Text, learned: Learned) -> Iterator[tuple[Tensor, Tensor]]:
        """Of every step: rows of the text int64[R], none where there are no more, and what comes out below them."""
        asked, states, chains = learned.rows(), torch.empty(0), text.chains(self)
        rows, count = filled(asked), len(asked)
        for step in range(self.unrolled):
            if not count:
                return
            came, where = self.embedding[text.ids[rows + 1 + step]], text.positions[rows] + step
            states = chains.further(came, states, where) if step else chains.begin(rows)
            yield rows[:count], states[:count]
            asked = learned.kept(rows[:count], step + 1).nonzero()[:, 0]
            kept, count = filled(asked), len(asked)
            rows, states = rows[kept], states[kept]
            chains.keep(kept)

    def _fooling(self, output: Rows, said: tuple[Tensor, Tensor, Tensor, Tensor], done: float) -> Tensor:
        """KOALA's term, summed over N rows: features [N, H], scores [N, S], the target's likeliest ids and logprobs."""
        features, scores, ids, logprobs = said
        best = scores.topk(ids.shape[1], dim=-1)
        ours = expected(output.output, best.indices, best.values.log_softmax(-1))
        theirs = expected(output.output, output.places[ids], logprobs)
        weight = self.adversarial * min(1.0, max(0.0, done - WARM_UP) / WARM_UP)
        critic: Any = self.body.critic
        found: Tensor = _LITTLE * critic.loss(features, ours, theirs, weight / _LITTLE)
        return found

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
        scores = self.rows.scores(self.body.norm(found[first:-1]))
        nats = -float(self.rows.logprobs(scores, self.rows.total(scores), text[first + 2 :, None]).sum())
        chains.keep(where)
        return nats, self._chained(chains, where, found[where], depth, top)

    def _chained(self, chains: Chains, where: Tensor, found: Tensor, depth: int, top: int) -> Tensor:
        """int64[P, depth, top]: the likeliest of chains below rows int64[P] of the text, of which [P, H] came out."""
        best = list[Tensor]()
        for step in range(1, depth + 1):
            best.append(self._likeliest(found, top))
            if step < depth:
                found = chains.further(self.embedding[best[-1][:, 0]], found, where + step)
        return torch.stack(best, dim=1)

    def _likeliest(self, states: Tensor, top: int) -> Tensor:
        """int64[..., top]: ids, best first, of what came out."""
        scores = self.rows.scores(self.body.norm(states))
        return self.kept[scores.topk(min(top, len(self.kept)), dim=-1).indices]

    def own(self) -> dict[str, Float32]:
        """The weights that are trained, without the critic's."""
        named = self.body.named_parameters()
        return {name: one.detach().numpy().copy() for name, one in named if not name.startswith(_CRITIC)}

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""
        with torch.no_grad():
            parameters = dict(self.body.named_parameters())
            for name, values in own.items():
                parameters[name].copy_(torch.from_numpy(values))


def _float(states: Any) -> Tensor:
    """float32 of what is kept in half precision."""
    return torch.from_numpy(states).float()


class Text:
    """A window: ids and positions int64[W], what goes in beside its tokens [W, H], which of them sees which."""

    def __init__(self, head: EagleHead, window: Window) -> None:
        """Those of one window."""
        self.ids, self.positions = (torch.from_numpy(one).long() for one in (window.ids, window.positions))
        self.features: Tensor = head.body.fc(_float(window.states)).float()
        self._mask = torch.from_numpy(mask_of(window.segment))

    def chains(self, head: EagleHead) -> Chains:
        """None has begun."""
        return Chains(head.body, head.embedding[self.ids.roll(-1)], self.features, self.positions, self._mask)
