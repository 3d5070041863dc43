"""Run by test_endings.py: the command line, with a toy model that talks for ever in the place of a real one.

TOY says what loading is like: `quick`, `computing` (in a library that hears no signal), `swallowing` (in one that
catches everything) or `finalizing` (in a finalizer, which no exception leaves).
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hierdraft import generation
from hierdraft.cli.app import main
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo
from hierdraft.engines.toy import ToyEngine
from hierdraft.generation import LanguageModel
from tests.unit.byte_tokenizer import Bytes

INFO = PackInfo("model", 257, "fingerprint", model="toy")


class Finalized:
    """Is dropped for a second."""

    def __del__(self) -> None:
        time.sleep(1)


def load(*_: Any, **__: Any) -> LanguageModel:
    how = os.environ["TOY"]
    sys.stderr.write("loading\n")
    while how == "computing":
        import numpy as np

        np.sort(np.random.default_rng(0).random(40_000_000))
    while how == "swallowing":
        with suppress(BaseException):  # as bad code does
            time.sleep(60)
    if how == "finalizing":
        try:
            Finalized()
            time.sleep(60)
        finally:
            sys.stderr.write("in order\n")
    namespaces = Namespaces(Path(os.environ["HIERDRAFT_DATA_DIR"]), INFO)
    return LanguageModel(ToyEngine(3, 257, memory=None), Bytes(), "toy", Databases((), namespaces))


if __name__ == "__main__":
    generation.load = load
    main()
