"""From records to figures: accepted length, tokens per second without the prefill, speed-up with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.bench.runs import Record, Run

FEWEST = 6
"""Answers from which on a 95 % interval is told: the whole range of five holds the median in 94 % of cases only."""

_RESAMPLES = 2000
_NO_INTERVAL: dict[str, Any] = {"low": None, "high": None}


def _resampled(size: int) -> NDArray[np.int64]:
    """int64[_RESAMPLES, size]: which of `size` answers each resample has."""
    return np.random.default_rng(0).integers(0, size, (_RESAMPLES, size))


def _bounds(resampled: NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"low": round(float(low), 4), "high": round(float(high), 4)}


def _few(values: Iterable[float]) -> dict[str, Any]:
    """What stands in place of an interval where there are too few answers for one: the values themselves."""
    return {**_NO_INTERVAL, "values": sorted(round(float(value), 4) for value in values)}


def interval(values: Sequence[float]) -> dict[str, Any]:
    """The median and the 95 % bootstrap interval of the median (percentile method, fixed seed).

    Of fewer than `FEWEST` values there is no interval: `low` and `high` are None and `values` holds them, ascending.
    The median of none is None.
    """
    given = np.array(values, dtype=np.float64)
    middle = {"median": round(float(np.median(given)), 4) if len(given) else None}
    if len(given) < FEWEST:
        return {**middle, **_few(values)}
    medians = np.median(given[_resampled(len(given))], axis=1)
    return {**middle, **_bounds(medians)}


def accepted_interval(records: Sequence[Record]) -> dict[str, Any]:
    """The 95 % bootstrap interval, over answers, of tokens per step: {"low", "high"}; few answers as in `interval`."""
    counts = np.array([[len(record["output_ids"]) - 1, record["steps"]] for record in records if record["steps"]])
    if len(counts) < FEWEST:
        return _few(tokens / steps for tokens, steps in counts)
    sums = counts[_resampled(len(counts))].sum(axis=1)
    return _bounds(sums[:, 0] / sums[:, 1])


def decoding_seconds(record: Record) -> float:
    """Seconds of an answer without its prefill."""
    return float(record["seconds"] - record["prefill_seconds"])


def speed(record: Record) -> float | None:
    """Tokens per second after the first one, None for an answer that has no second."""
    seconds = decoding_seconds(record)
    return (len(record["output_ids"]) - 1) / seconds if record["steps"] and seconds > 0 else None


def summarise(records: Sequence[Record], plain: Mapping[str, Record]) -> dict[str, Any]:
    """Figures of one method's answers, paired with plain decoding's.

    speedup         of tokens per second, answer by answer: the median and its interval
    speedup_total   the same of these answers taken together; None where there are none
    """
    steps = sum(record["steps"] for record in records)
    tokens = sum(len(record["output_ids"]) - 1 for record in records)
    seconds = sum(decoding_seconds(record) for record in records)
    pairs = [(record, plain[record["id"]]) for record in records]
    pairs = [(own, base) for own, base in pairs if speed(own) and speed(base)]
    ratios = [(speed(own) or 0.0) / (speed(base) or 1.0) for own, base in pairs]
    return {
        "answers": len(records),
        "tokens": tokens + len(records),
        "steps": steps,
        "accepted_length": round(tokens / steps, 4) if steps else 1.0,
        "accepted_interval": accepted_interval(records),
        "tokens_per_second": round(tokens / seconds, 3) if seconds else 0.0,
        "speedup": interval(ratios),
        "speedup_total": _together(pairs),
        "identical": all(record["output_ids"] == plain[record["id"]]["output_ids"] for record in records),
        "seconds": {
            "prefill": _total(records, "prefill_seconds"),
            "draft": _total(records, "draft_seconds"),
            "forward": _total(records, "forward_seconds"),
            "rest": _total(records, "rest_seconds"),
        },
        "draft_forwards": _asked(records),
        "levels": _levels(records),
        "step_tokens": _step_tokens(records),
    }


def _together(pairs: Sequence[tuple[Record, Record]]) -> float | None:
    """The ratio of two speeds, each over all of these answers together."""
    if not pairs:
        return None
    own, base = (
        sum(len(one["output_ids"]) - 1 for one in side) / sum(map(decoding_seconds, side))
        for side in zip(*pairs, strict=True)
    )
    return round(own / base, 4)


def compare(runs: Mapping[str, Run], names: Iterable[str]) -> dict[str, Any]:
    """The fields of `hierdraft bench run --json`: per method over all answers named, and per task."""
    wanted = list(names)
    plain = runs["none"].records
    found: dict[str, Any] = {}
    for method, run in runs.items():
        records = [run.records[name] for name in wanted]
        tasks: dict[str, list[Record]] = {}
        for record in records:
            tasks.setdefault(record["task"], []).append(record)
        parts = {task: summarise(part, plain) for task, part in tasks.items()}
        found[method] = {**summarise(records, plain), "tasks": parts}
    return {"methods": found}


def _total(records: Sequence[Record], name: str) -> float:
    return round(float(sum(record[name] for record in records)), 4)


def _asked(records: Sequence[Record]) -> int | None:
    """Forwards of the models that the method drafts with; None where it has none, or its records are older."""
    counts = [record["draft_forwards"] for record in records if record.get("draft_forwards") is not None]
    return sum(counts) if counts else None


def _levels(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for record in records:
        for level, counts in record["by_level"].items():
            here = found.setdefault(level, {"proposed": 0, "accepted": 0})
            for what, count in counts.items():
                here[what] += count
    return found


def _step_tokens(records: Sequence[Record]) -> dict[str, int]:
    """How many steps gave each number of tokens."""
    counted = Counter(size for record in records for size in record["step_tokens"])
    return {str(size): counted[size] for size in sorted(counted)}


def area_under_curve(members: Sequence[float], others: Sequence[float], tie: float = 0.0) -> float:
    """The chance that one of `members` is above one of `others`, equal ones counting half: 0.5 tells nothing.

    `tie`: most that equal ones may be apart.
    """
    above = np.asarray(members)[:, None] - np.asarray(others)[None, :]
    return float((above > tie).mean() + (np.abs(above) <= tie).mean() / 2)
