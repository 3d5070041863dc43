"""What docs/extending.md shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hierdraft import levels
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.engines.replay import ReplayEngine
from hierdraft.errors import UsageError
from hierdraft.registry import METHODS, make_method
from tests.lossless.harness import run
from tests.unit.test_levels import OWN, clean, forget

__all__ = ["clean"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ANSWER = [*range(45, 70), 3, 4, *range(50, 60), 3, 4, 50, 2]


def shown(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The code that says it is the file `name`, as a module; returns how it is called."""
    (code,) = [block for block in PYTHON if block.startswith(f"# src/hierdraft/{name}\n")]
    module = f"shown_{Path(name).stem}"
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def tried(name: str) -> ModuleType:
    """The tests that the page shows for it."""
    (code,) = [block for block in PYTHON if block.startswith(f"# tests/unit/{name}\n")]
    module = ModuleType(Path(name).stem)
    exec(compile(code, name, "exec"), module.__dict__)  # noqa: S102 - our own page
    return module


def test_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = shown("drafting/rivals/bigram.py", tmp_path, monkeypatch)
    row = next(block for block in PYTHON if block.startswith('"bigram"'))
    assert row.strip() == '"bigram": "hierdraft.drafting.rivals.bigram:BigramMethod",'
    monkeypatch.setitem(METHODS, "bigram", f"{module}:BigramMethod")
    tried("test_bigram.py").test_it_copies_what_followed()
    with pytest.raises(UsageError, match=r"The method 'bigram:tokens=0' .* tokens must be at least 1"):
        make_method("bigram:tokens=0")
    engine = ReplayEngine(100)
    for _ in range(2):
        engine.play(ANSWER)
        tokens, steps = run(engine, make_method("bigram"), [1, 2, 43, 44], Options(len(ANSWER), FixedBudget(12)))
        assert tokens == ANSWER
        assert len(steps) < len(ANSWER)


def test_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    module = shown("databases/notes.py", tmp_path, monkeypatch)
    row = next(block for block in PYTHON if block.startswith("SOURCES") and "notes" in block)
    assert 'Level("notes", made="hierdraft.databases.notes:NotesLevel"),' in row
    monkeypatch.setattr(levels, "SOURCES", (*OWN, levels.Level("notes", made=f"{module}:NotesLevel")))
    forget()
    tried("test_notes.py").test_it_drafts_what_the_notes_hold(tmp_path, monkeypatch)
    monkeypatch.delenv("NOTES")
    with pytest.raises(UsageError, match=r"The level 'notes' cannot be made \(ValueError: name a folder"):
        make_method("hierarchy:levels=default+notes")


def test_the_level_of_packs(monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    row = next(block for block in PYTHON if block.startswith("SOURCES") and "glossary" in block)
    assert 'Level("glossary", asked=True, packed=True),' in row
    monkeypatch.setattr(levels, "SOURCES", (*OWN, levels.Level("glossary", asked=True, packed=True)))
    forget()
    assert "glossary" in levels.packed_levels()


@pytest.mark.parametrize("code", [block for block in PYTHON if block.startswith("# src/")])
def test_what_the_page_shows_passes_our_own_checks(code: str) -> None:
    name = code.partition("\n")[0].removeprefix("# ")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", name, "-"]
    done = subprocess.run(ruff, input=code, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
