"""Models of a hub: what will be fetched is said, and what goes wrong ends in one sentence."""

from __future__ import annotations

import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

from hierdraft.errors import ModelError
from hierdraft.models import adapters, files
from hierdraft.privacy import unreported

_HUB_FILES = [
    "*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "*.tiktoken", "openvino_model.xml",
    "openvino_model.bin",
]  # fmt: skip

_log = logging.getLogger(__name__)


def snapshot(name: str, download: bool) -> Path:
    """The folder of a hub model, downloaded if need be (never with HF_HUB_OFFLINE=1). Raises ModelError."""
    files.require_packages(("huggingface_hub",))
    with unreported():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
        )

    # Its bases are OSError and the HTTP library's own root error, whichever library this version uses.
    unreachable = cast("tuple[type[BaseException], ...]", HfHubHTTPError.__bases__)
    try:
        if download:
            _announce(name)
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=not download))
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


def _announce(name: str) -> None:
    """Say what will be fetched from the hub, if it is not here. Raises what `snapshot_download` does."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    here = (try_to_load_from_cache(name, file) for file in ("config.json", adapters.CONFIG))
    if constants.HF_HUB_OFFLINE or any(isinstance(file, str) for file in here):
        return
    found = HfApi().model_info(name, files_metadata=True)
    wanted = [file for file in found.siblings or [] if any(fnmatch(file.rfilename, kind) for kind in _HUB_FILES)]
    licence = next((tag.partition(":")[2] for tag in found.tags or [] if tag.startswith("license:")), "not stated")
    size = sum(file.size or 0 for file in wanted) / 1e6
    _log.info("Fetching %s: %.0f MB to download; licence: %s; from the hub.", name, size, licence)
