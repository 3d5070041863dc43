"""The highest logits of a row against a sort of the whole row."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.engines.topids import top_ids


@given(st.integers(1, 400), st.integers(1, 12), st.integers(2, 50), st.booleans(), st.integers(0, 2**32 - 1))
def test_as_a_stable_sort_says(size: int, k: int, values: int, rising: bool, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(-values, values, (3, size)).astype(np.float32)
    rows[0, : size // 2] = -np.inf
    if rising:
        rows.sort(axis=1)
    wanted = np.argsort(-rows, axis=1, kind="stable")[:, : min(k, size)]
    assert top_ids(rows, 3, min(k, size)).tolist() == wanted.tolist()
