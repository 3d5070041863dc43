"""A method that cannot hurt: whatever it raises or proposes, decoding continues with the target's own tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeAlias, TypeVar

from hierdraft.drafting.plain import PlainMethod
from hierdraft.drafting.single import method_name
from hierdraft.errors import DraftError, DraftWarning, UsageError, failed_at
from hierdraft.protocols import Budget, Method, Offers, ProposesTogether, Request, Session, Step, Wants
from hierdraft.tree import DraftTree, Int32

P = ParamSpec("P")
R = TypeVar("R")


def check_method(method: Method, offers: Offers, name: str = "") -> None:
    """Raises UsageError for a method that does not say how its tokens are chosen, or wants what cannot be had.

    name   how its user calls it
    """
    if method.q_kind not in ("one_hot", "full"):
        raise UsageError(f"A method's q_kind must be 'one_hot' or 'full', not {method.q_kind!r}.")
    if (method.wants.top_k or method.wants.probes) and not offers.scores:
        what = "the target's logits at every scored row, which recorded output does not have"
        raise UsageError(f"The method {name or method_name(method)!r} needs {what}.")
    hidden = method.wants.hidden
    if hidden and not 0 <= min(hidden) <= max(hidden) <= offers.layers:
        others = "transformers' engine does (hf)" if offers.trees else "models without recurrent states do"
        shows = f"those of layers 0 to {offers.layers}" if offers.layers else f"none: {others}"
        raise UsageError(
            f"The method {name or method_name(method)!r} reads hidden states of layers {list(hidden)}, and this engine "
            f"shows {shows}."
        )


class GuardedSession:
    """A method's session for one request. The first failure is reported once and ends drafting for that request."""

    def __init__(self, method: Method, request: Request, vocab_size: int, max_rows: int) -> None:
        """Open the session.

        max_rows   most rows that one proposal may ask the engine to score
        """
        self.together: ProposesTogether | None = method if isinstance(method, ProposesTogether) else None
        self._q_kind = method.q_kind
        self.wants: Wants = method.wants
        self.failure: DraftError | None = None
        self._name = method_name(method)
        self._vocab_size = vocab_size
        self._max_rows = max_rows
        otherwise: Session = PlainMethod()
        self._session = self._safely(lambda: method.open(request), otherwise)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A checked tree within the budget; the empty tree if the method failed, now or before."""
        return self._drafted(lambda: self._checked(self._session.propose(_read_only(tokens), budget), budget))

    def told(self, tokens: Int32, budget: Budget) -> tuple[Session, Int32, Budget]:
        """What `ProposesTogether` is told of it."""
        return self._session, _read_only(tokens), budget

    def checked(self, tree: DraftTree, budget: Budget) -> DraftTree:
        """The tree that the method has proposed, as `propose` would return it."""
        return self._drafted(lambda: self._checked(tree, budget))

    @property
    def once(self) -> float:
        """Seconds of the last proposal that will not be spent again; 0.0 where the method does not tell."""
        return self._safely(lambda: float(getattr(self._session, "once", 0.0)), 0.0)

    def observe(self, step: Step) -> None:
        """Tell the method what became of its proposal."""
        self._safely(lambda: self._session.observe(step), None)

    def finish(self, tokens: Int32) -> None:
        """Tell the method that the request is over, even if it failed, so that it can let go of the text."""
        failed, self.failure = self.failure, None
        self._safely(lambda: self._session.finish(tokens), None)
        self.failure = self.failure or failed

    def _checked(self, tree: DraftTree, budget: Budget) -> DraftTree:
        if not isinstance(tree, DraftTree):
            raise TypeError(f"propose returned {type(tree).__name__}, not a DraftTree")
        tree.check(self._vocab_size)
        if tree.drawn and self._q_kind != "full":
            raise ValueError(f"propose returned a tree with a law, and q_kind is {self._q_kind!r}")
        if tree.drawn and len(tree) > budget.nodes:
            raise ValueError(f"{len(tree)} nodes were drawn for a budget of {budget.nodes}")
        tree = tree.bounded(budget.nodes, budget.probes)
        if len(tree) >= self._max_rows:
            raise ValueError(f"{len(tree)} nodes were drafted, at most {self._max_rows - 1} can be scored")
        return tree.limited(budget.depth)

    def _drafted(self, call: Callable[[], DraftTree]) -> DraftTree:
        return self._safely(call, None) or DraftTree.empty()

    def _safely(self, call: Callable[[], R], otherwise: R) -> R:
        if self.failure is not None:
            return otherwise
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, and must not stop decoding
            self.failure = DraftError(f"The method {self._name} failed ({failed_at(error)}).")
            self.failure.__cause__ = error.with_traceback(None)  # its frames would keep the whole request alive
            warnings.warn(f"{self.failure} This request continues without drafts.", DraftWarning, stacklevel=2)
            return otherwise


def _read_only(tokens: Int32) -> Int32:
    view = tokens.view()
    view.flags.writeable = False
    return view


Ask: TypeAlias = tuple[GuardedSession, Int32, Budget]
"""A session, everything committed so far int32[L], and the bounds of its tree."""


def propose_together(asks: Sequence[Ask]) -> list[DraftTree]:
    """`propose` of several sessions: those of a method that can do so in one call, the others one after another.

    A call that fails takes nobody's drafts: each of its sessions is asked by itself in this step.
    """
    trees: dict[int, DraftTree] = {}
    for method, numbers in _together(asks):
        found = _all_trees(method, [asks[number] for number in numbers])
        for number, tree in zip(numbers, found, strict=False):
            session, _, budget = asks[number]
            trees[number] = session.checked(tree, budget)
    for number, (session, tokens, budget) in enumerate(asks):
        if number not in trees:
            trees[number] = session.propose(tokens, budget)
    return [trees[number] for number in range(len(asks))]


def _together(asks: Sequence[Ask]) -> list[tuple[ProposesTogether, list[int]]]:
    """For each method that can be asked for several sessions: the numbers of its sessions that have not failed."""
    groups: dict[int, tuple[ProposesTogether, list[int]]] = {}
    for number, (session, _, _) in enumerate(asks):
        if session.together is not None and session.failure is None:
            groups.setdefault(id(session.together), (session.together, []))[1].append(number)
    return [group for group in groups.values() if len(group[1]) > 1]


def _all_trees(method: ProposesTogether, asks: Sequence[Ask]) -> list[DraftTree]:
    """A tree for each of a method's sessions; none at all where that fails, of which one warning tells."""
    try:
        trees = method.propose_all([session.told(tokens, budget) for session, tokens, budget in asks])
        if len(trees) != len(asks):
            raise ValueError(f"propose_all returned {len(trees)} trees for {len(asks)} requests")
    except Exception as error:  # noqa: BLE001 - as in a session
        what = f"A method failed for {len(asks)} requests at once ({failed_at(error)})."
        warnings.warn(f"{what} They are asked one after another.", DraftWarning, stacklevel=2)
        return []
    return trees
