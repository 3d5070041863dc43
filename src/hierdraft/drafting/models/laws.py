"""From a row of a drafter's scores to the tokens that it drafts: the likeliest, or some that are drawn from its law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierdraft.protocols import Engine, RequestSampling, Scores
from hierdraft.scoring import Array
from hierdraft.tree import DraftLaw, Int32

Probabilities = NDArray[np.float64]

KEPT = 64
"""Likeliest tokens that a law is made of: what is left out could only be drafted rarely."""


class Shaper:
    """Shapes a drafter's rows as the request shapes the target's, so that both laws are alike.

    Any law is as good as another for the output's distribution, as long as it is the one that was drawn from.
    """

    def __init__(
        self, sampling: RequestSampling | None, vocab_size: int, *, replacement: bool, ids: Int32 | None = None
    ) -> None:
        """For rows of a target that has `vocab_size` ids; None: greedy, without rules.

        ids  int32[W], what the columns of the drafter's rows are of; None: ids from 0 on
        """
        self.sampling = sampling or RequestSampling()
        self._vocab_size = vocab_size
        self._replacement = replacement
        self._ids = ids

    def scores(self, row: Scores, prefix: Int32) -> Scores | None:
        """float[V] after the request's rules; None where one of them raises, or forbids everything.

        row     float[W], the drafter's own; W may be another number than V
        prefix  int32[L], the text that the row continues
        """
        if self._ids is not None:
            whole = np.full(max(self._vocab_size, int(self._ids[-1]) + 1), -np.inf, dtype=row.dtype)
            whole[self._ids] = row
            row = whole
        if len(row) < self._vocab_size:
            row = np.append(row, np.full(self._vocab_size - len(row), -np.inf, dtype=row.dtype))
        row = row[: self._vocab_size].copy() if self.sampling.rules else row[: self._vocab_size]
        try:
            for rule in self.sampling.rules:
                row = rule(prefix, row)
        except Exception:  # noqa: BLE001 - a caller's grammar may raise for a text that will never be said
            return None
        return row if row.max() > -np.inf else None

    def best(self, row: Scores, prefix: Int32, most: int) -> tuple[list[int], list[float]]:
        """At most `most` of the likeliest tokens, best first, and how likely the drafter finds each."""
        scores = self.scores(row, prefix)
        if scores is None:
            return [], []
        ids = _highest(scores, most)
        wide = scores.astype(np.float64) - float(scores[ids[0]])
        return ids.tolist(), (np.exp(wide[ids]) / np.exp(wide).sum()).tolist()

    def law(self, row: Scores, prefix: Int32) -> DraftLaw | None:
        """What tokens are drawn from: temperature, top_k, top_p and min_p applied to the likeliest tokens."""
        scores = self.scores(row, prefix)
        if scores is None:
            return None
        sampling = self.sampling
        ids = _highest(scores, min(sampling.top_k, KEPT) if sampling.top_k else KEPT)
        prob = _softmax(scores[ids].astype(np.float64) / sampling.temperature)
        if sampling.top_p < 1.0:
            prob[np.cumsum(prob) - prob >= sampling.top_p] = 0.0
        prob[prob < sampling.min_p * prob[0]] = 0.0
        order = np.argsort(ids)
        order = order[prob[order] > 0.0]
        return DraftLaw(ids[order], prob[order] / prob[order].sum(), self._replacement)


def draw(law: DraftLaw, count: int, chance: np.random.Generator) -> list[int]:
    """`count` tokens in the order in which they were drawn; fewer where no more can be, without replacement.

    Without replacement: the earliest of exponential clocks whose rates are the probabilities (Efraimidis and Spirakis
    2006), which come in the order of draws one after another.
    """
    if law.replacement:
        sums = np.cumsum(law.prob)
        places = np.searchsorted(sums, chance.random(count) * sums[-1], side="right").clip(max=len(sums) - 1)
    else:
        possible = np.flatnonzero(law.prob)
        clocks = np.log(chance.standard_exponential(len(possible))) - np.log(law.prob[possible])
        places = possible[np.argsort(clocks, kind="stable")[:count]]
    tokens: list[int] = law.ids[places].tolist()
    return tokens


def likeliest(engine: Engine, logits: Array, k: int) -> tuple[Int32, NDArray[np.float32]]:
    """For each of R rows of an engine's logits the k highest ids, best first, and their natural log probabilities."""
    ids = engine.top_ids(logits, k)
    logprobs = np.empty(ids.shape, dtype=np.float32)
    for row, best in enumerate(ids):
        values = np.asarray(engine.values(logits, row), dtype=np.float32)
        highest = values[best[0]]
        logprobs[row] = values[best] - highest - np.log(np.exp(values - highest).sum())
    return ids, logprobs


def _highest(scores: Scores, most: int) -> Int32:
    """The ids of the highest scores, best first, the lowest id first among equals; none that is -inf."""
    count = min(most, len(scores))
    ids = np.argpartition(-scores, count - 1)[:count]
    ids = ids[scores[ids] > -np.inf]
    return ids[np.lexsort((ids, -scores[ids]))].astype(np.int32)


def _softmax(scores: Probabilities) -> Probabilities:
    weights = np.exp(scores - scores.max())
    law: Probabilities = weights / weights.sum()
    return law
