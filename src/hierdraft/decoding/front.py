"""Many threads, one scheduler: whoever waits for a step makes it, for all who wait.

There is no thread of its own, unless somebody wants requests to run in the background: then one thread steps them as
long as there are any. A request that nobody waits for, and that is none of these, stands still (one step ahead of its
reader, if others run).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from hierdraft.decoding.request import Running
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.errors import EngineBusyError, HierdraftError, UsageError
from hierdraft.protocols import Step


class Load(NamedTuple):
    """Requests in flight, and requests that wait."""

    running: int
    waiting: int


class Front:
    """The thread-safe side of a scheduler, which only the thread that makes a step may touch meanwhile."""

    def __init__(self, scheduler: Scheduler) -> None:
        """Nothing runs yet."""
        self._scheduler = scheduler
        self._changed = threading.Condition(threading.RLock())
        self._driver: int | None = None
        self._worker: threading.Thread | None = None
        self._new: deque[Ticket] = deque()
        self._left: deque[Ticket] = deque()
        self._watched: list[Ticket] = []
        self._why: HierdraftError | None = None

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._why is not None

    @property
    def load(self) -> Load:
        """As it stands, without waiting for a step."""
        return Load(len(self._scheduler.running), len(self._scheduler.waiting) + len(self._new))

    def check_open(self) -> None:
        """Raises UsageError once the model is closed."""
        if self.closed:
            raise UsageError("This model is closed: load it again.")

    def submit(self, request: Running, *, background: bool = False, unread: int | None = None) -> Ticket:
        """Queue a request; in the `background` it runs at once, else as far as somebody waits for it.

        unread   see `Ticket`

        Raises UsageError on a closed model, QueueFullError, and EngineBusyError from within a step of another request.
        """
        with self._changed:
            self.check_open()
            self._refuse_within()
            self._scheduler.check_room(len(self._new))
            ticket = Ticket(request)
            ticket.wanted, ticket.unread = background, unread
            self._new.append(ticket)
            if background and self._worker is None:
                self._worker = threading.Thread(target=self._work, name="hierdraft-scheduler", daemon=True)
                self._worker.start()
            self._changed.notify_all()
        return ticket

    def wait(self, ticket: Ticket) -> Step | None:
        """The request's next step, None where there is none any more; raises what ended it, if anything did."""
        with self._changed:
            self._refuse_within()
            ticket.waiters += 1
            try:
                while not ticket.steps and not ticket.over:
                    self._turn()
            finally:
                ticket.waiters -= 1
                self._changed.notify_all()  # somebody else has to make the next step
            if ticket.steps:
                ticket.ahead = True
                return ticket.steps.popleft()
            if ticket.error is not None:
                raise ticket.error
            return None

    async def arrival(self, ticket: Ticket) -> None:
        """Until there is something for `wait` to return at once."""
        came = asyncio.get_running_loop().create_future()
        with self._changed:
            if ticket.steps or ticket.over:
                return
            ticket.told.append(came)
            self._watched.append(ticket)
        await came

    def cancel(self, ticket: Ticket, *, wait: bool = True) -> None:
        """The request is over, after the step that is made; what was said is learned.

        Called by the very thread that makes a step, as when an object is collected, it takes effect after that; so it
        does without `wait` for a request that runs in the background.
        """
        self._left.append(ticket)
        if self._driver == threading.get_ident():
            return
        with self._changed:
            if not wait and ticket.wanted and self._worker is not None:
                self._changed.notify_all()
                return
            while self._driver is not None and not ticket.over:  # whoever makes a step takes it in after that
                self._changed.wait()
            if self._driver is None:
                self._take_in()
                self._tell()

    def close(self, why: HierdraftError) -> None:
        """End all requests after the step that is made; their readers see `why`."""
        with self._changed:
            self._why = self._why or why
            if self._driver == threading.get_ident():
                return
            while self._driver is not None:
                self._changed.wait()
            self._take_in()
            self._tell()
            worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join()

    def _refuse_within(self) -> None:
        if self._driver == threading.get_ident():
            raise EngineBusyError("A request cannot be decoded from within a step of another one on the same model.")

    def _turn(self) -> None:
        """Make a step, or wait until who makes one is done. Called with the lock held, which is let go meanwhile."""
        if self._driver is not None:
            self._changed.wait()
            return
        self._take_in()
        self._driver = threading.get_ident()
        try:
            self._changed.release()
            try:
                self._scheduler.step(_is_wanted)
            finally:
                self._changed.acquire()
        finally:
            self._driver = None
            self._take_in()
            self._tell()

    def _take_in(self) -> None:
        """Tell the scheduler what has come and gone, while nobody makes a step."""
        scheduler = self._scheduler
        while self._new:
            scheduler.add(self._new.popleft())
        while self._left:
            scheduler.end(self._left.popleft(), None)
        if self._why is not None:
            for ticket in [*scheduler.running, *scheduler.waiting]:
                scheduler.end(ticket, self._why)

    def _tell(self) -> None:
        """Wake who waits: threads, and tasks whose requests have brought something or are over."""
        came: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for ticket in self._watched:
            if ticket.steps or ticket.over:
                for one in ticket.told:
                    came.setdefault(one.get_loop(), []).append(one)
                ticket.told.clear()
        self._watched = [ticket for ticket in self._watched if ticket.told]
        for loop, told in came.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_came, told)  # one call for all: each wakes the loop
        self._changed.notify_all()

    def _work(self) -> None:
        """Step what runs in the background until it is over."""
        with self._changed:
            try:
                while any(ticket.wanted for ticket in self._tickets()):
                    if self._new or self._left or any(map(_is_wanted, self._tickets())):
                        self._turn()
                    else:  # nobody reads what there is
                        self._changed.wait()
            finally:  # whatever ends this thread, the next request begins another
                self._worker = None

    def _tickets(self) -> list[Ticket]:
        return [*self._new, *self._scheduler.running, *self._scheduler.waiting]


