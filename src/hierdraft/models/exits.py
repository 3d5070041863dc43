"""Trained exits of a target: what it would say after some of its layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.heads.early_exit import Exits
from hierdraft.drafting.heads.text import numbers
from hierdraft.errors import ModelError
from hierdraft.models.heads import FoundHead, whole_head
from hierdraft.protocols import Array
from hierdraft.tree import Int32

Float32 = NDArray[np.float32]

_PARTS = ("norm", "down", "up", "last")


def read_exits(head: FoundHead) -> tuple[Exits, Int32 | None]:
    """The exits of a folder, and the ids that their logits are of, None: all, in order. Raises ModelError."""
    import torch
    from torch.nn.functional import linear, rms_norm

    parts, embedding, output = whole_head(head.folder, head.target)
    width = embedding.shape[1]
    held: list[dict[str, torch.Tensor]] = []
    for number in range(len(parts.states)):
        named = {part: parts.own.get(f"exits.{number}.{part}") for part in _PARTS}
        if not _fits(named, width):
            raise ModelError(f"The exits in {head.folder} are damaged: restore or train them again.")
        held.append({part: torch.tensor(one) for part, one in named.items() if one is not None})
    rows, eps = torch.tensor(output, dtype=torch.float32), float(parts.config.get("rms_norm_eps", 1e-6))

    @torch.inference_mode()
    def say(place: int, states: Array) -> Float32:
        """In the threads of the target, which is torch's too: numpy's own would be in its way."""
        own, given = held[place], torch.tensor(numbers(states))
        change = linear(linear(rms_norm(given, (width,), own["norm"], eps), own["down"]), own["up"])
        found: Float32 = linear(rms_norm(given + change, (width,), own["last"], eps), rows).numpy()
        return found

    return Exits(parts.states, say), parts.ids


def _fits(named: dict[str, Any], width: int) -> bool:
    shapes = {part: None if one is None else one.shape for part, one in named.items()}
    down, up = shapes["down"], shapes["up"]
    even = shapes["norm"] == shapes["last"] == (width,)
    return bool(even and down and up and len(down) == 2 and down[1] == width and up == (width, down[0]))
