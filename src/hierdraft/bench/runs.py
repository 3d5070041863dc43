"""What a run of one method left behind: its settings, and one record per answer.

A run is a JSONL file. Its first line is `{"run": {...}}`: model, dtype, method and how tokens were chosen; every other
line is a record with `id`, `task`, `prompt_ids`, `output_ids`, `seed` and what was measured. The header's fields are
those of `provenance.made_with` and of `runner.Plan`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierdraft.corpus.records import read_jsonl
from hierdraft.errors import CorpusError
from hierdraft.verify.sampling import Sampling

Record = dict[str, Any]

_FIGURES: dict[str, Any] = {
    "task": str, "steps": int, "step_tokens": list, "by_level": dict, "seconds": (int, float),
    **dict.fromkeys(("prefill_seconds", "draft_seconds", "forward_seconds", "rest_seconds"), (int, float)),
}  # fmt: skip


@dataclass
class Run:
    """settings: the header; records: id -> record, in the order of the file."""

    settings: dict[str, Any]
    records: dict[str, Record] = field(default_factory=dict)

    def sampling(self, record: Mapping[str, Any]) -> Sampling:
        """How the tokens of one answer were chosen, with its own seed. Raises CorpusError for what is no sampling."""
        try:
            given = dict(self.settings.get("sampling") or {})
            bias = {int(token): value for token, value in (given.pop("logit_bias", None) or {}).items()}
            return Sampling(**{**given, "logit_bias": bias, "seed": record.get("seed")})
        except (TypeError, ValueError, AttributeError) as error:
            raise CorpusError(f"The run's header says nothing usable of its sampling ({error}).") from error


def read_run(path: Path) -> Run:
    """A run's file. Raises CorpusError where it is damaged, cut off or no run."""
    run: Run | None = None
    for number, row in _rows(path):
        if run is None:
            if not isinstance(row.get("run"), dict):
                raise CorpusError(f'{path} is not a run: its first line must be {{"run": ...}}.')
            run = Run(row["run"])
            continue
        if "run" in row:
            raise CorpusError(f"{path}, line {number}: a second run begins here; give each run a file of its own.")
        ids = [row.get("prompt_ids"), row.get("output_ids")]
        if "id" not in row or not all(isinstance(one, list) and all(type(t) is int for t in one) for one in ids):
            raise CorpusError(f"{path}, line {number}: a record needs id, prompt_ids and output_ids.")
        if str(row["id"]) in run.records:
            raise CorpusError(f"{path}, line {number}: the id {row['id']!r} occurs twice.")
        run.records[str(row["id"])] = row
    if run is None:
        raise CorpusError(f"{path} is empty: it holds no run.")
    return run


def method_of(path: Path) -> str | None:
    """The method of a run that may not be complete, None where its file says nothing of one."""
    try:
        with path.open(encoding="utf-8") as file:
            return str(json.loads(file.readline())["run"]["method"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _rows(path: Path) -> Iterator[tuple[int, Record]]:
    """`read_jsonl`, which says of a last line that was cut off what it comes from."""
    try:
        yield from read_jsonl(path)
    except CorpusError as error:
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            raise CorpusError(
                f"{path} ends in the middle of a line: its run was stopped or is still running; bench run with the "
                "same options and --out ends it."
            ) from error
        raise


def check_figures(path: Path, run: Run) -> None:
    """Raise CorpusError unless every record has what figures are made of."""
    for name, record in run.records.items():
        for field_name, kinds in _FIGURES.items():
            if not isinstance(record.get(field_name), kinds) or isinstance(record[field_name], bool):
                raise CorpusError(f"{path}: the record {name!r} has no {field_name}, which bench run writes.")


def as_line(row: Mapping[str, Any]) -> str:
    """One line of a run's file."""
    return json.dumps(row, separators=(",", ":")) + "\n"
