"""The method `easyspec`: a model drafts with layers that attend from the same input (Wu et al., arXiv 2502.02493).

On several devices the attention of a group of layers can then run at a time, which is where the time is won; here it
runs one after another, so that this method shows what such drafts are worth, and is not faster. A draft's forwards are
made in groups; what was accepted is read again as it is, together with the next token ("bonus calibration"), so that
what the groups get wrong does not add up. The authors' code pairs layers and leaves the first and last four alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.models.following import ModelText, Text
from hierdraft.errors import UsageError
from hierdraft.protocols import Part, Request, Scored, Setup


class EasySpecMethod(DraftModelMethod):
    """See `DraftModelMethod`.

    group      layers that attend from the same input; 1: as they are
    ends       how many of the first and of the last layers are left alone
    calibrate  whether what was accepted is read again
    """

    takes_heads = False

    def __init__(
        self, draft: str, width: tuple[int, ...] | None = None, depth: int | None = None, replacement: bool = False,
        group: int = 2, ends: int = 4, calibrate: bool = True,
    ) -> None:  # fmt: skip
        """Raises UsageError."""
        super().__init__(draft, width, depth, replacement)
        if group < 1 or ends < 0:
            raise UsageError(f"group must be at least 1 and ends at least 0, not {group} and {ends}.")
        self.group, self.ends, self.calibrate = group, ends, calibrate

    def attach(self, setup: Setup) -> None:
        """Load the model. Raises UsageError for an engine that cannot do this, and what loading raises."""
        super().attach(setup)
        engine: Any = self.engine
        if not hasattr(engine, "forward_in_groups") or not engine.offers.extends:
            self.close()
            raise UsageError("easyspec runs layers in groups, which this engine does not do: --engine hf.")

    def text(self, request: Request) -> Text:
        """A request's text, of which nothing is read yet."""
        kind = _ReadAgain if self.calibrate else ModelText
        return kind(self.engine, request.namespace)

    def scored(self, parts: Sequence[Part]) -> list[Scored]:
        """Texts as they are, drafts in groups."""
        engine: Any = self.engine
        drafts = [place for place, part in enumerate(parts) if len(part.tokens) == 0]
        texts = [place for place, part in enumerate(parts) if len(part.tokens)]
        found: dict[int, Scored] = {}
        if texts:
            found |= zip(texts, engine.forward([parts[place] for place in texts]), strict=True)
        if drafts:
            made = engine.forward_in_groups([parts[place] for place in drafts], self.group, self.ends)
            found |= zip(drafts, made, strict=True)
        return [found[place] for place in range(len(parts))]


class _ReadAgain(ModelText):
    """A text that keeps nothing of what was scored as a draft."""

    def settle(self, path: Sequence[int], length: int) -> None:  # noqa: ARG002
        if self._sequence is not None:
            self._sequence.commit([])
            self._held = self._sequence.length
