"""Run by test_cli.py: the command line, with a toy model in the place of a real one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hierdraft import generation
from hierdraft.cli.app import main
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo
from hierdraft.language_model import LanguageModel
from tests.server.test_bounds import Slow
from tests.server.toy import ChatBytes


def load(*_: Any, max_requests: int = 16, queue: int = 256, **__: Any) -> LanguageModel:
    info = PackInfo("model", 257, "fingerprint", model="toy")
    databases = Databases((), Namespaces(Path(os.environ["HIERDRAFT_DATA_DIR"]), info))
    engine = Slow(3, 257, memory=2, eos_ids=(256,))
    return LanguageModel(engine, ChatBytes(), "toy", databases, None, max_requests, queue)


if __name__ == "__main__":
    generation.load = load
    main()
