"""Larger vocabularies, by counting: what the real samplers draw through real trees has the target's distribution.

The seeds are fixed, so a test here either always passes or always fails; the bound is one that a right sampler
misses once in 10^6.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import numpy as np
import pytest

from hierdraft.engines.toy import ToyEngine
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampler, Sampling, softmax
from tests.distribution.exact import sparse
from tests.lossless.harness import fresh

DRAWS = 16_000
BOUND = 4.75
PREFIX = np.array([1, 2, 3], dtype=np.int32)
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0}, {"temperature": 0.6}, {"temperature": 1.4, "top_k": 8}, {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.08},
]  # fmt: skip


def tree_for(kind: str, engine: ToyEngine, rng: np.random.Generator) -> DraftTree:
    """Looked up: likely tokens, duplicates among them. Drawn: several candidates, and one more below the first."""
    size = engine.vocab_size
    best = np.argsort(-fresh(engine, PREFIX)[0])[:4].tolist()
    if kind == "looked up":
        return DraftTree.build([*best, best[0], 3, 4, 3], [-1, -1, -1, -1, -1, 0, 0, 1])
    law = np.random.default_rng(9).dirichlet(np.ones(size))
    drawn = rng.choice(size, 3, replace=kind == "with replacement", p=law)
    laws = [sparse(law, replacement=kind == "with replacement")] * 2
    tokens = [*drawn, rng.choice(size, p=law)]
    if kind == "mixed":  # a looked-up token first, and one that stands among the drawn ones already
        return DraftTree.build(
            [best[1], *tokens, best[0]], [-1, -1, -1, -1, 1, -1], group=[-1, 0, 0, 0, 1, -1], laws=laws
        )
    return DraftTree.build(tokens, [-1, -1, -1, 0], group=[0, 0, 0, 1], laws=laws)


@pytest.mark.parametrize("kind", ["looked up", "without replacement", "with replacement", "mixed", "looked up, again"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_two_tokens_have_their_distribution(kind: str, settings: dict[str, Any]) -> None:
    size = 10 + 8 * SETTINGS.index(settings)
    engine = ToyEngine(len(kind), size, 2)
    chosen = Sampling(**settings)
    first = 40_000 if kind.endswith("again") else 0
    kind = kind.removesuffix(", again")
    rng = np.random.default_rng(0)
    counts: Counter[tuple[int, ...]] = Counter()
    sequence = engine.open()
    sequence.prefill(PREFIX[:-1])
    for seed in range(first, first + DRAWS):
        sequence.rewind(len(PREFIX) - 1)
        tree = tree_for(kind, engine, rng)
        sampler = Sampler(engine.values, chosen.filters(), seed)
        logits = sequence.forward(int(PREFIX[-1]), tree)
        said = sampler.verify(logits, tree, PREFIX, np.zeros(1 + len(tree), dtype=np.int32)).tokens
        if len(said) == 1:
            text = np.append(PREFIX, np.int32(said[0]))
            after = fresh(engine, text)
            said += sampler.verify(after, DraftTree.empty(), text, np.zeros(1, dtype=np.int32)).tokens
        counts[tuple(said[:2])] += 1
    law = expected(engine, chosen)
    assert all(law[pair] > 0 for pair in counts)
    assert deviation(counts, law, DRAWS) < BOUND


def expected(engine: ToyEngine, chosen: Sampling) -> dict[tuple[int, ...], float]:
    """The law of two tokens, from the target alone."""

    def law(text: Any) -> Any:
        scores = fresh(engine, text)[0].copy()
        for rule in chosen.filters():
            scores = rule(text, scores)
        return softmax(scores)

    start = law(PREFIX)
    return {
        (a, b): float(start[a] * after[b])
        for a in range(engine.vocab_size)
        for after in [law(np.append(PREFIX, np.int32(a)))]
        for b in range(engine.vocab_size)
    }


def deviation(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float], draws: int) -> float:
    """How far the counts of texts in `draws` draws are from their law, in standard deviations."""
    statistic, freedom = _pearson(counts, law, draws)
    # Wilson and Hilferty: the cube root of chi-square over its degrees is nearly normal
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom))


def _pearson(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float], draws: int) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; texts that are expected fewer than 5 times count as one."""
    rare_seen = rare_expected = statistic = 0.0
    cells = 0
    for pair, probability in law.items():
        often = probability * draws
        if often < 5:
            rare_expected += often
            rare_seen += counts[pair]
        else:
            statistic += (counts[pair] - often) ** 2 / often
            cells += 1
    if rare_expected > 0:
        statistic += (rare_seen - rare_expected) ** 2 / max(rare_expected, 1.0)
        cells += 1
    return statistic, cells - 1


def test_a_wrong_sampler_is_found() -> None:
    """The bound has teeth: a sampler whose temperature is 10 % off misses it."""
    engine = ToyEngine(3, 18, 2)
    law = expected(engine, Sampling(temperature=1.0))
    wrong = expected(engine, Sampling(temperature=1.1))
    pairs = list(law)
    drawn = np.random.default_rng(1).multinomial(DRAWS, np.array([wrong[pair] for pair in pairs]))
    assert deviation(Counter(dict(zip(pairs, drawn.tolist(), strict=True))), law, DRAWS) > BOUND
