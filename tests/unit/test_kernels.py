"""Compiled kernels are kept where that is possible, and nothing about keeping them is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hierdraft

PACKAGE = Path(hierdraft.__file__).parent
OUTER = (
    "from pack.kernels import njit\nfrom pack.inner import inner\n\n@njit()\ndef outer(x):\n    return inner(x) + 1\n"
)
INNER = "from pack.kernels import njit\n\n@njit()\ndef inner(x):\n    return x + {}\n"
CALL = "from pack.outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A small package with our `njit`, and two kernels in two files of which one calls the other."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").touch()
    shutil.copy(PACKAGE / "kernels.py", folder)
    (folder / "outer.py").write_text(OUTER)
    (folder / "inner.py").write_text(INNER.format(1))
    return folder


def closed(folder: Path) -> None:
    """Nothing can be kept beside the sources any more, whoever runs the tests."""
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        (place / "__pycache__").touch()


def run(code: str, home: Path, **variables: str) -> tuple[str, str]:
    """What a process prints that has no home folder and no caches but those it is told of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HIERDRAFT_", "XDG_", "NUMBA_"))}
    environment = {**kept, "HOME": "/dev/null", "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_a_read_only_installation_keeps_kernels_in_the_cache_folder(pack: Path, tmp_path: Path) -> None:
    closed(pack)
    named = {"HIERDRAFT_CACHE_DIR": str(tmp_path / "cache")}
    assert run(CALL, tmp_path, **named) == ("3 0", "")
    assert list((tmp_path / "cache" / "kernels").rglob("*.nbc"))
    assert run(CALL, tmp_path, **named) == ("3 1", "")


def test_a_read_only_installation_without_any_folder_works_and_says_once_that_it_is_slow(
    pack: Path, tmp_path: Path
) -> None:
    closed(pack)
    printed, said = run(CALL, tmp_path)
    assert printed == "3 0"
    assert said.count("HIERDRAFT_CACHE_DIR") == 1


def test_every_kernel_can_be_imported_from_a_read_only_installation(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "hierdraft", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    closed(tmp_path / "hierdraft")
    kernels = ("drafting.hierarchy.method", "drafting.hierarchy.batch_requests", "verify.noise", "cli.commands")
    code = "; ".join(f"import hierdraft.{name}" for name in kernels)
    _, said = run(f"{code}; print(hierdraft.__file__)", tmp_path)
    assert said.count("HIERDRAFT_CACHE_DIR") == 1


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(pack: Path, tmp_path: Path) -> None:
    assert run(CALL, tmp_path)[0] == "3 0"
    assert run(CALL, tmp_path)[0] == "3 1"
    (pack / "inner.py").write_text(INNER.format(7))
    assert run(CALL, tmp_path)[0] == "9 0"


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_a_damaged_cache_is_made_again(pack: Path, tmp_path: Path, ending: str) -> None:
    run(CALL, tmp_path)
    for file in (pack / "__pycache__").glob(f"*{ending}"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert run(CALL, tmp_path) == ("3 0", "")
    assert run(CALL, tmp_path) == ("3 1", "")


def test_a_full_disk_keeps_no_kernel_from_running(pack: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert run(f"{full}; {CALL}", tmp_path) == ("3 0", "")
    assert run(CALL, tmp_path)[0] == "3 0"


def test_what_takes_long_is_said_from_time_to_time(pack: Path, tmp_path: Path) -> None:
    log = "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s'); import pack.kernels"
    closed(pack)
    named = {"HIERDRAFT_CACHE_DIR": str(tmp_path / "cache")}
    first = "Compiling the drafting kernels: this is done once, and may take some minutes."
    _, said = run(f"{log}; pack.kernels.TELL_SECONDS = 0; {CALL}", tmp_path, **named)
    assert said.splitlines() == [first, *(f"Still compiling: kernel number {n} is done." for n in (1, 2))]
    assert run(f"{log}; {CALL}", tmp_path, **named)[1] == ""
    (pack / "inner.py").write_text(INNER.format(7))
    assert run(f"{log}; {CALL}", tmp_path, **named)[1].splitlines() == [first]
