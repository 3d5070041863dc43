"""Blocks of a pool against a slow twin that keeps what every sequence wrote: nobody's text is ever overwritten."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.engines.openvino.blocks import Blocks

SIZE = 4


class Pool:
    """Memory of tokens in blocks, as the graph writes them; grows and copies as `paged.Pool` does."""

    def __init__(self) -> None:
        self.blocks = Blocks(SIZE)
        self.memory: list[list[int]] = []
        self.texts: dict[int, tuple[list[int], list[int]]] = {}

    def write(self, number: int, tokens: list[int], drafts: int) -> None:
        ids, table = self.texts[number]
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
        for ids, table in self.texts.values():
            assert [self.memory[table[place // SIZE]][place % SIZE] for place in range(len(ids))] == ids
        used = [block for _, table in self.texts.values() for block in table]
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
            table = pool.blocks.shared(wanted, "a")
            pool.texts[number] = wanted[: len(table) * SIZE], table
            rest = wanted[len(table) * SIZE :]
            if rest:
                pool.write(number, rest, 0)
        elif number in pool.texts:
            ids, table = pool.texts[number]
            if what == "write":
                pool.write(number, [count % 3 + 1] * (count % 4 + 1), count)
            elif what == "rewind":
                keep = len(ids) * count // 10
                rest = table[-(-keep // SIZE) :]
                del table[-(-keep // SIZE) :], ids[keep:]
                pool.blocks.release(rest)
            elif what == "remember":
                pool.blocks.remember(ids, table, "a")
            else:
                pool.blocks.remember(ids, table, "a")
                pool.blocks.release(table)
                del pool.texts[number]
        pool.check()


def filled(blocks: Blocks, ids: list[int]) -> None:
    """A text that came and went."""
    table: list[int] = []
    blocks.own(table, 0, len(ids))
    blocks.remember(ids, table, "a")
    blocks.release(table)


def test_the_longest_unused_text_is_forgotten_first() -> None:
    blocks = Blocks(SIZE)
    blocks.add(4)
    filled(blocks, [1] * 8)
    filled(blocks, [2] * 8)
    blocks.release(blocks.shared([1] * 8, "a"))  # used again
    table: list[int] = []
    blocks.own(table, 0, 5)
    assert len(blocks.shared([2] * 8, "a")) == 0
    assert len(blocks.shared([1] * 8, "a")) == 2


def test_only_whole_blocks_of_the_same_text_are_shared() -> None:
    blocks: Any = Blocks(SIZE)
    blocks.add(6)
    filled(blocks, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert len(blocks.shared([1, 2, 3], "a")) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7], "a")) == 1
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "a")) == 2
    assert len(blocks.shared([0, 2, 3, 4, 5, 6, 7, 8], "a")) == 0
    assert len(blocks.shared([5, 6, 7, 8], "a")) == 0  # the same tokens, but not after the same ones


def test_nothing_is_shared_between_namespaces() -> None:
    blocks: Any = Blocks(SIZE)
    blocks.add(6)
    filled(blocks, [1, 2, 3, 4, 5, 6, 7, 8])
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "b")) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "")) == 0
    assert len(blocks.shared([1, 2, 3, 4, 5, 6, 7, 8], "a")) == 2
