"""What students of a target have in common: its output rows, of which they use some, and losses over them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hierdraft.training.precision import OUTPUTS, filled, room
from hierdraft.training.windows import Window
from hierdraft.tree import Int32


class Loss(NamedTuple):
    """Sums over N tokens, in nats: the cross-entropy, and the divergence from the target's likeliest ids."""

    entropy: Tensor
    divergence: Tensor
    rows: int
    with_top: int


class Rows:
    """Some of a target's output rows, and the law over all ids that they give."""

    def __init__(self, output: Tensor, places: Tensor, others: Tensor) -> None:
        """
        output   float32[S, H]
        places   int64[V]: at which of them an id is; -1: it has none, and its logit is 0
        others   float32[S + 1]: logarithms of how many ids each row stands for in what a softmax divides by, and how
                 many there are with a logit of 0
        """
        self.output, self.places, self.others = output, places, others

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits float32[T, S]."""
        return (filled(hidden) @ self.output.T)[: len(hidden)].float()

    def total(self, scores: Tensor) -> Tensor:
        """float32[T]: the logarithm of what a softmax over all ids divides by."""
        return torch.logaddexp((scores + self.others[:-1]).logsumexp(-1), self.others[-1])

    def logprobs(self, scores: Tensor, total: Tensor, ids: Tensor) -> Tensor:
        """float32[T, k]: the log probabilities of ids int64[T, k]."""
        places = self.places[ids]
        found = scores.gather(1, places.clamp(min=0))
        return torch.where(places >= 0, found, torch.zeros(())) - total[:, None]


class OutputRows(nn.Module):
    """The target's output rows, which stay as they are.

    Rows that were left out count as rows of zeros: their logits are 0, so that the law of the next token is one over
    all ids, and the composed model has the same.
    """

    def __init__(self, output: Tensor, kept: Int32 | None, sampled: int = 0) -> None:
        """
        output    float32[V, H]
        kept      int32[K], rising: the rows that are used; None: all
        sampled   how many stand for those that a window's loss does not ask for; 0: all do
        """
        super().__init__()
        self._sampled = sampled
        self.kept = torch.arange(len(output)) if kept is None else torch.from_numpy(kept).long()
        places = torch.full((len(output),), -1)
        places[self.kept] = torch.arange(len(self.kept))
        left_out = torch.tensor([float(len(output) - len(self.kept))]).log()
        every = torch.cat([torch.zeros(len(self.kept)), left_out])
        self.rows = Rows(output if kept is None else output[self.kept].contiguous(), places, every)

    def rows_of(self, window: Window) -> Rows:
        """Those that the loss of a window is taken over: the same for the same window."""
        if not self._sampled:
            return self.rows
        wanted = window.labels if window.top is None else np.concatenate([window.labels, window.top[1].ravel()])
        return self.some(torch.from_numpy(wanted).long(), self._sampled, zlib.crc32(window.ids.tobytes()))

    def loss_of(self, window: Window, said: Sequence[Tensor]) -> Loss:
        """Of a window: the mean over `said`, each [N, H] of the N places after which a token is learned."""
        output, labels = self.rows_of(window), torch.from_numpy(window.labels).long()
        entropy = apart = torch.zeros(())
        for states in said:
            scores = output.scores(states)
            total = output.total(scores)
            entropy = entropy - output.logprobs(scores, total, labels[:, None]).sum() / len(said)
            if window.top is None:
                continue
            which, ids, logprobs = (torch.from_numpy(one) for one in window.top)
            ours = output.logprobs(scores[which.long()], total[which.long()], ids.long())
            apart = apart + divergence(ours, logprobs.float()).sum() / len(said)
        return Loss(entropy, apart, len(labels), 0 if window.top is None else len(window.top[0]))

    def some(self, wanted: Tensor, count: int, seed: int) -> Rows:
        """Those of ids int64[N], and `count` of all others, which then stand for all others.

        What a softmax divides by is then right on average: sampled softmax (Jean et al., arXiv 1412.2007, section 3).
        """
        own = torch.zeros(len(self.kept), dtype=torch.bool)
        places = self.rows.places[wanted]
        own[places[places >= 0]] = True
        others = (~own).nonzero()[:, 0]
        asked = int(own.sum())
        count = room(asked + count, OUTPUTS) - asked
        if count >= len(others):
            return self.rows
        drawn = torch.from_numpy(np.random.default_rng(seed).choice(len(others), count, replace=False))
        chosen = torch.cat([own.nonzero()[:, 0], others[drawn]])
        found = torch.full_like(self.rows.places, -1)
        found[self.kept[chosen]] = torch.arange(len(chosen))
        weights = torch.zeros(len(chosen) + 1)
        weights[-1], weights[-1 - count : -1] = self.rows.others[-1], math.log(len(others) / count)
        return Rows(self.rows.output[chosen], found, weights)


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
