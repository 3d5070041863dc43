"""A class that keeps its request in itself drafts as a method, for one request at a time."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hierdraft.bench.replay import text_method
from hierdraft.databases.levels import Databases
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.language_model import LanguageModel
from hierdraft.protocols import Budget, Request, Step, Wants
from hierdraft.tree import DraftTree, Int32
from tests.unit.byte_tokenizer import Bytes

ASKED: dict[str, Any] = {"max_new_tokens": 60, "budget": 6}


class Repeats:
    """Copies the text from its beginning, which a target of one token's memory repeats sooner or later."""

    q_kind = "one_hot"
    wants = Wants()

    def __init__(self) -> None:
        self.events: list[Any] = []

    def attach(self, databases: Databases) -> None:
        self.events.append(databases)

    def text_only(self) -> None:
        self.events.append("text only")

    def start(self, request: Request) -> None:
        self.events.append(len(request.prompt))

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        places = (tokens[:-1] == tokens[-1]).nonzero()[0]
        if not len(places):
            return DraftTree.empty()
        found = tokens[places[-1] + 1 : places[-1] + 1 + min(budget.nodes, budget.depth)]
        return DraftTree.chain(found.copy())

    def observe(self, step: Step) -> None:
        pass

    def finish(self, tokens: Int32) -> None:
        self.events.append("finished")

    def close(self) -> None:
        self.events.append("closed")


@pytest.fixture
def toy() -> LanguageModel:
    return LanguageModel(ToyEngine(3, 257, memory=1), Bytes(), "toy")


def test_it_drafts_and_is_told_what_happens(toy: LanguageModel) -> None:
    plain, drafter = toy.generate("ab", method="none", max_new_tokens=60), Repeats()
    for _ in range(2):
        run = toy.generate("ab", method=drafter, **ASKED)
        assert run.token_ids == plain.token_ids
        assert run.steps < plain.steps
    toy.close()
    assert drafter.events == [toy.databases, *([2, "finished"] * 2), "closed"]


def test_beside_its_request_others_go_without_drafts(toy: LanguageModel) -> None:
    expected, drafter = toy.generate("ab", method="none", max_new_tokens=60).token_ids, Repeats()
    first = toy.stream("ab", method=drafter, **ASKED)
    list(islice(first, 3))
    with pytest.warns(DraftWarning, match="Repeats drafts for one request at a time") as found:
        second = toy.generate("ab", method=drafter, **ASKED)
    assert len(found) == 1
    assert second.token_ids == first.wait().token_ids == expected
    assert second.steps == 59
    assert toy.generate("ab", method=drafter, **ASKED).steps < 59  # it is free again


def test_one_that_fails_is_named_and_free_again(toy: LanguageModel) -> None:
    class Fails(Repeats):
        broken = True

        def finish(self, tokens: Int32) -> None:
            if self.broken:
                raise RuntimeError("a drafter's own bug")

    drafter = Fails()
    with pytest.warns(DraftWarning, match="The method Fails failed"):
        toy.generate("ab", method=drafter, **ASKED)
    drafter.broken = False
    assert toy.generate("ab", method=drafter, **ASKED).steps < 59


PLUGIN = """
from tests.unit.test_single import Repeats as Repeated
class Repeats(Repeated):
    made = []
    def __init__(self):
        super().__init__()
        self.made.append(self)
"""


def test_one_of_another_package_by_name(toy: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old_drafter.py").write_text(PLUGIN)
    about = tmp_path / "old_drafter-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: old-drafter\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hierdraft.drafters]\nrepeats = old_drafter:Repeats\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert toy.generate("ab", method="repeats", **ASKED).steps < 59
    text_method("repeats", Databases())
    import old_drafter  # type: ignore[import-not-found]

    assert "text only" in old_drafter.Repeats.made[-1].events


def test_what_is_neither_is_refused(toy: LanguageModel) -> None:
    for wrong in (object(), Repeats, 3):
        with pytest.raises(UsageError, match="the name of a drafting method or a Method"):
            toy.stream("ab", method=wrong)  # type: ignore[arg-type]
