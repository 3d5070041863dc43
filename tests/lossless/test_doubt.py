"""Rows that are rounded otherwise than plain decoding's: what is said is plain decoding's all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine, ToySequence
from hierdraft.protocols import Doubt, Part, Scored
from hierdraft.tree import DraftTree
from hierdraft.verify.greedy import leads, walk
from hierdraft.verify.sampling import Sampler, Sampling
from tests.lossless.drafters import HARMLESS, REAL
from tests.lossless.harness import check_steps, run

VOCABULARY = 32
NOISE = 0.4


class PlainRows(ToySequence):
    """Keeps the rows that lie where plain decoding puts them, as the OpenVINO engine does."""

    def commit(self, path: Sequence[int]) -> None:
        super().commit([node for place, node in enumerate(path) if node == place])


class Rounding(ToyEngine):
    """Moves the logits of all rows but those of the first branch by up to `NOISE`, another way each time."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(seed, VOCABULARY, **options)
        self.chance = np.random.default_rng(seed)
        self.cut = self.rewritten = 0

    def open(self, ids: Any = (), **options: Any) -> ToySequence:
        return PlainRows(self, super().open(ids, **options).rows)

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        self.rewritten += sum(len(part.tokens) > 1 for part in parts)
        return [self._moved(part, scored.logits) for part, scored in zip(parts, super().forward(parts), strict=True)]

    def _moved(self, part: Part, logits: Any) -> Scored:
        plain = np.ones(len(logits), dtype=np.bool_)
        first = [node == parent + 1 for node, parent in enumerate(part.tree.parents.tolist())]
        plain[part.rows :] = np.logical_and.accumulate(first) if first else []
        noise = self.chance.uniform(-NOISE, NOISE, logits.shape)
        return Scored(np.where(plain[:, None], logits, logits + noise), Doubt(plain, 2 * NOISE))


def options(engine: ToyEngine, limit: int, sampling: Sampling) -> Options:
    found = Options(limit, FixedBudget(9))
    rules = [*sampling.penalties(3), *sampling.filters()]
    if rules or sampling.draws:
        found.verifier = Sampler(engine.values, rules, sampling.seed if sampling.draws else None, sampling.gain)
    return found


SAMPLINGS = {
    "greedy": Sampling(),
    "penalties": Sampling(repetition_penalty=1.3, presence_penalty=0.2),
    "drawn": Sampling(temperature=0.7, seed=5),
    "drawn with penalties": Sampling(temperature=1.5, repetition_penalty=0.8, seed=6),
    "filtered": Sampling(temperature=1.0, top_k=8, top_p=0.9, seed=7),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_rounding_changes_nothing(name: str) -> None:
    sampling, rewritten = SAMPLINGS[name], 0
    for seed in range(12):
        engine = Rounding(seed, memory=[2, 3, None][seed % 3], eos_ids=(3,) if seed % 2 else ())
        prompt = np.random.default_rng(seed).integers(0, VOCABULARY, 3).tolist()
        truth = run(engine, PlainMethod(), prompt, options(engine, 120, sampling))[0]
        for kind in ("OracleInATree", "OracleWithOneError", "RandomTree", "ChangesBetweenCalls", "EosEverywhere"):
            method = HARMLESS[kind](VOCABULARY, prompt + truth, seed)
            got, steps = run(engine, method, prompt, options(engine, 120, sampling))
            assert got == truth, (kind, seed)
            check_steps(steps, 120)
        got, _ = run(engine, REAL["hierarchy"](), prompt, options(engine, 120, sampling))
        assert got == truth
        rewritten += engine.rewritten
    assert rewritten > 50, "no row of another branch was accepted"


def test_the_same_rounding_unheeded_changes_the_text() -> None:
    """What the test above would miss if its noise were too small to matter."""

    class Careless(Rounding):
        def _moved(self, part: Part, logits: Any) -> Scored:
            return Scored(super()._moved(part, logits).logits)

    different = 0
    for seed in range(12):
        engine = Careless(seed)
        truth = run(engine, PlainMethod(), [1, 2, seed], Options(120))[0]
        method = HARMLESS["OracleInATree"](VOCABULARY, [1, 2, seed, *truth], seed)
        different += run(engine, method, [1, 2, seed], Options(120, FixedBudget(9)))[0] != truth
    assert different > 6


def test_a_walk_ends_where_the_next_token_is_in_doubt() -> None:
    tree = DraftTree.build([5, 6, 7], [-1, 0, 1])
    verdict = walk(tree, [5, 6, None, 9].__getitem__)
    assert (verdict.path, verdict.tokens) == ([0, 1], [5, 6])
    assert walk(tree, [4, None, None, None].__getitem__).tokens == [4]


def test_what_leads() -> None:
    assert leads(np.array([1.0, 3.0, 2.4]), 0.5)
    assert not leads(np.array([1.0, 3.0, 2.5]), 0.5)
    assert not leads(np.array([3.0, 3.0]), 0.0)


@pytest.mark.parametrize(
    ("sampling", "gain"),
    [(Sampling(), 1.0), (Sampling(temperature=0.5), 2.0), (Sampling(repetition_penalty=0.5), 2.0),
     (Sampling(temperature=2.0, repetition_penalty=1.5), 0.75), (Sampling(temperature=1.0, top_k=4), None),
     (Sampling(top_k=4), 1.0)],
)  # fmt: skip
def test_how_much_a_difference_can_grow(sampling: Sampling, gain: float | None) -> None:
    assert sampling.gain == gain
