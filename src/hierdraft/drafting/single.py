"""A drafter that serves one request at a time, as a method."""

from __future__ import annotations

import warnings
from typing import Literal, Protocol

from hierdraft.drafting.plain import PlainMethod
from hierdraft.errors import DraftWarning
from hierdraft.protocols import Budget, Method, Request, Session, Setup, Step, Wants
from hierdraft.tree import DraftTree, Int32


class Drafter(Protocol):
    """What a method is that keeps its request in itself. It may have `attach(databases)` and `close()` besides."""

    q_kind: Literal["one_hot", "full"]
    wants: Wants

    def start(self, request: Request) -> None:
        """A request begins; forget the one before."""
        ...

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """See `Session`."""
        ...

    def observe(self, step: Step) -> None:
        """See `Session`."""
        ...

    def finish(self, tokens: Int32) -> None:
        """See `Session`."""
        ...


class OneAtATime:
    """A `Drafter` as a `Method`. While it serves one request, others go without drafts, with one warning."""

    def __init__(self, drafter: Drafter) -> None:
        self.q_kind, self._drafter = drafter.q_kind, drafter
        self._busy = False

    @property
    def uses_databases(self) -> bool:
        """Whether it takes any."""
        return hasattr(self._drafter, "attach")

    @property
    def wants(self) -> Wants:
        """The drafter's."""
        return self._drafter.wants

    def attach(self, setup: Setup) -> None:
        """Give it the databases, and tell it where only text is known, if it takes that."""
        tell = getattr(self._drafter, "text_only", None)
        if not setup.offers.scores and tell is not None:
            tell()
        attach = getattr(self._drafter, "attach", None)
        if attach is not None:
            attach(setup.databases)

    def open(self, request: Request) -> Session:
        """The drafter itself, unless it has a request already."""
        if self._busy:
            name = type(self._drafter).__name__
            what = f"{name} drafts for one request at a time: this one goes without drafts."
            warnings.warn(what, DraftWarning, stacklevel=2)
            return PlainMethod()
        self._drafter.start(request)
        self._busy = True
        return _Turn(self)

    def close(self) -> None:
        """Close it, if it can be closed."""
        close = getattr(self._drafter, "close", None)
        if close is not None:
            close()

    @property
    def drafter(self) -> Drafter:
        """What it was made of."""
        return self._drafter

    def free(self) -> None:
        """The request is over."""
        self._busy = False


class _Turn:
    """The drafter's one request."""

    def __init__(self, method: OneAtATime) -> None:
        self._method = method
        self.propose, self.observe = method.drafter.propose, method.drafter.observe

    def finish(self, tokens: Int32) -> None:
        """The drafter is free for another."""
        try:
            self._method.drafter.finish(tokens)
        finally:
            self._method.free()


def as_method(given: Method | Drafter) -> Method:
    """A method as it is, a drafter wrapped."""
    return given if isinstance(given, Method) else OneAtATime(given)


def method_name(method: Method) -> str:
    """What a method's class is called; of a drafter's, if it is made of one."""
    return type(method.drafter if isinstance(method, OneAtATime) else method).__name__
