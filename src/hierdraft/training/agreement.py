"""What a drafter is worth on documents it was not trained on: loss, and agreement with what the target said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierdraft.training.documents import Document
from hierdraft.training.drafter import Drafter
from hierdraft.training.windows import shortened
from hierdraft.tree import Int32

DEPTH = 6
"""Tokens of a chain of drafts."""

TOPS = (1, 3, 8)

_DOCUMENTS = 128
_PLACES = 16
"""Chains in each document at most."""


@dataclass(frozen=True)
class Agreement:
    """Counts over held-out documents.

    documents, tokens   how many were looked at, and the tokens of answers in them
    nats                their cross-entropy, summed
    agreed              int64[DEPTH, len(TOPS)]: in how many chains the target's own token is among the likeliest 1, 3
                        and 8 of the drafter, after the text alone (depth 1) and after its own drafts (2 and deeper,
                        whether these agree or not)
    chains              how many
    accepted            tokens of chains before the first that is not the target's, summed
    """

    documents: int
    tokens: int
    nats: float
    agreed: Any
    chains: int
    accepted: int

    def record(self) -> dict[str, Any]:
        """As training.json has it."""
        share = self.agreed / max(1, self.chains)
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "loss": round(self.nats / max(1, self.tokens), 4),
            "chains": self.chains,
            "agreement": {
                str(depth + 1): {f"top{k}": round(float(share[depth, n]), 4) for n, k in enumerate(TOPS)}
                for depth in range(DEPTH)
            },
            "accepted_length": round(1.0 + self.accepted / max(1, self.chains), 4),
        }


def measure(
    drafter: Drafter, documents: Sequence[Document], window: int, seed: int,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Agreement:  # fmt: skip
    """Over `_DOCUMENTS` of them, drawn by the seed, with `_PLACES` chains in each; texts are cut to a window."""
    drawn = np.random.default_rng([seed, 3])
    chosen = [documents[number] for number in drawn.permutation(len(documents))[:_DOCUMENTS]]
    agreed = np.zeros((DEPTH, len(TOPS)), dtype=np.int64)
    tokens = chains = accepted = 0
    nats = 0.0
    for number, whole in enumerate(chosen):
        report(number, len(chosen))
        one = shortened(whole, window)
        ids = one.ids[:window]
        if len(ids) <= one.start:
            continue
        possible = np.arange(one.start - 1, len(ids) - DEPTH)
        places = np.sort(drawn.permutation(possible)[:_PLACES]).astype(np.int32)
        found, ranks = chains_of(drafter, ids, one.start, places)
        nats, tokens, chains = nats + found, tokens + len(ids) - one.start, chains + len(places)
        agreed += np.stack([(ranks < k).sum(axis=0) for k in TOPS], axis=1)
        accepted += int(np.cumprod(ranks == 0, axis=1).sum())
    report(len(chosen), len(chosen))
    return Agreement(len(chosen), tokens, nats, agreed, chains, accepted)


@torch.inference_mode()
def chains_of(drafter: Drafter, ids: Int32, start: int, places: Int32) -> tuple[float, Any]:
    """(cross-entropy of ids from `start` on, summed; int64[P, DEPTH]: at which rank each chain has the target's token).

    ids      int32[L]: a text; places int32[P]: after which of its tokens chains begin, each below L - DEPTH

    Every chain is the drafter's own likeliest tokens. All are drafted at a time: a row sees the text up to its place,
    and the rows of its chain. A rank is that among the rows that the drafter has, `max(TOPS)` or more: not among them.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    text = torch.from_numpy(ids).long()
    length, count = len(text), len(places)
    mask = torch.ones(length, length).tril().bool()
    states = drafter.hidden(text, torch.arange(length), mask, cache)
    scores = drafter.scores(states[start - 1 : -1])
    nats = -float(drafter.logprobs(scores, drafter.total(scores), text[start:, None]).sum())
    if not count:
        return nats, np.zeros((0, DEPTH), dtype=np.int64)
    where = torch.from_numpy(places).long()
    seen = torch.arange(length)[None] <= where[:, None]
    rows = torch.eye(count).bool()
    states, ranks = states[where], []
    for depth in range(1, DEPTH + 1):
        best = drafter.scores(states).topk(min(max(TOPS), len(drafter.kept)), dim=1).indices
        ranks.append(_ranks(drafter.kept[best], text[where + depth]))
        if depth < DEPTH:
            mask = torch.cat([seen, *([rows] * depth)], dim=1)
            states = drafter.hidden(drafter.kept[best[:, 0]], where + depth, mask, cache)
    return nats, torch.stack(ranks, dim=1).numpy()


def _ranks(best: Tensor, wanted: Tensor) -> Tensor:
    """int64[P]: where `wanted` int64[P] stands in `best` int64[P, k], k where it does not."""
    same = best == wanted[:, None]
    return torch.where(same.any(1), same.long().argmax(1), torch.full((len(best),), max(TOPS)))
