"""Exits while they are trained: what the target would say after some of its layers, its own weights as they are.

After Kavehzadeh et al. and LayerSkip (Elhoushi et al., arXiv 2404.16710), which train the whole model for that: here
each exit is a norm, a low-rank change of the hidden state, and the norm before the target's own output rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierdraft.models.drafter_files import Float32
from hierdraft.training.rows import Loss, OutputRows
from hierdraft.training.windows import Window
from hierdraft.tree import Int32

RANK = 64


class Exit(nn.Module):
    """One exit."""

    def __init__(self, width: int, eps: float) -> None:
        """It changes nothing at first."""
        super().__init__()
        self.norm, self.last = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.down, self.up = nn.Linear(width, RANK, bias=False), nn.Linear(RANK, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """[T, H] from its layer, as the output rows take it."""
        found: Tensor = self.last(states + self.up(self.down(self.norm(states))))
        return found


class ExitHeads(OutputRows):
    """All exits; output rows are the target's and stay."""

    def __init__(
        self, output: Tensor, kept: Int32 | None, count: int, eps: float, last: Tensor | None, sampled: int = 0
    ) -> None:
        """
        output   float32[V, H]; `kept` int32[K], rising: the output rows that are used; None: all
        count    exits
        last     float32[H]: the target's last norm, which every exit's begins as; None: ones
        """
        super().__init__(output, kept, sampled)
        self.body = nn.ModuleDict({"exits": nn.ModuleList([Exit(output.shape[1], eps) for _ in range(count)])})
        if last is not None:
            for one in self._exits:
                one.last.weight.data.copy_(last)

    @property
    def _exits(self) -> Sequence[Any]:
        exits: Any = self.body["exits"]
        return [*exits]

    def loss(self, window: Window, done: float) -> Loss:  # noqa: ARG002
        """Of one window: the mean over the exits."""
        rows, states = torch.from_numpy(window.rows).long(), self._split(window.states)
        return self.loss_of(window, [one(of)[rows] for one, of in zip(self._exits, states, strict=True)])

    def _split(self, states: Any) -> list[Tensor]:
        """[T, H] of every exit's layer, of what was kept side by side."""
        return list(torch.from_numpy(states).float().chunk(len(self._exits), dim=1))

    @torch.inference_mode()
    def chains(self, ids: Int32, start: int, places: Int32, states: Any, depth: int, top: int) -> tuple[float, Tensor]:
        """See `Student`: of the last exit, and one token deep, since the next takes the target's own layers."""
        text, where = torch.from_numpy(ids).long(), torch.from_numpy(places).long()
        scores = self.rows.scores(self._exits[-1](self._split(states)[-1]))
        said = scores[start - 1 :]
        nats = -float(self.rows.logprobs(said, self.rows.total(said), text[start:, None]).sum())
        best = self.kept[scores[where].topk(min(top, len(self.kept)), dim=1).indices]
        return nats, nn.functional.pad(best[:, None], (0, 0, 0, depth - 1), value=-1)

    def own(self) -> dict[str, Float32]:
        """The weights that are trained."""
        return {name: one.detach().numpy().copy() for name, one in self.body.named_parameters()}

    def take(self, own: Mapping[str, Float32]) -> None:
        """Have these weights instead."""
        with torch.no_grad():
            for name, one in self.body.named_parameters():
                one.copy_(torch.from_numpy(own[name]))
