"""The method `early-exit`: the target's first layers draft, through trained exits, and it goes on where they ended.

Self-speculation as in LayerSkip (Elhoushi et al., arXiv 2404.16710), of a target that stays as it is: its exits are
trained beside it (`hierdraft train head --kind exit`). What the first layers have made of a drafted token is not made
again: the verifying forward continues from there, with the same keys and values.

Where to exit and how long to draft is chosen anew for every draft, after DEL (Entezari Zarch et al., arXiv 2504.05598):
the verified positions are looked at from all exits ("shadow tokens"), which gives for each how often it agrees with the
target; of all exits and lengths the one with the most expected tokens a second is taken. A draft ends early after a
token of which its exit is less sure than half way between what it was when it was wrong and when it was right lately.
Theirs counts layers; here a draft costs what it took, the output rows included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hierdraft.drafting.models.laws import Shaper
from hierdraft.drafting.models.opened import open_drafter
from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Budget, Opened, Part, Request, Session, Setup, Step, Wants
from hierdraft.scoring import Layered
from hierdraft.tree import DraftTree, Int32

MOST = 18
"""Longest draft."""

_FADE, _SHADOWS = 0.95, 32
_RATE = 0.1


@dataclass(frozen=True)
class Exits:
    """Trained exits.

    layers  after which of the target's layers, rising
    say     (which of them, hidden states [T, dim]) -> float32[T, K]: a logit for each output row
    """

    layers: tuple[int, ...]
    say: Callable[[int, Array], NDArray[np.float32]]


class EarlyExitMethod:
    """Drafting with the target's own first layers.

    draft   the folder of the exits
    layer   after which layer it exits; None: chosen for every draft
    length  tokens of a draft; None: chosen for every draft, at most 18
    """

    q_kind: Literal["one_hot", "full"] = "one_hot"
    uses_databases = False

    def __init__(self, draft: str, layer: int | None = None, length: int | None = None) -> None:
        """Raises UsageError."""
        if not draft:
            raise UsageError("draft must name a folder of exits: write draft=NAME.")
        if length is not None and not 1 <= length <= 64:
            raise UsageError(f"length must be from 1 to 64, not {length}.")
        self.draft, self.layer, self.length = draft, layer, length
        self._opened: Opened | None = None
        self.target: Any = None
        self.choice: Choice | None = None

    def attach(self, setup: Setup) -> None:
        """Read the exits. Raises UsageError for a target whose layers do not run by themselves, and for other exits."""
        if setup.target is None or not isinstance(setup.target, Layered) or not setup.offers.partial:
            raise UsageError(
                "early-exit runs some of the target's layers by themselves, which this engine does not do: --engine hf."
            )
        self._opened = open_drafter(self.draft, setup, heads=False, exits=True)
        exits = self.exits
        if max(exits.layers) >= setup.offers.layers:
            raise UsageError(f"The exits {self.draft!r} are for a target of more layers than {setup.offers.layers}.")
        if self.layer is not None and self.layer not in exits.layers:
            raise UsageError(f"layer must be one of {list(exits.layers)}, not {self.layer}.")
        self.target = setup.target
        places = [exits.layers.index(self.layer)] if self.layer is not None else [*range(len(exits.layers))]
        self.choice = Choice(len(exits.layers), places, self.length)

    @property
    def exits(self) -> Exits:
        """What is drafted with. Raises UsageError where nothing is."""
        if self._opened is None or self._opened.exits is None:
            raise UsageError(f"The method has no exits {self.draft!r}: it is closed, or was not attached.")
        exits: Exits = self._opened.exits
        return exits

    @property
    def ids(self) -> Int32 | None:
        """What the columns of its rows are of, None: ids from 0 on."""
        return self._opened.ids if self._opened is not None else None

    @property
    def wants(self) -> Wants:
        """The states that exits read, of verified positions too; nothing before there are any."""
        if self._opened is None:
            return Wants()
        return Wants(hidden=self.exits.layers, prompt_rows=_SHADOWS)

    def open(self, request: Request) -> Session:
        """A session. Raises UsageError where the target's own sequence is not shown."""
        if request.sequence is None:
            raise UsageError("early-exit needs the target's own sequence, which this loop does not show.")
        return _Session(self, request)

    def close(self) -> None:
        """Let go of the exits."""
        self._opened = None


