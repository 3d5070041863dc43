"""Many requests of the hierarchy at a time: each as if it were alone, in slots that are used again."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from hierdraft.databases.hashchain import ORDERS
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo, write_pack
from hierdraft.databases.recycled import TOP
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.hierarchy.evidence import teach
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.hierarchy.session import HierarchySession
from hierdraft.errors import UsageError
from hierdraft.protocols import Budget, Request, Setup, Step
from hierdraft.tree import DraftTree, Int32

VOCABULARY = 12


def texts(seed: int, count: int, length: int) -> list[Int32]:
    """Texts with much in common."""
    chance = random.Random(seed)
    said = [chance.choices(range(VOCABULARY), k=12) for _ in range(8)]
    made = [
        sum((chance.choice(said)[: chance.randint(2, 12)] for _ in range(length)), list[int]()) for _ in range(count)
    ]
    return [np.array(text[:length], dtype=np.int32) for text in made]


def databases(folder: Path) -> Databases:
    """A pack and a store in memory."""
    index = build(np.append(texts(9, 1, 300)[0], np.int32(-1)), VOCABULARY)
    pack = write_pack(folder / "pack.safetensors", index, PackInfo("model", VOCABULARY))
    return Databases([pack], Namespaces(None, PackInfo("model", VOCABULARY), StoreOptions("none")))


class Follower:
    """A request whose answer is known: what a loop around a session does."""

    def __init__(self, method: HierarchyMethod, text: Int32, prompt: int, namespace: str = "a") -> None:
        self.text, self.length, self.namespace = text, prompt, namespace
        reference = [text[prompt + 3 : prompt + 40].copy()]
        self.session = method.open(Request(text[:prompt].copy(), len(text), namespace, reference))

    @property
    def tokens(self) -> Int32:
        return self.text[: self.length]

    def settle(self, tree: DraftTree, kept: int) -> None:
        """Accept what the text continues with, of the first `kept` nodes."""
        tree, path, tokens, node = tree.prefix(kept), list[int](), list[int](), -1
        while node is not None:
            tokens.append(int(self.text[self.length + len(tokens)]))
            node = next((n for n in tree.children(node) if tree.tokens[n] == tokens[-1]), None)  # type: ignore[assignment]
            path += [] if node is None else [node]
        choices = np.zeros(len(tree) + 1, dtype=np.int32)
        choices[[0, *(node + 1 for node in path)]] = tokens
        ids = (choices[:, None] + np.arange(TOP, dtype=np.int32)) % VOCABULARY
        self.session.observe(Step(tokens, tree, path, choices, ids.astype(np.int32)))
        self.length += len(tokens)


def followers(method: HierarchyMethod, count: int, namespaces: int = 1) -> list[Follower]:
    lengths = random.Random(3).choices(range(2, 200), k=count)
    every = zip(texts(1, count, 600), lengths, range(count), strict=True)
    return [Follower(method, text, length, f"n{number % namespaces}") for text, length, number in every]


def together(method: HierarchyMethod, every: list[Follower], budgets: list[Budget]) -> list[DraftTree]:
    return method.propose_all([(one.session, one.tokens, b) for one, b in zip(every, budgets, strict=True)])


def in_turn(method: HierarchyMethod, every: list[Follower], budgets: list[Budget]) -> list[DraftTree]:
    """Namespace by namespace, all of them learn, and then one after another drafts."""
    trees: dict[int, DraftTree] = {}
    for namespace in dict.fromkeys(one.namespace for one in every):
        mine = [number for number, one in enumerate(every) if one.namespace == namespace]
        for number in mine:
            method.catch_up(every[number].session, every[number].tokens)
        for number in mine:
            trees[number] = every[number].session.propose(every[number].tokens, budgets[number])
    return [trees[number] for number in range(len(every))]


def same(one: DraftTree, other: DraftTree) -> bool:
    names = ("tokens", "parents", "prob", "level", "probe")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("namespaces", [1, 3])
def test_many_are_drafted_for_as_each_would_be(
    tmp_path: Path, namespaces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one call, by three threads, and one after another; budgets differ and grow, so that the pool does."""
    monkeypatch.setattr("hierdraft.drafting.hierarchy.slots.ALONE", 1)
    methods = [HierarchyMethod(threads=threads) for threads in (1, 3, 1)]
    for method in methods:
        method.attach(Setup(databases(tmp_path)))
    every = [followers(method, 9, namespaces) for method in methods]
    chance, drafted = random.Random(5), 0
    for step in range(12):
        budgets = [Budget(chance.choice([0, 1, 4, 28, 50 + 20 * step]), chance.choice([1, 8, 30])) for _ in every[0]]
        trees = [
            call(method, group, budgets)
            for call, method, group in zip((together, together, in_turn), methods, every, strict=True)
        ]
        for made in zip(*trees, strict=True):
            assert same(made[0], made[1])
            assert same(made[0], made[2])
            drafted += len(made[0])
        for place in range(len(budgets)):
            kept = chance.choice([0, 2, 200])
            for group, made_by in zip(every, trees, strict=True):
                group[place].settle(made_by[place], kept)
    assert drafted > 300
    for method, group in zip(methods, every, strict=True):
        for one in group:
            one.session.finish(one.tokens)
        method.close()
    assert all(np.array_equal(methods[0].calibration.tried, method.calibration.tried) for method in methods)


