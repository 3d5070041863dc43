"""Levels: one row each. A sixth is one file and one row, hierdraft's own or an installed package's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hierdraft import levels, tree
from hierdraft.bench.plots import place_of_level
from hierdraft.databases.levels import Databases, make_text_level
from hierdraft.databases.pack import PackInfo, join, write_pack
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.calibration import Calibration
from hierdraft.drafting.hierarchy.cells import CELLS, ORDERS, PER_LOOK, SKIP, cell_of
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.engines.replay import ReplayEngine
from hierdraft.errors import DraftWarning, MissingDependencyError, UsageError
from hierdraft.protocols import Budget, Offers, Request, Setup, Step
from hierdraft.registry import make_method
from hierdraft.tree import DraftTree

NOTES = '''
"""A level of notes that are always at hand: the file of a sixth level."""

import numpy as np

from hierdraft.databases.hashchain import HashChains


class NotesLevel:
    def __init__(self):
        self._index = HashChains(0)

    @property
    def chains(self):
        return self._index.chains

    def start(self, request):
        self._index = HashChains(0)
        self._index.extend(np.append(np.arange(40, 80, dtype=np.int32), np.int32(-1)))

    def extend(self, tokens):
        self._index.extend(np.array([7, -1], dtype=np.int32))  # grows while it is drafted from

    def close(self):
        self._index = HashChains(0)
'''


OWN = levels.SOURCES[:6]
"""The rows that are hierdraft's own, whatever has been added since."""


def forget() -> None:
    for kept in (levels.registered, levels.code_of, tree._known_levels):
        kept.cache_clear()


@pytest.fixture
def clean() -> Iterator[None]:
    """No test leaves a level behind."""
    forget()
    yield
    forget()


@pytest.fixture(params=["row", "plug-in"])
def notes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> str:
    """One file, and one row: in `levels.py`, or in what a package says of itself."""
    (tmp_path / "some_notes.py").write_text(NOTES)
    monkeypatch.syspath_prepend(str(tmp_path))
    if request.param == "row":
        row = levels.Level("notes", made="some_notes:NotesLevel")
        monkeypatch.setattr(levels, "SOURCES", (*OWN, row))
    else:
        about = tmp_path / "some_notes-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-notes\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[hierdraft.levels]\nnotes = some_notes:NotesLevel\n")
    return "notes"


TEXT_ONLY = Offers(scores=False)
ANSWER = [*range(45, 70), 3, 4, *range(50, 60), 2]
PROMPT = np.array([1, 2, 3, 43, 44], dtype=np.int32)


def answered(method: HierarchyMethod) -> tuple[list[int], dict[str, int], int]:
    """(tokens, how many came from which level, steps) of an answer that the notes hold the better part of."""
    engine = ReplayEngine(100)
    engine.play(ANSWER)
    tokens, by_level, steps = [], {}, 0
    for step in decode(engine, method, PROMPT.tolist(), Options(len(ANSWER), FixedBudget(12))):
        tokens += step.tokens
        steps += 1
        for code in step.levels:
            name = levels.level_name(code)
            by_level[name] = by_level.get(name, 0) + 1
    return tokens, by_level, steps


def test_a_sixth_level_drafts_under_its_own_name(notes: str) -> None:
    method = make_method("hierarchy:levels=context+notes:calibration=none")
    assert isinstance(method, HierarchyMethod)
    method.attach(Setup(Databases(), TEXT_ONLY))
    for _ in range(3):
        tokens, by_level, steps = answered(method)
        assert tokens == ANSWER
    assert by_level["notes"] > len(ANSWER) // 2
    assert steps < len(ANSWER) // 2
    assert set(by_level) <= {"notes", "context", "target"}


