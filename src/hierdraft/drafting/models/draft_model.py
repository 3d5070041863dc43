"""The method `draft-model`: a smaller model with the target's vocabulary drafts, as a chain or as a tree.

Leviathan et al. (arXiv 2211.17192) and Chen et al. (arXiv 2302.01318) for one candidate in each place, MCSD (Yang et
al., arXiv 2401.06706) for several. Greedily its likeliest tokens are drafted; where the target's tokens are drawn, the
candidates are drawn from the model's law, which is shaped as the request shapes the target's.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Literal

from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.models.following import ModelText, Text
from hierdraft.drafting.models.opened import WithDrafter
from hierdraft.drafting.models.plans import Acceptance, Shape, Trials
from hierdraft.drafting.models.session import Drafting, ModelSession
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, Part, Request, Scored, Scores, Session, Setup
from hierdraft.tree import DraftTree, Int32

_WIDTH, _DEPTH, _MOST = 4, 16, 64

_FEW = 8
"""Tokens that are read before a draft as a rule: forwards with more of them tell nothing of what drafting costs."""


class DraftModelMethod(WithDrafter):
    """A method that drafts with a model.

    draft        the model's name, folder or file
    width        most candidates at each depth, the last one for all that are deeper; None: 4
    depth        most levels; None: as many as `width` has, else 16
    replacement  candidates may be drawn twice for one place
    """

    q_kind: Literal["one_hot", "full"] = "full"
    takes_heads = True

    def __init__(
        self, draft: str, width: tuple[int, ...] | None = None, depth: int | None = None, replacement: bool = False
    ) -> None:
        """Raises UsageError."""
        super().__init__(draft)
        if width is not None and not (width and all(1 <= one <= _MOST for one in width)):
            raise UsageError(f"width must be numbers from 1 to {_MOST}, such as 4+2+2.")
        if depth is not None and not 1 <= depth <= _MOST:
            raise UsageError(f"depth must be from 1 to {_MOST}, not {depth}.")
        self.replacement = replacement
        levels = depth or (len(width) if width is not None else _DEPTH)
        self.shape = Shape(width or (_WIDTH,), levels)
        self._learned = {draws: (Acceptance(), Trials()) for draws in (False, True)}

    def attach(self, setup: Setup) -> None:
        """Load the model. Raises UsageError for one that cannot draft for this target, and what loading raises."""
        super().attach(setup)
        self.shape = Shape(self.shape.width, self.shape.depth, chain=not self.engine.offers.extends)

    def text(self, request: Request) -> Text:
        """A request's text, of which nothing is read yet."""
        if self.reads is not None:
            return HeadText(self.engine, self.reads)
        return ModelText(self.engine, request.namespace)

    def learned(self, *, draws: bool) -> tuple[Acceptance, Trials]:
        """What requests have taught that draw their tokens, or that do not."""
        return self._learned[draws]

    def open(self, request: Request) -> Session:
        """A session; its text is read when it drafts first. Raises UsageError for a target of another vocabulary."""
        return ModelSession(self, request)

    def propose_all(self, asks: Sequence[tuple[Any, Int32, Budget]]) -> list[DraftTree]:
        """Draft for all sessions at once: each forward of the model has the next rows of all that want any."""
        running: dict[int, Drafting] = {
            place: session.drafting(tokens, budget, len(asks)) for place, (session, tokens, budget) in enumerate(asks)
        }
        trees = [DraftTree.empty()] * len(asks)
        sessions = [session for session, _, _ in asks]
        rows: dict[int, list[Scores]] = {}
        while running:
            parts: dict[int, Part] = {}
            for place, drafting in [*running.items()]:
                try:
                    parts[place] = drafting.send(rows[place]) if place in rows else next(drafting)
                except StopIteration as ended:
                    trees[place] = ended.value
                    del running[place]
            rows = self._rows(parts, sessions)
        return trees

    def scored(self, parts: Sequence[Part]) -> list[Scored]:
        """One forward of the model, for texts and for drafts."""
        return self.engine.forward(parts)

    def _rows(self, parts: dict[int, Part], sessions: Sequence[ModelSession]) -> dict[int, list[Scores]]:
        """One forward: the rows of each part."""
        if not parts:
            return {}
        engine, started = self.engine, perf_counter()
        known = sum(_known(part) for part in parts.values())
        scored = self.scored([*parts.values()])
        found = {
            place: [engine.values(one.logits, row) for row in range(len(one.logits))]
            for place, one in zip(parts, scored, strict=True)
        }
        long = [place for place, part in parts.items() if len(part.tokens) > _FEW]
        for place, one in zip(parts, scored, strict=True):
            sessions[place].text.heard(one)
        for place in long:
            sessions[place].reading += (perf_counter() - started) / len(long)
        if not long:
            count = sum(len(part.tokens) + len(part.tree) for part in parts.values()) - known
            engine.record(count, perf_counter() - started, count)
        return found


def _known(part: Part) -> int:
    """Nodes of a part that were scored before."""
    return len(getattr(part.sequence, "tree", ())) if len(part.tokens) == 0 else 0
