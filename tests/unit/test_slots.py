"""Who has which rows of the memory that stays: none are anybody else's, and what was written stays when it moves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch

from hierdraft.engines.hf.slots import Block, Slots

SHAPES = {
    (2, 4, 3, torch.float32, torch.device("cpu")): [0, 2],
    (1, 2, 2, torch.float64, torch.device("cpu")): [1],
}


class Text:
    """Has some rows, all of one number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.blocks: list[Block] = []

    def lie_in(self, blocks: Sequence[Block]) -> None:
        self.blocks = [*blocks]

    def take(self, slots: Slots, capacity: int) -> bool:
        found = slots.take(self, SHAPES, capacity)
        if found is None:
            return False
        for keys, values, members in found:
            assert keys.shape[:2] == values.shape[:2] == (len(members), 1)
            assert keys.shape[3] == values.shape[3] >= capacity
            keys.fill_(self.number)
            values.fill_(-self.number)
        self.lie_in(found)
        return True

    def check(self, slots: Slots) -> None:
        for keys, values, members in self.blocks:
            assert (keys == self.number).all()
            assert (values == -self.number).all()
            for place, layer in enumerate(members):
                first, count = slots.first(self), keys.shape[3]
                whole = slots.layer(layer)
                assert torch.equal(whole[0][first : first + count].transpose(0, 1), keys[place, 0])
                assert torch.equal(whole[1][first : first + count].transpose(0, 1), values[place, 0])


def test_rows_are_nobody_elses_whoever_comes_grows_and_goes() -> None:
    rng = np.random.default_rng(0)
    slots, texts = Slots(lambda: sys.maxsize), list[Text]()
    for number in range(1, 400):
        chance = rng.random()
        if chance < 0.5 or not texts:
            texts.append(Text(number))
            assert texts[-1].take(slots, int(rng.integers(1, 900)))
        elif chance < 0.7:
            assert texts[int(rng.integers(len(texts)))].take(slots, int(rng.integers(1, 3000)))
        else:
            texts.pop(int(rng.integers(len(texts))))
        if number % 10 == 0:
            for text in texts:
                text.check(slots)
    assert 1 < slots.moved < 12
    for layer in range(3):
        assert not slots.layer(layer)[0][0].any(), "the row of zeros"


def test_no_more_is_taken_than_there_is() -> None:
    each = 2 * 2 * (4 + 3) * 4 + 1 * (2 + 2) * 8
    slots = Slots(lambda: 2 * each * 1000)
    first, second, third = Text(1), Text(2), Text(3)
    assert first.take(slots, 300)
    assert not second.take(slots, 600)
    assert second not in slots
    assert third.take(slots, 256)
    assert slots.layer(0)[0].shape[0] == 1000
    assert not first.take(slots, 2000)
    assert first not in slots
    assert second.take(slots, 500)


def test_layers_of_other_shapes_lie_elsewhere() -> None:
    slots = Slots(lambda: sys.maxsize)
    assert Text(1).take(slots, 10)
    other = {(2, 4, 3, torch.float32, torch.device("cpu")): [0, 1, 2]}
    assert slots.take(Text(2), other, 10) is None
    assert slots.take(Text(2), {}, 10) is None
