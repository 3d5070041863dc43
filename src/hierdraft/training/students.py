"""What a training begins with."""

from __future__ import annotations

from typing import Any

import torch

from hierdraft.models.drafter_files import AMONG, EXIT
from hierdraft.models.drafters import tensor_of
from hierdraft.training.agreement import Student
from hierdraft.training.block import BlockHead
from hierdraft.training.drafter import new_drafter
from hierdraft.training.eagle import EagleHead
from hierdraft.training.exits import ExitHeads
from hierdraft.training.settings import HeadTraining, Training
from hierdraft.training.target import Target
from hierdraft.tree import Int32

_LITTLE = 0.1


def new_student(target: Target, training: Training, kept: Int32 | None, reads: tuple[int, ...]) -> tuple[Student, str]:
    """A drafter or a head as it begins, and how. Raises UsageError for layers that do not fit.

    kept   int32[K], rising: the output rows that it uses; None: all
    reads  layers of the target that a head reads
    """
    if isinstance(training, HeadTraining) and training.kind == EXIT:
        return new_exits(target, training, kept, len(reads))
    if isinstance(training, HeadTraining):
        return new_head(target, training, kept, len(reads))
    return new_drafter(target, training, kept)


def new_head(target: Target, training: HeadTraining, kept: Int32 | None, states: int) -> tuple[EagleHead, str]:
    """A head as it begins, and how: with random weights, but for `fc`, which hands on the highest states that it reads.

    These are nearest to what the output rows take, so that the head speaks from its first step on.
    """
    config = {**target.config, "num_hidden_layers": training.layers}
    more: dict[str, Any] = {
        "states": states, "unrolled": training.unrolled, "sampled": training.sampled,
        "adversarial": training.adversarial,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        if training.kind in AMONG:
            more["among"] = AMONG[training.kind]
            head: EagleHead = BlockHead(config, target.embedding, target.output, kept, **more)
        else:
            head = EagleHead(config, target.embedding, target.output, kept, **more)
    width = target.embedding.shape[1]
    with torch.no_grad():
        head.body.fc.weight *= _LITTLE
        head.body.fc.weight[:, -width:] += torch.eye(width)
    return head, "random, with fc the highest states"


def new_exits(target: Target, training: HeadTraining, kept: Int32 | None, count: int) -> tuple[ExitHeads, str]:
    """Exits as they begin, and how: as if the target ended there, with its last norm where that is known by name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        last = tensor_of(target.path, "model.norm.weight")
        eps = float(target.config["rms_norm_eps"])
        exits = ExitHeads(target.output, kept, count, eps, None if last is None else last.float(), training.sampled)
    return exits, "the target's last norm" if last is not None else "ones"
