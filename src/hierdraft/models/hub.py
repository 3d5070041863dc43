"""Models of a hub: what will be fetched is said, and what goes wrong ends in one sentence."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

from hierdraft.errors import ModelError
from hierdraft.models import adapters, files
from hierdraft.models.gguf import SUFFIX, first_parts, parts_like
from hierdraft.privacy import unreported

_HUB_FILES = [
    "*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "*.tiktoken", "openvino_model.xml",
    "openvino_model.bin",
]  # fmt: skip

_USUAL = ("Q4_K_M", "Q4_0", "Q4_1", "Q8_0", "F16")
"""The GGUF file that is taken of several, where none is named: the first of these that there is."""

_log = logging.getLogger(__name__)


def snapshot(name: str, download: bool) -> Path:
    """The folder of a hub model, or its GGUF file; downloaded if need be (never with HF_HUB_OFFLINE=1).

    Of a GGUF file's repository `owner/name:Q4_K_M` names one of the files, by its kind or as a whole; without that it
    is the only one, or one of the usual kinds. Raises ModelError.
    """
    files.require_packages(("huggingface_hub",))
    with unreported():
        from huggingface_hub import snapshot_download

    name, _, kind = name.partition(":")
    with _in_one_sentence(name):
        wanted = _wanted(name, kind) if download else None
        patterns = wanted or [*_HUB_FILES, f"*{SUFFIX}"]
        folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=not download))
        held = sorted(file.relative_to(folder).as_posix() for file in folder.rglob(f"*{SUFFIX}"))
        return folder / _gguf_of(name, held, kind)[0] if kind or _only_gguf(folder) else folder


@contextmanager
def _in_one_sentence(name: str) -> Iterator[None]:
    """Whatever a hub's library raises ends in a ModelError."""
    with unreported():
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
        )

    # Its bases are OSError and the HTTP library's own root error, whichever library this version uses.
    unreachable = cast("tuple[type[BaseException], ...]", HfHubHTTPError.__bases__)
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{name} asks for consent: accept its terms on the hub and log in with hf auth login."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The hub has no model {name}, or it is private: check the name or log in with hf auth login."
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{name!r} is not a valid hub name: it must look like owner/name.") from error
    except unreachable as error:
        # Only the operating system gives a number; what the network client raises itself has none.
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise ModelError(
                f"{name} cannot be stored in the hub's cache ({error.strerror or error}): check the permissions "
                "and free space of the folder in HF_HOME."
            ) from error
        raise ModelError(
            f"{name} is not on this disk and the hub cannot be reached: check the network and "
            "HF_HUB_OFFLINE, or give a local folder."
        ) from error


def _only_gguf(folder: Path) -> bool:
    """Whether a folder has nothing to run but GGUF files."""
    others = [*folder.glob("*.safetensors"), folder / "openvino_model.xml", folder / adapters.CONFIG]
    return any(folder.rglob(f"*{SUFFIX}")) and not any(map(Path.exists, others))


def _wanted(name: str, kind: str) -> list[str] | None:
    """Patterns of what is to be fetched, which is said if it is not here; None: of what is here, since that is enough.

    Raises ModelError, and what the hub's library does.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    here = (try_to_load_from_cache(name, file) for file in ("config.json", adapters.CONFIG))
    if constants.HF_HUB_OFFLINE:
        return None
    if not kind and any(isinstance(file, str) for file in here):
        return _HUB_FILES
    found = HfApi().model_info(name, files_metadata=True)
    there = [file.rfilename for file in found.siblings or []]
    ggufs = [file for file in there if file.endswith(SUFFIX)]
    weights = any(fnmatch(file, one) for file in there for one in ("*.safetensors", "openvino_model.xml"))
    if not kind and (weights or not ggufs):
        _announce(name, found, _HUB_FILES)
        return _HUB_FILES
    wanted = _gguf_of(name, ggufs, kind)
    patterns = [re.sub(r"[\[?*]", r"[\g<0>]", file) for file in wanted]  # names, not patterns
    if not all(isinstance(try_to_load_from_cache(name, file), str) for file in wanted):
        _announce(name, found, patterns)
    return patterns


def _gguf_of(name: str, there: Sequence[str], kind: str) -> list[str]:
    """Of the GGUF files of a repository the one that is meant, with all its parts. Raises ModelError."""
    models = [file for file in first_parts(there) if "mmproj" not in file]
    named = re.compile(rf"(.*[-_./])?{re.escape(kind)}([-_.].*)?", re.IGNORECASE)
    if kind:
        ends = tuple(f"{before}{kind}{SUFFIX}".lower() for before in "-.")
        found = [file for file in models if file == kind] or [file for file in models if file.lower().endswith(ends)]
        found = found if len(found) == 1 else [file for file in models if named.fullmatch(file)]
    else:
        found = models[:1] if len(models) == 1 else []
        for usual in _USUAL:
            found = found or [file for file in models if usual.lower() in file.lower()]
    if len(found) != 1:
        shown = ", ".join(found or models) or "none"
        what = f"several for {kind or 'it'}" if len(found) > 1 else f"none for {kind}" if kind else "no usual one"
        raise ModelError(f"Of its GGUF files {name} has {what}: name one, {name}:FILE, of {shown}.")
    return parts_like(found[0])


def _announce(name: str, found: Any, wanted: Sequence[str]) -> None:
    """Say what will be fetched from the hub."""
    fetched = [file for file in found.siblings or [] if any(fnmatch(file.rfilename, kind) for kind in wanted)]
    licence = next((tag.partition(":")[2] for tag in found.tags or [] if tag.startswith("license:")), "not stated")
    size = sum(file.size or 0 for file in fetched) / 1e6
    _log.info("Fetching %s: %.0f MB to download; licence: %s; from the hub.", name, size, licence)
