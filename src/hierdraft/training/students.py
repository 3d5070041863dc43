"""What a training begins with."""

from __future__ import annotations

from hierdraft.training.agreement import Student
from hierdraft.training.drafter import new_drafter
from hierdraft.training.eagle import new_head
from hierdraft.training.settings import HeadTraining, Training
from hierdraft.training.target import Target
from hierdraft.tree import Int32


def new_student(target: Target, training: Training, kept: Int32 | None, reads: tuple[int, ...]) -> tuple[Student, str]:
    """A drafter or a head as it begins, and how. Raises UsageError for layers that do not fit.

    kept   int32[K], rising: the output rows that it uses; None: all
    reads  layers of the target that a head reads
    """
    if isinstance(training, HeadTraining):
        return new_head(target, training, kept, len(reads))
    return new_drafter(target, training, kept)
