"""What a run was made with: machine, software, model, databases; and how two runs differ in it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hierdraft.bench.datasets import Question
from hierdraft.databases.pack import Pack

PASSING = ("date", "commit", "method")
"""Fields of a run's header that may differ between runs that are compared; `code` says whether the program changed."""

_PACKAGE = Path(__file__).resolve().parent.parent
_ABSENT = object()
_DIGITS = 16


def made_with(model: Any) -> dict[str, Any]:
    """Facts of a loaded `LanguageModel` and of this machine, as they stand in a run's header.

    dtype, engine, device, threads, exact   what is in force, never `auto`
    packs     what can be drafted from, the pack that comes with the model included: see `pack_facts`
    learn     whether answers are learned for later ones
    code      digest of hierdraft's own files; `commit` only where they lie in a checkout
    """
    engine = model.engine
    packages = ["torch", "transformers", "tokenizers", *(["openvino"] if engine.name == "openvino" else [])]
    return {
        "dtype": engine.dtype, "engine": engine.name, "device": engine.device, "threads": engine.threads,
        "exact": engine.exact, "learn": model.databases.namespaces is not None,
        **versions(packages), **made_without_model(model.databases.packs),
    }  # fmt: skip


def made_without_model(packs: Iterable[Pack]) -> dict[str, Any]:
    """What is left of it where recorded output stands in for a model."""
    return {
        "packs": [pack_facts(pack) for pack in packs],
        **versions(("hierdraft", "numpy", "numba")), **machine(), **program(),
    }  # fmt: skip


def pack_facts(pack: Pack) -> dict[str, Any]:
    """A database's name, level and licence, its size, and the digest of its tokens (as `db inspect --json` has it)."""
    info = pack.info
    return {
        "name": pack.path.name, "level": info.level, "tokens": info.tokens, "licence": info.licence,
        "sha256": info.checksums.get("tokens", ""),
    }  # fmt: skip


def questions_digest(questions: Iterable[Question]) -> str:
    """Tells two data sets apart that bear the same name."""
    rows = [[one.id, one.task, list(one.turns), one.raw] for one in questions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:_DIGITS]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, how many of them, system and Python."""
    return {
        "cpu": cpu_model(), "cpus": os.cpu_count(), "machine": f"{platform.machine()} {platform.system()}",
        "python": platform.python_version(),
    }  # fmt: skip


def cpu_model(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or what the system calls its kind."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())


def program() -> dict[str, Any]:
    """Digest of hierdraft's own files, the commit where they lie in a checkout, and the time."""
    found: dict[str, Any] = {"code": _code(_PACKAGE)}
    commit = _commit(_PACKAGE)
    if commit is not None:
        found["commit"] = commit
    return {**found, "date": now()}


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _code(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        place = file.relative_to(package)
        if file.suffix in (".py", ".jsonl", ".safetensors") and "packs" not in place.parts:
            digest.update(f"{place.as_posix()}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def _commit(package: Path) -> str | None:
    """The commit that is checked out, with `+changes` where the package's files are not as in it."""
    root, git = package.parent.parent, shutil.which("git")
    if git is None or package.parent.name != "src" or not (root / ".git").exists():
        return None
    head = _git(git, root, "rev-parse", "HEAD")
    return head and head + ("+changes" if _git(git, root, "status", "--porcelain", "--", "src") else "")


def _git(git: str, root: Path, *arguments: str) -> str | None:
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or None if done.returncode == 0 else None


def differences(then: Mapping[str, Any], now: Mapping[str, Any], word: str = "now") -> list[str]:
    """What two headers do not agree in: 'with another threads (2, now 4)'. Both are as JSON has them.

    A field that only one of them has is named alone: older versions recorded less.
    """
    found = []
    for key in dict.fromkeys([*now, *then]):
        one, other = then.get(key, _ABSENT), now.get(key, _ABSENT)
        if key in PASSING or one == other:
            continue
        if one is _ABSENT:
            found.append(f"without a record of its {key}")
        elif other is _ABSENT:
            found.append(f"with its {key} recorded, unlike {word}")
        else:
            found.append(f"with another {key} ({_change(one, other, word)})")
    return found


def _change(one: Any, other: Any, word: str) -> str:
    said = [brief(one), brief(other)]
    return f"{said[0]}, {word} {said[1]}" if said[0] != said[1] else f"{said[0]}, with other contents"


def brief(value: Any) -> str:
    """A header's value in a few words: databases by name, settings as `key value`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {brief(one)}" for key, one in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        names = [str(one.get("name", "?")) if isinstance(one, Mapping) else str(one) for one in value]
        return " + ".join(names) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
