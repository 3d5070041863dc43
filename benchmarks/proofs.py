"""The proofs that are too long for `make test`, run and recorded.

    python benchmarks/proofs.py        # or: make proofs

Every drafter on the toy engine over all settings, two million tokens against plain decoding; half a million of requests
that come, end and are cancelled beside each other; twenty thousand damaged HTTP requests; two hundred requests of
SmolLM2 through the server, and two hundred samples of it; fifty thousand tokens of models with recurrent states; every
family of models in batches and in forwards of fixed sizes; signals at every moment of a command. Writes
benchmarks/proofs.json: what passed, what failed, how long it took. Ends with 1 where anything failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

from common import machine, write

PROOFS = (
    "tests/lossless/test_toy.py", "tests/lossless/test_together.py", "tests/server/test_fuzz.py",
    "tests/server/test_model.py", "tests/lossless/test_sampled.py", "tests/lossless/test_recurrent.py",
    "tests/lossless/test_graphs.py", "tests/lossless/test_batches.py", "tests/cli/test_endings.py",
)  # fmt: skip


def main() -> int:
    """The exit code."""
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        command = [sys.executable, "-m", "pytest", "-n", "2", f"--junitxml={told}", *PROOFS]
        subprocess.run(command, env={**os.environ, "PROOFS": "1"}, check=False)
        suite = next(ElementTree.parse(told).getroot().iter("testsuite"))  # noqa: S314 - the run above wrote it
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    write("proofs", {"machine": machine(), "proofs": PROOFS, **counts, "seconds": round(float(suite.get("time", "0")))})
    return int(counts["failures"] + counts["errors"] > 0)


if __name__ == "__main__":
    sys.exit(main())
