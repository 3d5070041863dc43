"""What a run of one method left behind: its settings, and one record per answer.

A run is a JSONL file. Its first line is `{"run": {...}}`: model, dtype, method and how tokens were chosen; every other
line is a record with `id`, `task`, `prompt_ids`, `output_ids`, `seed` and what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.corpus.records import read_jsonl
from hierdraft.errors import CorpusError
from hierdraft.verify.sampling import Sampling

Record = dict[str, Any]


@dataclass
class Run:
    """settings: the header; records: id -> record, in the order of the file."""

    settings: dict[str, Any]
    records: dict[str, Record] = field(default_factory=dict)

    def sampling(self, record: Mapping[str, Any]) -> Sampling:
        """How the tokens of one answer were chosen, with its own seed."""
        given = dict(self.settings.get("sampling") or {})
        bias = {int(token): value for token, value in (given.pop("logit_bias", None) or {}).items()}
        return Sampling(**{**given, "logit_bias": bias, "seed": record.get("seed")})


def read_run(path: Path) -> Run:
    """A run's file. Raises CorpusError where it is damaged or no run."""
    run: Run | None = None
    for number, row in read_jsonl(path):
        if run is None:
            if not isinstance(row.get("run"), dict):
                raise CorpusError(f'{path} is not a run: its first line must be {{"run": ...}}.')
            run = Run(row["run"])
            continue
        ids = [row.get("prompt_ids"), row.get("output_ids")]
        if "id" not in row or not all(isinstance(one, list) and all(type(t) is int for t in one) for one in ids):
            raise CorpusError(f"{path}, line {number}: a record needs id, prompt_ids and output_ids.")
        if str(row["id"]) in run.records:
            raise CorpusError(f"{path}, line {number}: the id {row['id']!r} occurs twice.")
        run.records[str(row["id"])] = row
    if run is None:
        raise CorpusError(f"{path} is empty: it holds no run.")
    return run


def as_line(row: Mapping[str, Any]) -> str:
    """One line of a run's file."""
    return json.dumps(row, separators=(",", ":")) + "\n"