class Steps:
    """A request's steps, for a loop; they are made as they are asked for, or in the background."""

    def __init__(self, front: Front, request: Running, *, background: bool = False, unread: int | None = None) -> None:
        """In the background the request begins at once, else with the first step. Raises what `submit` does."""
        self._front, self._request = front, request
        self._ticket = front.submit(request, background=True, unread=unread) if background else None
        self._closed = False

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Step:
        """Raises what `Front.wait` and `Front.submit` do."""
        if self._closed:
            raise StopIteration
        if self._ticket is None:
            self._ticket = self._front.submit(self._request)
        step = self._front.wait(self._ticket)
        if step is None:
            raise StopIteration
        return step

    @property
    def over(self) -> bool:
        """Whether the request was closed, or in the background has ended: what it brought can be taken at once."""
        return self._closed or (self._ticket is not None and self._ticket.over)

    async def arrival(self) -> None:
        """Until the next step can be taken at once. Raises UsageError for a request that does not run by itself."""
        if self._ticket is None or not self._ticket.wanted:
            raise UsageError("Only a request that runs in the background can be awaited: start it with submit.")
        await self._front.arrival(self._ticket)

    @property
    def failure(self) -> str | None:
        """Why its method does not draft any more, if it failed."""
        session = getattr(self._request, "session", None)  # there is none before it begins
        return str(session.failure) if session is not None and session.failure is not None else None

    def close(self, *, wait: bool = True) -> None:
        """The request is over, at once or, without `wait`, after the step that is made; what was said is learned."""
        if not self._closed:
            self._closed = True
            if self._ticket is not None and not self._ticket.over:
                self._front.cancel(self._ticket, wait=wait)

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()


def _came(told: Sequence[asyncio.Future[None]]) -> None:
    for one in told:
        if not one.done():  # who waited may have been cancelled
            one.set_result(None)


def _is_wanted(ticket: Ticket) -> bool:
    """One whose reader has just taken a step is taken along, by one step: it is likely to come back."""
    if ticket.wanted:
        return ticket.unread is None or len(ticket.steps) < ticket.unread
    return ticket.waiters > 0 or (ticket.ahead and not ticket.steps)
