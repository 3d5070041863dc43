"""What is done to a row of logits before its token is chosen, in the order of transformers.

Every rule takes the row's own prefix (int32[L]: prompt, output and the path down to the row) and its scores float[V],
which it may change in place, and returns the scores. -inf means that a token cannot be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import Int32

Scores = NDArray[Any]
Rule = Callable[[Int32, Scores], Scores]

_FEW = 512


def bias_tokens(bias: Mapping[int, float]) -> Rule:
    """Add to the scores of single tokens."""
    ids, values = list(bias), list(bias.values())

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        scores[ids] += values
        return scores

    return rule


def penalise_repetition(penalty: float) -> Rule:
    """Divide positive scores of tokens of the prompt and output, multiply negative ones (CTRL, 1909.05858)."""

    def rule(prefix: Int32, scores: Scores) -> Scores:
        seen = scores[prefix]
        scores[prefix] = np.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    return rule


def penalise_presence(presence: float, frequency: float, prompt_length: int) -> Rule:
    """Lower tokens of the output: by `presence` if they stand there, by `frequency` for each time they do."""

    def rule(prefix: Int32, scores: Scores) -> Scores:
        ids, counts = np.unique(prefix[prompt_length:], return_counts=True)
        scores[ids] -= presence + frequency * counts
        return scores

    return rule


def ban(tokens: Sequence[int]) -> Rule:
    """Never these tokens."""
    ids = list(tokens)

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        scores[ids] = -np.inf
        return scores

    return rule


def heat(temperature: float) -> Rule:
    """Divide by a temperature > 0."""

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        scores /= temperature
        return scores

    return rule


def keep_top_k(k: int) -> Rule:
    """Only the `k` highest scores, and those equal to the last of them."""

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        if k < len(scores):
            scores[scores < np.partition(scores, -k)[-k]] = -np.inf
        return scores

    return rule


def keep_top_p(p: float) -> Rule:
    """Only the smallest set of likeliest tokens that together have at least probability `p` (Holtzman, 1904.09751)."""

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        if scores.max() == -np.inf:
            return scores
        weights = np.exp(scores - scores.max(), dtype=np.float64)
        wanted = p * weights.sum()
        few = min(_FEW, len(weights))
        while True:
            likeliest = np.argpartition(weights, -few)[-few:] if few < len(weights) else np.arange(len(weights))
            likeliest = likeliest[np.lexsort((likeliest, -weights[likeliest]))]
            before = np.cumsum(weights[likeliest]) - weights[likeliest]
            if before[-1] >= wanted or few == len(weights):
                break
            few = min(16 * few, len(weights))
        left = np.full_like(scores, -np.inf)
        kept = likeliest[: max(1, int(np.searchsorted(before, wanted, side="left")))]
        left[kept] = scores[kept]
        return left

    return rule


def keep_min_p(p: float) -> Rule:
    """Only tokens at least `p` times as likely as the likeliest (Nguyen et al., 2407.01082)."""

    def rule(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        scores[scores < scores.max() + np.log(p)] = -np.inf
        return scores

    return rule
