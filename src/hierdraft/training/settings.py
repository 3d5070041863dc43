"""What a training is told, and what of it makes two trainings the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from hierdraft.errors import UsageError
from hierdraft.models.drafter_files import AMONG, EXIT, FORMS, MOST_LOOPS, MOST_OFFSETS, Head

INITS = ("layers", "random")

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Training:
    """A small Llama of the target's width between the target's own embeddings, which stay as they are.

    layers         how many
    init           `layers`: copies of the target's first and last, and of some between them; `layers:0,29`: of these;
                   `random`; None: `layers` where the target's have the form of Llama's, else `random`
    rows           the most frequent ids of the data that are worth an output row, special ids always; 0: all ids
    distill        share of the loss that is the divergence from the target's likeliest ids, where the data has them
    window         most tokens that are trained together; a longer document is cut
    batch          windows per step
    learning_rate  at its highest, after the warm-up
    held_out       share of the documents that it is measured on and not trained on
    seed           of the first weights, the split and the order
    weights        of the stored layers: one of FORMS
    logprobs       of the target's likeliest ids at every token of the answers, which it is asked for where the data has
                   them not; 0: it is not asked
    sampled        output rows that stand for all those that a step's loss does not ask for; 0: all are computed
    loops          times that its layers are gone through, one after another; it learns to speak after each
    dtype          of matrix products, the target's among them: one of DTYPES; weights and sums stay in float32
    """

    layers: int = 2
    init: str | None = None
    rows: int = 16384
    distill: float = 0.5
    window: int = 512
    batch: int = 4
    learning_rate: float = 1e-3
    held_out: float = 0.03
    seed: int = 0
    weights: str = "float16"
    logprobs: int = 0
    sampled: int = 512
    loops: int = 1
    dtype: str = "float32"

    def check(self) -> None:
        """Raises UsageError for what cannot be."""
        if self.weights not in FORMS:
            raise UsageError(f"--weights must be {' or '.join(FORMS)}, not {self.weights!r}.")
        if not 0.0 <= self.distill <= 1.0:
            raise UsageError(f"--distill must be from 0 to 1, not {self.distill}.")
        if not 0.0 < self.held_out < 1.0:
            raise UsageError(f"--held-out must be between 0 and 1, not {self.held_out}.")
        if not 0.0 < self.learning_rate < 1.0:
            raise UsageError(f"--learning-rate must be between 0 and 1, not {self.learning_rate}.")
        if self.logprobs and not self.distill:
            raise UsageError("--logprobs are of no use with --distill 0.")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"--seed must be from 0 to 2^64 - 1, not {self.seed}.")
        if not 1 <= self.loops <= MOST_LOOPS:
            raise UsageError(f"--loops must be from 1 to {MOST_LOOPS}, not {self.loops}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype must be {' or '.join(DTYPES)}, not {self.dtype!r}.")
        self.copied(1 << 30)

    def copied(self, count: int) -> list[int] | None:
        """Which of the target's `count` layers are copied, None for random weights. Raises UsageError."""
        kind, colon, numbers = (self.init or "layers").partition(":")
        if kind not in INITS or (colon and kind != "layers"):
            raise UsageError(f"--init must be random, layers or layers:0,29 and so on, not {self.init!r}.")
        if kind == "random":
            return None
        if not colon:
            last = count - 1
            return [last] if self.layers == 1 else [round(n * last / (self.layers - 1)) for n in range(self.layers)]
        if not all(number.isdecimal() and int(number) < count for number in numbers.split(",")):
            raise UsageError(f"--init {self.init}: the target's layers are numbered from 0 to {count - 1}.")
        chosen = [int(number) for number in numbers.split(",")]
        if len(chosen) != self.layers:
            raise UsageError(f"--init {self.init} names {len(chosen)} layers and the drafter has {self.layers}.")
        return chosen


class Usual(NamedTuple):
    """What a kind of head has where nothing else is said: see `HeadTraining`."""

    layers: int = 1
    unrolled: int = 6
    adversarial: float = 0.0


