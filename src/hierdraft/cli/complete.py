"""What the shell offers after an option: names, and files of the right kind. None of it loads a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

BESIDE = "hierarchy+draft"
"""On the command line the name of `hierarchy` with the model that --draft names."""


def models(incomplete: str) -> list[str]:
    """Named models and drafters that are models, then folders."""
    from hierdraft.models.drafters import shipped_models
    from hierdraft.models.known import NAMED_MODELS

    return [*_beginning(incomplete, [*NAMED_MODELS, *shipped_models()]), *_paths(incomplete, suffix=None)]


def drafts(incomplete: str) -> list[str]:
    """What drafts: drafters and heads that come with hierdraft, named models, then folders."""
    from hierdraft.models.drafters import shipped
    from hierdraft.models.known import NAMED_MODELS

    return [*_beginning(incomplete, [*shipped(), *NAMED_MODELS]), *_paths(incomplete, suffix=None)]


def named_models(incomplete: str) -> list[str]:
    """Named models only."""
    from hierdraft.models.known import NAMED_MODELS

    return _beginning(incomplete, NAMED_MODELS)


def methods(incomplete: str) -> list[str]:
    """Drafting methods, those of plug-ins too."""
    from hierdraft.registry import method_names

    return _beginning(incomplete, sorted([*method_names(), BESIDE]))


def served_methods(incomplete: str) -> list[str]:
    """Drafting methods that a server can be told."""
    from hierdraft.registry import method_names

    return _beginning(incomplete, method_names())


def several_methods(incomplete: str) -> list[str]:
    """Drafting methods separated by commas, none of them twice."""
    from hierdraft.registry import method_names

    before, comma, last = incomplete.rpartition(",")
    there, found = before.split(","), _beginning(last, sorted([*method_names(), BESIDE]))
    return [f"{before}{comma}{name}" for name in found if name not in there]


def engines(incomplete: str) -> list[str]:
    """Engines."""
    from hierdraft.choices import engine_names

    return _beginning(incomplete, engine_names())


def dtypes(incomplete: str) -> list[str]:
    """Number types."""
    from hierdraft.choices import number_types

    return _beginning(incomplete, number_types())


def dtypes_of_training(incomplete: str) -> list[str]:
    """Number types that can be trained in."""
    from hierdraft.training.settings import DTYPES

    return _beginning(incomplete, DTYPES)


def packs(incomplete: str) -> list[str]:
    """Packs, and folders that may hold some."""
    return list(_paths(incomplete, suffix=".safetensors"))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str, suffix: str | None) -> Iterator[str]:
    """Folders, with a slash, and files with a suffix, as they were begun to be typed."""
    typed, slash, last = incomplete.rpartition("/")
    try:
        folder = Path(f"{typed}{slash}" or ".").expanduser()
        found = sorted(folder.iterdir())
    except (OSError, RuntimeError):  # no such folder, no such user
        return
    for path in found:
        if not path.name.startswith(last) or (path.name.startswith(".") and not last):
            continue
        if path.is_dir():
            yield f"{typed}{slash}{path.name}/"
        elif suffix is not None and path.suffix == suffix:
            yield f"{typed}{slash}{path.name}"