class _Session:
    def __init__(self, method: EarlyExitMethod, request: Request) -> None:
        if method.choice is None:
            raise UsageError(f"The method has no exits {method.draft!r}.")
        self._exits, self._engine, self._choice = method.exits, method.target, method.choice
        self._sequence: Any = request.sequence
        self._shaper = Shaper(request.sampling, request.vocab_size or self._engine.vocab_size, replacement=False,
                              ids=method.ids)  # fmt: skip
        self._ids = method.ids

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """What the first layers say next, one token after another."""
        if self._sequence.length != len(tokens) - 1:
            return DraftTree.empty()
        room = min(budget.nodes, budget.depth, self._engine.max_length - len(tokens))
        place, length = self._choice.best(self._engine.cost, room)
        said: list[int] = []
        prob, above = list[float](), 1.0
        while len(said) < length:
            started = perf_counter()
            part = Part(self._sequence, tokens[-1:], DraftTree.chain(np.array(said, np.int32)), 1, self._exits.layers)
            states = self._engine.forward_layers(part, 0, self._exits.layers[place])
            row = self._exits.say(place, states[-1:])[0]
            best, promised = self._shaper.best(row, np.append(tokens, np.array(said, dtype=np.int32)), 1)
            self._choice.took(place, perf_counter() - started)
            if not best:
                break
            above *= promised[0]
            said.append(best[0])
            prob.append(above)
            if promised[0] < self._choice.threshold(place):
                break
        return DraftTree.build(said, [*range(-1, len(said) - 1)], prob=prob)

    def observe(self, step: Step) -> None:
        """Look at the verified positions from every exit."""
        layers = self._exits.layers
        if any(layer not in step.hidden for layer in layers):
            return
        rows = [*range(-min(_SHADOWS, len(step.choices)), 0)] if step.prefill else [0, *(1 + n for n in step.path)]
        choices = step.choices[rows]
        for place, layer in enumerate(layers):
            states = step.hidden[layer][-1]
            if step.prefill and len(states) < len(rows):
                return
            found = self._exits.say(place, states[rows])
            best = found.argmax(axis=1)
            sure = 1.0 / np.exp(found - found[np.arange(len(best)), best][:, None]).sum(axis=1)
            said = best if self._ids is None else self._ids[best]
            self._choice.learn(place, said == choices, sure)

    def finish(self, tokens: Int32) -> None:
        """Nothing of it is held."""


class Choice:
    """Where to exit and how long to draft; what requests have shown counts for the next, the older the less."""

    def __init__(self, exits: int, places: list[int], length: int | None) -> None:
        """Of so many exits those that may be taken; `length`: that of every draft, None: chosen."""
        self._places, self._length = places, length
        self._right, self._wrong = np.ones(exits), np.ones(exits)
        self._sure = np.zeros((2, exits))
        self._seconds = np.zeros(exits)

    def learn(self, place: int, right: NDArray[np.bool_], sure: NDArray[Any]) -> None:
        """At verified positions in turn: whether an exit says what the target says, and how sure it is of that."""
        for agrees, own in zip(right.tolist(), sure.tolist(), strict=True):
            self._right[place] = _FADE * self._right[place] + agrees
            self._wrong[place] = _FADE * self._wrong[place] + (not agrees)
            self._sure[:, place] *= _FADE
            self._sure[int(agrees), place] += own

    def took(self, place: int, seconds: float) -> None:
        """How long an exit took for one token."""
        before = self._seconds[place]
        self._seconds[place] = seconds if before == 0.0 else before + _RATE * (seconds - before)

    def chances(self) -> NDArray[Any]:
        """float64[exits]: how often each agrees with the target."""
        found: NDArray[Any] = self._right / (self._right + self._wrong)
        return found

    def threshold(self, place: int) -> float:
        """How sure an exit must be of a token to go on after it; 0 where the length is fixed, or nothing is known."""
        right, wrong = self._right[place], self._wrong[place]
        wrongly, rightly = self._sure[0, place] / wrong, self._sure[1, place] / right
        known = self._length is None and min(right, wrong) > 0 and self._sure[:, place].all()
        return float(wrongly + rightly) / 2 if known else 0.0

    def best(self, cost: Callable[[int, int], float], room: int) -> tuple[int, int]:
        """(exit, length) with the most expected tokens a second, for drafts of at most `room` tokens; length 0: none.

        cost   see `Engine.cost`
        """
        if room < 1:
            return self._places[0], 0
        lengths = [min(self._length, room)] if self._length is not None else [*range(min(MOST, room) + 1)]
        verifying = {length: cost(1 + length, 1) for length in lengths}
        chances, found = self.chances(), list[tuple[float, int, int]]()
        for place in self._places:
            for length in lengths:
                tokens = 1.0 + sum(chances[place] ** one for one in range(1, length + 1))
                # its first layers have one row only, which is about as long: reading their weights takes most of it
                seconds = verifying[length] + length * self._seconds[place]  # an exit costs nothing until it was tried
                found.append((tokens / max(1e-9, seconds), place, length))
        _, place, length = max(found, key=lambda one: (one[0], -one[2]))
        return place, length
