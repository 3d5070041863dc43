"""Rows of a growing cache against a slow twin that keeps a list of positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.engines.openvino.rowtable import RowTable
from hierdraft.tree import DraftTree


class Twin:
    """Every row's position, None where it is no longer part of the text."""

    def __init__(self) -> None:
        self.rows: list[int | None] = []
        self.length = 0

    def sees(self, where: list[int], seen: list[list[bool]], window: int | None) -> list[list[bool]]:
        """Which of all rows, the new ones last, each new row may attend to."""
        table = []
        for row, position in enumerate(where):
            cached = [at is not None and (window is None or at > position - window) for at in self.rows]
            new = [
                sees and (window is None or at > position - window) for sees, at in zip(seen[row], where, strict=True)
            ]
            table.append(cached + new)
        return table

    def add(self, rows: int, kept: list[int]) -> None:
        first = len(self.rows)
        self.rows += [None] * rows
        for row in kept:
            self.rows[first + row] = self.length
            self.length += 1

    def rewind(self, length: int) -> None:
        self.rows = [at if at is not None and at < length else None for at in self.rows]
        self.length = length

    def gather(self) -> list[int]:
        kept = [row for row, at in enumerate(self.rows) if at is not None]
        self.rows = [at for at in self.rows if at is not None]
        return kept


def trees(parents: list[int]) -> DraftTree:
    return DraftTree.build(list(range(len(parents))), [min(parent, node - 1) for node, parent in enumerate(parents)])


steps = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 8), max_size=8),
        st.integers(0, 9),
        st.booleans(),
        st.one_of(st.none(), st.integers(0, 9)),
    ),
    max_size=12,
)


@given(st.integers(1, 300), st.one_of(st.none(), st.integers(1, 40)), steps)
def test_masks_and_bookkeeping_equal_the_twin(prompt: int, window: int | None, script: list) -> None:
    table, twin = RowTable(), Twin()
    table.masks(np.arange(prompt), np.tri(prompt, dtype=bool), window)
    table.add(prompt)
    table.keep(range(prompt))
    twin.add(prompt, list(range(prompt)))
    for parents, end, together, back in script:
        tree = trees(parents)
        where = np.array([twin.length, *(twin.length + tree.depths())])
        full, sliding = table.masks(where, tree.mask(), window)
        for mask, width in ((full, None), (sliding, window)):
            assert mask.shape == (1, 1, len(tree) + 1, table.count + len(tree) + 1)
            assert set(np.unique(mask).tolist()) <= {0.0, -np.inf}
            assert (mask[0, 0] == 0).tolist() == twin.sees(where.tolist(), tree.mask().tolist(), width)
        path = [0, *(node + 1 for node in tree.path(min(end, len(tree)) - 1))]
        table.add(len(tree) + 1)
        table.keep(path)
        twin.add(len(tree) + 1, path)
        if back is not None:
            table.rewind(max(1, twin.length - back))
            twin.rewind(max(1, twin.length - back))
        if together:
            assert table.gather().tolist() == twin.gather()
        assert (table.length, table.count) == (twin.length, len(twin.rows))
        assert table.dropped == sum(at is None for at in twin.rows)


def test_rows_that_are_not_kept_are_not_seen() -> None:
    table = RowTable()
    table.add(2)
    table.keep([0, 1])
    table.masks(np.array([2]), np.ones((1, 1), dtype=bool), None)
    table.add(1)
    full, _ = table.masks(np.array([2]), np.ones((1, 1), dtype=bool), None)
    assert full[0, 0, 0].tolist() == [0.0, 0.0, -np.inf, 0.0]


@pytest.mark.parametrize("length", [-1, 3])
def test_rewinding_stays_within_the_text(length: int) -> None:
    table = RowTable()
    table.add(2)
    table.keep([0, 1])
    with pytest.raises(ValueError, match="cannot rewind from 2 to"):
        table.rewind(length)
