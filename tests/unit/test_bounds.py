"""No kernel reads or writes past the end of an array, also where there is one more level than there are now.

numba checks no index by itself. `make bounds` runs the tests of all kernels with checks, compiled anew, which takes
minutes; here only the kernels that weigh evidence are, whose arrays have a place for every set of levels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG = ("draft", "serve")
"""What takes minutes to compile."""

CHECKED = os.environ.get("NUMBA_BOUNDSCHECK") == "1"


@pytest.mark.parametrize(
    "part",
    ["weigh", *(pytest.param(part, marks=pytest.mark.skipif(not CHECKED, reason="make bounds")) for part in LONG)],
)
def test_one_more_level_stays_inside_every_array(tmp_path: Path, part: str) -> None:
    # Compiled code remembers the sizes that it was made with, and whether it checks: hence a cache of its own.
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.unit.bounded_kernels", part, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not CHECKED, reason="make bounds")
def test_indexes_are_checked_here() -> None:
    import numpy as np
    from numba import njit

    @njit
    def past(array: object, place: int) -> int:
        return array[place]  # type: ignore[index,no-any-return]

    with pytest.raises(IndexError):
        past(np.zeros(3), 3)
