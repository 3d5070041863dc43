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
    Successors,
    make_successors,
    note_successors,
    place_of,
)

ROW = st.tuples(st.integers(-1, 5), st.integers(0, 5), st.integers(0, 40))


NONE = np.zeros(0, dtype=np.int32)


def note(table: Successors, rows: list[tuple[int, int, int]]) -> None:
    """Rows as steps without a tree: the token before, the token, and the first of the ids."""
    last = np.array([row[:2] for row in rows], dtype=np.int32).reshape(len(rows), 2)
    ids = np.array([[row[2] + i for i in range(TOP)] for row in rows], dtype=np.int32).reshape(len(rows), TOP)
    note_successors(table, last, np.zeros(len(rows), dtype=np.int64), NONE, NONE, ids)


@given(st.lists(ROW, max_size=40))
def test_the_newest_ids_are_found(rows: list[tuple[int, int, int]]) -> None:
    table = make_successors()
    note(table, rows)
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


NODE = st.tuples(st.integers(0, 5), st.floats(0, 1))
STEP = st.tuples(st.integers(-1, 5), st.integers(0, 5), st.lists(NODE, max_size=6))


@given(st.lists(STEP, max_size=5), st.integers(0, 2**32 - 1))
def test_all_rows_of_several_trees_are_noted_as_one_by_one(
    steps: list[tuple[int, int, list[tuple[int, float]]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, last, tokens, parents = [], [], list[int](), list[int]()
    for previous, token, nodes in steps:
        last.append((previous, token))
        rows.append((previous, token, int(rng.integers(40))))
        own = [token for token, _ in nodes]
        for place, (child, where) in enumerate(nodes):
            parent = int(where * (place + 1)) - 1 if where < 1 else place - 1
            rows.append((token if parent < 0 else own[parent], child, int(rng.integers(40))))
            parents.append(parent)
        tokens += own
    together, alone = make_successors(), make_successors()
    note(alone, rows)
    ids = np.array([[first + i for i in range(TOP)] for _, _, first in rows], dtype=np.int32).reshape(len(rows), TOP)
    note_successors(
        together, np.array(last, dtype=np.int32).reshape(len(steps), 2),
        np.array([len(nodes) for _, _, nodes in steps], dtype=np.int64), np.array(tokens, dtype=np.int32),
        np.array(parents, dtype=np.int32), ids,
    )  # fmt: skip
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


def test_an_empty_table_knows_nothing() -> None:
    assert place_of(make_successors(0), 1, 2) == -1


def test_a_table_never_grows() -> None:
    table = make_successors()
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 262_144, 300_000).astype(np.int32)
    ids = np.tile(np.arange(TOP, dtype=np.int32), (len(tokens), 1))
    last = np.stack([np.roll(tokens, 1), tokens], axis=1)
    note_successors(table, last, np.zeros(len(tokens), dtype=np.int64), NONE, NONE, ids)
    assert len(table.keys) == SLOTS
    assert (table.keys >= 0).mean() > 0.9
    assert place_of(table, int(tokens[-2]), int(tokens[-1])) >= 0  # the newest is there


def test_namespaces_have_tables_of_their_own() -> None:
    level = RecycledLevel()
    note(level.table("a"), [(3, 4, 10)])
    assert level.match("a", [3, 4]) == {1: list(range(10, 18)), 2: list(range(10, 18))}
    assert level.match("b", [3, 4]) == {}
    for number in range(TABLES):
        level.table(f"n{number}")
    assert level.match("a", [3, 4]) == {}  # the least recently used table was let go
