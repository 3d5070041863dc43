"""What a training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hierdraft.errors import UsageError
from hierdraft.models.drafter_files import AMONG, EXIT, is_drafter, read_head, read_own
from hierdraft.models.drafters import shipped, tensor_of
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
    """A drafter or a head as it begins, and how. Raises UsageError for layers that do not fit, ModelError.

    kept   int32[K], rising: the output rows that it uses; None: all
    reads  layers of the target that a head reads
    """
    if not isinstance(training, HeadTraining):
        return new_drafter(target, training, kept)
    make = new_exits if training.kind == EXIT else new_head
    student, how = make(target, training, kept, len(reads))
    if training.init is None:
        return student, how
    own, _ = read_own(begun_with(training.init, training, reads))
    shapes = {name: one.shape for name, one in student.own().items()}
    if {name: one.shape for name, one in own.items()} != shapes:
        raise UsageError(f"--init {training.init}: it has other layers than what is trained, or is of another target.")
    student.take(own)
    return student, f"the head {training.init}"


def begun_with(name: str, training: HeadTraining, reads: tuple[int, ...]) -> Path:
    """The folder of the head that a training begins with. Raises UsageError where that is another one, ModelError."""
    folder = shipped().get(name, Path(name))
    found = read_head(folder) if is_drafter(folder) else None
    if found is None:
        raise UsageError(f"--init {name}: there is no head that hierdraft has trained.")
    if found != training.head(reads):
        raise UsageError(
            f"--init {name}: it is of the kind {found.kind} and reads the layers {','.join(map(str, found.states))}; "
            f"what is trained is {training.kind} and reads {','.join(map(str, reads))}."
        )
    return folder


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
