"""What a drafter is worth on documents it was not trained on: loss, and agreement with what the target said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hierdraft.models.drafter_files import Float32
from hierdraft.training.documents import Document
from hierdraft.training.rows import Loss
from hierdraft.training.windows import Window, shortened
from hierdraft.tree import Int32

DEPTH = 6
"""Tokens of a chain of drafts."""

TOPS = (1, 3, 8)

_DOCUMENTS = 128
_PLACES = 16
"""Chains in each document at most."""


class Student(Protocol):
    """What is trained."""

    @property
    def body(self) -> torch.nn.Module:
        """Holds its parameters."""

    def loss(self, window: Window, done: float) -> Loss:
        """Of one window; `done`: how much of the training is, from 0 to 1."""

    def chains(self, ids: Int32, start: int, places: Int32, states: Any, depth: int, top: int) -> tuple[float, Tensor]:
        """(cross-entropy of ids from `start` on, summed; int64[P, depth, k]: likeliest ids of chains, best first).

        ids      int32[L]: a text; places int32[P]: after which of its tokens chains begin, each below L - depth
        states   float16[L - 1, D]: the target's hidden states, for students that read them
        top      how many of the likeliest at most: k is less where the student has fewer ids
        """

    def own(self) -> dict[str, Float32]:
        """The weights that are trained, by the names that they are stored under."""

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Those of `body`."""

    def train(self, mode: bool = True) -> Any:
        """As torch's modules."""

    def eval(self) -> Any:
        """As torch's modules."""


@dataclass(frozen=True)
class Agreement:
    """Counts over held-out documents.

    documents, tokens   how many were looked at, and the tokens of answers in them
    nats                their cross-entropy, summed
    agreed              int64[DEPTH, len(TOPS)]: in how many chains the target's own token is among the likeliest 1, 3
                        and 8 of the drafter, after the text alone (depth 1) and after its own drafts (2 and deeper,
                        whether these agree or not)
    chains              how many, each the drafter's own likeliest tokens
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
    student: Student, documents: Sequence[Document], window: int, seed: int,
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
        states = None if one.states is None else one.states.read(0, len(ids) - 1)
        found, best = student.chains(ids, one.start, places, states, DEPTH, max(TOPS))
        ranks = _ranks(best, ids, places)
        nats, tokens, chains = nats + found, tokens + len(ids) - one.start, chains + len(places)
        agreed += np.stack([(ranks < k).sum(axis=0) for k in TOPS], axis=1)
        accepted += int(np.cumprod(ranks == 0, axis=1).sum())
    report(len(chosen), len(chosen))
    return Agreement(len(chosen), tokens, nats, agreed, chains, accepted)


def _ranks(best: Tensor, ids: Int32, places: Int32) -> Any:
    """int64[P, DEPTH]: at which rank chains have the text's own token; `max(TOPS)`, not among them.

    best   int64[P, DEPTH, k]: the likeliest of each place, best first
    """
    wanted = torch.from_numpy(ids[places[:, None] + np.arange(1, DEPTH + 1)]).long()
    same = best == wanted[:, :, None]
    return torch.where(same.any(2), same.long().argmax(2), torch.full(wanted.shape, max(TOPS))).numpy()
