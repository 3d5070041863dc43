"""What a transformers script needs: `decode()` for `generate`'s `custom_generate`, and the engine below it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine
    from hierdraft.engines.hf.lean import make_lean
    from hierdraft.integrations.transformers import decode

__all__ = ["HFEngine", "decode", "make_lean"]

_WHERE = {
    "HFEngine": "hierdraft.engines.hf.engine",
    "decode": "hierdraft.integrations.transformers",
    "make_lean": "hierdraft.engines.hf.lean",
}


def __getattr__(name: str) -> Any:
    """Imported when it is first used. Raises MissingDependencyError where torch or transformers is not installed."""
    if name not in _WHERE:
        raise AttributeError(f"module 'hierdraft.hf' has no attribute {name!r}")
    from hierdraft.models.files import require_packages

    require_packages(("torch", "transformers"))
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
