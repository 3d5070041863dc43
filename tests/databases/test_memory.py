"""What kernels do with all fields of a record at once, against the same in plain Python."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hierdraft.databases.memory import borrow_record, slot_of


class Inner(NamedTuple):
    numbers: Any
    bits: Any


class Outer(NamedTuple):
    inner: Inner
    plane: Any
    count: int


@njit
def fill(record, value):  # type: ignore[no-untyped-def]
    record = borrow_record(record)
    record.inner.numbers[0] = value
    record.plane[1, 0] += value
    return record.count + record.inner.bits.sum()


@njit
def sums(record, slot):  # type: ignore[no-untyped-def]
    one = slot_of(record, slot)
    return one.numbers.sum(), one.bits.sum(), one.numbers.size


def made() -> Outer:
    return Outer(Inner(np.zeros(3), np.ones(4, dtype=np.uint8)), np.zeros((2, 2), dtype=np.int32), 7)


def test_a_borrowed_record_is_the_same_memory() -> None:
    compiled, plain = made(), made()
    assert fill(compiled, 5) == fill.py_func(plain, 5) == 11
    for ours, theirs in ((compiled.inner.numbers, plain.inner.numbers), (compiled.plane, plain.plane)):
        assert (ours == theirs).all()
        assert ours.any()


def test_a_slot_is_that_part_of_every_array() -> None:
    pool = Inner(np.arange(12.0).reshape(3, 4), np.arange(6, dtype=np.uint8).reshape(3, 2))
    for slot in range(3):
        assert sums(pool, slot) == sums.py_func(pool, slot) == (pool.numbers[slot].sum(), pool.bits[slot].sum(), 4)
    nested = slot_of(Outer(pool, np.arange(6).reshape(3, 2), np.arange(3)), 1)  # type: ignore[arg-type]
    assert nested.inner.numbers.tolist() == [4.0, 5.0, 6.0, 7.0]
    assert nested.count == 1