def test_requests_with_a_sixth_level_are_drafted_for_together(notes: str) -> None:
    """Each has a level of its own, which grows by itself."""
    method = HierarchyMethod(("context", "notes"), calibration="none")
    method.attach(Setup(Databases(), TEXT_ONLY))
    plain = HierarchyMethod(("context", "notes"), calibration="none")
    plain.attach(Setup(Databases(), TEXT_ONLY))
    texts = [np.append(PROMPT, np.array(end, dtype=np.int32)) for end in ([50, 51], [60, 61], [70, 71])]
    sessions = [method.open(Request(text, 20)) for text in texts]
    for session in sessions[1:]:
        session.observe(Step([5], DraftTree.empty(), [], np.zeros(1, dtype=np.int32)))
    trees = method.propose_all([(session, text, Budget(9, 9)) for session, text in zip(sessions, texts, strict=True)])
    for drafted, text in zip(trees, texts, strict=True):
        alone = plain.open(Request(text, 20)).propose(text, Budget(9, 9))
        assert drafted.tokens.tolist() == alone.tokens.tolist()
        assert drafted.tokens[0] == text[-1] + 1
        assert set(drafted.level.tolist()) == {levels.code_of("notes")}


def test_a_level_may_be_asked_without_being_named(notes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = levels.Level("more", asked=True, made="some_notes:NotesLevel")
    monkeypatch.setattr(levels, "SOURCES", (*OWN, row))
    forget()
    method = HierarchyMethod(levels.asked_levels(), calibration="none")
    method.attach(Setup(Databases(), TEXT_ONLY))
    assert answered(method)[1]["more"] > len(ANSWER) // 2


def test_a_level_of_packs_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setattr(levels, "SOURCES", (*OWN, levels.Level("law", asked=True, packed=True)))
    forget()
    text = join([np.array(ANSWER, dtype=np.int32)])
    pack = write_pack(tmp_path / "law.safetensors", build(text, 100), PackInfo("law", 100))
    method = HierarchyMethod(levels.asked_levels(), calibration="none")
    method.attach(Setup(Databases([pack], calibration_file=tmp_path / "calibration.safetensors"), TEXT_ONLY))
    assert answered(method)[1]["law"] > len(ANSWER) // 2
    method.close()
    without = HierarchyMethod(("context", "model"), calibration="none")
    without.attach(Setup(Databases([pack]), TEXT_ONLY))
    assert "law" not in answered(without)[1]


def test_a_sixth_level_is_shown_like_the_others(notes: str) -> None:
    assert levels.level_names()[levels.code_of("notes") :][0] == "notes"
    assert levels.level_of("notes").terminal
    assert place_of_level("notes") < place_of_level("grammar") < place_of_level("no such level")
    DraftTree.chain([1, 2], level=levels.code_of("notes")).check(10)
    assert "notes" not in levels.asked_levels()
    assert "notes" in levels.askable_levels()


def test_what_a_sixth_level_is_worth_is_learned_and_kept(notes: str, tmp_path: Path) -> None:
    shared = tmp_path / "calibration.safetensors"
    method = HierarchyMethod(("context", "notes"), calibration="default")
    method.attach(Setup(Databases(calibration_file=shared), TEXT_ONLY))
    answered(method)
    method.close()
    stored = [file for file in tmp_path.iterdir() if file.suffix == ".safetensors"]
    assert [file.name for file in stored] == ["calibration.context+notes.safetensors"]
    again = Calibration(("notes",))
    assert again.read(stored[0])
    cells = slice(levels.code_of("notes") * ORDERS * PER_LOOK, (levels.code_of("notes") + 1) * ORDERS * PER_LOOK)
    assert np.allclose(again.tried[cells], method.calibration.tried[cells])
    assert (again.tried[cells] != Calibration().tried[cells]).any()
    assert np.allclose(again.weights("").look, method.calibration.weights("").look)


def test_a_calibration_that_knows_other_levels_is_left_alone(notes: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    Calibration(("notes",)).write(path)
    assert Calibration().read(path)  # what it says of the others serves
    about = path.read_bytes().replace(b"notes", b"gnats")
    path.write_bytes(about)
    with pytest.warns(DraftWarning, match="not known here: gnats"):
        assert not Calibration().read(path)


def test_places_without_a_level_hold_nothing() -> None:
    with pytest.raises(ValueError, match="the code of a level"):
        DraftTree.chain([1], level=levels.ROOM - 1).check(10)


def test_names_that_are_no_level(clean: None) -> None:
    with pytest.raises(UsageError, match="There is no level 'nothing': choose one of reference"):
        levels.code_of("nothing")
    with pytest.raises(UsageError, match=r"The levels are reference, .*, not context\+draft"):
        HierarchyMethod(("context", "draft"))
    with pytest.raises(UsageError, match="The levels are"):
        HierarchyMethod(("context", "nothing"))


def test_a_level_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    monkeypatch.setattr(levels, "SOURCES", (*OWN, levels.Level("gone", made="no_such_module:Level")))
    with pytest.raises(MissingDependencyError, match="The level 'gone' is no_such_module:Level"):
        make_text_level("gone")


BROKEN = """
from some_notes import NotesLevel


class FailsInStart(NotesLevel):
    def start(self, request):
        raise KeyError("start")


class FailsInExtend(NotesLevel):
    def extend(self, tokens):
        raise KeyError("extend")


class FailsInChains(NotesLevel):
    @property
    def chains(self):
        raise KeyError("chains")


class FailsInClose(NotesLevel):
    def close(self):
        raise KeyError("close")


class KnowsAnId(NotesLevel):
    def start(self, request):
        super().start(request)
        self._index.extend([100, -1])


class CannotBeMade(NotesLevel):
    def __init__(self):
        raise FileNotFoundError("no notes")


class NotALevel:
    chains = None
"""


def with_broken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that asks a broken level besides the context."""
    (tmp_path / "some_notes.py").write_text(NOTES)
    (tmp_path / "broken_notes.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = levels.Level("broken", made=f"broken_notes:{kind}")
    monkeypatch.setattr(levels, "SOURCES", (*OWN, levels.Level("notes", made="some_notes:NotesLevel"), row))
    forget()
    return "hierarchy:levels=context+notes+broken:calibration=none"


@pytest.mark.parametrize("kind", ["FailsInStart", "FailsInExtend", "FailsInChains", "FailsInClose", "KnowsAnId"])
def test_a_level_that_fails_is_left_out_by_itself(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None
) -> None:
    """The others are drafted from as ever; one warning a request names it, and where its author has to look."""
    method = make_method(with_broken(kind, tmp_path, monkeypatch))
    assert isinstance(method, HierarchyMethod)
    method.attach(Setup(Databases(), TEXT_ONLY))
    for _ in range(2):
        with pytest.warns(DraftWarning, match="The level 'broken' failed .*continues without it") as found:
            tokens, by_level, _ = answered(method)
        assert len(found) == 1
        assert kind == "KnowsAnId" or "broken_notes.py line" in str(found[0].message)
        assert tokens == ANSWER
        assert by_level["notes"] + by_level.get("broken", 0) > len(ANSWER) // 2


def test_a_level_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    method = with_broken("CannotBeMade", tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"The level 'broken' cannot be made \(FileNotFoundError: no notes"):
        make_method(method)


def test_what_is_no_level_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    method = with_broken("NotALevel", tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="which has no start and no extend and no close"):
        make_method(method)


def test_default_stands_for_what_is_asked_anyhow(notes: str) -> None:
    method = make_method("hierarchy:levels=default+notes")
    assert isinstance(method, HierarchyMethod)
    assert method.levels == {*levels.asked_levels(), "notes"}
    with pytest.raises(UsageError, match="The levels are"):
        make_method("hierarchy:levels=default+nothing")


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    more = tuple(levels.Level(f"level{i}", made="a:B") for i in range(levels.ROOM))
    monkeypatch.setattr(levels, "SOURCES", (*OWN, *more))
    with pytest.raises(UsageError, match="There is room for 8 levels"):
        levels.registered()


def test_the_default_calibration_has_every_level_in_its_place() -> None:
    """What comes with hierdraft says most for the longest suffixes, in every text; the free places are the prior's."""
    calibration = Calibration()
    prior = Calibration()
    assert calibration.read_default()
    for level in ("context", "model", "statistics"):
        long, short = (cell_of(levels.code_of(level), order, 4, 4, False) for order in (8, 1))
        worth = calibration.accepted / calibration.tried
        assert worth[long] > worth[short]
    first = len(OWN) * ORDERS * PER_LOOK
    free = np.r_[first : SKIP * ORDERS * PER_LOOK, SKIP * ORDERS * PER_LOOK + first : CELLS]
    assert np.allclose(calibration.accepted[free], prior.accepted[free])
