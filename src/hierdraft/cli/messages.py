"""The conversation that `generate` answers: a prompt, a system message, earlier turns from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hierdraft.errors import CorpusError, UsageError


def check_together(
    prompt: str | None, system: str | None, file: Path | None, template: str | None, *, demo: bool, raw: bool
) -> None:
    """Raise UsageError for options that do not go together."""
    for_template = [given for given in (system, file, template) if given is not None]
    if demo and (prompt is not None or for_template):
        raise UsageError("Give either a prompt or --demo.")
    if raw and for_template:
        raise UsageError("Messages are put into the chat template: leave out --raw.")


def conversation(prompt: str, system: str | None, file: Path | None) -> str | list[dict[str, Any]]:
    """The prompt alone, or messages that end with it.

    prompt   may be empty where a file has messages
    system   a system message, before all others
    file     JSON: a list of messages, or an object with `messages`

    Raises UsageError, and CorpusError for a file that cannot be read.
    """
    if system is None and file is None:
        return prompt
    messages = read_messages(file) if file is not None else []
    if system is not None and any(message.get("role") == "system" for message in messages):
        raise UsageError(f"{file} has a system message already: leave out --system.")
    first = [] if system is None else [{"role": "system", "content": system}]
    last = [{"role": "user", "content": prompt}] if prompt else []
    return [*first, *messages, *last]


def read_messages(file: Path) -> list[dict[str, Any]]:
    """Messages of a JSON file: a list, or an object with `messages`. Raises CorpusError."""
    wanted = 'a JSON list of messages like {"role": "user", "content": "..."}'
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CorpusError(f"{file} is not {wanted}: {error}.") from error
    if isinstance(found, dict):
        found = found.get("messages")
    if not isinstance(found, list) or not found or not all(isinstance(message, dict) for message in found):
        raise CorpusError(f"{file} is not {wanted}.")
    return found
