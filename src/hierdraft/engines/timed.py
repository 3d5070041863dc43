"""Recorded output at a real model's pace: acceptance from the record, time from forwards of another model.

What a forward costs depends on the shape of a model and not on what its weights say, and what is accepted is in the
record. Together they tell how fast a method would have been on that machine, without anybody's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from hierdraft.engines.costs import StepCosts
from hierdraft.engines.replay import ReplayEngine, ReplaySequence
from hierdraft.protocols import Engine, EngineSequence, Offers, Part, Scored
from hierdraft.tree import Int32


class Runner(Engine, Protocol):
    """The engine that takes the time."""

    name: str
    dtype: str
    device: str
    costs: StepCosts

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        ...


class TimedSequence(ReplaySequence):
    """A record, and `runs`, the text that the model has beside it, without the first tokens of the record."""

    def __init__(self, engine: TimedReplay, output: Int32, runs: EngineSequence, without: int) -> None:
        super().__init__(engine, output)
        self.runs = runs
        self._without = without
        self.length = without + runs.length

    def commit(self, path: Sequence[int]) -> None:
        """Keep the accepted rows in both; what the model has to score again, the loop has to tell again."""
        self.runs.commit(path)
        super().commit(path)
        self.length = self._without + self.runs.length

    def close(self) -> None:
        """Close both."""
        self.runs.close()
        super().close()


class TimedReplay(ReplayEngine):
    """A `ReplayEngine` that also runs every forward on a model whose answers are not looked at."""

    def __init__(self, runner: Runner, context: int | None = None) -> None:
        """A target for records without ids beyond the model's vocabulary.

        runner   the model, its costs measured
        context  how many of a prompt's last tokens it reads, for models that read slowly; None: all
        """
        super().__init__(runner.vocab_size)
        self._context = context
        self.runner = runner
        self.offers = Offers(trees=runner.offers.trees, scores=False)
        self.max_length = runner.max_length

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> TimedSequence:
        """A record, and a text of the model's, which may hold the beginning of an earlier one."""
        without = 0 if self._context is None else max(0, len(ids) - self._context)
        return TimedSequence(self, self.output(), self.runner.open(ids[without:], reuse=reuse), without)

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Wait for the model's choices, and return the records'."""
        ran = [replace(part, sequence=part.sequence.runs) for part in parts if isinstance(part.sequence, TimedSequence)]
        for scored in self.runner.forward(ran):
            self.runner.choices(scored.logits)
        return super().forward(parts)

    def cost(self, rows: int, plain: int = 1) -> float:
        """The model's."""
        return self.runner.cost(rows, plain)

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """The model's."""
        self.runner.record(rows, seconds, plain)

    def steady(self, rows: int) -> float:
        """Seconds of a forward of `rows` rows among others that have as many, as they stand now."""
        return self.runner.costs.seconds(rows)

    @property
    def about(self) -> dict[str, Any]:
        """What ran: engine, device, number type, and the cost of some sizes in milliseconds."""
        runner = self.runner
        costs = {str(rows): round(1e3 * self.steady(rows), 3) for rows in (1, 2, 4, 8, 16, 32, 64)}
        told = {"engine": runner.name, "device": runner.device, "dtype": runner.dtype, "threads": runner.threads}
        return {**told, "forward_ms": costs}
