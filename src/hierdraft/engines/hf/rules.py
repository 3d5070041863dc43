"""transformers' logits processors as one of our own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList

from hierdraft.errors import UsageError
from hierdraft.tree import Int32


class ProcessorRule:
    """Runs processors on a row with that row's own prefix, as plain generate would.

    Rows are shown to them in the order of the text, each position once, so processors that keep a state work too.
    """

    def __init__(
        self, processors: Sequence[Any], device: Any, *, scores: bool = False, raw: bool = False,
        front: Int32 | None = None,
    ) -> None:  # fmt: skip
        """`device`: where they run; `scores`, `raw`: keep each row after and before them.

        front   int32[n]: padding that they are shown before the prefix
        """
        self._processors = LogitsProcessorList(processors)
        self._device = torch.device(device)
        self._keeps = scores, raw
        self._front = np.empty(0, dtype=np.int32) if front is None else front
        self.scores: list[torch.Tensor] = []
        self.raw: list[torch.Tensor] = []

    def __call__(self, prefix: Int32, scores: NDArray[Any]) -> NDArray[Any]:
        """The processed float32[V]; `scores` is used up. Raises UsageError for processors that give several rows."""
        ids = torch.from_numpy(np.concatenate([self._front, prefix]).astype(np.int64)).to(self._device)[None]
        row = torch.from_numpy(scores.astype(np.float32, copy=False)).to(self._device)[None]
        if self._keeps[1]:
            self.raw.append(row.clone())
        row = self._processors(ids, row)
        if len(row) != 1:
            raise UsageError(f"The logits processors gave {len(row)} rows of scores for the one that they were shown.")
        if self._keeps[0]:
            self.scores.append(row.clone())
        processed: NDArray[Any] = row[0].to("cpu", torch.float32).numpy()
        return processed
