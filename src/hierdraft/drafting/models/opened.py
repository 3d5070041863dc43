"""Opening the model that a method drafts with."""

from __future__ import annotations

from hierdraft.errors import UsageError
from hierdraft.protocols import Engine, Opened, Reads, Request, Setup, Wants
from hierdraft.tree import Int32


class WithDrafter:
    """What methods have in common that draft with a model: its name, and the model once it is loaded."""

    uses_databases = False
    takes_heads = False

    def __init__(self, draft: str) -> None:
        """Raises UsageError where no model is named."""
        if not draft:
            raise UsageError("draft must name a model: write draft=NAME.")
        self.draft = draft
        self.vocab_size: int | None = None
        self._opened: Opened | None = None

    def attach(self, setup: Setup) -> None:
        """Load the model. Raises UsageError for one that cannot draft for this target, and what loading raises."""
        if self._opened is not None:
            raise UsageError("This method drafts for another model already: make another method.")
        self._opened, self.vocab_size = open_drafter(self.draft, setup, heads=self.takes_heads), setup.vocab_size

    @property
    def engine(self) -> Engine:
        """What runs the model. Raises UsageError where none is loaded."""
        if self._opened is None:
            raise UsageError(f"The method has no model {self.draft!r}: it is closed, or was not attached.")
        return self._opened.engine

    @property
    def ids(self) -> Int32 | None:
        """What the columns of its rows are of, None: ids from 0 on."""
        return self._opened.ids if self._opened is not None else None

    @property
    def reads(self) -> Reads | None:
        """What it reads of its target; None: it is no head."""
        return self._opened.reads if self._opened is not None else None

    @property
    def wants(self) -> Wants:
        """The hidden states that a head reads."""
        return Wants() if self.reads is None else Wants(hidden=self.reads.layers)

    def target_size(self, request: Request) -> int:
        """How many ids a request's target has. Raises UsageError for a target of another vocabulary."""
        own = _size(self.engine, self.reads)
        if self.vocab_size is None and request.vocab_size not in (None, own):
            what = f"it has {own} token ids, this one {request.vocab_size}"
            raise UsageError(f"The model {self.draft!r} cannot draft for this one: {what}.")
        return request.vocab_size or self.vocab_size or own

    def close(self) -> None:
        """Let go of the model."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


def open_drafter(name: str, setup: Setup, *, heads: bool, exits: bool = False) -> Opened:
    """The named model. Raises UsageError for one that cannot draft for this target, and what loading raises.

    heads   whether it may be a head
    exits   whether it must be exits of the target
    """
    if setup.open_engine is None:
        raise UsageError(f"Drafting with {name!r} means loading a second model, and here is no way to do that.")
    opened = setup.open_engine(name)
    reason = _misfit(opened, setup)
    if opened.reads is not None and not heads:
        reason = "it is a head, which this method cannot ask: use draft-model or hierarchy"
    if (opened.exits is not None) != exits:
        reason = "early-exit takes trained exits only" if exits else "these are its exits, which only early-exit takes"
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
    own = _size(engine, opened.reads)
    return f"it has {own} token ids, this one {size}" if size not in (None, own) else ""


def _size(engine: Engine, reads: Reads | None) -> int:
    """How many ids it knows, its masks not among them."""
    block = None if reads is None else reads.block
    return engine.vocab_size - (0 if block is None or block.ids is None else len(block.ids))
