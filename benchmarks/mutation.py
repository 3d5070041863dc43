"""What `make mutants` found, as benchmarks/mutation.json: by file, and every mutant that no test noticed.

make mutants && python benchmarks/mutation.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from common import ROOT, machine, write

SURVIVED, UNTESTED = 0, 33


def changed(folder: Path, name: str) -> list[str]:
    """The lines that a mutant takes out and puts in."""
    shown = subprocess.run(["mutmut", "show", name], cwd=folder, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return [line[:1] + " " + line[1:].strip() for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where mutmut ran")
    args = parser.parse_args()
    files: dict[str, Any] = {}
    left: list[dict[str, Any]] = []
    for path in sorted((args.folder / "mutants" / "src").rglob("*.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        if not codes:
            continue
        if None in codes.values():
            raise SystemExit(f"{path.stem} has mutants that were not tried: run make mutants to its end.")
        missed = [name for name, code in codes.items() if code in (SURVIVED, UNTESTED)]
        file = path.relative_to(args.folder / "mutants" / "src" / "hierdraft").as_posix().removesuffix(".meta")
        files[file] = {"mutants": len(codes), "killed": len(codes) - len(missed)}
        left += [
            {"file": file, "name": name.rsplit(".", 1)[1], "change": changed(args.folder, name)} for name in missed
        ]
    total, killed = (sum(row[what] for row in files.values()) for what in ("mutants", "killed"))
    record = {"mutants": total, "killed": killed, "share": round(killed / total, 4), "files": files, "left": left}
    write("mutation", {"machine": machine(), **record})


if __name__ == "__main__":
    main()
