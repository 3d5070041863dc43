"""Blocks of a pool against a slow twin that keeps what every sequence wrote: nobody's text is ever overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.engines.openvino.blocks import Blocks, key_after

SIZE = 4


class Pool:
    """Memory of tokens in blocks, as the graph writes them; grows and copies as `paged.Pool` does."""

    def __init__(self) -> None:
        self.blocks = Blocks(SIZE)
        self.memory: list[list[int]] = []
        self.texts: dict[int, tuple[list[int], list[int], list[bytes]]] = {}

    def write(self, number: int, tokens: list[int], drafts: int) -> None:
        ids, table, _ = self.texts[number]
        stop = len(ids) + len(tokens) + drafts
        wanted = self.blocks.missing(table, stop) + 1
        if wanted > self.blocks.free:
            self.blocks.add(wanted)
            self.memory += [[-1] * SIZE for _ in range(wanted)]
        for old, new in self.blocks.own(table, len(ids), stop):
            self.memory[new] = list(self.memory[old])
        for place, token in enumerate([*tokens, *[99] * drafts], start=len(ids)):
            self.memory[table[place // SIZE]][place % SIZE] = token
        ids += tokens

    def check(self) -> None:
        for ids, table, _ in self.texts.values():
            assert [self.memory[table[place // SIZE]][place % SIZE] for place in range(len(ids))] == ids
        used = [block for _, table, _ in self.texts.values() for block in table]
        assert all(self.blocks._users[block] == used.count(block) for block in range(self.blocks.count))
        assert self.blocks.free == self.blocks.count - len(set(used))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["open", "write", "write", "rewind", "close", "remember"]), st.integers(0, 9), st.integers(0, 9)
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(ACTIONS)
def test_every_text_stays_as_it_was_written(actions: list[tuple[str, int, int]]) -> None:
    pool = Pool()
    for what, number, count in actions:
        if what == "open" and number not in pool.texts:
            wanted = ([1] * SIZE + [2] * SIZE + [3] * SIZE)[: count + 3]
            table, keys = pool.blocks.shared(wanted, "a")
            pool.texts[number] = wanted[: len(table) * SIZE], table, keys
            rest = wanted[len(table) * SIZE :]
            if rest:
                pool.write(number, rest, 0)
        elif number in pool.texts:
            ids, table, keys = pool.texts[number]
            if what == "write":
                pool.write(number, [count % 3 + 1] * (count % 4 + 1), count)
            elif what == "rewind":
                keep = len(ids) * count // 10
                rest = table[-(-keep // SIZE) :]
                del table[-(-keep // SIZE) :], ids[keep:], keys[keep // SIZE :]
                pool.blocks.release(rest)
            elif what == "remember":
                pool.blocks.remember(ids, table, "a", keys)
            else:
                pool.blocks.remember(ids, table, "a", keys)
                pool.blocks.release(table)
                del pool.texts[number]
        pool.check()


def filled(blocks: Blocks, ids: list[int]) -> None:
    """A text that came and went."""
    table: list[int] = []
    blocks.own(table, 0, len(ids))
    blocks.remember(ids, table, "a", [])
    blocks.release(table)


def test_the_longest_unused_text_is_forgotten_first() -> None:
    blocks = Blocks(SIZE)
    blocks.add(4)
    filled(blocks, [1] * 8)
    filled(blocks, [2] * 8)
    blocks.release(blocks.shared([1] * 8, "a")[0])  # used again
    table: list[int] = []
    blocks.own(table, 0, 5)
    assert len(blocks.shared([2] * 8, "a")[0]) == 0
    assert len(blocks.shared([1] * 8, "a")[0]) == 2


def test_only_whole_blocks_of_the_same_text_are_shared() -> None:
    blocks: Any = Blocks(SIZE)
    blocks.add(6)
    filled(blocks, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert len(blocks.shared([1, 2, 3], "a")[0]) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7], "a")[0]) == 1
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "a")[0]) == 2
    assert len(blocks.shared([0, 2, 3, 4, 5, 6, 7, 8], "a")[0]) == 0
    assert len(blocks.shared([5, 6, 7, 8], "a")[0]) == 0  # the same tokens, but not after the same ones


def test_nothing_is_shared_between_namespaces() -> None:
    blocks: Any = Blocks(SIZE)
    blocks.add(6)
    filled(blocks, [1, 2, 3, 4, 5, 6, 7, 8])
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "b")[0]) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "")[0]) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "a")[0]) == 2


def test_every_block_is_hashed_once_however_often_a_text_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def counted(key: bytes, tokens: Any) -> bytes:
        made.append(key_after(key, tokens))
        return made[-1]

    monkeypatch.setattr("hierdraft.engines.openvino.blocks.key_after", counted)
    pool = Pool()
    pool.texts[0] = [], [], []
    for count in range(1, 41):  # a prompt that is read in pieces, and what is said after it
        pool.write(0, [count] * 3, 2)
        ids, table, keys = pool.texts[0]
        pool.blocks.remember(ids, table, "a", keys)
        assert len(made) == len(keys) == len(ids) // SIZE
    whole = [*ids]
    assert len(pool.blocks.shared(whole, "a")[0]) == len(whole) // SIZE
    assert made[30:] == keys  # what was hashed to look it up is what was hashed before


def test_a_text_that_was_another_ones_is_offered_again_at_its_end() -> None:
    blocks = Blocks(SIZE)
    blocks.add(6)
    tables: list[list[int]] = [[], []]
    keys: list[list[bytes]] = [[], []]
    for table, known in zip(tables, keys, strict=True):  # both were read at the same time
        blocks.own(table, 0, 8)
        blocks.remember([1] * 8, table, "a", known)
    blocks.release(tables[0])
    other: list[int] = []
    blocks.own(other, 0, 16)  # takes the blocks of the first
    assert len(blocks.shared([1] * 8, "a")[0]) == 0
    blocks.remember([1] * 8, tables[1], "a", keys[1], again=True)
    assert len(blocks.shared([1] * 8, "a")[0]) == 2
