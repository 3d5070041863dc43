"""The search through what a block head says, against all paths, and how long its drafts are."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack, PackInfo
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.heads.diffuspec import DiffuSpecMethod, Lattice, Length, Trigrams, search
from hierdraft.drafting.plain import PlainMethod
from hierdraft.drafting.rivals.datastore import Datastore
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.verify.sampling import Sampling
from tests.lossless.drafters import with_model
from tests.lossless.harness import check_steps, run
from tests.lossless.test_draft_model import SIZE, chosen
from tests.lossless.toyheads import ToyBlock, ToyHead


class Counted(Trigrams):
    """A table of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__(Datastore(Databases(), "default", [], 2))
        self._table = np.random.default_rng(seed).random((9, 9, 9))

    def prob(self, token: int, before: tuple[int, int]) -> float:
        return float(self._table[before[0], before[1], token])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_wide_beam_finds_the_best_of_all_paths(weight: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        lattice: Lattice = []
        for _ in range(4):
            ids = rng.permutation(9)[: int(rng.integers(1, 4))].tolist()
            lattice.append((ids, np.sort(rng.random(len(ids)))[::-1].tolist()))
        grams, before = Counted(seed), [3, 5]

        def score(
            path: tuple[int, ...], lattice: Lattice = lattice, grams: Counted = grams, before: list[int] = before
        ) -> float:
            text, total = [*before, *path], 0.0
            for place, (token, (ids, prob)) in enumerate(zip(path, lattice, strict=True)):
                total += weight * math.log(prob[ids.index(token)])
                total += (1 - weight) * math.log(grams.prob(token, (text[place], text[place + 1])))
            return total

        every = sorted(product(*(ids for ids, _ in lattice)), key=lambda path: -score(path))
        found = search(lattice, grams, before, 81, weight)
        assert [score(tuple(path)) for path in found] == pytest.approx([score(path) for path in every])
        narrow = search(lattice, grams, before, 1, weight)
        assert len(narrow) == 1
        assert score(tuple(narrow[0])) <= score(every[0]) + 1e-12
        assert search(lattice, grams, [5], 2, weight), "a text of one token"
        if weight == 1.0:
            assert narrow[0] == [ids[0] for ids, _ in lattice], "without the model: the likeliest of each place"


def test_counts_of_packs_and_of_the_text() -> None:
    index = build(np.array([5, 6, 7, 5, 6, 8, 5, 6, 7, -1, 9, 6, 4], dtype=np.int32), 32)
    pack = Pack(Path("said"), PackInfo("statistics", 32), index)
    grams = Trigrams(Datastore(Databases([pack]), "default", ["statistics"], 2, 1, 99))
    often, seldom, never = (grams.prob(token, (5, 6)) for token in (7, 8, 3))
    assert often > seldom > never > 0
    assert grams.prob(4, (9, 6)) > grams.prob(4, (5, 6)) > grams.prob(3, (5, 6)), "the shorter counts too"
    before = grams.prob(3, (20, 21))
    grams.read(np.array([20, 21, 3, 20, 21, 3], dtype=np.int32))
    assert grams.prob(3, (20, 21)) > 50 * before
    total = sum(grams.prob(token, (5, 6)) for token in range(32))
    assert 0.8 < total <= 1.0


def test_lengths_follow_what_is_accepted() -> None:
    length = Length(9)
    assert length.next == 9
    for _ in range(20):
        length.learn(length.next, 0)
    assert length.next == 3
    for _ in range(20):
        length.learn(length.next, 4 if length.next > 4 else length.next)
    assert length.next in (5, 6)
    for _ in range(20):
        length.learn(length.next, length.next)
    assert length.next == 9
    one = Length(1)
    one.learn(1, 0)
    assert one.next == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("options", [{}, {"search": False}, {"adaptive": False}, {"paths": 3, "mass": 1.0}])
def test_answers_are_those_of_plain_decoding(options: dict[str, Any], temperature: float) -> None:
    """Greedy, and drawn with a seed: a searched path is no draw."""
    accepted = 0
    for seed in range(6):
        engine = ToyEngine(seed, SIZE, None, eos_ids=(3,) if seed % 2 else ())
        head = ToyBlock(seed, SIZE, None, max_length=30 if seed % 3 == 2 else 1 << 30, checks=True)
        sampling = Sampling(temperature=temperature, seed=seed, repetition_penalty=1.2 if seed % 3 == 1 else 1.0)
        prompt = np.random.default_rng(seed).integers(0, SIZE, 1 + 3 * seed).tolist()
        expected, _ = run(engine, PlainMethod(), prompt, chosen(engine, 60, FixedBudget(0), sampling, prompt))
        method = with_model(head, DiffuSpecMethod, **options)
        got, steps = run(engine, method, prompt, chosen(engine, 60, FixedBudget(8), sampling, prompt))
        assert got == expected
        check_steps(steps, 60)
        accepted += sum(step.accepted for step in steps)
    assert accepted > 0


def test_its_drafts_are_long_while_all_is_accepted() -> None:
    engine, head = ToyEngine(3, SIZE, None), ToyBlock(3, SIZE, None, checks=True)
    for search_on in (True, False):
        method = with_model(head, DiffuSpecMethod, search=search_on, weight=1.0)
        _, steps = run(engine, method, [4, 9], chosen(engine, 61, FixedBudget(9), Sampling(), [4, 9]))
        assert [step.accepted for step in steps[1:-1]] == [1 + head.block.size] * (len(steps) - 2)


def test_what_it_cannot_take_is_said_in_a_sentence() -> None:
    for head in (ToyHead(3, SIZE, None), ToyEngine(3, SIZE, None)):
        with pytest.raises(UsageError, match="does not say several tokens in one call"):
            with_model(head, DiffuSpecMethod)
    for given, said in (
        ({"beam": 0}, "beam must be"), ({"paths": 4}, "paths at most"), ({"mass": 0.0}, "mass and weight"),
        ({"weight": 2.0}, "mass and weight"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            DiffuSpecMethod("x", **given)  # type: ignore[arg-type]
