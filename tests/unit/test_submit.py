"""Requests in the background: many at a time, in order, awaited, cancelled, refused, failing alone."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from typing import Any

import pytest

from hierdraft.decoding.front import Front, Steps
from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, QueueFullError, UsageError
from hierdraft.language_model import LanguageModel
from hierdraft.protocols import Budget
from hierdraft.tree import DraftTree, Int32
from tests.unit.byte_tokenizer import Bytes

ASKED: dict[str, Any] = {"max_new_tokens": 40}
TEXTS = [chr(97 + number) * 2 for number in range(20)]


@pytest.fixture
def toy() -> LanguageModel:
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy")


@pytest.fixture
def alone(toy: LanguageModel) -> list[list[int]]:
    return [toy.generate(text, **ASKED).token_ids for text in TEXTS]


def test_a_list_of_prompts_is_answered_in_order(toy: LanguageModel, alone: list[list[int]]) -> None:
    assert [run.token_ids for run in toy.generate(TEXTS, **ASKED)] == alone
    assert [run.token_ids for run in toy.generate([toy.encode(text) for text in TEXTS], **ASKED)] == alone
    assert [run.token_ids for run in toy.generate(TEXTS[:1], **ASKED)] == alone[:1]
    assert toy.generate(TEXTS[0], **ASKED).token_ids == alone[0]
    messages = [[{"role": "user", "content": text}] for text in TEXTS[:3]]
    with pytest.raises(UsageError, match="chat template"):
        toy.generate(messages, **ASKED)
    assert [run.token_ids for run in toy.generate(TEXTS, **ASKED)] == alone


def test_more_prompts_than_may_wait(toy: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.language_model.WAITING", 3)
    runs = toy.generate(TEXTS, max_new_tokens=5)
    assert [len(run.token_ids) for run in runs] == [5] * 20


def test_what_was_submitted_runs_whether_or_not_it_is_read(toy: LanguageModel, alone: list[list[int]]) -> None:
    streams = [toy.submit(text, **ASKED) for text in TEXTS]
    assert [stream.wait().token_ids for stream in reversed(streams)] == alone[::-1]
    assert "".join(piece.text for piece in toy.submit(TEXTS[0], **ASKED)) == toy.generate(TEXTS[0], **ASKED).text


def test_a_request_in_the_background_says_when_it_is_over(toy: LanguageModel, alone: list[list[int]]) -> None:
    stream = toy.submit(TEXTS[0], **ASKED)
    until = time.monotonic() + 60
    while not stream.over and time.monotonic() < until:
        time.sleep(0.001)
    assert stream.over
    assert stream.result.token_ids == [], "nobody has read it yet"
    assert stream.wait().token_ids == alone[0]
    asked = toy.stream(TEXTS[0], **ASKED)
    assert not asked.over
    next(asked)
    assert not asked.over
    asked.close()
    assert asked.over


def test_what_was_submitted_can_be_cancelled(toy: LanguageModel, alone: list[list[int]]) -> None:
    long = toy.submit("ab", max_new_tokens=100_000)
    next(long)
    long.close()
    long.close()
    assert list(long) == []
    assert long.result.finish is None
    never = toy.submit("ab", max_new_tokens=100_000)
    never.close()
    assert never.result.token_ids == []
    assert [run.token_ids for run in toy.generate(TEXTS, **ASKED)] == alone


def test_who_cancels_waits_for_one_step_however_many_run_on(
    toy: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards = []
    real = toy.engine.forward
    monkeypatch.setattr(toy.engine, "forward", lambda parts: (forwards.append(len(parts)), real(parts))[1])
    others = [toy.submit("ab", method="none", max_new_tokens=100_000) for _ in range(3)]
    for _ in range(5):
        one = toy.submit("cd", method="none", max_new_tokens=100_000)
        next(one)
        before = len(forwards)
        one.close()
        assert forwards[before:].count(4) <= 2
    for stream in others:
        stream.close()


def test_a_task_awaits_many(toy: LanguageModel, alone: list[list[int]]) -> None:
    async def pieces(text: str) -> str:
        return "".join([piece.text async for piece in toy.submit(text, **ASKED)])

    async def everything() -> None:
        runs = await asyncio.gather(*(toy.submit(text, **ASKED).wait_async() for text in TEXTS))
        assert [run.token_ids for run in runs] == alone
        texts = await asyncio.gather(*map(pieces, TEXTS))
        assert texts == [run.text for run in runs]
        with pytest.raises(UsageError, match="start it with submit"):
            await toy.stream("ab", **ASKED).wait_async()
        abandoned = toy.submit("ab", max_new_tokens=100_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(abandoned.wait_async(), 0.2)
        abandoned.close()

    asyncio.run(everything())
    assert [run.token_ids for run in toy.generate(TEXTS, **ASKED)] == alone


def test_a_closed_model_ends_what_runs_in_the_background(toy: LanguageModel) -> None:
    streams = [toy.submit("ab", max_new_tokens=100_000) for _ in range(3)]
    next(streams[0])
    toy.close()
    for stream in streams:
        with pytest.raises(UsageError, match="closed before this answer ended"):
            stream.wait()
    with pytest.raises(UsageError, match="load it again"):
        toy.submit("ab")
    assert not [thread for thread in threading.enumerate() if thread.name == "hierdraft-scheduler"]


class Stopping:
    """A logits processor with a bug of its own."""

    def __call__(self, tokens: Any, scores: Any) -> Any:
        if tokens.shape[-1] == 2 + 7:
            raise ZeroDivisionError("a caller's own bug")
        return scores


def test_a_request_that_fails_fails_alone(toy: LanguageModel, alone: list[list[int]]) -> None:
    class Broken(PlainMethod):
        def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
            raise RuntimeError("a method's own bug")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DraftWarning)
        good = [toy.submit(text, **ASKED) for text in TEXTS]
        bad = toy.submit("ab", method="none", processors=[Stopping()], **ASKED)  # a failing step keeps no draft
        undrafted = toy.submit(TEXTS[0], method=Broken(), budget=4, **ASKED)
        with pytest.raises(ZeroDivisionError):
            bad.wait()
        assert undrafted.wait().token_ids == alone[0]
    assert len(bad.result.token_ids) == 7
    assert [stream.wait().token_ids for stream in good] == alone
    assert list(bad) == []


class Failing(ToyEngine):
    """An engine that runs out of memory once."""

    broken = False

    def forward(self, parts: Any) -> Any:
        if self.broken and len(parts) > 1:
            self.broken = False
            raise MemoryError("no room")
        return super().forward(parts)


def test_an_engine_that_fails_ends_the_requests_of_that_forward() -> None:
    engine = Failing(3, 257, memory=1)
    model = LanguageModel(engine, Bytes(), "toy")
    expected = model.generate("ab", **ASKED).token_ids
    streams = [model.submit("ab", max_new_tokens=50_000) for _ in range(3)]
    for stream in streams:
        next(stream)
    engine.broken = True
    for stream in streams:
        with pytest.raises(MemoryError):
            stream.wait()
    assert model.generate("ab", **ASKED).token_ids == expected
    assert model.submit("ab", **ASKED).wait().token_ids == expected


def test_an_engine_that_fails_ends_nobody_who_only_waited() -> None:
    engine = Failing(3, 257, memory=1)
    front = Front(Scheduler(engine, most=2, waiting=9))
    requests = [open_request(engine, PlainMethod(), [1, 2], Options(limit)) for limit in (900, 900, 30, 30)]
    engine.broken = True
    steps = [Steps(front, request, background=True) for request in requests]
    for one in steps[:2]:
        with pytest.raises(MemoryError):
            list(one)
    assert [sum(len(step.tokens) for step in one) for one in steps[2:]] == [30, 30]


def test_a_queue_has_an_end() -> None:
    engine = ToyEngine(3, 257, memory=1)
    front = Front(Scheduler(engine, most=2, waiting=3))

    def request() -> Any:
        return open_request(engine, PlainMethod(), [1, 2], Options(30))

    steps = [Steps(front, request()) for _ in range(5)]
    for one in steps:
        one._ticket = front.submit(one._request)
    with pytest.raises(QueueFullError, match="waiting, which is the limit"):
        front.submit(request())
    steps.pop().close()
    steps.append(Steps(front, request()))
    assert [sum(len(step.tokens) for step in one) for one in steps] == [30] * 5


def test_two_threads_on_one_handle_share_its_pieces(toy: LanguageModel) -> None:
    expected = toy.generate("ab", max_new_tokens=400)
    stream = toy.submit("ab", max_new_tokens=400)
    found: list[list[str]] = [[], []]
    threads = [threading.Thread(target=lambda own=own: own.extend(p.text for p in stream)) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stream.result.text == expected.text


def test_what_nobody_reads_stands_still(toy: LanguageModel) -> None:
    left = toy.submit("ab", method="none", max_new_tokens=200, unread=5)
    ticket = left._steps._ticket
    assert ticket is not None
    other = toy.submit("cd", **ASKED).wait()  # the thread goes on with others, and ends when there are none
    assert len(other.token_ids) == 40
    assert until(lambda: len(ticket.steps) == 5)
    time.sleep(0.05)
    assert len(ticket.steps) == 5
    assert left.wait().token_ids == toy.generate("ab", method="none", max_new_tokens=200).token_ids
    dropped = toy.submit("ab", method="none", max_new_tokens=200, unread=5)
    assert until(lambda: len(dropped._steps._ticket.steps) == 5)  # type: ignore[union-attr]
    dropped.close(wait=False)
    assert until(lambda: toy.load == (0, 0))


def test_cancelling_without_waiting(toy: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, free = threading.Event(), threading.Event()
    real = toy.engine.forward

    def slow(parts: Any) -> Any:
        begun.set()
        assert free.wait(20)
        return real(parts)

    monkeypatch.setattr(toy.engine, "forward", slow)
    stream = toy.submit("ab", max_new_tokens=100_000)
    assert begun.wait(20)
    stream.close(wait=False)  # returns although the step is not over
    assert toy.load.running == 1
    free.set()
    assert until(lambda: toy.load == (0, 0))
    assert list(stream) == []


def test_pieces_that_have_come_are_taken_at_once(toy: LanguageModel, alone: list[list[int]]) -> None:
    stream = toy.submit(TEXTS[0], **ASKED)
    pieces = [next(stream)]
    assert until(lambda: toy.load == (0, 0))
    pieces += stream.ready()
    pieces += stream
    assert "".join(piece.text for piece in pieces) == stream.result.text == toy.generate(TEXTS[0], **ASKED).text


def test_steps_can_be_kept(toy: LanguageModel) -> None:
    run = toy.submit("abab", trace=True, max_new_tokens=60).wait()
    assert run.trace is not None
    assert [token for step in run.trace for token in step.tokens] == run.token_ids
    for step in run.trace:
        assert [int(step.draft.tokens[node]) for node in step.path] == step.tokens[: len(step.path)]
    assert sum(len(step.draft) for step in run.trace) == sum(counts["proposed"] for counts in run.by_level.values())
    assert toy.generate("abab", max_new_tokens=60).trace is None


def until(true: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(true())


@pytest.mark.parametrize("where", ["engine", "method"])
def test_an_interrupt_while_a_request_begins_is_one(where: str) -> None:
    class Interrupted(PlainMethod):
        def open(self, request: Any) -> Any:
            raise KeyboardInterrupt

    engine = ToyEngine(1, 257)
    opened: list[Any] = []
    real = engine.open

    def begin(*args: Any, **more: Any) -> Any:
        if where == "engine":
            engine.open = real  # type: ignore[method-assign]
            raise KeyboardInterrupt
        opened.append(real(*args, **more))
        return opened[-1]

    engine.open = begin  # type: ignore[method-assign]
    with LanguageModel(engine, Bytes(), "toy") as model:
        asked: dict[str, Any] = {"max_new_tokens": 4, "chat": False}
        with pytest.raises(KeyboardInterrupt):
            model.generate([1], method=Interrupted() if where == "method" else "none", **asked)
        assert len(model.generate([1], method="none", **asked).token_ids) == 4
        assert model.load == (0, 0)
    assert all(sequence.closed for sequence in opened)
