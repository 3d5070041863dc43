"""Every error hierdraft raises on purpose, each with the exit code the command line ends with.

One sentence per error: what is wrong and what to do about it. Exit code 1 is left for unexpected failures
and 2 for wrong command-line usage (the command-line library's own), so ours start at 3.
"""

from __future__ import annotations

import traceback
from pathlib import Path


class HierdraftError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line exits with."""

    exit_code = 3


class UsageError(HierdraftError):
    """A parameter, prompt or combination of options that cannot be honoured."""

    exit_code = 2


class SettingsError(HierdraftError):
    """The settings file or an environment variable is wrong."""

    exit_code = 4


class ModelError(HierdraftError):
    """A model that does not exist, cannot be fetched, or whose files are damaged."""

    exit_code = 5


class CacheError(ModelError):
    """The cache folder cannot be read or written: no permission, no space."""


class UnsupportedModelError(ModelError):
    """A model that cannot be verified against a draft tree, for example because its cache cannot rewind."""

    exit_code = 6


class ContextLengthError(HierdraftError):
    """The prompt leaves no room for one new token in the model's context."""

    exit_code = 7


class MissingDependencyError(HierdraftError):
    """An optional package is needed for what was asked."""

    exit_code = 8


class DraftError(HierdraftError):
    """A drafter broke its contract. Decoding continues without drafts after one warning."""

    exit_code = 9


class EngineBusyError(HierdraftError):
    """What serves one request at a time is in use."""

    exit_code = 10


class PackError(HierdraftError):
    """A pack that cannot be read, is damaged, or belongs to another tokenizer or vocabulary."""

    exit_code = 11


class StoreError(HierdraftError):
    """What a model has said cannot be kept: no space, no permission, in use by another process."""

    exit_code = 12


class CorpusError(HierdraftError):
    """Text or records that a database should be built from cannot be read."""

    exit_code = 13


class AuditError(HierdraftError):
    """Two runs differ in a way that rounding does not explain."""

    exit_code = 14


class SchemaError(HierdraftError):
    """An answer that was asked to follow a JSON schema does not: it was cut, or failed the check at its end."""

    exit_code = 15


class OutputError(HierdraftError):
    """What a command prints cannot be written, for example because the disk is full."""

    exit_code = 16


class QueueFullError(HierdraftError):
    """As many requests as may are running and waiting."""

    exit_code = 17


class ServerError(HierdraftError):
    """A server that does not answer, or answers with an error."""

    exit_code = 18


class DemoDiffersError(HierdraftError):
    """Drafted and plain output of the demonstration differ in a number type that promises they never do."""

    exit_code = 20


class TrainingError(HierdraftError):
    """A drafter cannot be trained: nothing to learn from, a folder of another run, no room for what is written."""

    exit_code = 21


def failed_at(error: BaseException) -> str:
    """The error of a plug-in in words: its kind, what it says, and the line of the plug-in that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not Path(frame.filename).is_relative_to(Path(__file__).parent)]
    own = [frame for frame in others if Path(frame.filename).parent == Path(others[0].filename).parent]
    place = f", {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {error}{place}"


class DraftWarning(UserWarning):
    """Drafting was switched off for a request; the output is unaffected."""


class GenerationConfigWarning(UserWarning):
    """What a model's folder says about how answers are made, and what of it is done."""


class SlowerWarning(UserWarning):
    """Something runs more slowly than it could; the output is unaffected."""
