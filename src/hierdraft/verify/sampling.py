"""Sampling without changing the sample: the target draws its token, then it is looked for among the drafted ones.

The noise of a draw belongs to (seed, position), so with a seed the tokens are those of plain sampling with that seed,
whatever was drafted. That is exact for any tree, and for tokens that were looked up it accepts as often as any exact
rule can.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Doubt
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify import rules
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.greedy import leads, walk
from hierdraft.verify.noise import KeyedDice, gumbel, race
from hierdraft.verify.rejection import reject
from hierdraft.verify.rules import Rule

Values = Callable[[Array, int], NDArray[Any]]
"""An engine's `values`: one row of logits as numbers that may be changed."""


COLDEST = 1e-5
"""The lowest temperature that scores are divided by: below, quotients overflow, and the likeliest token is drawn."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a request's tokens are chosen. The defaults are greedy decoding.

    temperature         below 1e-5: the highest score; above: a draw from softmax(scores / temperature)
    top_k, top_p, min_p filters of the draw, in this order: the k likeliest (0: all), the likeliest that together have
                        probability p, those at least min_p times as likely as the likeliest
    repetition_penalty  above 1 makes tokens of the prompt and output less likely (factor)
    presence_penalty, frequency_penalty   taken from the scores of tokens of the output: once, per occurrence
    logit_bias          token id -> what is added to its score
    banned              token ids that are never chosen
    seed                same seed, same sample; None: a new one for each request
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    banned: Sequence[int] = ()
    seed: int | None = None

    def check(self, vocab_size: int) -> None:
        """Raise UsageError, naming the setting, for a value that cannot be used."""
        ranges: dict[str, tuple[bool, str]] = {
            "temperature": (_number(self.temperature) and self.temperature >= 0, "a number of at least 0"),
            "top_k": (_whole(self.top_k) and self.top_k >= 0, "a whole number of at least 0"),
            "top_p": (_number(self.top_p) and 0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (_number(self.min_p) and 0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (_number(self.repetition_penalty) and self.repetition_penalty > 0, "above 0"),
            "presence_penalty": (_number(self.presence_penalty), "a number"),
            "frequency_penalty": (_number(self.frequency_penalty), "a number"),
            "seed": (self.seed is None or (_whole(self.seed) and 0 <= self.seed < 1 << 64), "from 0 to 2^64 - 1"),
        }
        for name, (fits, wanted) in ranges.items():
            if not fits:
                raise UsageError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")
        if not isinstance(self.logit_bias, Mapping) or not all(_number(value) for value in self.logit_bias.values()):
            raise UsageError("logit_bias must give a finite number for each token id.")
        if isinstance(self.banned, str | bytes) or not isinstance(self.banned, Collection):
            raise UsageError(f"banned must be a list of token ids, not {self.banned!r}.")
        for token in (*self.logit_bias, *self.banned):
            if not _whole(token) or not 0 <= token < vocab_size:
                raise UsageError(
                    f"Token id {token!r} of logit_bias or banned is outside the vocabulary of {vocab_size}."
                )

    @property
    def draws(self) -> bool:
        """Whether anything is left to chance: as good as nothing is at a temperature below 1e-5."""
        return self.temperature >= COLDEST

    def seeded(self) -> Sampling:
        """With a seed of its own, if it draws and has none."""
        return replace(self, seed=secrets.randbits(63)) if self.draws and self.seed is None else self

    def penalties(self, prompt_length: int) -> list[Rule]:
        """What applies before a caller's own rules."""
        found: list[Rule] = []
        if self.logit_bias:
            found.append(rules.bias_tokens(self.logit_bias))
        if self.repetition_penalty != 1.0:
            found.append(rules.penalise_repetition(self.repetition_penalty))
        if self.presence_penalty or self.frequency_penalty:
            found.append(rules.penalise_presence(self.presence_penalty, self.frequency_penalty, prompt_length))
        if len(self.banned):
            found.append(rules.ban(self.banned))
        return found

    @property
    def gain(self) -> float | None:
        """By how much at most these enlarge a difference of two logits; None with filters, which have edges."""
        if self.top_k or self.top_p < 1.0 or self.min_p:
            return None if self.draws else self._spread
        return self._spread / self.temperature if self.draws else self._spread

    @property
    def _spread(self) -> float:
        return max(self.repetition_penalty, 1.0 / self.repetition_penalty)

    def filters(self) -> list[Rule]:
        """What applies after them, only where tokens are drawn."""
        found: list[Rule] = []
        if not self.draws:
            return found
        if self.temperature != 1.0:
            found.append(rules.heat(self.temperature))
        if self.top_k:
            found.append(rules.keep_top_k(self.top_k))
        if self.top_p < 1.0:
            found.append(rules.keep_top_p(self.top_p))
        if self.min_p:
            found.append(rules.keep_min_p(self.min_p))
        return found


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class Sampler:
    """The verifier of processed scores: what is highest, or drawn, after every rule has seen the row's own prefix."""

    def __init__(self, values: Values, applied: Sequence[Rule], seed: int | None, gain: float | None = None) -> None:
        """A sampler of one request's own.

        values   the engine's
        applied  rules in order
        seed     None chooses the highest score, without a draw
        gain     by how much at most the rules enlarge a difference of logits, None where there is no such bound
        """
        self._values = values
        self._rules = tuple(applied)
        self._seed = seed
        self._gain = gain

    def verify(
        self,
        logits: Array,
        tree: DraftTree,
        tokens: Int32,
        choices: Int32,  # noqa: ARG002
        doubt: Doubt | None = None,
    ) -> Verdict:
        """The walk along the target's own tokens; rejection sampling for a tree that was itself drawn.

        What rejection sampling keeps has the target's distribution as the rows have it, in doubt or not.
        """
        base = len(tokens)
        depths = tree.depths()
        prefix = np.concatenate([tokens, np.empty(int(depths.max(initial=0)), dtype=np.int32)])

        def scores(row: int) -> tuple[NDArray[Any], int]:
            """Rows come in path order, so a row's prefix is that of the row before and one token."""
            end = base
            if row > 0:
                end += int(depths[row - 1])
                prefix[end - 1] = tree.tokens[row - 1]
            return self.scores(logits, row, prefix[:end]), end

        if tree.drawn and self._seed is not None:
            return reject(tree, lambda row: self._law(row, *scores(row)), KeyedDice(self._seed, base))

        def choose(row: int) -> int | None:
            if doubt is None or doubt.plain[row]:
                return self.choose(*scores(row))
            return self._choose_for_certain(*scores(row), doubt.margin) if self._gain is not None else None

        return walk(tree, choose)

    def _law(self, row: int, scores: NDArray[Any], position: int) -> NDArray[np.float64] | None:
        """What is drawn from at a row; None where nothing is allowed, which the next step says if it comes to that.

        Raises UsageError where that is so at once.
        """
        if scores.max() > -np.inf:
            return softmax(scores)
        if row == 0:
            raise _dead_end(position)
        return None

    def _choose_for_certain(self, scores: NDArray[Any], position: int, margin: float) -> int | None:
        """The token, None where logits that differ by up to half of `margin` could make it another."""
        drawn = scores if self._seed is None else scores + gumbel(self._seed, position, len(scores))
        return self.choose(scores, position) if leads(drawn, margin * (self._gain or 1.0)) else None

    def scores(self, logits: Array, row: int, prefix: Int32) -> NDArray[Any]:
        """float[V]: one row after all rules."""
        found = self._values(logits, row)
        for rule in self._rules:
            found = rule(prefix, found)
        return found

    def choose(self, scores: NDArray[Any], position: int) -> int:
        """The token at `position` (how many stand before it). Raises UsageError where none is allowed."""
        if self._seed is not None:
            return race(scores, self._seed, position)
        best = int(scores.argmax())
        if scores[best] == -np.inf:
            raise _dead_end(position)
        return best


def _dead_end(position: int) -> UsageError:
    return UsageError(f"No token is allowed at position {position}: loosen the bans or the grammar.")


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """float64[V] probabilities of scores float[V], of which some may be -inf but not all."""
    weights = np.exp(scores.astype(np.float64) - scores.max())
    law: NDArray[np.float64] = weights / weights.sum()
    return law