KINDS = {
    "eagle3": Usual(unrolled=4), "koala": Usual(2, 4, 0.1), "parallel": Usual(), "block": Usual(2), "coral": Usual(),
    EXIT: Usual(unrolled=1),
}  # fmt: skip
"""Heads that can be trained."""


@dataclass(frozen=True)
class HeadTraining(Training):
    """A head that reads hidden states of the target, between the target's own embeddings.

    kind         one of KINDS
    states       the layers whose states it reads; empty: the second, the middle one and the third but last
    unrolled     steps ahead that it is trained for: on its own features after the first, or in one call
    adversarial  weight of what a critic says of it, in the cross-entropy's part of the loss
    """

    layers: int = 1
    kind: str = "eagle3"
    states: tuple[int, ...] = ()
    unrolled: int = 4
    adversarial: float = 0.0

    def check(self) -> None:
        """Raises UsageError for what cannot be."""
        super().check()
        if self.kind not in KINDS:
            raise UsageError(f"--kind must be {', '.join(KINDS)}, not {self.kind!r}.")
        if not 1 + (self.kind in AMONG) <= self.unrolled <= MOST_OFFSETS:
            raise UsageError(f"--unrolled must be from {1 + (self.kind in AMONG)} to {MOST_OFFSETS} for {self.kind}.")
        if not 0.0 <= self.adversarial <= 1.0:
            raise UsageError(f"--adversarial must be from 0 to 1, not {self.adversarial}.")
        if self.adversarial and (self.kind not in ("eagle3", "koala") or not self.logprobs):
            raise UsageError("--adversarial is for heads of the kinds eagle3 and koala, with --logprobs.")
        if self.kind == EXIT and (self.unrolled, self.layers) != (1, 1):
            raise UsageError("Exits have no layers of their own and say one token: --layers 1 and --unrolled 1.")

    def copied(self, count: int) -> list[int] | None:  # noqa: ARG002 - a head has layers of its own
        """None of them; `init` is the name of a head, or its folder."""
        return None

    def head(self, states: tuple[int, ...]) -> Head:
        """What the drafter's folder says of it; `states`: what it has read."""
        return Head(self.kind, states, self.unrolled if self.kind in AMONG else 1)

    def reads(self, count: int) -> tuple[int, ...]:
        """Which of the target's `count` layers are read. Raises UsageError for those that it does not have."""
        if not self.states and self.kind == EXIT:
            return tuple(sorted({max(1, round(count * part / 5)) for part in range(1, 5)}))
        if not self.states:
            return tuple(sorted({min(2, count), max(1, count // 2), max(1, count - 3)}))
        wrong = [layer for layer in self.states if not 0 <= layer <= count]
        if wrong or len(set(self.states)) < len(self.states):
            raise UsageError(f"--states must be different layers from 0 to {count}, not {list(self.states)}.")
        return self.states


@dataclass(frozen=True)
class Limits:
    """When a training is over: at the first of these that is reached. They may change when it is resumed."""

    epochs: float | None = None
    minutes: float | None = None
    steps: int | None = None

    def check(self) -> None:
        """Raises UsageError where there is none, or one that is not above 0."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        for name, value in given.items():
            if not value > 0:
                raise UsageError(f"--{name} must be above 0, not {value}.")
        if not given:
            raise UsageError("Say when to end: --epochs, --minutes or --steps.")

    def progress(self, steps: int, seconds: float, steps_per_epoch: int) -> float:
        """How much of the training is done, from 0 to 1, after so many steps and seconds."""
        shares = [0.0]
        if self.epochs is not None:
            shares.append(steps / max(1.0, self.epochs * steps_per_epoch))
        if self.steps is not None:
            shares.append(steps / self.steps)
        if self.minutes is not None:
            shares.append(seconds / (60.0 * self.minutes))
        return min(1.0, max(shares))


def identity(training: Training, data: str, target: str) -> str:
    """What a checkpoint belongs to: the settings but for how the end is stored, the documents, the target's embeddings.

    data, target   digests of them
    """
    parts: dict[str, Any] = {**asdict(training), "data": data, "target": target}
    del parts["weights"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
