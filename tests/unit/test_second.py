"""A small model's opinion about the trees of the hierarchy: whether it is asked, and what comes of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hierdraft.databases.levels import Databases
from hierdraft.decoding.loop import Options, decode, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.drafting.budget import AutoBudget, FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.hierarchy.payoff import OpinionWorth, best_size
from hierdraft.drafting.hierarchy.second import Hearing, SecondOpinion, joined
from hierdraft.drafting.models.tail import Tail
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, UsageError
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Opened, Request, Setup
from hierdraft.tree import DraftTree
from tests.lossless.harness import fresh, run

PROMPT = [1, 2, 3, 4, 5, 1, 2, 3]


def test_the_best_size_is_that_of_trying_all() -> None:
    chance = np.random.default_rng(2)
    for _ in range(50):
        prob = np.sort(chance.random(int(chance.integers(0, 12))).astype(np.float32))[::-1]
        dear = float(chance.uniform(0.0, 0.3))
        rates = [(1 + float(prob[:n].astype(np.float64).sum())) / (1 + dear * n) for n in range(len(prob) + 1)]
        best = int(np.argmax(rates))
        found = best_size(prob, lambda rows, dear=dear: 1 + dear * (rows - 1))
        assert (found.seconds, found.rate) == pytest.approx((1 + dear * best, rates[best]))
        assert found.tokens == pytest.approx(rates[best] * found.seconds)
        assert found.nodes == best
    assert best_size(np.array([0.5, 0.25], dtype=np.float32), lambda _: 0.0) == (2, 1.75, 0.0, 0.0)


def test_what_never_helps_is_asked_ever_more_rarely_and_what_helps_always() -> None:
    worth = OpinionWorth()
    assert worth.pays(1.2, 0.0, 1.0)  # costs are not known
    asked = {"useless": 0, "useful": 0}
    for _ in range(2000):
        if worth.pays(1.2, 1.0, 0.05):
            asked["useless"] += 1
            worth.learn(1.2, 1.0, 1.0)
        if worth.pays(2.2, 1.0, 0.05):
            asked["useful"] += 1
            worth.learn(2.2, 1.0, 1.3)
    assert asked["useful"] == 2000
    assert 5 < asked["useless"] < 40
    assert OpinionWorth().pays(1.2, 1.0, 0.5) is False  # dearer than anybody hopes: not even tried


def test_what_comes_to_help_is_found_out() -> None:
    worth, asked = OpinionWorth(), 0
    for turn in range(4000):
        if worth.pays(1.2, 1.0, 0.05):
            asked += turn >= 3000
            worth.learn(1.2, 1.0, 1.0 if turn < 1000 else 1.5)
    assert asked == 1000


def test_what_is_dear_is_tried_for_a_small_share_of_the_time() -> None:
    worth, spent = OpinionWorth(), 0.0
    for turn in range(20_000):
        kind = 1.0 + (turn % 7)
        if worth.pays(kind, 0.1, 2.0):
            spent += 2.0
            worth.learn(kind, 1.0, 1.05)
    assert 0.0 < spent <= 0.01 * 20_000 * 0.1


def test_to_read_a_text_is_a_part_of_the_price() -> None:
    engine = ToyEngine(3, 32, memory=5)
    engine.cost = lambda rows, plain=1: 1e-3 * rows  # type: ignore[method-assign]
    second = SecondOpinion(Opened(engine, "", lambda: None), 32)
    budget = Budget(8, 16, cost=lambda rows: 0.1 + 1e-4 * rows)
    tree = DraftTree.build([4, 5], [-1, 0], prob=[0.5, 0.3])

    def asked(tail: Tail, length: int) -> bool:
        hearing = Hearing(tail, np.arange(length, dtype=np.int32) % 32, budget, tree)
        if second.wanted(0, [hearing]) != [0]:
            return False
        second.ask([hearing])
        return True

    assert asked(second.open("short"), 8)
    tail = second.open("long")
    assert not asked(tail, 2000)
    assert tail.unread(np.zeros(2000, dtype=np.int32)) == 1999
    engine.forward([tail.part(np.arange(1999, dtype=np.int32) % 32, DraftTree.empty())])
    assert asked(tail, 2000)  # it was read


def test_what_a_round_takes_beside_the_forward_is_a_part_of_the_price() -> None:
    engine = ToyEngine(3, 32, memory=5)
    engine.cost = lambda rows, plain=1: 1e-3  # type: ignore[method-assign]
    second = SecondOpinion(Opened(engine, "", lambda: None), 32)
    budget = Budget(8, 16, cost=lambda rows: 0.1 + 1e-4 * rows)
    tree = DraftTree.build([4, 5], [-1, 0], prob=[0.5, 0.3])

    def hearings(count: int) -> list[Hearing]:
        return [Hearing(second.open("x"), np.arange(6, dtype=np.int32), budget, tree) for _ in range(count)]

    assert second.wanted(0, hearings(1)) == [0]
    for _ in range(2000):
        second.took(0.05)
    assert second.wanted(0, hearings(1)) == []
    assert second.wanted(0, hearings(8)) == list(range(8))  # a round serves all of them
    second.took(1e9)
    for _ in range(100):
        second.took(1e-4)
    assert second.wanted(0, hearings(1)) == [0]


class Counting(ToyEngine):
    """Counts the rows that it scores."""

    rows = 0

    def forward(self, parts: Any) -> Any:
        self.rows += sum(len(part.tokens) + len(part.tree) for part in parts)
        return super().forward(parts)


def test_a_tail_scores_nothing_twice_and_every_row_as_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.drafting.models.tail.CHUNK", 7)
    chance = random.Random(4)
    for trial in range(20):
        engine = Counting(trial, 12)
        tail, text = Tail(engine, "default"), [chance.randrange(12) for _ in range(chance.randint(1, 20))]
        known = held = 0
        for _ in range(10):
            size = chance.randint(0, 6)
            parents = [chance.randint(-1, i - 1) for i in range(size)]
            fresh_ids = chance.sample(range(12), 12)
            tree = DraftTree.build(fresh_ids[:size], parents)
            part = tail.part(np.array(text, dtype=np.int32), tree)
            logits = engine.forward([part])[0].logits
            for node in range(-1, size):
                path = tree.tokens[tree.path(node)].tolist()
                np.testing.assert_array_equal(logits[node + 1], fresh(ToyEngine(trial, 12), [*text, *path])[-1])
            assert engine.rows == known + len(text) - held + size
            if chance.random() < 0.5:  # the tree goes on
                more = [chance.randint(-1, size + i - 1) for i in range(chance.randint(1, 4))]
                tree = DraftTree.build(fresh_ids[: size + len(more)], [*parents, *more])
                logits = engine.forward([tail.further(tree)])[0].logits
                assert len(logits) == len(more)
                for row, node in enumerate(range(size, len(tree))):
                    path = tree.tokens[tree.path(node)].tolist()
                    np.testing.assert_array_equal(logits[row], fresh(ToyEngine(trial, 12), [*text, *path])[-1])
                size = len(tree)
            known = engine.rows
            path = tree.tokens[tree.path(chance.randint(-1, size - 1))].tolist() if size else []
            held = len(text) + len(path)
            text += [*path, chance.randrange(12)]
        tail.close()


def test_joined_trees_have_the_nodes_of_both_and_the_first_in_their_places() -> None:
    chance = random.Random(5)

    def made() -> DraftTree:
        branches = [[chance.randrange(3) for _ in range(chance.randint(1, 4))] for _ in range(chance.randint(0, 5))]
        return DraftTree.merge([(0, branch) for branch in branches], 20, 9)

    def texts(tree: DraftTree) -> list[tuple[int, ...]]:
        return [tuple(tree.tokens[tree.path(node)].tolist()) for node in range(len(tree))]

    for _ in range(100):
        first, second = made(), made()
        both = texts(joined(first, second))
        assert both[: len(first)] == texts(first)
        assert len(both) == len(set(both))
        assert set(both) == {*texts(first), *texts(second)}


def hybrid(drafter: Any, **settings: Any) -> tuple[HierarchyMethod, list[str]]:
    """`hierarchy` with a model beside it, and what happened to that."""
    told: list[str] = []

    def open_engine(name: str) -> Opened:
        told.append(f"opened {name}")
        return Opened(drafter, "", lambda: told.append("closed"))

    method = HierarchyMethod(draft="small", **settings)
    method.attach(Setup(Databases(), drafter.offers, drafter.vocab_size, "", open_engine))
    return method, told


@pytest.mark.parametrize("ask", ["always", "pays"])
@pytest.mark.parametrize("budget", [1, 8, 40, "auto"])
def test_a_model_that_knows_the_target_makes_drafts_longer_and_changes_nothing(ask: Any, budget: Any) -> None:
    target = ToyEngine(3, 32, memory=5)
    law = AutoBudget if budget == "auto" else lambda: FixedBudget(budget)
    truth, _ = run(target, PlainMethod(), PROMPT, Options(200))
    alone, steps = run(target, HierarchyMethod(), PROMPT, Options(200, budget=law()))
    method, told = hybrid(ToyEngine(3, 32, memory=5), ask=ask)
    both, fewer = run(target, method, PROMPT, Options(200, budget=law()))
    assert both == alone == truth
    if budget != "auto":  # a toy's forward takes no time that drafts could save
        assert len(fewer) < 0.8 * len(steps)
        assert sum((step.tree.level == code_of("draft")).sum() for step in fewer) > 0
    method.close()
    assert told == ["opened small", "closed"]


def test_further_rounds_make_drafts_longer() -> None:
    target, lengths = ToyEngine(3, 32, memory=5), []
    truth, _ = run(target, PlainMethod(), PROMPT, Options(200))
    for rounds in (1, 2, 3):
        drafter, calls = ToyEngine(3, 32, memory=5), list[int]()
        real = drafter.forward
        drafter.forward = lambda parts, real=real, calls=calls: (calls.append(1), real(parts))[1]  # type: ignore[method-assign]
        method, _ = hybrid(drafter, ask="always", rounds=rounds)
        got, steps = run(target, method, PROMPT, Options(200, budget=FixedBudget(40)))
        assert got == truth
        lengths.append(len(steps))
        assert (rounds - 1) * 0.5 * len(steps) < len(calls) <= rounds * len(steps)
        method.close()
    assert lengths[0] > lengths[1] > lengths[2]


def test_an_engine_that_does_not_go_on_with_a_tree_is_asked_once() -> None:
    target, drafter = ToyEngine(3, 32, memory=5), ToyEngine(3, 32, memory=5)
    drafter.offers = replace(drafter.offers, extends=False)
    method, _ = hybrid(drafter, ask="always", rounds=3)
    truth, _ = run(target, PlainMethod(), PROMPT, Options(60))
    assert run(target, method, PROMPT, Options(60, budget=FixedBudget(8)))[0] == truth
    assert method.second is not None
    assert method.second.rounds == 1


def test_several_requests_are_asked_about_in_one_forward() -> None:
    drafter = ToyEngine(3, 32, memory=5)
    sizes: list[int] = []
    real = drafter.forward
    drafter.forward = lambda parts: (sizes.append(len(parts)), real(parts))[1]  # type: ignore[method-assign]
    method, _ = hybrid(drafter, ask="always")
    target = ToyEngine(3, 32, memory=5)
    running = [decode(target, method, [*PROMPT, n], Options(20, budget=FixedBudget(6))) for n in range(3)]
    assert [len([*one]) > 0 for one in running] == [True] * 3
    assert set(sizes) == {1}
    scheduler = Scheduler(target)
    for n in range(3):
        scheduler.add(Ticket(open_request(target, method, [*PROMPT, n], Options(20, budget=FixedBudget(6)))))
    for _ in range(5):
        scheduler.step(lambda _: True)
    assert 3 in sizes


def test_a_model_that_fails_leaves_the_look_ups() -> None:
    target, drafter = ToyEngine(3, 32, memory=5), ToyEngine(3, 32, memory=5)
    calls: list[int] = []
    real = drafter.forward

    def failing(parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("the disk is gone")
        return real(parts)

    drafter.forward = failing  # type: ignore[method-assign]
    method, told = hybrid(drafter, ask="always")
    truth, _ = run(target, PlainMethod(), PROMPT, Options(100))
    with pytest.warns(DraftWarning, match="'small' failed and is not asked any more: RuntimeError: the disk is gone"):
        got, _ = run(target, method, PROMPT, Options(100, budget=FixedBudget(8)))
    assert got == truth
    assert len(calls) == 5
    method.close()
    assert told == ["opened small", "closed"]


def test_an_interrupt_between_rounds_leaves_no_opinion_about_the_next_tree() -> None:
    target, drafter = ToyEngine(3, 32, memory=5), ToyEngine(3, 32, memory=5)
    method, _ = hybrid(drafter, ask="always")
    session = method.open(Request(np.array(PROMPT, dtype=np.int32), 20))
    real, calls = drafter.forward, list[int]()

    def interrupted(parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(parts)

    drafter.forward = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        session.propose(np.array(PROMPT, dtype=np.int32), Budget(8, 8))
    assert len(calls) == 2
    assert method.slots.opinions(session.slot).scored[0] == 0
    session.finish(np.array(PROMPT, dtype=np.int32))
    truth, _ = run(target, PlainMethod(), PROMPT, Options(60))
    assert run(target, method, PROMPT, Options(60, budget=FixedBudget(8)))[0] == truth


def test_a_model_with_fewer_ids_is_not_shown_those_that_it_lacks() -> None:
    """With one tokenizer vocabularies may be padded to different lengths."""
    target, drafter = ToyEngine(3, 32, memory=5), ToyEngine(3, 20, memory=5)
    seen: list[int] = []
    real = drafter.forward

    def looking(parts: Any) -> Any:
        seen.extend(token for part in parts for token in [*part.tokens.tolist(), *part.tree.tokens.tolist()])
        return real(parts)

    drafter.forward = looking  # type: ignore[method-assign]
    method = HierarchyMethod(draft="small", ask="always")
    told = Databases(), target.offers, 32, "same"
    method.attach(Setup(*told, lambda _: Opened(drafter, "same", lambda: None)))
    truth, _ = run(target, PlainMethod(), PROMPT, Options(60))
    assert max(truth) >= 20
    assert run(target, method, PROMPT, Options(60, budget=FixedBudget(8)))[0] == truth
    assert seen
    assert max(seen) < 20


def test_a_model_with_other_ids_is_refused() -> None:
    method = HierarchyMethod(draft="small")
    other = ToyEngine(3, 16)
    with pytest.raises(UsageError, match="cannot draft for this one: it has 16 token ids, this one 32"):
        method.attach(Setup(Databases(), other.offers, 32, "", lambda _: Opened(other, "", lambda: None)))


def test_a_text_longer_than_the_models_context_goes_without_it_and_others_do_not() -> None:
    target, drafter = ToyEngine(3, 32, memory=5), ToyEngine(3, 32, memory=5, max_length=20)
    deepest: list[int] = []
    real = drafter.forward

    def looking(parts: Any) -> Any:
        deepest.extend(
            part.sequence.length + len(part.tokens) + int(part.tree.depths().max(initial=0)) for part in parts
        )
        return real(parts)

    drafter.forward = looking  # type: ignore[method-assign]
    method, _ = hybrid(drafter, ask="always")
    for prompt in ([*PROMPT, *range(10), 3, 4], PROMPT):
        truth, _ = run(target, PlainMethod(), prompt, Options(40))
        got, steps = run(target, method, prompt, Options(40, budget=FixedBudget(8)))
        assert got == truth
        asked = [step for step in steps if (step.tree.level == code_of("draft")).any()]
        assert bool(asked) == (len(prompt) < 20)
    assert max(deepest) <= 20


def test_a_method_drafts_for_one_model_only() -> None:
    drafter = ToyEngine(3, 32)
    method, told = hybrid(drafter)
    with pytest.raises(UsageError, match="drafts for another model already"):
        method.attach(Setup(Databases(), drafter.offers, 32, "", lambda _: Opened(drafter)))
    method.close()
    assert told == ["opened small", "closed"]
