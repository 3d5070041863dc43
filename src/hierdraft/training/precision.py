"""Matrix products in bfloat16 while it is trained, in few sizes.

oneDNN compiles a kernel for every size that it meets, which in bfloat16 takes longer than a product itself; rows that
nobody asks for fill sizes up, so that few of them come up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierdraft.training.windows import Window

ROWS = 64
"""Rows of a text, or below it, come in multiples of this."""

OUTPUTS = 512
"""Output rows do."""


def products_in(dtype: str) -> Any:
    """A context: matrix products in float32 or bfloat16."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


def room(count: int, multiple: int = ROWS) -> int:
    """How many are computed for so many."""
    return -(-count // multiple) * multiple if torch.is_autocast_enabled("cpu") else count


def filled(rows: Tensor) -> Tensor:
    """[R, ...] with its first once more where there is room."""
    missing = room(len(rows)) - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def filled_window(window: Window) -> Window:
    """The window, with a piece of nothing at its end where there is room."""
    missing = room(len(window.ids)) - len(window.ids)
    if not missing:
        return window
    more = [np.zeros(missing, np.int32), np.arange(missing, dtype=np.int32), np.full(missing, -1, np.int32)]
    ids, positions, segment = (
        np.concatenate(both) for both in zip((window.ids, window.positions, window.segment), more, strict=True)
    )
    states = window.states
    if states is not None:
        states = np.concatenate([states, np.zeros((missing, states.shape[1]), states.dtype)])
    return Window(ids, positions, segment, window.rows, window.labels, window.top, states)
