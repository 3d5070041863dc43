"""What environments take on disk, and what in them takes most of it.

    python -m venv light && light/bin/pip install '.[openvino]'
    python benchmarks/installed.py "'.[openvino]'=light" "'.[hf,convert]'=.venv"

Each argument is a name and the folder of a virtual environment. Writes benchmarks/installed.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common import machine, write


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def measured(environment: Path) -> dict[str, Any]:
    """Megabytes of everything that is installed, and of the five largest packages."""
    packages = next(environment.glob("lib/python*/site-packages"))
    parts = {entry.name: size(entry) for entry in packages.iterdir() if entry.is_dir()}
    largest = sorted(parts, key=lambda name: -parts[name])[:5]
    return {
        "megabytes": round(size(packages) / 1e6),
        "packages": len(list(packages.glob("*.dist-info"))),
        "largest": {name: round(parts[name] / 1e6) for name in largest},
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("environments", nargs="+", help="NAME=FOLDER")
    found = {}
    for one in parser.parse_args().environments:
        name, _, folder = one.rpartition("=")
        found[name] = measured(Path(folder))
    about = machine()
    about["command"] = "python benchmarks/installed.py NAME=FOLDER ..."
    write("installed", {"machine": about, "environments": found})


if __name__ == "__main__":
    main()
