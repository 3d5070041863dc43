"""What a transformers script needs: `decode()` for `generate`'s `custom_generate`, and the engine below it."""

from __future__ import annotations

from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.integrations.transformers import decode

__all__ = ["HFEngine", "decode", "make_lean"]
