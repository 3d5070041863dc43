"""What callers pass to `generate` and `stream`, checked: one sentence for each thing that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.databases.namespace import check_name
from hierdraft.errors import UsageError
from hierdraft.text.prompts import check_text
from hierdraft.verify.sampling import Sampling

_METHOD = ("q_kind", "wants", "attach", "open", "close")
_DRAFTER = ("q_kind", "wants", "start", "propose", "observe", "finish")
_CONSTRAINT = ("ban", "advance", "rewind", "forced")


def check_options(
    *, method: Any, budget: Any, chat: Any, ignore_eos: Any, namespace: Any, schema: Any, lenient: Any,
    schema_folders: Any, constraint: Any, logprobs: Any, trace: Any, background: Any, unread: Any,
) -> None:  # fmt: skip
    """Raise UsageError for an option of the wrong type."""
    drafts = isinstance(method, str) or (
        not isinstance(method, type) and (_has(method, _METHOD) or _has(method, _DRAFTER))
    )
    fits = {
        "method": (drafts, "the name of a drafting method or a Method"),
        "budget": (isinstance(budget, str) or _whole(budget), "'auto' or a number of nodes"),
        "chat": (isinstance(chat, bool | str) and chat != "", "True, False or the name of a chat template"),
        "ignore_eos": (isinstance(ignore_eos, bool), "True or False"),
        "background": (isinstance(background, bool), "True or False"),
        "namespace": (isinstance(namespace, str), "a text"),
        "schema": (
            schema is None or isinstance(schema, str | Path | Mapping),
            "a JSON schema: an object, text or a Path",
        ),
        "lenient": (isinstance(lenient, bool), "True or False"),
        "schema_folders": (_are_folders(schema_folders), "a list of folders"),
        "trace": (isinstance(trace, bool), "True or False"),
        "unread": (unread is None or (_whole(unread) and unread >= 1), "a whole number of at least 1"),
        "logprobs": (logprobs is None or (_whole(logprobs) and logprobs >= 0), "a whole number of at least 0"),
        "constraint": (constraint is None or _has(constraint, _CONSTRAINT), "a Constraint"),
    }
    given = {"method": method, "budget": budget, "chat": chat, "ignore_eos": ignore_eos, "namespace": namespace,
             "schema": schema, "lenient": lenient, "schema_folders": schema_folders,
             "constraint": constraint, "logprobs": logprobs, "trace": trace,
             "background": background, "unread": unread}  # fmt: skip
    for name, (right, wanted) in fits.items():
        if not right:
            raise UsageError(f"{name} must be {wanted}, not {_shown(given[name])}.")
    check_name(namespace)


def _are_folders(given: Any) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(folder, str | Path) for folder in given)


def stop_strings(stop: Any) -> tuple[str, ...]:
    """The strings that end an answer: a text, several, or None. Raises UsageError."""
    strings = (stop,) if isinstance(stop, str) else () if stop is None else stop
    if isinstance(strings, Mapping | bytes) or not isinstance(strings, Iterable):
        raise UsageError(f"stop must be a text or a list of texts, not {_shown(stop)}.")
    found = tuple(strings)
    for string in found:
        if not isinstance(string, str):
            raise UsageError(f"stop must be a text or a list of texts, not a list with {_shown(string)}.")
        if not string:
            raise UsageError("A stop string must not be empty.")
        check_text(string, "stop string")
    return found


def processor_list(processors: Any) -> list[Any]:
    """Logits processors, none for None. Raises UsageError."""
    if processors is None:
        return []
    if callable(processors) or isinstance(processors, str | bytes | Mapping) or not isinstance(processors, Iterable):
        raise UsageError(f"processors must be a list of logits processors, not {_shown(processors)}.")
    found = list(processors)
    for one in found:
        if isinstance(one, type) or not callable(one):
            raise UsageError(f"processors must be a list of logits processors, not a list with {_shown(one)}.")
    return found


def token_limit(given: Any) -> int:
    """A number of new tokens. Raises UsageError."""
    if not _whole(given) or given < 1:
        raise UsageError(f"max_new_tokens must be a whole number of at least 1, not {_shown(given)}.")
    return int(given)


def sampling_of(given: Mapping[str, Any], vocab_size: int) -> Sampling:
    """Checked settings with a seed. Raises UsageError for an unknown name or a value that cannot be used."""
    known = [field.name for field in fields(Sampling)]
    for name in given:
        if name not in known:
            raise UsageError(f"There is no option {name!r}: of sampling there are {', '.join(known)}.")
    chosen = Sampling(**{name: value for name, value in given.items() if value is not None})
    chosen.check(vocab_size)
    return chosen.seeded()


def _has(value: object, names: Sequence[str]) -> bool:
    return all(hasattr(value, name) for name in names)


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
