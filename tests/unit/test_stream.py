"""The life of a stream: left, dropped, closed, read twice, read in threads; and of a model that is closed."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from hierdraft.databases.levels import LEAD, Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo
from hierdraft.databases.store import StoreOptions
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.protocols import Budget, Setup
from hierdraft.stream import Stream
from hierdraft.tree import DraftTree, Int32
from tests.unit.byte_tokenizer import Bytes

INFO = PackInfo("model", 257, "fingerprint", model="toy")
ASKED: dict[str, Any] = {"max_new_tokens": 30}


@pytest.fixture
def toy() -> LanguageModel:
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed is freed by reference counts: at once, not when the collector happens to run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def learning(folder: Path | None, **options: Any) -> LanguageModel:
    namespaces = Namespaces(folder, INFO, StoreOptions(**options))
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy", Databases((), namespaces))


def said(model: LanguageModel) -> list[int]:
    shelves = model.databases.open("default")
    return [int(token) for token in shelves.texts[0].tokens[: np.argmax(shelves.texts[0].tokens < 0)]]


def read_and_raise(stream: Stream, error: type[BaseException]) -> None:
    for _ in stream:
        raise error


def leave(model: LanguageModel) -> None:
    for _ in model.stream("ab", **ASKED):
        break


def drop(model: LanguageModel) -> None:
    next(iter(model.stream("ab", **ASKED)))


def fail(model: LanguageModel) -> None:
    with pytest.raises(ZeroDivisionError):
        read_and_raise(model.stream("ab", **ASKED), ZeroDivisionError)


def interrupt(model: LanguageModel) -> None:
    with pytest.raises(KeyboardInterrupt), model.stream("ab", **ASKED) as stream:
        read_and_raise(stream, KeyboardInterrupt)


def cut(model: LanguageModel) -> None:
    assert len(list(islice(model.stream("ab", **ASKED), 3))) == 3


def leave_with_a_failed_method(model: LanguageModel) -> None:
    class Broken(PlainMethod):
        def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
            raise RuntimeError

    with pytest.warns(DraftWarning, match="Broken"):
        next(islice(model.stream("ab", method=Broken(), budget=4, **ASKED), 6, None))


@pytest.mark.parametrize("how", [leave, drop, fail, interrupt, cut, leave_with_a_failed_method])
@pytest.mark.usefixtures("no_collector")
def test_a_stream_that_is_gone_frees_the_model(toy: LanguageModel, how: Any) -> None:
    how(toy)
    assert not toy._front._tickets()
    assert len(toy.generate("ab", **ASKED).token_ids) == 30


def test_a_stream_that_was_left_continues_whatever_came_between(toy: LanguageModel) -> None:
    whole = toy.generate("ab", **ASKED).text
    stream = toy.stream("ab", **ASKED)
    first = "".join(piece.text for piece in islice(stream, 4))
    assert repr(stream) == f"<Stream: running, {len(stream.result.token_ids)} tokens>"
    assert toy.generate("ab", **ASKED).text == whole
    other = toy.generate("cd", **ASKED).text
    rest = "".join(piece.text for piece in stream)
    assert first + rest == whole == stream.result.text
    assert list(stream) == []  # read to its end
    assert toy.generate("cd", **ASKED).text == other


def test_requests_of_one_model_take_turns_in_one_thread(toy: LanguageModel) -> None:
    alone = [toy.generate(text, **ASKED).text for text in ("ab", "cd", "ef")]
    streams = [toy.stream(text, **ASKED) for text in ("ab", "cd", "ef")]
    found = ["", "", ""]
    while any(stream.result.finish is None for stream in streams):
        for number, stream in enumerate(streams):
            found[number] += "".join(piece.text for piece in islice(stream, 1 + number))
    assert found == alone


def test_threads_share_the_forwards_of_a_model() -> None:
    """Each answer is as it is alone, and there are fewer forwards than their steps."""
    engine = Counting()
    model = LanguageModel(engine, Bytes(), "toy")
    texts = [chr(97 + number) * 2 for number in range(8)]
    alone = [model.generate(text, method="none", **ASKED).token_ids for text in texts]
    engine.parts.clear()
    ready, found = threading.Barrier(8), {}

    def ask(text: str) -> None:
        ready.wait(60)
        found[text] = model.generate(text, method="none", **ASKED).token_ids

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[text] for text in texts] == alone
    assert sum(engine.parts) == 8 * 30
    assert len(engine.parts) < 0.7 * 8 * 30


class Counting(ToyEngine):
    """Counts the parts of its forwards, which take a while."""

    def __init__(self) -> None:
        super().__init__(3, 257, memory=1)
        self.parts: list[int] = []

    def forward(self, parts: Any) -> Any:
        self.parts.append(len(parts))
        sleep(0.002)
        return super().forward(parts)


def test_a_request_within_a_step_of_another_is_refused(toy: LanguageModel) -> None:
    class Nested(PlainMethod):
        def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
            toy.generate("cd", **ASKED)
            return super().propose(tokens, budget)

    with pytest.warns(DraftWarning, match="from within a step of another"):
        assert len(toy.generate("ab", method=Nested(), budget=4, **ASKED).token_ids) == 30
    toy.generate("ab", **ASKED)


def test_streams_that_were_not_begun_take_no_turn(toy: LanguageModel) -> None:
    one, two = toy.stream("ab", **ASKED), toy.stream("ab", **ASKED)
    assert "".join(p.text for p in two) == "".join(p.text for p in one)
    assert len(one.result.token_ids) == 30
    with toy.stream("ab", **ASKED) as three:
        pass
    assert list(three) == []
    assert repr(three) == "<Stream: closed, 0 tokens>"


def test_a_closed_stream_gives_nothing(toy: LanguageModel) -> None:
    stream = toy.stream("ab", **ASKED)
    reader = iter(stream)
    text = next(reader).text
    stream.close()
    stream.close()
    assert list(reader) == list(stream) == []
    assert stream.result.text == text
    assert stream.result.finish is None


def test_threads_share_the_pieces_of_a_stream(toy: LanguageModel) -> None:
    whole = toy.generate("ab", max_new_tokens=300)
    stream = toy.stream("ab", max_new_tokens=300)
    found: list[list[str]] = [[], [], []]
    threads = [threading.Thread(target=lambda own=own: own.extend(p.text for p in stream)) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stream.result.token_ids == whole.token_ids
    assert stream.result.text == whole.text
    assert sorted("".join(map("".join, found))) == sorted(whole.text)


class Slow(ToyEngine):
    """Waits in its third forward until it is told to continue."""

    def __init__(self) -> None:
        super().__init__(3, 257, memory=1)
        self.calls = 0
        self.inside, self.on = threading.Event(), threading.Event()

    def forward(self, parts: Any) -> Any:
        self.calls += 1
        if self.calls == 4:
            self.inside.set()
            assert self.on.wait(60)
        return super().forward(parts)


@pytest.mark.parametrize("what", ["stream", "model"])
def test_closing_waits_for_the_step_of_another_thread(what: str, tmp_path: Path) -> None:
    engine = Slow()
    model = LanguageModel(engine, Bytes(), "toy", Databases((), Namespaces(tmp_path, INFO)))
    stream = model.stream("ab", budget=4, **ASKED)
    errors: list[Exception] = []

    def read() -> None:
        try:
            list(stream)
        except UsageError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert engine.inside.wait(60)
    threading.Timer(0.05, engine.on.set).start()
    (stream if what == "stream" else model).close()
    thread.join(60)
    assert not thread.is_alive()
    assert [str(error) for error in errors] == ["The model was closed before this answer ended."] * (what == "model")
    assert 4 <= len(stream.result.token_ids) < 30
    model.close()
    again = learning(tmp_path)
    assert said(again)[2:] == stream.result.token_ids
    again.close()


def test_a_stream_may_be_closed_from_within_its_step(toy: LanguageModel) -> None:
    class Closes(PlainMethod):
        def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
            if len(tokens) > 6:
                stream.close()
            return super().propose(tokens, budget)

    stream = toy.stream("ab", method=Closes(), budget=4, **ASKED)
    assert len(list(stream)) <= 5
    toy.generate("ab", **ASKED)


def test_a_closed_model_ends_what_runs_and_takes_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    with learning(tmp_path) as model:
        assert repr(model) == "<LanguageModel 'toy': ToyEngine>"
        stream = model.stream("ab", **ASKED)
        list(islice(stream, 5))
        waiting = model.stream("ab", **ASKED)
    assert repr(model) == "<LanguageModel 'toy': ToyEngine, closed>"
    for started in (stream, waiting):
        with pytest.raises(UsageError, match="closed"):
            list(started)
    with pytest.raises(UsageError, match="load it again"):
        model.stream("ab")
    model.close()
    del stream, waiting
    assert model.databases.open("default").grown == 0
    model.databases.learn("default", np.arange(9, dtype=np.int32), np.arange(9, dtype=np.int32))
    ends = monotonic() + 20
    while threading.active_count() > before and monotonic() < ends:
        sleep(0.01)
    assert threading.active_count() <= before
    with learning(tmp_path) as again:
        assert again.databases.namespaces is not None
        assert again.databases.namespaces.store("default").writes  # nobody holds the folder
        assert len(said(again)) >= 2 + 5


@pytest.mark.usefixtures("no_collector")
def test_a_model_that_is_dropped_closes_itself(tmp_path: Path) -> None:
    length = sum(1 for _ in learning(tmp_path).stream("ab", **ASKED))  # kept by its stream until then
    assert length > 5
    again = learning(tmp_path)
    assert again.databases.namespaces is not None
    assert again.databases.namespaces.store("default").writes
    assert len(said(again)) == min(LEAD, 2) + 30
    again.close()


class Attached(PlainMethod):
    """Notes what becomes of it."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def attach(self, setup: Setup) -> None:
        self.events.append(setup)

    def close(self) -> None:
        self.events.append("closed")


