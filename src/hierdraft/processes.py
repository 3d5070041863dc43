"""Our own processes beside this one: quiet, offline, and gone when this one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from hierdraft import privacy

_QUIET = {
    **privacy.QUIET,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one of hierdraft's modules in a process of its own, offline and quietly, and captures what it prints."""
    home = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    # -P: nothing in the current folder may shadow torch or transformers.
    return run_command([sys.executable, "-P", "-m", module, *arguments], {**_QUIET, "PYTHONPATH": path})


def run_command(command: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command whose parts we chose ourselves, without a shell, and captures what it prints."""
    # Nothing is ever written into the pipe; its end tells the child that this process is gone.
    watched, held = os.pipe()
    try:
        return subprocess.run(  # noqa: S603
            command,
            env={**os.environ, **env},
            stdin=watched,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        os.close(watched)
        os.close(held)


def ending(returncode: int) -> str:
    """What ended a process that did not end by itself: its signal by name, and what to look at where that is known."""
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"was ended by {name}" + (": check the free memory" if name == "SIGKILL" else "")


def stop_with_parent() -> None:
    """Ends this process when its parent's end of the standard input pipe closes, even by kill -9."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    Thread(target=wait, daemon=True).start()
