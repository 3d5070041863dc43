"""An interrupt at any line of decoding: who can go on says what it would have said, all of it and nothing twice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hierdraft.decoding import scheduler as schedulers
from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from tests.lossless.harness import run

FOLDER = str(Path(schedulers.__file__).parent)
PROMPTS, LIMITS = ([4, 9], [7, 8], [5]), (4, 10, 7)


class At:
    """Interrupts once, before the line of decoding that is the `count`-th to run."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def interrupted(count: int) -> tuple[list[Ticket], bool]:
    """All requests, after a run that was interrupted there; whether it was."""
    engine = ToyEngine(3, 32)
    scheduler = Scheduler(engine, most=2)
    tickets = [
        Ticket(open_request(engine, PlainMethod(), prompt, Options(limit, FixedBudget(0))))
        for prompt, limit in zip(PROMPTS, LIMITS, strict=True)
    ]
    for ticket in tickets:
        scheduler.add(ticket)
    watcher, hit = At(count), False
    for _ in range(40):
        sys.settrace(watcher)
        try:
            scheduler.step(lambda _: True)
        except KeyboardInterrupt:
            hit = True
        finally:
            sys.settrace(None)
        watcher = At(0) if hit else watcher
        if not scheduler.running and not scheduler.waiting:
            break
    assert not scheduler.running
    assert not scheduler.waiting
    return tickets, hit


@pytest.mark.parametrize("first", range(1, 8))
def test_an_interrupt_at_any_line(first: int) -> None:
    engine = ToyEngine(3, 32)
    wanted = [
        run(engine, PlainMethod(), prompt, Options(limit))[0] for prompt, limit in zip(PROMPTS, LIMITS, strict=True)
    ]
    count = first
    while True:
        tickets, hit = interrupted(count)
        if not hit:
            break
        for ticket, said in zip(tickets, wanted, strict=True):
            assert ticket.over, count
            found = [token for step in ticket.steps for token in step.tokens]
            if ticket.error is None:
                assert found == said, count
            else:
                assert found == said[: len(found)], count
        assert sum(ticket.error is not None for ticket in tickets) <= 1, count
        count += 7
    assert count > 1_000
