"""One forward for any number of requests: propose, trim together, score, settle each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from hierdraft.decoding.guard import propose_together
from hierdraft.decoding.request import Forward, Running
from hierdraft.drafting.together import trim_together
from hierdraft.protocols import Budget, Engine, Part
from hierdraft.tree import DraftTree

Failed = Callable[[Running, BaseException], None]
"""Told of a request that cannot continue, and why."""


def score(engine: Engine, parts: Sequence[Part]) -> Forward:
    """One forward of all parts."""
    started = perf_counter()
    scored = engine.forward(parts)
    choices = [engine.choices(one.logits) for one in scored]
    return Forward(parts, scored, choices, perf_counter() - started)


def advance(engine: Engine, requests: Sequence[Running], chunk: int, failed: Failed) -> Forward | None:
    """Bring every request one step further, in one forward; `step` of each is what that brought. Returns the forward.

    requests  that were begun and are not over, those that read their prompts in the order in which they came
    chunk     most tokens of prompts in all; who comes too late for them waits for the next forward

    What fails in a request itself (a constraint, a stop, a verifier) ends that request alone. What the engine raises is
    raised here, and no request has changed.
    """
    reading, writing = _reading(requests, chunk), [request for request in requests if not request.reads]
    read = sum(len(part.tokens) for part in reading.values())
    writing = _proposed(writing, read, failed)
    sure = read + sum(request.behind for request in writing)
    base = sure + len(writing)
    if writing:
        trim_together([request.draft for request in writing], lambda rows: engine.cost(sure + rows, base))
    parts = {**reading, **{request: request.part() for request in writing}}
    if not parts:
        return None
    forward = score(engine, [*parts.values()])
    if not reading:
        engine.record(forward.rows, forward.seconds, base)
    for place, request in enumerate(parts):
        try:
            request.settle(forward, place)
        except Exception as error:  # noqa: BLE001 - callers' own stops and processors may raise anything
            failed(request, error)
        except BaseException as error:  # an interrupt: the others can continue, this one may be in two minds
            failed(request, error)
            raise
    return forward


def _reading(requests: Sequence[Running], chunk: int) -> dict[Running, Part]:
    """The next parts of prompts, as far as there is room."""
    parts: dict[Running, Part] = {}
    for request in requests:
        request.step = None
        if request.reads and chunk > 0:
            parts[request] = request.chunk(chunk)
            chunk -= len(parts[request].tokens)
    return parts


def _proposed(requests: Sequence[Running], read: int, failed: Failed) -> list[Running]:
    """Those that have proposed something, if only nothing; they are asked together, and share the time that takes."""
    budgets: dict[Running, Budget | None] = {}
    others = read + sum(request.behind for request in requests) + len(requests) - 1
    for request in requests:
        with _told(request, failed):
            budgets[request] = request.plan(others)
    asks = [(request.session, request.tokens, budget) for request, budget in budgets.items() if budget is not None]
    started = perf_counter()
    trees = iter(propose_together(asks))
    once = {request: request.session.once for request, budget in budgets.items() if budget is not None}
    seconds = max(0.0, perf_counter() - started - sum(once.values())) / max(1, len(asks))
    done = []
    for request, budget in budgets.items():
        with _told(request, failed):
            request.drafted(*((DraftTree.empty(), 0.0) if budget is None else (next(trees), seconds, once[request])))
            done.append(request)
    return done


@contextmanager
def _told(request: Running, failed: Failed) -> Iterator[None]:
    """What fails in a request itself ends that request alone."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a caller's own constraint may raise anything
        failed(request, error)
