"""hierdraft: language models decode faster and say exactly the same.

    import hierdraft
    model = hierdraft.load("smollm2-135m")
    print(model.generate("Why is the sky blue?").text)

With a transformers model at hand: `model.generate(**inputs, custom_generate=hierdraft.hf.decode())`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierdraft import hf
    from hierdraft.generation import LanguageModel, load
    from hierdraft.stream import Generation
    from hierdraft.tree import DraftTree

__version__ = "0.1.0"

__all__ = ["DraftTree", "Generation", "LanguageModel", "__version__", "hf", "load"]

_WHERE = {
    "DraftTree": "hierdraft.tree",
    "Generation": "hierdraft.stream",
    "LanguageModel": "hierdraft.generation",
    "load": "hierdraft.generation",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import hierdraft` stays light."""
    if name == "hf":
        return import_module("hierdraft.hf")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'hierdraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
