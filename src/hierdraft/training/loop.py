"""The training loop: AdamW with warm-up and a cosine, over windows in an order that the seed and the step give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from hierdraft.training.agreement import Student
from hierdraft.training.checkpoint import NAME, State, read_checkpoint, write_checkpoint
from hierdraft.training.precision import filled_window, products_in
from hierdraft.training.settings import Limits, Training
from hierdraft.training.windows import Piece, window_of

WARM_UP = 0.05
"""Share of a training in which the learning rate rises."""

LOWEST = 0.05
"""Share of the highest learning rate that it ends with."""

MOST_NORM = 1.0
"""Longer gradients are shortened to this."""

_PARTS = 1000


class Loop:
    """One training, from its first step or from a checkpoint, to its end or until it is told to stop."""

    def __init__(
        self, student: Student, windows: Sequence[Sequence[Piece]], training: Training, limits: Limits, folder: Path,
        identity: str, *, every: float, stop: Callable[[], bool] = lambda: False,
        report: Callable[[int, int], None] = lambda _done, _all: None, log: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        """
        windows   the pieces of each
        folder    where the checkpoint lies, `identity`: what it belongs to; it was looked at already
        every     seconds between two checkpoints
        stop      looked at between windows: whether to end now, with a checkpoint
        report    called with (done, all) after every step; `log` with a line at every checkpoint
        """
        self._student, self._windows, self._training, self._limits = student, windows, training, limits
        self._folder, self._identity, self._every = folder, identity, every
        self._stop, self._report, self._log = stop, report, log
        self.steps_per_epoch = math.ceil(len(windows) / training.batch)
        self._optimizer = _optimizer(student.body, training)
        self.state = State()
        if (folder / NAME).is_file():
            self.state = read_checkpoint(folder, student.body, self._optimizer)
            self.state.resumed.append(self.state.steps)
        self._nats = self._rows = 0.0
        self._before = (self.state.tokens, self.state.seconds)

    @property
    def done(self) -> float:
        """How much of the training is done, from 0 to 1."""
        return self._limits.progress(self.state.steps, self.state.seconds, self.steps_per_epoch)

    def run(self) -> bool:
        """Train to the end; False where it was told to stop before. Raises TrainingError for want of room."""
        self._student.train()
        began = saved = perf_counter()
        earlier = self.state.seconds
        begun_at = self.state.steps
        while (done := self.done) < 1.0:
            self._report(int(done * _PARTS), _PARTS)
            if not self._step():
                break
            now = perf_counter()
            self.state.seconds = earlier + now - began
            if now - saved >= self._every and self.done < 1.0:
                self._save()
                saved = perf_counter()
        if self.state.steps > begun_at:
            self._save()
        self._report(int(self.done * _PARTS), _PARTS)
        self._student.eval()
        return self.done >= 1.0

    def _step(self) -> bool:
        """One step over `batch` windows; False, and nothing has changed, where it was told to stop."""
        chosen = [window_of(self._windows[n]) for n in self._chosen(self.state.steps)]
        rows = sum(len(one.rows) for one in chosen)
        with_top = sum(len(one.top[0]) for one in chosen if one.top is not None)
        share = self._training.distill if with_top else 0.0
        self._optimizer.zero_grad(set_to_none=True)
        nats, done = 0.0, self._progress()
        for one in chosen:
            if self._stop():
                return False
            if not len(one.rows):
                continue
            with products_in(self._training.dtype):
                found = self._student.loss(filled_window(one), done)
            loss = (1.0 - share) * found.entropy / rows + share * found.divergence / max(1, with_top)
            loss.backward()  # type: ignore[no-untyped-call]
            nats += float(found.entropy.detach())
        torch.nn.utils.clip_grad_norm_(self._student.parameters(), MOST_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self._training.learning_rate * _rate(done)
        self._optimizer.step()
        self.state.steps += 1
        self.state.tokens += sum(len(one.ids) for one in chosen)
        self._nats, self._rows = self._nats + nats, self._rows + rows
        return True

    def _progress(self) -> float:
        """How much will be done with the present step."""
        return self._limits.progress(self.state.steps + 1, self.state.seconds, self.steps_per_epoch)

    def _chosen(self, step: int) -> list[int]:
        """The windows of a step: every epoch goes through all of them in an order of its own."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._training.seed, 2, epoch]).permutation(len(self._windows))
        begin = place * self._training.batch
        return [int(number) for number in order[begin : begin + self._training.batch]]

    def _save(self) -> None:
        state = self.state
        tokens, seconds = state.tokens - self._before[0], state.seconds - self._before[1]
        loss = self._nats / self._rows if self._rows else None
        if loss is not None:
            row = {"steps": state.steps, "tokens": state.tokens, "seconds": round(state.seconds, 2), "loss": loss}
            state.curve.append(row)
        self._nats = self._rows = 0.0
        self._before = (state.tokens, state.seconds)
        write_checkpoint(self._folder, self._identity, self._student.body, self._optimizer, state)
        if loss is not None:
            self._log(
                f"step {state.steps}: loss {loss:.3f}, {tokens / max(seconds, 1e-9):,.0f} tokens per second, "
                f"{100 * self.done:.0f} % done"
            )


def _optimizer(body: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """AdamW; norms are not decayed."""
    decayed = [one for one in body.parameters() if one.ndim > 1]
    others = [one for one in body.parameters() if one.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95))


def _rate(progress: float) -> float:
    """Share of the highest learning rate: a rise, then half a cosine."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    along = (progress - WARM_UP) / (1.0 - WARM_UP)
    return LOWEST + (1.0 - LOWEST) * 0.5 * (1.0 + math.cos(math.pi * along))