def test_a_thousand_requests_in_a_row_need_one_slot() -> None:
    method = HierarchyMethod()
    text = texts(1, 1, 60)[0]
    for number in range(1000):
        session = method.open(Request(text[: 2 + number % 50].copy(), 60))
        session.propose(text[: 2 + number % 50], Budget(4, 4))
        session.finish(text)
    assert len(method.slots) == 1
    assert len(method._further) == 1


def test_many_slots_go_when_the_requests_are_over() -> None:
    method = HierarchyMethod()
    every = followers(method, 20)
    assert len(method.slots) >= 20
    trees = together(method, every, [Budget(200, 8)] * 20)
    for one in every[:-1]:
        one.session.finish(one.tokens)
    again = every[-1].session.propose(every[-1].tokens, Budget(200, 8))
    assert same(again, trees[-1])
    every[-1].session.finish(every[-1].tokens)
    assert len(method.slots) == 1
    assert method.slots.pool.space.tokens.shape[1] < 200


def test_a_request_that_is_over_is_not_drafted_for() -> None:
    method = HierarchyMethod()
    one = followers(method, 1)[0]
    one.session.finish(one.tokens)
    one.session.finish(one.tokens)
    with pytest.raises(UsageError, match="This request is over"):
        one.session.propose(one.tokens, Budget(4, 4))


def test_a_slot_knows_nothing_of_who_had_it_before() -> None:
    method = HierarchyMethod()
    for canary in ([7, 8, 9, 10], [1, 2, 3, 4]):
        text = np.array([5, 6, *canary, 5, 6, *canary, 5, 6], dtype=np.int32)
        session = method.open(Request(text, 9, str(canary), [text]))
        found = set(session.propose(text, Budget(60, 8)).tokens.tolist())
        assert found >= set(canary)
        assert found <= {5, 6, *canary}
        session.finish(text)


def by_hand(method: HierarchyMethod, session: HierarchySession, tree: DraftTree, choices: list[int]) -> None:
    """Teach the rows on the target's path one by one."""
    space, shared, row = method.slots.pool.space, session.shared, 0
    kept = {name: array[session.slot].copy() for name, array in space.evidence._asdict().items()}
    evidence = type(space.evidence)(**kept)
    for choice in choices:
        teach(evidence, shared.weights, shared.tried, shared.accepted, row, choice)
        below = [node + 1 for node in tree.children(row - 1) if tree.tokens[node] == choice]
        if not below:
            return
        row = below[0]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kept", [0, 3, 40])
def test_what_came_teaches_the_rows_that_it_reaches(kept: int, cut: bool) -> None:
    """Against rows found in the tree: of the whole proposal, of a part, and where the step was cut short."""
    for number in range(5):
        sides = [HierarchyMethod(calibration="none") for _ in range(2)]
        one, other = (Follower(method, texts(number, 1, 300)[0], 100) for method in sides)
        trees = [side.session.propose(side.tokens, Budget(40, 10)) for side in (one, other)]
        assert same(*trees)
        start = one.length
        one.settle(trees[0], kept)
        came = one.text[start : one.length].tolist()
        if cut and len(came) > 1:  # the last drafted token ends the request
            tree, path = trees[0].prefix(kept), list[int]()
            for token in came[:-1]:
                path += [n for n in tree.children(path[-1] if path else -1) if tree.tokens[n] == token]
            choices = np.zeros(len(tree) + 1, dtype=np.int32)
            choices[[0, *(node + 1 for node in path)]] = came
            one.session._asked = True
            one.session.noted.clear()
            one.length -= 1
            one.session.observe(Step(came[:-1], tree, path, choices))
        by_hand(sides[1], other.session, trees[1], came)
        sides[0].catch_up(one.session, one.tokens)
        assert np.array_equal(sides[0].calibration.tried, sides[1].calibration.tried)
        weights = [side.session.shared.weights for side in (one, other)]
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def where_it_continues(expected: int, joined: list[int], answer: list[int]) -> int:
    """One token of the answer later: slowly, over all places of all its last tokens."""
    if joined[expected] != answer[-1]:
        for order in range(min(ORDERS, len(answer)), 1, -1):
            places = [p for p in range(order, len(joined)) if joined[p - order : p] == answer[-order:]]
            if places:
                return min(places, key=lambda p: (abs(p - expected), -p))
    return min(expected + 1, len(joined) - 1)


def test_the_reference_is_followed_as_by_a_slow_twin() -> None:
    for number in range(20):
        chance = random.Random(number)
        reference, answer = texts(number, 2, 80)
        answer = np.append(reference[:30], answer)
        method = HierarchyMethod()
        session = method.open(Request(answer[:7].copy(), 99, reference=[reference[5:60], reference[:9]]))
        joined = [*reference[5:60].tolist(), -1, *reference[:9].tolist(), -1]
        expected, length = 0, 7
        while length < 100:
            came = chance.randint(1, 4)
            for place in range(length, length + came):
                expected = where_it_continues(expected, joined, answer[7 : place + 1].tolist())
            length += came
            session.propose(answer[:length], Budget(4, 4))
            assert method.slots.requests.expected[session.slot] == expected


def test_the_runner_ups_of_a_request_that_is_not_drafted_for_do_not_pile_up() -> None:
    method = HierarchyMethod()
    one = followers(method, 1)[0]
    for _ in range(100):
        one.settle(DraftTree.empty(), 0)
    assert len(one.session.noted) < 40
    first, second = one.text[one.length - 60 : one.length - 58].tolist()
    assert set(method.recycled.match("n0", [first, second])) == {1, 2}


def test_a_drafter_without_threads_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        HierarchyMethod(threads=0)