def test_a_method_that_is_an_object_is_attached_once_and_closed(toy: LanguageModel) -> None:
    one, two = Attached(), Attached()
    for method in (one, two, one):
        toy.generate("ab", method=method, **ASKED)
    toy.close()
    toy.close()
    for setup, closed in (one.events, two.events):
        assert closed == "closed"
        assert (setup.databases, setup.offers, setup.vocab_size) == (
            toy.databases,
            toy.engine.offers,
            toy.engine.vocab_size,
        )


def test_a_namespace_that_is_no_text_is_refused(toy: LanguageModel) -> None:
    for name in ("", "\ud800"):
        with pytest.raises(UsageError, match="namespace"):
            toy.stream("ab", namespace=name)


ENDS = """
import sys
from pathlib import Path
from tests.unit.test_stream import learning
model = learning(Path(sys.argv[1]))
stream = model.stream("ab", max_new_tokens=40)
def read():
    for number, piece in enumerate(stream):
        if number == 4:
            raise ZeroDivisionError
try:
    read()
except ZeroDivisionError:
    pass
finally:
    if sys.argv[2] == "closed":
        model.close()
kept = iter(stream)
"""


@pytest.mark.parametrize("how", ["closed", "open"])
def test_a_process_ends_with_a_suspended_stream(how: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path), how], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with learning(tmp_path) as model:
        assert len(said(model)) >= 2 + 5
