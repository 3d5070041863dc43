"""The successor table against a dictionary; bounded, and a table of its own for every namespace."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.databases.recycled import (
    SLOTS,
    TABLES,
    TOP,
    RecycledLevel,
    make_successors,
    note_successors,
    place_of,
)

ROW = st.tuples(st.integers(-1, 5), st.integers(0, 5), st.integers(0, 40))


def noted(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    before = np.array([row[0] for row in rows], dtype=np.int32)
    tokens = np.array([row[1] for row in rows], dtype=np.int32)
    ids = np.array([[row[2] + i for i in range(TOP)] for row in rows], dtype=np.int32).reshape(len(rows), TOP)
    return before, tokens, ids


@given(st.lists(ROW, max_size=40))
def test_the_newest_ids_are_found(rows: list[tuple[int, int, int]]) -> None:
    table = make_successors()
    note_successors(table, *noted(rows))
    known: dict[tuple[int, int], tuple[int, bool]] = {}
    for before, token, first in rows:
        for key in {(-1, token), (before, token)}:
            known[key] = first, key in known and known[key][0] == first
    for before in range(-1, 6):
        for token in range(6):
            place = place_of(table, before, token)
            if (before, token) not in known:
                assert place == -1
                continue
            first, confirmed = known[before, token]
            assert table.ids[place].tolist() == list(range(first, first + TOP))
            assert bool(table.confirmed[place]) == confirmed


def test_an_empty_table_knows_nothing() -> None:
    assert place_of(make_successors(0), 1, 2) == -1


def test_a_table_never_grows() -> None:
    table = make_successors()
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 262_144, 300_000).astype(np.int32)
    ids = np.tile(np.arange(TOP, dtype=np.int32), (len(tokens), 1))
    note_successors(table, np.roll(tokens, 1), tokens, ids)
    assert len(table.keys) == SLOTS
    assert (table.keys >= 0).mean() > 0.9
    assert place_of(table, int(tokens[-2]), int(tokens[-1])) >= 0  # the newest is there


def test_namespaces_have_tables_of_their_own() -> None:
    level = RecycledLevel()
    note_successors(level.table("a"), *noted([(3, 4, 10)]))
    assert level.match("a", [3, 4]) == {1: list(range(10, 18)), 2: list(range(10, 18))}
    assert level.match("b", [3, 4]) == {}
    for number in range(TABLES):
        level.table(f"n{number}")
    assert level.match("a", [3, 4]) == {}  # the least recently used table was let go
