"""How long `import hierdraft` and `hierdraft --help` take, as whole processes, beside an empty Python.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

from common import machine, write

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import hierdraft": ["-c", "import hierdraft"],
    "hierdraft --help": [
        "-c",
        "import sys; sys.argv = ['hierdraft', '--help']; import hierdraft.cli.app as a; a.main()",
    ],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(16):
        for name, arguments in COMMANDS.items():
            started = perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            if turn:
                times[name].append((perf_counter() - started) * 1e3)
    record = {
        name: {"median": round(statistics.median(v), 1), "min": round(min(v), 1), "max": round(max(v), 1)}
        for name, v in times.items()
    }
    for name, numbers in record.items():
        print(f"{name:<18} {numbers['median']:.0f} ms ({numbers['min']:.0f} to {numbers['max']:.0f})")
    write("startup", {"machine": machine(), "milliseconds": record})


if __name__ == "__main__":
    main()
