"""What is read of logits that lie on a model's device: the highest, the best few, and whole rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierdraft.engines.topids import top_ids
from hierdraft.tree import Int32


class ReadsLogits:
    """An engine's part that reads tensors of logits; see `Engine` for what each of these returns."""

    def __init__(self, vocab_size: int) -> None:
        """`vocab_size`: ids that are scored."""
        self.vocab_size = vocab_size
        self._row = torch.empty(vocab_size)

    def choices(self, logits: torch.Tensor) -> Int32:
        """The highest logit per row, the lowest id among equals; waits for the device."""
        if logits.device.type == "cpu":  # numpy's argmax is several times faster than torch's here
            return np.array([self._wide(row).argmax() for row in logits], dtype=np.int32)
        return logits.argmax(dim=-1).to("cpu", torch.int32).numpy()

    def _wide(self, row: torch.Tensor) -> NDArray[Any]:
        """One row as an array that numpy can search; half-precision rows go through a buffer that stays in cache."""
        if row.dtype in (torch.float32, torch.float64):
            return row.numpy()
        return self._row[: len(row)].copy_(row).numpy()

    def values(self, logits: torch.Tensor, row: int) -> NDArray[Any]:
        """One row, copied; half-precision numbers as float32."""
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits[row].to("cpu", wide, copy=True).numpy()

    def top_ids(self, logits: torch.Tensor, k: int) -> Int32:
        """The ids of the k highest logits per row, best first."""
        if logits.device.type == "cpu":
            return top_ids((self._wide(row) for row in logits), len(logits), k)
        return logits.topk(k, dim=-1).indices.to("cpu", torch.int32).numpy()
