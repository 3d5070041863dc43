"""A head for toy targets that knows exactly what they think next, if it is told at each token what they thought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.sequences import check_parts
from hierdraft.engines.toy import ToyEngine
from hierdraft.protocols import Block, Part, Reads, Scored
from hierdraft.tree import DraftTree

_PRIME = (1 << 61) - 1
_PARTS = 4


def packed(thoughts: Any) -> NDArray[np.float32]:
    """float32[T, 4] of int64[T, 1] below 2^64, exactly."""
    found = np.array([[(int(one) >> (16 * part)) & 0xFFFF for part in range(_PARTS)] for one in thoughts[:, 0]])
    return found.reshape(-1, _PARTS).astype(np.float32)


def unpacked(features: NDArray[np.float32]) -> list[int]:
    """The numbers that `packed` took apart."""
    return [sum(int(part) << (16 * place) for place, part in enumerate(row)) for row in features.tolist()]


class ToyHead(ToyEngine):
    """Of a toy target of one layer with the same seed that remembers everything, what it says is what the target says.

    Texts in it must begin with the second token, and what goes in beside each must be the target's thought at the token
    before: in all of a text, what it began with follows from every row, and must be the same.
    """

    reads = Reads((1,), lambda states: packed(states[0]))
    _inverse = pow(1_000_003, -1, _PRIME)

    def __init__(self, *given: Any, checks: bool = False, **options: Any) -> None:
        """`checks`: whether what goes in is compared with the text (of a target of the same seed)."""
        super().__init__(*given, **options)
        self.offers = replace(self.offers, features=_PARTS, partial=False)
        self.checks, self.read, self.begun = checks, list[int](), dict[int, int]()

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """As the toy's, of what goes in and the tokens alone."""
        check_parts(self, parts)
        return [self._of(part) for part in parts]

    def _of(self, part: Part) -> Scored:
        assert part.features is not None
        self._scored(replace(part, hidden=()))
        sequence: Any = part.sequence
        self.read.append(len(part.tokens))
        rows = sequence.rows[len(sequence.rows) - len(part.features) :]
        thoughts = [self._extend(above, row.token) for above, row in zip(unpacked(part.features), rows, strict=True)]
        if self.checks:
            for thought, row, place in zip(thoughts, rows, self._places(part, len(rows)), strict=True):
                first = (thought - row.state) * pow(self._inverse, place, _PRIME) % _PRIME
                assert self.begun.setdefault(id(sequence), first) == first, "not what was thought at the token before"
        logits = self._logits[[thought % len(self._logits) for thought in thoughts[len(part.tokens) - part.rows :]]]
        states = packed(np.array([[thought] for thought in thoughts], dtype=object))
        return Scored(logits, hidden=dict.fromkeys(part.hidden, states))

    def _places(self, part: Part, count: int) -> list[int]:
        """How many tokens of the text each new row stands after, itself among them."""
        length = part.sequence.length
        depths = part.tree.depths().tolist()
        texts = [*range(length - len(part.tokens) + 1, length + 1)]
        return [*texts, *(length + depth for depth in depths)][-count:]


class ToyBlock(ToyHead):
    """A toy head that says, after one call, what its target's likeliest continuation is at every offset.

    Its further rows must be given what its block says, or what goes in at the text's last token. Masks are ids that its
    target does not have.
    """

    masks = 4

    def __init__(self, *given: Any, **options: Any) -> None:
        """As a toy head of so many ids."""
        super().__init__(*given, **options)
        if self.masks:
            ids = np.arange(self.vocab_size, self.vocab_size + self.masks, dtype=np.int32)
            self.block = Block(self.masks, "all", ids, np.arange(16, dtype=np.float32).reshape(4, 4))
        else:
            self.block = Block(3, "none")
        self.vocab_size += self.masks
        self.reads = replace(ToyHead.reads, block=self.block)

    def _of(self, part: Part) -> Scored:
        if not len(part.tree):
            return super()._of(part)
        block, size, text = self.block, len(part.tree), len(part.tokens)
        assert part.features is not None
        assert part.among == block.among
        assert part.tree.is_chain
        assert part.rows == 1
        ids = np.repeat(part.tokens[-1:], size) if block.ids is None else block.ids[:size]
        beside = part.features[text - 1 : text].repeat(size, 0) if block.features is None else block.features[:size]
        assert part.tree.tokens.tolist() == ids.tolist()
        assert part.features[text:].tolist() == beside.tolist()
        plain = replace(part, tree=DraftTree.empty(), features=part.features[:text], hidden=(1,))
        first = super()._of(replace(plain, among="above"))
        (thought,), logits = unpacked(first.hidden[1][-1:]), [first.logits[-1]]
        for _ in range(size):
            thought = self._extend(thought, int(np.argmax(logits[-1])))
            logits.append(self._logits[thought % len(self._logits)])
        return Scored(np.stack(logits))


class ToyRepeated(ToyBlock):
    """The same, whose further rows are given the text's last token again."""

    masks = 0
