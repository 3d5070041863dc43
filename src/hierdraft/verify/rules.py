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


def bias_sequences(pairs: Sequence[tuple[Sequence[int], float]]) -> Rule:
    """Add to the score of the last token of each sequence where the others stand before it; -inf forbids it."""
    singles = bias_tokens({tokens[0]: value for tokens, value in pairs if len(tokens) == 1})
    longer = [(np.array(tokens[:-1], dtype=np.int32), tokens[-1], value) for tokens, value in pairs if len(tokens) > 1]

    def rule(prefix: Int32, scores: Scores) -> Scores:
        scores = singles(prefix, scores)
        added: dict[int, float] = {}
        for before, last, value in longer:
            if len(before) <= len(prefix) and np.array_equal(prefix[-len(before) :], before):
                added[last] = added.get(last, 0.0) + value
        for token, value in added.items():
            scores[token] += value
        return scores

    return rule


def penalise_prompt(penalty: float, prompt_length: int) -> Rule:
    """`penalise_repetition` for tokens of the prompt only."""
    plain = penalise_repetition(penalty)
    return lambda prefix, scores: plain(prefix[:prompt_length], scores)


def no_repeated_ngram(size: int, prompt_length: int | None = None) -> Rule:
    """No `size` tokens in a row twice; with `prompt_length`, none that the prompt has."""

    def rule(prefix: Int32, scores: Scores) -> Scores:
        text = prefix[:prompt_length]
        windows = len(text) - size + 1
        before = prefix[len(prefix) - size + 1 :] if len(prefix) >= size - 1 else None
        if windows < 1 or before is None:
            return scores
        same = np.ones(windows, dtype=bool)
        for place in range(size - 1):
            same &= text[place : place + windows] == before[place]
        scores[text[size - 1 :][same]] = -np.inf
        return scores

    return rule


def ban_before(length: int, tokens: Sequence[int]) -> Rule:
    """None of `tokens` until the text, prompt and output, has `length` tokens."""
    return _at(lambda held: held < length, ban(tokens))


def ban_at(length: int, tokens: Sequence[int]) -> Rule:
    """None of `tokens` where the text, prompt and output, has `length` tokens."""
    return _at(lambda held: held == length, ban(tokens))


def force_at(length: int, tokens: Sequence[int]) -> Rule:
    """One of `tokens` where the text, prompt and output, has `length` tokens; the lowest where nothing is drawn."""

    def force(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
        scores[:] = -np.inf
        scores[list(tokens)] = 0
        return scores

    return _at(lambda held: held == length, force)


def _at(applies: Callable[[int], bool], what: Rule) -> Rule:
    return lambda prefix, scores: what(prefix, scores) if applies(len(prefix)) else scores


def likelier_end(start: int, factor: float, eos_ids: Sequence[int]) -> Rule:
    """After `start` tokens, prompt and output, raise the scores of `eos_ids`, by more with every token."""
    ids = list(eos_ids)

    def rule(prefix: Int32, scores: Scores) -> Scores:
        if len(prefix) > start:
            found = scores[ids]
            more = np.abs(found) * (np.float64(factor) ** (len(prefix) - start) - 1).astype(scores.dtype)
            scores[ids] = found + np.where(np.isfinite(found), more, 0)
        return scores

    return rule


def only_numbers(prefix: Int32, scores: Scores) -> Scores:  # noqa: ARG001
    """What is no number becomes 0, what is infinite the largest or smallest number."""
    most = np.finfo(scores.dtype).max
    return np.nan_to_num(scores, copy=False, nan=0.0, posinf=most, neginf=-most)
