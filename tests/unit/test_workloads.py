"""The example workloads can be run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hierdraft.bench.datasets import load_questions

WORKLOADS = Path(__file__).resolve().parents[2] / "examples" / "workloads"


@pytest.mark.parametrize(("name", "task"), [("code", "complete a function"), ("tool_calls", "call a tool")])
def test_workloads_are_data_sets(name: str, task: str) -> None:
    questions = load_questions(str(WORKLOADS / f"{name}.jsonl"))
    assert len(questions) >= 8
    assert {question.task for question in questions} == {task}
    assert all(len(question.turns) == 2 for question in questions)


def test_long_documents_are_made_of_any_text(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"This is document {name}. " * 1000)
    made = subprocess.run(
        [sys.executable, WORKLOADS / "long_documents.py", tmp_path / "one.txt", tmp_path / "two.txt"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (tmp_path / "long.jsonl").write_text(made.stdout)
    questions = load_questions(str(tmp_path / "long.jsonl"))
    assert len(questions) == 6
    assert all(12_000 < len(question.turns[0]) < 12_200 for question in questions)
    assert "document two" in questions[-1].turns[0]
