"""Many requests in one forward: each says what it says alone, whoever comes, ends, is cancelled or fails beside it."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning
from hierdraft.protocols import Method, Request, Session, Step
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS, REAL
from tests.lossless.harness import run

VOCABULARY = 32
TOKENS = 100_000 if os.environ.get("PROOFS") else 40_000
"""Compared by each of the five sweeps below."""

LONGEST = 90


class Costly(ToyEngine):
    """Forwards cost what they cost on a CPU, so that the budget law has something to weigh."""

    slope = 0.1

    def cost(self, rows: int, plain: int = 1) -> float:
        return 1.0 + self.slope * rows


def options(limit: int, law: Any, sampling: Sampling, engine: ToyEngine) -> Options:
    verifier = Sampler(engine.values, sampling.filters(), sampling.seed) if sampling.draws else None
    made = Options(limit, law)
    made.verifier = verifier or made.verifier
    return made


def sweep(seed: int, tokens: int) -> int:
    """Requests of all methods come at random, are cancelled at random, and are compared with plain decoding alone."""
    rng = np.random.default_rng(seed)
    engine = Costly(seed, VOCABULARY, [3, 2, None][seed % 3], eos_ids=(5,) if seed % 2 else ())
    engine.slope = [0.0, 0.02, 0.1, 0.5][seed % 4]
    scheduler = Scheduler(engine, most=int(rng.integers(1, 17)), waiting=1000)
    scheduler_chunk = int(rng.choice([1, 3, 8, 64]))
    scheduler._chunk = lambda writing: scheduler_chunk  # type: ignore[method-assign]
    shared: dict[str, Method] = {name: make() for name, make in REAL.items()}
    laws = {name: AutoBudget() for name in REAL}
    prefix = rng.integers(0, VOCABULARY, 24).tolist()
    asked: list[tuple[list[int], Sampling, list[int]]] = []
    for number in range(40):
        own = rng.integers(0, VOCABULARY, int(rng.integers(1, 12))).tolist()
        prompt = [*prefix[: int(rng.integers(0, 25))], *own]
        sampling = Sampling(temperature=1.0, seed=number) if number % 3 == 0 else Sampling()
        plain = options(LONGEST, FixedBudget(0), sampling, engine)
        asked.append((prompt, sampling, run(engine, PlainMethod(), prompt, plain)[0]))
    flying: dict[Ticket, tuple[str, list[int]]] = {}
    compared = 0
    names = [*REAL, *HARMLESS]
    while compared < tokens or flying:
        if compared < tokens and rng.random() < 0.3:
            name = str(rng.choice(names))
            limit = int(rng.choice([1, 2, 7, 40, LONGEST]))
            prompt, sampling, whole = asked[int(rng.integers(len(asked)))]
            truth, real = whole[:limit], name in REAL
            method = shared[name] if real else HARMLESS[name](VOCABULARY, prompt + truth, seed)
            law = laws[name] if real and rng.random() < 0.5 else FixedBudget(int(rng.choice([1, 4, 9])))
            ticket = Ticket(open_request(engine, method, prompt, options(limit, law, sampling, engine)))
            scheduler.add(ticket)
            flying[ticket] = name, truth
        chosen = {ticket for ticket in flying if rng.random() < 0.9}
        scheduler.step(lambda ticket, chosen=chosen: ticket in chosen)
        if flying and rng.random() < 0.03:
            scheduler.end([*flying][int(rng.integers(len(flying)))], None)
        for ticket in [ticket for ticket in flying if ticket.over]:
            name, truth = flying.pop(ticket)
            got = [token for step in ticket.steps for token in step.tokens]
            assert ticket.error is None, name
            finished = bool(ticket.steps) and bool(ticket.steps[-1].finish)
            assert (got == truth) if finished else (got == truth[: len(got)]), name
            compared += len(got)
    assert not scheduler.running
    assert not scheduler.waiting
    return compared


@pytest.mark.parametrize("seed", range(5))
def test_no_neighbour_changes_the_text(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        done = 0
        while done < TOKENS:
            done += sweep(seed + 5 * done, min(20_000, TOKENS - done))
    assert done >= TOKENS


@pytest.mark.parametrize("moment", [1, 2, 5, 11])
def test_an_interrupt_while_one_is_settled_takes_nothing_from_the_others(moment: int) -> None:
    class Interrupted(PlainMethod):
        steps = 0

        def open(self, request: Request) -> Session:
            return self

        def observe(self, step: Step) -> None:
            self.steps += 1
            if self.steps == moment:
                raise KeyboardInterrupt

    engine, plain = ToyEngine(1, 32), PlainMethod()
    truth, _ = run(engine, plain, [4], Options(12))
    scheduler, tickets = Scheduler(engine), []
    for method, prompt in ((plain, [4]), (Interrupted(), [5]), (plain, [4])):
        tickets.append(Ticket(open_request(engine, method, prompt, Options(12))))
        scheduler.add(tickets[-1])
    interrupts = 0
    while not (tickets[0].over and tickets[2].over):
        try:
            scheduler.step(lambda _: True)
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 1
    assert isinstance(tickets[1].error, KeyboardInterrupt)
    for ticket in (tickets[0], tickets[2]):
        assert [token for step in ticket.steps for token in step.tokens] == truth
        assert ticket.error is None
