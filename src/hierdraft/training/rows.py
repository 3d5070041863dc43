"""What students of a target have in common: its output rows, of which they use some, and losses over them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hierdraft.tree import Int32


class Loss(NamedTuple):
    """Sums over N tokens, in nats: the cross-entropy, and the divergence from the target's likeliest ids."""

    entropy: Tensor
    divergence: Tensor
    rows: int
    with_top: int


class OutputRows(nn.Module):
    """The target's output rows, which stay as they are.

    Rows that were left out count as rows of zeros: their logits are 0, so that the law of the next token is one over
    all ids, and the composed model has the same.
    """

    def __init__(self, output: Tensor, kept: Int32 | None) -> None:
        """`output`: float32[V, H]; `kept`: int32[K], rising: the rows that are used; None: all."""
        super().__init__()
        self.kept = torch.arange(len(output)) if kept is None else torch.from_numpy(kept).long()
        self.output = output if kept is None else output[self.kept].contiguous()
        self.others = len(output) - len(self.kept)
        self.places = torch.full((len(output),), -1)
        self.places[self.kept] = torch.arange(len(self.kept))

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
