"""Everything the README and docs report, one script after the other (several hours on two cores).

make bench
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# replay.py, spec_bench.py, budgets.py and gpu.py are not among them: they need recorded output, questions or a device
RUNS = (
    ("startup.py",),
    ("databases.py",),
    ("forward_cost.py",),
    ("step_profile.py",),
    ("decoding.py", "--dtype", "float32"),
    ("decoding.py", "--dtype", "bfloat16"),
    ("lossless.py", "--dtype", "float32", "--greedy", "210", "--sampled", "105"),
    ("lossless.py", "--dtype", "bfloat16", "--tokens", "128", "--greedy", "7", "--sampled", "7", "--itself"),
    ("grammars.py",),
)


def main() -> None:
    here = Path(__file__).resolve().parent
    for script, *arguments in RUNS:
        print("python", f"benchmarks/{script}", *arguments, flush=True)
        subprocess.run([sys.executable, str(here / script), *arguments], check=True)


if __name__ == "__main__":
    main()
