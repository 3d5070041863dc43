"""What the scripts in benchmarks/ share: figures of few values, and which answer a figure belongs to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    yield
    for name in ("common", "tables", "paired"):
        sys.modules.pop(name, None)


def script(name: str) -> Any:
    return import_module(name)


def test_no_interval_of_few_values() -> None:
    common, tables, paired = script("common"), script("tables"), script("paired")
    assert common.spread([1.0, 3.0]) == {"median": 2.0, "low": None, "high": None, "min": 1.0, "max": 3.0}
    assert common.spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])["low"] >= 1.0
    assert paired.interval([1.0, 3.0])["low"] is None
    assert paired.interval([1.0] * 6)["low"] == 1.0
    assert tables.between(common.spread([1.0, 3.0])) == "too few answers"
    assert tables.between({"low": 1.0, "high": 2.5}) == "1.00 to 2.50"


def test_a_record_has_its_date_and_processor() -> None:
    found = script("common").machine()
    assert found["date"].endswith("+00:00")
    assert found["cpu"]


def test_an_answer_without_tokens_does_not_move_the_others_to_another_task() -> None:
    rows = [{"task": task, "output_ids": []} for task in ("a", "b", "b")]
    said = {"plain": [[1], [1], [1]], "fast": [[], [1], [1]]}
    seconds = {"plain": [1.0, 1.0, 1.0], "fast": [1.0, 0.5, 0.25]}
    found = script("paired")._figures("fast", rows, seconds, said)
    assert found["tasks"] == {"b": 3.0}
    assert found["speedup"]["median"] == 3.0
