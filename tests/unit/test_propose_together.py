"""One call for all sessions of a method, guarded for each: who fails fails alone, and is told of once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.guard import GuardedSession, propose_together
from hierdraft.decoding.loop import open_request
from hierdraft.decoding.request import Options
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning
from hierdraft.protocols import Budget, Request, Session
from hierdraft.tree import DraftTree, Int32

TEXT = np.array([1, 2, 3], dtype=np.int32)
BUDGET = Budget(8, 8)


class Alone(PlainMethod):
    """Drafts the token that its prompt ends with."""

    def __init__(self) -> None:
        self.asked = 0

    def open(self, request: Request) -> Session:
        return _Session(self, int(request.prompt[-1]))


class _Session(PlainMethod):
    def __init__(self, method: Alone, token: int) -> None:
        self.method, self.token = method, token

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        self.method.asked += 1
        return DraftTree.chain([self.token])


class Together(Alone):
    """The same, for several at a time; `failures`: what the next calls raise or return."""

    def __init__(self, failures: Sequence[Any] = ()) -> None:
        super().__init__()
        self.failures = list(failures)
        self.calls: list[int] = []

    def propose_all(self, asks: Sequence[tuple[Any, Int32, Budget]]) -> list[DraftTree]:
        self.calls.append(len(asks))
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, Exception):
            raise failure
        trees = [DraftTree.chain([session.token]) for session, _, _ in asks]
        return trees if failure is None else failure(trees)


def sessions(method: Alone, count: int) -> list[GuardedSession]:
    return [GuardedSession(method, Request(np.array([n], dtype=np.int32), 9), 50, 99) for n in range(count)]


def drafted(every: list[GuardedSession]) -> list[list[int]]:
    return [tree.tokens.tolist() for tree in propose_together([(one, TEXT, BUDGET) for one in every])]


def test_sessions_of_several_methods_get_their_own() -> None:
    one, other, plain = Together(), Together(), Alone()
    mixed = [s for three in zip(sessions(one, 3), sessions(other, 3), sessions(plain, 3), strict=True) for s in three]
    assert drafted(mixed) == [[n] for n in range(3) for _ in range(3)]
    assert (one.calls, other.calls) == ([3], [3])
    assert (one.asked, other.asked, plain.asked) == (0, 0, 3)


def test_one_alone_is_asked_as_ever() -> None:
    method = Together()
    assert drafted(sessions(method, 1)) == [[0]]
    assert (method.calls, method.asked) == ([], 1)
    assert propose_together([]) == []


@pytest.mark.parametrize("failure", [KeyError("all"), lambda trees: trees[:-1], lambda trees: None])
def test_a_call_that_fails_takes_nobodys_drafts(failure: Any) -> None:
    method = Together([failure])
    every = sessions(method, 4)
    with pytest.warns(DraftWarning, match=r"failed for 4 requests at once .*They are asked one after another") as told:
        assert drafted(every) == [[0], [1], [2], [3]]
    assert len(told) == 1
    assert method.asked == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drafted(every) == [[0], [1], [2], [3]]  # and next time all are asked together again
    assert (method.calls, method.asked) == ([4, 4], 4)


@pytest.mark.parametrize("wrong", [None, DraftTree.chain([50])])
def test_who_is_given_a_wrong_tree_is_told_of_once_and_continues_without(wrong: Any) -> None:
    method = Together([lambda trees: [*trees[:2], wrong, *trees[3:]]])
    every = sessions(method, 4)
    with pytest.warns(DraftWarning, match="This request continues without drafts") as told:
        assert drafted(every) == [[0], [1], [], [3]]
    assert len(told) == 1
    assert [one.failure is None for one in every] == [True, True, False, True]
    assert drafted(every) == [[0], [1], [], [3]]
    assert method.calls == [4, 3]


def test_a_session_cannot_write_into_the_text() -> None:
    method = Together()

    def look(asks: Sequence[tuple[Any, Int32, Budget]]) -> list[DraftTree]:
        assert not any(tokens.flags.writeable for _, tokens, _ in asks)
        return [DraftTree.empty()] * len(asks)

    method.propose_all = look  # type: ignore[method-assign]
    assert drafted(sessions(method, 2)) == [[], []]


def test_a_scheduler_asks_for_all_that_write_and_shares_the_time_between_them() -> None:
    method, engine = Together(), ToyEngine(vocab_size=50)
    options = [Options(limit=6, budget=FixedBudget(4)) for _ in range(3)]
    tickets = [Ticket(open_request(engine, method, [1, n], one)) for n, one in enumerate(options)]
    scheduler = Scheduler(engine)
    for ticket in tickets:
        scheduler.add(ticket)
    for _ in range(2):
        scheduler.step(lambda _: True)
    assert method.calls == [3]
    assert method.asked == 0
    assert all(ticket.steps[-1].seconds["draft"] > 0.0 for ticket in tickets)
