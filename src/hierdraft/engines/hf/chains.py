"""How a model with recurrent states verifies drafts: chains, behind a copy of the states.

A forward of the last token and a chain moves the states over all of it. If all is accepted, they are where they
belong. If not, the copy of before is put back, and what was accepted is scored again, at the beginning of the next
forward: some rows more, and no forward more. So of such a forward a sequence holds everything or nothing.

A model may be unable to continue a text by several rows at a time: some begin with empty states then, and say nothing.
That is found out when the engine is made; the rows of such a model go through it one after another.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from hierdraft.engines.hf.check import alike
from hierdraft.engines.hf.inputs import cache_name, check_inputs
from hierdraft.engines.hf.sequence import HFSequence
from hierdraft.engines.hf.states import Kind, StateCache, state_layout
from hierdraft.errors import UnsupportedModelError
from hierdraft.protocols import Offers, Part, Scored
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine

OFFERS = Offers(trees=False)
_NOTHING = DraftTree.empty()
_BEFORE, _AFTER, _LOUD = 18, 4, 64.0


class StateSequence(HFSequence):
    """One text. Of a forward with a chain it holds nothing until the chain is committed: see `commit`."""

    cache: StateCache

    def __init__(self, engine: HFEngine) -> None:
        """An empty one."""
        super().__init__(engine)
        self._tokens = 0

    def begin(self) -> None:
        """A forward is about to write."""
        self.cache.save()

    def hold(self, part: Part) -> None:
        """All rows of the part are written. Without a chain its tokens are held."""
        self.tree, self._tokens = part.tree, len(part.tokens)
        if len(part.tree) == 0:
            self.cache.hold(self._tokens)
            self.length = self.cache.length

    def commit(self, path: Sequence[int]) -> None:
        """All nodes of the chain: they and the tokens before them are held. Fewer: neither they nor these are."""
        if len(path) < len(self.tree):
            self.drop()
            return
        self.cache.hold(self._tokens + len(path) if len(path) else 0)
        self.length, self.tree = self.cache.length, _NOTHING

    def drop(self) -> None:
        """Nothing of a chain that was not committed counts, nor of the tokens before it."""
        if len(self.tree):
            self.cache.restore()
        self.length, self.tree = self.cache.length, _NOTHING

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens, and of these what is after the last copy of the states."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        self.drop()
        self.cache.rewind(length)
        self.length = self.cache.length


class Chains:
    """What is special about a model with states.

    together  whether it scores several rows behind others in one call
    """

    def __init__(self, model: Any, layout: tuple[Kind, ...]) -> None:
        """`layout`: what each of its layers keeps."""
        self._layout = layout
        self.windows: list[int | None] = [None] * len(layout)
        self.together = True
        self._cache_name = cache_name(model)
        self._positions = "position_ids" in inspect.signature(model.forward).parameters

    @classmethod
    def of(cls, model: Any) -> Chains | None:
        """None for a model whose layers keep rows only."""
        layout = state_layout(model)
        return None if layout is None else cls(model, layout)

    def cache(self) -> StateCache:
        """An empty one."""
        return StateCache(self._layout)

    def score(self, engine: HFEngine, part: Part) -> Scored:
        """What the part is told; its rows are written, and its sequence does not hold them yet."""
        cache: StateCache = part.sequence.cache  # type: ignore[attr-defined]
        ids = [*part.tokens.tolist(), *part.tree.tokens.tolist()]
        wanted = part.rows + len(part.tree)
        cache.reserve(len(ids))
        if self.together or cache.length == 0 or len(ids) == 1:
            logits = self._run(engine, cache, ids, wanted)
        else:
            logits = self._one_by_one(engine, cache, ids, wanted)
        return Scored(logits[len(logits) - wanted :])

    def _run(self, engine: HFEngine, cache: StateCache, ids: list[int], wanted: int) -> torch.Tensor:
        """logits[T, V] of the rows, or of so many of the last of them."""
        device = engine.model.device
        given: dict[str, Any] = {"input_ids": torch.tensor([ids], device=device), self._cache_name: cache}
        if self._positions:
            given["position_ids"] = torch.arange(cache.length, cache.length + len(ids), device=device)[None]
        if len(ids) > 1 and engine.model._supports_logits_to_keep():
            given["logits_to_keep"] = max(1, wanted)
        return engine.run(given)[0]

    def _one_by_one(self, engine: HFEngine, cache: StateCache, ids: list[int], wanted: int) -> torch.Tensor:
        rows = []
        for token in ids:
            rows.append(self._run(engine, cache, [token], 1)[-1])
            cache.hold(1)
        cache.hold(-len(ids))
        return torch.stack(rows[len(rows) - max(1, wanted) :])

    def check(self, engine: HFEngine) -> None:
        """Find out how rows behind others are scored.

        Raises UnsupportedModelError for a model that does not continue a text as it reads one.
        """
        name = engine.architecture
        check_inputs(engine.model, torch.tensor([[1, 2, 3]], device=engine.model.device), {}, self.cache)
        try:
            right = self._continues(engine)
        except Exception as error:  # a model's own code may raise anything
            raise UnsupportedModelError(
                f"{name} cannot continue a text from its states ({type(error).__name__}: {str(error)[:120]})."
            ) from error
        if not right:
            raise UnsupportedModelError(
                f"{name} does not continue a text from its states as it reads a whole one, so drafts cannot be "
                "verified; use its plain generate()."
            )
        warnings.warn(f"{name} keeps recurrent states: {self._told}.", RuntimeWarning, stacklevel=3)

    @property
    def _told(self) -> str:
        """What that means for drafts."""
        if self.together:
            return "of every draft tree the best path is verified"
        return "it scores one row at a time after others, so that drafts save no time and are made on request only"

    def _continues(self, engine: HFEngine) -> bool:
        """Whether rows are scored as in a text that is read as a whole, together or else one after another."""
        after = min(_AFTER, engine.max_length - 2)
        text = [engine.vocab_size * (3 * place % 11 + 1) // 13 for place in range(_BEFORE + after)][
            -engine.max_length :
        ]
        begun, rest = text[:-after], text[-after:]
        whole = engine.run({"input_ids": torch.tensor([text], device=engine.model.device)})[0, -after:]
        self.together = False
        alone, _ = self._after(engine, begun, rest, loud=False)
        if not alike(engine, alone, whole):
            return False
        wanted = self._after(engine, begun, rest, loud=True)
        self.together = True
        self.together = _same(engine, self._after(engine, begun, rest, loud=True), wanted)
        return True

    def _after(
        self, engine: HFEngine, begun: list[int], rest: list[int], *, loud: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Logits of the `rest` as a chain after what was `begun`, and the states after it.

        The states are put back, and all is done again.

        loud   the states of before are made so loud that they are heard in those of after, whatever else is
        """
        with closing(StateSequence(engine)) as sequence:
            sequence.prefill(begun)
            if loud:
                sequence.cache.amplify(_LOUD)
            for _ in range(2):
                logits = sequence.forward(rest[0], DraftTree.chain(rest[1:]))
                states = [None if state is None else state.clone() for state in sequence.cache.states]
                sequence.commit([])
        return logits, states


def _same(engine: HFEngine, found: Any, wanted: Any) -> bool:
    """Whether logits and states, where there are some, differ by no more than rounding."""
    pairs = [(found[0], wanted[0]), *zip(found[1], wanted[1], strict=True)]
    return all(one is other or alike(engine, one, other) for one, other in pairs)
