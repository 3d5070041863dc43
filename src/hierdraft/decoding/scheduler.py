"""Continuous batching: which requests are in flight, and which of them share the next forward.

Nothing here waits or locks: `front.py` does, so that many threads can use one scheduler.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from hierdraft.decoding.forwards import advance
from hierdraft.decoding.request import Forward, Running
from hierdraft.errors import QueueFullError
from hierdraft.protocols import Engine, Step

MOST = 16
"""Requests in flight, unless said otherwise."""

WAITING = 1024
"""Requests that may wait besides, unless said otherwise."""

CHUNK = 2048
"""Most tokens of prompts in a forward: all at once could need too much memory."""

LEAST = 16
"""Tokens of prompts that are read in a forward beside others that write, however long that takes."""

UNKNOWN = 256
"""Likewise while nobody knows how long it takes."""

DELAY = 2.2
"""How many times longer a forward may take for the prompts in it: others wait for that long for their next token."""


class Ticket:
    """A request at the scheduler.

    request  what is decoded
    steps    what it has brought and nobody has taken yet
    over     whether there will be no more
    error    why it ended without having finished, None where it was cancelled or is complete
    begun    whether it is or was in flight
    wanted   whether it runs in the background
    waiters  how many threads wait for its next step
    ahead    whether somebody has taken a step of it
    unread   with so many steps that nobody has taken, it stands still; None: never
    told     futures of event loops that are set once when there are steps or it is over
    """

    __slots__ = ("ahead", "begun", "error", "over", "request", "steps", "told", "unread", "waiters", "wanted")

    def __init__(self, request: Running) -> None:
        self.request = request
        self.steps: deque[Step] = deque()
        self.over = self.begun = self.wanted = self.ahead = False
        self.error: BaseException | None = None
        self.waiters = 0
        self.unread: int | None = None
        self.told: list[asyncio.Future[None]] = []


class Scheduler:
    """Admits requests in the order in which they came, and steps those that are wanted, all in one forward."""

    def __init__(self, engine: Engine, most: int = MOST, waiting: int = WAITING) -> None:
        """`most`: requests that share a forward; `waiting`: how many may wait besides."""
        self.engine = engine
        self.most = most
        self._bound = waiting
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []
        self._slower = 1.0

    def check_room(self, more: int = 0) -> None:
        """Raises QueueFullError where as many wait as may; `more` wait that were not added yet."""
        if len(self.waiting) + more >= self._bound + max(0, self.most - len(self.running)):
            raise QueueFullError(
                f"{len(self.running)} requests are running and {len(self.waiting) + more} waiting, which is the limit: "
                "try again later."
            )

    def add(self, ticket: Ticket) -> None:
        """A request that waits for a place."""
        self.waiting.append(ticket)

    def step(self, wanted: Callable[[Ticket], bool]) -> None:
        """One forward for those in flight that are wanted, the ones that wait taking free places first.

        Where more are in flight than may share a forward, because nobody wanted some of them for a while, they take
        turns. What the engine raises ends every request that was to share the forward, each of which holds it.
        """
        self.running = [ticket for ticket in self.running if not ticket.over]  # an interrupted end may have left one
        self._admit(wanted)
        tickets = [ticket for ticket in self.running if wanted(ticket)][: self.most]
        chosen = {ticket.request: ticket for ticket in tickets}
        if not chosen:
            return
        if len(self.running) > self.most:
            self.running = [*(ticket for ticket in self.running if ticket not in tickets), *tickets]

        def failed(request: Running, error: BaseException) -> None:
            self.end(chosen[request], error)

        writing = sum(not request.reads for request in chosen)
        for request in chosen:
            request.step = None
        try:
            try:
                forward = advance(self.engine, [*chosen], self._chunk(writing), failed)
            except Exception as error:  # noqa: BLE001 - the engine's: nobody knows whose part it was
                for ticket in chosen.values():
                    self.end(ticket, error)
                return
            self._compare(forward, writing)
            self._hand_out(chosen)
        except BaseException:  # an interrupt: what others have said by then is theirs
            self._hand_out(chosen)
            raise

    def _hand_out(self, chosen: dict[Running, Ticket]) -> None:
        """What the forward has brought, to those whom it has brought something; those whose answer is complete end.

        May be called again where it was interrupted: nobody is told anything twice.
        """
        for request, ticket in chosen.items():
            step = request.step
            if step is not None and not ticket.over and not (ticket.steps and ticket.steps[-1] is step):
                ticket.steps.append(step)
        for request, ticket in chosen.items():
            if request.step is not None and request.step.finish:
                self.end(ticket, None)

    def _admit(self, wanted: Callable[[Ticket], bool]) -> None:
        """Begin the oldest requests that are wanted, as long as there is room."""
        for ticket in [*self.waiting]:
            if sum(map(wanted, self.running)) >= self.most:
                return
            if not wanted(ticket):
                continue
            try:
                if not ticket.begun:
                    ticket.request.begin()
                    ticket.begun = True
            except BaseException as error:  # the engine may raise anything; it is told to who asked
                ticket.error, ticket.over = error, True
                self.waiting.remove(ticket)
                if not isinstance(error, Exception):  # an interrupt is everybody's
                    raise
                continue
            if ticket not in self.running:
                self.running.append(ticket)
            self.waiting.remove(ticket)

    def _compare(self, forward: Forward | None, writing: int) -> None:
        """How much longer than behind short texts a forward took that read a prompt: the later in it, the longer."""
        expected = self.engine.cost(forward.rows, forward.rows) if forward is not None else 0.0
        if forward is None or writing == 0 or expected <= 0.0 or not any(part.rows == 0 for part in forward.parts):
            self._slower = 1.0
        elif math.isfinite(expected):
            self._slower = max(1.0, (self._slower + forward.seconds / expected) / 2)

    def _chunk(self, writing: int) -> int:
        """How many tokens of prompts may be read beside `writing` requests that write."""
        if writing == 0:
            return CHUNK
        most, least = CHUNK, LEAST
        bound = DELAY * self.engine.cost(writing, writing)
        if bound <= 0.0:
            return UNKNOWN
        while least < most:  # the largest number that takes no longer
            middle = (least + most + 1) // 2
            if self._slower * self.engine.cost(writing + middle, writing + middle) <= bound:
                least = middle
            else:
                most = middle - 1
        return least

    def end(self, ticket: Ticket, error: BaseException | None) -> None:
        """The request is over, whatever it was doing; what it has said is learned. May be called again."""
        if ticket.over:
            return
        ticket.over, ticket.error = True, error
        for queue in (self.waiting, self.running):
            if ticket in queue:
                queue.remove(ticket)
        if not ticket.begun:
            return
        try:
            ticket.request.end()
        except Exception as failed:  # noqa: BLE001 - to be told to who asked, like any other failure
            ticket.error = ticket.error or failed
