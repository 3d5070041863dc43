"""Libraries that report to their makers, imported and run so that they do not.

openvino-telemetry makes a client id below the home folder and sends events as soon as `openvino` is imported; nncf does
so too. The hub's client tells its server about this machine with every request; vLLM reports what it serves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
"""Environment variables that switch reports off in the libraries that have such a variable."""

_REPORTER = "openvino_telemetry"
_turn = RLock()


@contextmanager
def unreported() -> Iterator[None]:
    """What is imported in this block reports to nobody, then or later; nothing else of the process changes.

    The libraries look once, when they are imported. openvino and nncf have no switch but do without
    openvino-telemetry where it cannot be imported, which is so inside this block.
    """
    with _turn:
        missing = [name for name in QUIET if name not in os.environ]
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _REPORTER}
        sys.modules[_REPORTER] = None  # type: ignore[assignment] # Python's own way to say: not importable
        os.environ.update({name: QUIET[name] for name in missing})
        try:
            yield
        finally:
            del sys.modules[_REPORTER]
            sys.modules.update(hidden)
            for name in missing:
                del os.environ[name]
