"""KOALA's adversarial term (arXiv 2408.08146): a critic tells a head's predictions from the target's.

The paper's abstract has the idea, and no source that could be read has the critic's shape, its weight or its schedule:
these are ours. It is shown a prediction as the output row that is expected of it, over the likeliest ids, beside the
feature that it was made from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import leaky_relu, linear

WARM_UP = 0.2
"""Share of a training in which the head hears nothing of the critic."""

_WIDTH, _SLOPE = 256, 0.2
_SURE = 0.95
"""A critic that is right more often teaches nothing."""


class Critic(nn.Module):
    """Two layers over the feature and the expected output row, both [N, H]."""

    def __init__(self, width: int) -> None:
        """Weights are random."""
        super().__init__()
        self.first, self.second = nn.Linear(2 * width, _WIDTH), nn.Linear(_WIDTH, 1)

    def loss(self, features: Tensor, ours: Tensor, theirs: Tensor, weight: float) -> Tensor:
        """Summed over N: the critic's own, and `weight` times the head's, which wants to be taken for the target.

        ours, theirs   expected output rows [N, H] of the head and of the target
        """
        features, said = features.detach(), ours.detach()
        fake, real = self._told(features, said), self._told(features, theirs)
        own = cross_entropy(fake, torch.zeros_like(fake), reduction="sum")
        own = own + cross_entropy(real, torch.ones_like(real), reduction="sum")
        right = float(((fake < 0).sum() + (real > 0).sum()) / max(1, 2 * len(fake)))
        if weight == 0.0 or right > _SURE:
            return own
        fooled = self._told(features, ours, frozen=True)
        return own + weight * cross_entropy(fooled, torch.ones_like(fooled), reduction="sum")

    def _told(self, features: Tensor, expected: Tensor, *, frozen: bool = False) -> Tensor:
        """[N]: above 0 where it takes a prediction for the target's."""
        weights = [self.first.weight, self.first.bias, self.second.weight, self.second.bias]
        first, more, second, last = [one.detach() for one in weights] if frozen else weights
        found = leaky_relu(linear(torch.cat([features, expected], dim=-1), first, more), _SLOPE)
        return linear(found, second, last)[:, 0]


def expected(output: Tensor, places: Tensor, logprobs: Tensor) -> Tensor:
    """[N, H]: the mean of output rows at int64[N, k], -1 for none, weighed by natural log probabilities [N, k]."""
    weights = logprobs.exp() * (places >= 0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return (weights[:, :, None] * output[places.clamp(min=0)]).sum(1)
