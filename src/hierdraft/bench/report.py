"""One account of the runs in a folder: figures of every method, and one answer token by token.

The account is a dict that goes to JSON as it is; `bench/plots.py` and `bench/page.py` show it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hierdraft.bench.known import known_answers
from hierdraft.bench.metrics import FEWEST, compare, decoding_seconds, speed
from hierdraft.bench.provenance import differences
from hierdraft.bench.runs import Record, Run, check_figures, read_run
from hierdraft.errors import CorpusError, UsageError

PLAIN = "none"
AUDITS = "audits.json"
"""What `bench run` leaves beside the runs: method -> its audit against plain decoding."""

SKIPPED = "skipped.json"
"""Likewise: the answers that were left out, as `{"id", "reason"}`."""

_FIELDS = (
    "method", "task", "answers", "tokens", "steps", "accepted_length", "accepted_low", "accepted_high",
    "tokens_per_second", "speedup", "speedup_low", "speedup_high", "speedup_total", "identical",
    "prefill_seconds", "draft_seconds", "forward_seconds", "rest_seconds",
)  # fmt: skip


def read_folder(folder: Path) -> dict[str, Run]:
    """The runs of a folder by method, plain decoding first.

    Raises UsageError where there are none, plain decoding is missing or they were not made alike; CorpusError where
    one is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give the one that bench run wrote to.")
    runs: dict[str, Run] = {}
    for path in sorted(folder.glob("*.jsonl")):
        run = read_run(path)
        check_figures(path, run)
        method = str(run.settings.get("method"))
        if method in runs:
            raise UsageError(f"{folder} holds two runs of {method}, one of them {path.name}: take one away.")
        runs[method] = run
    if PLAIN not in runs:
        raise UsageError(f"{folder} holds no run of plain decoding (none.jsonl): nothing can be compared with it.")
    plain = runs.pop(PLAIN)
    for method, run in runs.items():
        different = differences(run.settings, plain.settings, "plain decoding's")
        if different:
            raise UsageError(f"The runs in {folder} cannot be compared: that of {method} was made {different[0]}.")
    return {PLAIN: plain, **runs}


def gather(folder: Path, example: str | None = None) -> dict[str, Any]:
    """The account of a folder of runs.

    settings   what all runs have in common, and when and with which commit plain decoding's was begun
    fewest     answers from which on intervals are told
    answers    how many answers every method has; only these count
    left_out   ids of answers that some method lacks
    skipped    answers that the run itself left out, as {"id", "reason"}
    known      see `known.known_answers`
    apart      ids of answers that not all methods gave in one go, so that the machine may have changed in between
    methods    method -> figures (`metrics.summarise`) over all answers and by task, and its audit, None where there
               is none; the fastest first after plain decoding
    example    id, method and [text, level, first of its step] of each token, of the answer named or a typical one
    """
    runs = read_folder(folder)
    plain = runs[PLAIN].records
    names = [name for name in plain if all(name in run.records for run in runs.values())]
    if not names:
        raise UsageError(f"No answer in {folder} is in all of its runs.")
    found = compare(runs, names)["methods"]
    audits = _audits(folder)
    for method, row in found.items():
        row["audit"] = audits.get(method)
    order = sorted(found, key=lambda method: (method != PLAIN, -(found[method]["speedup"]["median"] or 0.0)))
    everything = {name for run in runs.values() for name in run.records}
    return {
        "settings": {key: value for key, value in runs[PLAIN].settings.items() if key != "method"},
        "fewest": FEWEST,
        "answers": len(names),
        "left_out": sorted(everything - set(names)),
        "skipped": _skipped(folder),
        "known": known_answers(plain, names),
        "apart": [name for name in names if len({run.records[name].get("begun") for run in runs.values()}) > 1],
        "methods": {method: found[method] for method in order},
        "example": _example(runs, names, order, example),
    }


def _skipped(folder: Path) -> list[dict[str, str]]:
    path = folder / SKIPPED
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return [{"id": str(one["id"]), "reason": str(one["reason"])} for one in found]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorpusError(f"{path} is damaged: run bench run again, which writes it anew.") from error


def _audits(folder: Path) -> dict[str, Any]:
    path = folder / AUDITS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {method: {"ties": int(audit["ties"]), "bugs": int(audit["bugs"])} for method, audit in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorpusError(f"{path} is damaged: run bench run again, which writes it anew.") from error


def _example(runs: Mapping[str, Run], names: list[str], order: list[str], wanted: str | None) -> dict[str, Any] | None:
    """An answer of the fastest method whose runs say what each token reads: the one asked for, or the median one."""
    if wanted is not None and wanted not in names:
        raise UsageError(f"There is no answer {wanted!r} in all of the runs; the first is {names[0]!r}.")
    method = next((name for name in order if name != PLAIN), PLAIN)
    records = runs[method].records
    told = [name for name in names if _told(records[name])]
    if not told or (wanted is not None and wanted not in told):
        return None
    told.sort(key=lambda name: len(records[name]["output_ids"]) / max(1, records[name]["steps"]))
    record = records[wanted or told[len(told) // 2]]
    return {"id": record["id"], "method": method, "task": record["task"], "tokens": list(_tokens(record))}


def _told(record: Record) -> bool:
    """Whether a record says of each of its tokens what it reads, who drafted it and in which step it came."""
    tokens = len(record["output_ids"])
    return 1 + sum(record["step_tokens"]) == tokens == len(record.get("pieces", ())) == len(record.get("levels", ()))


def _tokens(record: Record) -> Iterator[list[Any]]:
    """[text, level, whether a step begins] of each token; the prefill gives the first."""
    begins = [True] + [place == 0 for size in record["step_tokens"] for place in range(size)]
    for text, level, first in zip(record["pieces"], record["levels"], begins, strict=True):
        yield [text, level, first]


def table(report: Mapping[str, Any]) -> str:
    """CSV: a line per method over all answers (task `all`), and one per method and task."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for method, row in report["methods"].items():
        for task, part in (("all", row), *row["tasks"].items()):
            writer.writerow(_line(method, task, part))
    return text.getvalue()


def _line(method: str, task: str, part: Mapping[str, Any]) -> list[Any]:
    speedup, accepted, seconds = part["speedup"], part["accepted_interval"], part["seconds"]
    return [
        method, task, part["answers"], part["tokens"], part["steps"],
        part["accepted_length"], accepted["low"], accepted["high"], part["tokens_per_second"],
        speedup["median"], speedup["low"], speedup["high"], part["speedup_total"], part["identical"],
        seconds["prefill"], seconds["draft"], seconds["forward"], seconds["rest"],
    ]  # fmt: skip


def answers(folder: Path) -> str:
    """CSV: a line per method and answer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = ("method", "id", "task", "prompt_tokens", "tokens", "steps", "seconds_decoding", "tokens_per_second")
    writer.writerow((*fields, "seed"))
    for method, run in read_folder(folder).items():
        for record in run.records.values():
            writer.writerow([
                method, record["id"], record["task"], len(record["prompt_ids"]), len(record["output_ids"]),
                record["steps"], round(decoding_seconds(record), 6), round(speed(record) or 0.0, 3), record.get("seed"),
            ])  # fmt: skip
    return text.getvalue()
