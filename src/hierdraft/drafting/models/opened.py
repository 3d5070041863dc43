"""Opening the model that a method drafts with."""

from __future__ import annotations

from hierdraft.errors import UsageError
from hierdraft.protocols import Opened, Setup


def open_drafter(name: str, setup: Setup) -> Opened:
    """The named model. Raises UsageError for one that cannot draft for this target, and what loading raises."""
    if setup.open_engine is None:
        raise UsageError(f"Drafting with {name!r} means loading a second model, and here is no way to do that.")
    opened = setup.open_engine(name)
    reason = _misfit(opened, setup)
    if reason:
        opened.close()
        raise UsageError(f"The model {name!r} cannot draft for this one: {reason}.")
    return opened


def _misfit(opened: Opened, setup: Setup) -> str:
    """Why a model cannot draft for a target, empty where it can."""
    engine, size = opened.engine, setup.vocab_size
    if not engine.offers.trees:
        return "it keeps recurrent states, which cannot follow drafts that are dropped"
    if opened.tokenizer and setup.tokenizer:
        return "" if opened.tokenizer == setup.tokenizer else "its tokenizer is another, so its ids mean other text"
    if size is not None and size != engine.vocab_size:
        return f"it has {engine.vocab_size} token ids, this one {size}"
    return ""
