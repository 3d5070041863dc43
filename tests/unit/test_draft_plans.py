"""What a drafting model plans before it draws, and the laws that it draws from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from hierdraft.drafting.models.laws import KEPT, Shaper, draw
from hierdraft.drafting.models.plans import DEPTHS, RANKS, Acceptance, Plan, Shape, Trials, best, largest
from hierdraft.protocols import RequestSampling
from hierdraft.tree import DraftLaw
from hierdraft.verify.sampling import Sampling, softmax

PREFIX = np.array([1, 2], dtype=np.int32)


def some_chances(seed: int) -> list[list[float]]:
    found = np.sort(np.random.default_rng(seed).dirichlet(np.ones(RANKS), DEPTHS), axis=1)[:, ::-1]
    return [[float(one) for one in row] for row in found]


def worth_of(place: tuple[int, ...], chances: list[list[float]]) -> float:
    return float(np.prod([chances[depth][rank] for depth, rank in enumerate(place)]))


def places(shape: Shape) -> Iterator[tuple[int, ...]]:
    """Every place of a shape, by the ranks on the way to it."""
    for depth in range(1, shape.depth + 1):
        widths = [shape.width[min(level, len(shape.width) - 1)] for level in range(depth)]
        for ranks in product(*map(range, widths)):
            if not shape.chain or not any(ranks[:-1]):
                yield ranks


def ranks_of(plan: Plan) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    below: Counter[int] = Counter()
    for parent in plan.parents:
        found.append((*(found[parent] if parent >= 0 else ()), below[parent]))
        below[parent] += 1
    return found


@pytest.mark.parametrize("shape", [Shape((3,), 3), Shape((4, 2, 1), 4), Shape((2,), 4, chain=True), Shape((1,), 4)])
@pytest.mark.parametrize("seed", range(4))
def test_a_plan_has_the_best_places(shape: Shape, seed: int) -> None:
    chances = some_chances(seed)
    every = sorted(places(shape), key=lambda place: -worth_of(place, chances))
    for nodes in (0, 1, 5, 17, 1000):
        plan = largest(shape, nodes, chances)
        found = ranks_of(plan)
        assert len(set(found)) == len(found) == min(nodes, len(every))
        assert sum(plan.worth) == pytest.approx(sum(worth_of(place, chances) for place in every[:nodes]))
        assert plan.worth == pytest.approx([worth_of(place, chances) for place in found])
        assert plan.depths == [len(place) for place in found]
        assert all(a >= b - 1e-12 for a, b in pairwise(plan.worth))
        expanded = [sum(place in {other[:-1] for other in found} for place in found if len(place) == depth)
                    for depth in range(1, plan.depth + 1)]  # fmt: skip
        assert plan.expanded() == expanded


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize(("each", "draft"), [(0.02, 0.05), (0.1, 0.3), (0.5, 0.2), (0.01, 2.0)])
def test_the_part_with_most_tokens_per_second(each: float, draft: float, several: int) -> None:
    def target(rows: int) -> float:
        return 1.0 + each * rows

    def drafter(rows: int) -> float:
        return draft * (1 + 0.02 * rows)

    def rate(plan: Plan) -> float:
        spent = target(1 + several * len(plan))
        if len(plan):
            spent += drafter(2 * several) + sum(drafter(several * rows) for rows in plan.expanded() if rows)
        return (1 + sum(plan.worth)) / spent

    for seed in range(6):
        whole = largest(Shape((3,), 5), 30, some_chances(seed))
        found = best(whole, target, drafter, drafter(2 * several), several=several)
        every = [whole.part(size, depth, 0.0) for depth in range(6) for size in range(31)]
        assert rate(found) == pytest.approx(max(map(rate, every)))
        assert found.rate == pytest.approx(rate(found))
        at_least_one = best(whole, target, drafter, drafter(2 * several), several=several, least=1)
        assert rate(at_least_one) == pytest.approx(max(rate(plan) for plan in every if len(plan)))
    assert len(found) == 0 or (each, draft) != (0.01, 2.0)


def test_while_costs_are_not_known_all_is_drafted() -> None:
    whole = largest(Shape((2,), 3), 9, some_chances(0))
    assert best(whole, lambda rows: 0.0, lambda rows: 0.0, 0.0) is whole


def test_acceptance_is_learned_by_depth_and_rank() -> None:
    learned = Acceptance()
    rng = np.random.default_rng(0)
    first = learned.chances()
    assert first[0] == first[9]
    for _ in range(600):
        for depth, right in ((1, (0.8, 0.1)), (2, (0.4, 0.3)), (3, (0.1, 0.1))):
            hit = int(rng.choice(3, p=[*right, 1 - sum(right)]))
            learned.observe(depth, [0.5, 0.2], None if hit == 2 else hit)
            if hit != 0:
                break
    found = learned.chances()
    assert found[0][:2] == pytest.approx([0.8, 0.1], abs=0.1)
    assert found[1][:2] == pytest.approx([0.4, 0.3], abs=0.12)
    assert found[2][0] < 0.3
    assert all(a >= b for row in found for a, b in pairwise(row))
    assert learned.corrected(1, [0.5, 0.2]) == pytest.approx([0.8, 0.1], abs=0.1)
    assert learned.corrected(1, [0.25, 0.2]) == pytest.approx([0.4, 0.1], abs=0.1)
    assert learned.corrected(3, [0.5])[0] < 0.35
    assert sum(learned.corrected(1, [0.9, 0.1])) <= 1.0
    assert Acceptance().corrected(1, [0.5, 0.2, 0.1]) == [0.5, 0.2, 0.1]


def test_what_does_not_pay_is_tried_ever_more_rarely() -> None:
    trials, looks = Trials(), []
    for step in range(2000):
        if not trials.waits():
            looks.append(step)
            trials.decided(pays=False)
    assert looks[:4] == [0, 4, 12, 28]
    assert looks[-1] - looks[-2] == 128
    while trials.waits():
        continue
    trials.decided(pays=True)
    assert not any(trials.waits() for _ in range(9))


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.4}, {"top_k": 5}, {"top_p": 0.6}, {"min_p": 0.2},
     {"temperature": 1.7, "top_k": 12, "top_p": 0.8, "min_p": 0.03}],
    ids=str,
)  # fmt: skip
def test_a_law_is_what_the_target_would_make_of_the_same_scores(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    for size in (3, KEPT):
        row = 3 * rng.standard_normal(size)
        chosen = Sampling(**{"temperature": 1.0, **settings})
        expected = row.copy()
        for rule in chosen.filters():
            expected = rule(PREFIX, expected)
        told = RequestSampling(draws=True, **settings)
        law = Shaper(told, size, replacement=False).law(row.copy(), PREFIX)
        assert law is not None
        law.check(size)
        wide = np.zeros(size)
        wide[law.ids] = law.prob
        assert wide == pytest.approx(softmax(expected), abs=1e-12)


def test_laws_keep_the_likeliest_of_many() -> None:
    row = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    law = Shaper(RequestSampling(draws=True), 5000, replacement=True).law(row, PREFIX)
    assert law is not None
    law.check(5000)
    assert law.replacement
    assert set(law.ids.tolist()) == set(np.argsort(-row)[:KEPT].tolist())


def test_rows_of_another_length_and_rules() -> None:
    def rule(prefix: Any, scores: Any) -> Any:
        assert len(scores) == 6
        assert prefix.tolist() == [1, 2]
        scores[3] = -np.inf
        return scores

    shaper = Shaper(RequestSampling(rules=[rule]), 6, replacement=False)
    short, long = np.array([0.0, 1.0, 3.0, 9.0]), np.array([0.0, 1.0, 3.0, 9.0, 2.0, -1.0, 99.0])
    ids, prob = shaper.best(short, PREFIX, 5)
    assert ids == [2, 1, 0]
    assert prob == pytest.approx(softmax(np.array([3.0, 1.0, 0.0])))
    assert shaper.best(long, PREFIX, 2)[0] == [2, 4]
    assert shaper.best(np.array([-np.inf, -np.inf, -np.inf, 1.0]), PREFIX, 2) == ([], [])
    equal = Shaper(None, 4, replacement=False).best(np.array([1.0, 2.0, 2.0, 2.0]), PREFIX, 3)
    assert equal[0] == [1, 2, 3]


@pytest.mark.parametrize("replacement", [True, False])
def test_draws_have_their_law(replacement: bool) -> None:
    law = DraftLaw(np.array([2, 5, 9], dtype=np.int32), np.array([0.5, 0.3, 0.2]), replacement)
    chance, count = np.random.default_rng(0), 30_000
    found = Counter(tuple(draw(law, 2, chance)) for _ in range(count))
    prob = dict(zip(law.ids.tolist(), law.prob.tolist(), strict=True))
    for first, second in product(prob, prob):
        after = prob[second] if replacement else (0.0 if first == second else prob[second] / (1 - prob[first]))
        expected = prob[first] * after
        assert abs(found[first, second] / count - expected) < 5 * np.sqrt(expected / count) + 1e-9
    assert len(draw(law, 9, chance)) == (9 if replacement else 3)
