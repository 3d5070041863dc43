"""What docs/extending.md shows works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from hierdraft import levels
from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.drafter import HierarchyDrafter
from hierdraft.drafting.plain import PlainDrafter
from hierdraft.engines.replay import ReplayEngine
from hierdraft.protocols import Step
from hierdraft.registry import DRAFTERS, make_drafter
from tests.lossless.harness import run
from tests.unit.test_levels import clean, forget

__all__ = ["clean"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
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


def replayed(drafter: PlainDrafter | HierarchyDrafter) -> tuple[list[int], list[Step]]:
    engine = ReplayEngine(100)
    engine.play(ANSWER)
    return run(engine, drafter, [1, 2, 43, 44], Options(len(ANSWER), FixedBudget(12)))


def test_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = shown("drafting/rivals/bigram.py", tmp_path, monkeypatch)
    row = next(block for block in PYTHON if block.startswith('"bigram"'))
    assert row.strip() == '"bigram": "hierdraft.drafting.rivals.bigram:BigramDrafter",'
    monkeypatch.setitem(DRAFTERS, "bigram", f"{module}:BigramDrafter")
    for _ in range(2):
        tokens, steps = replayed(make_drafter("bigram:tokens=5"))  # type: ignore[arg-type]
        assert tokens == ANSWER
        assert len(steps) < len(ANSWER)


def test_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    module = shown("databases/notes.py", tmp_path, monkeypatch)
    row = next(block for block in PYTHON if block.startswith("SOURCES"))
    assert 'Level("notes", made="hierdraft.databases.notes:NotesLevel"),' in row
    monkeypatch.setattr(levels, "SOURCES", (*levels.SOURCES, levels.Level("notes", made=f"{module}:NotesLevel")))
    forget()
    np.save(tmp_path / "notes.npy", np.arange(40, 80))
    monkeypatch.setenv("HIERNOTES", str(tmp_path))
    drafter = make_drafter("hierarchy:levels=reference+context+model+statistics+notes")
    assert isinstance(drafter, HierarchyDrafter)
    tokens, steps = replayed(drafter)
    assert tokens == ANSWER
    assert len(steps) < len(ANSWER) // 2
