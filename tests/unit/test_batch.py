"""Drafting for a batch: chains against a slow twin, requests recognised by their texts, budgets that are shared."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hierdraft.databases.hashchain import LOOK_BACK, ORDERS, HashChains
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo, write_pack
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixarray import LONGEST
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.budget import BatchBudget
from hierdraft.drafting.hierarchy.batch import PATIENCE, BatchDrafter
from hierdraft.drafting.hierarchy.chain import SURE
from hierdraft.drafting.hierarchy.evidence import Weights
from hierdraft.drafting.hierarchy.lookups import DEEPEST, OCCURRENCES
from hierdraft.drafting.hierarchy.scans import SHORT, is_bare
from hierdraft.drafting.hierarchy.slots import Slots
from hierdraft.engines.costs import RunningCosts
from hierdraft.levels import code_of
from hierdraft.tree import Int32
from tests.unit.twin_hierarchy import MODEL, STATISTICS, Texts, probabilities

VOCABULARY = 50


def unknown(first: int, last: int) -> NDArray[np.float64]:
    """Costs that nothing is known about."""
    return np.zeros(last - first + 1)


def table(texts: list[list[int]], width: int = SHORT + 400) -> tuple[Int32, NDArray[np.int64]]:
    """Rows as an engine holds them, after each text whatever was there before."""
    ids = np.full((len(texts), width), 7, dtype=np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids, np.array([len(text) for text in texts], dtype=np.int64)


def step(drafter: BatchDrafter, texts: list[list[int]], fresh: list[int], room: int = 99) -> list[list[int]]:
    """One step of an engine with these rows."""
    ids, lengths = table(texts)
    return drafter.propose(ids, lengths, np.array(fresh, dtype=np.int64), np.full(len(texts), room), unknown)


def pack_of(folder: Path, name: str, tokens: list[int], level: str) -> Pack:
    index = build(np.array([*tokens, -1], dtype=np.int32), VOCABULARY)
    return write_pack(folder / f"{name}.safetensors", index, PackInfo(level, VOCABULARY))


TEXT = st.lists(st.integers(0, 4), min_size=1, max_size=60) | st.integers(1, 9).map(
    lambda n: [*range(n), *range(9)] * 3
)

LOOP = st.integers(0, 9).map(lambda n: [1] * n + [2, 3] + [1] * (LOOK_BACK * OCCURRENCES - 5 + n))
"""A text that repeats itself for about as long as a look goes back."""


@pytest.mark.parametrize(("short", "many"), [(0, 0), (SHORT, 0), (0, 24)])
@settings(max_examples=40)
@given(st.lists(TEXT | LOOP, min_size=1, max_size=4, unique_by=tuple), st.lists(TEXT, max_size=2), st.integers(1, 9))
def test_chains_are_those_of_a_slow_twin(
    tmp_path_factory: pytest.TempPathFactory, short: int, many: int, texts: list[list[int]], said: list[list[int]],
    depth: int,
) -> None:  # fmt: skip
    """With an index for every text, and with one for none; in a hurry, and not."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hierdraft.drafting.hierarchy.slots.SHORT", short)
        patched.setattr("hierdraft.drafting.hierarchy.batch.MANY", many)
        assert compare_with_twin(tmp_path_factory, texts, said, depth, many == 0) == len(texts)


def compare_with_twin(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], said: list[list[int]], depth: int, hurried: bool
) -> int:
    """Raises AssertionError where a chain is not the twin's; returns how many chains were compared."""
    folder = tmp_path_factory.mktemp("packs")
    names = ("model", "statistics")
    packs = [pack_of(folder, name, tokens, name) for name, tokens in zip(names, said, strict=False)]
    drafter = BatchDrafter(depth, Databases(packs), least=0.01)
    drafts = step(drafter, texts, [1] * len(texts))
    weights = drafter.method.calibration.weights("")
    levelled = [([*tokens, -1], level) for tokens, level in zip(said, (MODEL, STATISTICS), strict=False)]
    for row, text in enumerate(texts):
        check_chain(Texts(text, packs=levelled), drafts[row], depth, weights, hurried)
    return len(drafts)


def last_place(text: list[int], whole: list[int]) -> int:
    """The last place in `text` that the last tokens of `whole` stand before, -1 if there is none."""
    for at in range(len(text) - 1, ORDERS - 1, -1):
        if text[at - ORDERS : at] == whole[-ORDERS:]:
            return at
    return -1


def in_first_pack(texts: Texts, path: list[int]) -> list[int]:
    """What all occurrences agree on after the longest suffix, in the first pack that holds `ORDERS` tokens of it."""
    whole = [*texts.context, *path]
    for pack, _ in texts.packs:
        for order in range(min(LONGEST + len(path), DEEPEST, len(whole)), ORDERS - 1, -1):
            ends = [at for at in range(order, len(pack)) if pack[at - order : at] == whole[-order:]]
            if ends:
                agreed = list[int]()
                while len(next_ones := {pack[end + len(agreed)] for end in ends}) == 1 and next_ones != {-1}:
                    agreed += next_ones
                return agreed
    return []


def check_chain(texts: Texts, chain: list[int], depth: int, weights: Weights, hurried: bool) -> None:
    """Every token is the likeliest there, or what followed the newest earlier place of the eight before it."""
    text, path, reach = texts.context, list[int](), 1.0
    sure = SURE if hurried else math.inf
    while path != chain:
        found = probabilities(texts, path, reach, weights, hurried)
        token = chain[len(path)]
        prob = found[token]
        assert prob >= max(found.values()) * (1 - 1e-4)
        reach *= prob
        path.append(token)
        assert reach >= 0.01 * (1 - 1e-4)
        if abs(prob - sure) < 1e-3:
            return  # too close to tell
        place = last_place(text, text + path) if prob > sure else -1
        on = in_first_pack(texts, path) if prob > sure and place < 0 else []
        if (place >= 0 or on) and len(path) < depth and reach * prob >= 0.01 * (1 + 1e-4):
            more = len(chain) - len(path)
            for at in range(more):
                path.append((text + path)[place + at] if place >= 0 else on[at])
            assert chain == path
            assert reach * prob**more >= 0.01 * (1 - 1e-4)
            ended = len(chain) == depth or reach * prob ** (more + 1) < 0.01 * (1 + 1e-4)
            assert ended or (place < 0 and more == len(on))
            return
    if len(path) < depth:
        rest = probabilities(texts, path, reach, weights, hurried)
        assert reach * max(rest.values(), default=0.0) < 0.01 * (1 + 1e-4)


def check_texts(slots: Slots, rows: NDArray[np.int64], texts: list[list[int]], *, index: bool) -> None:
    """Every row's slot holds its text, indexed as an index made at once would be."""
    for slot, text in zip(rows.tolist(), texts, strict=True):
        held = slots.holding(slot).own
        assert held.tokens[: slots.requests.known[slot]].tolist() == text
        if index:
            once, grown = HashChains(8), HashChains(8)
            once.extend(text)
            grown.chains, grown._length = held, len(text)
            assert is_bare(held) or grown.match(text) == once.match(text)


@pytest.mark.parametrize("seed", range(6))
def test_requests_are_recognised_wherever_their_rows_are(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows begin, end, change places, are left out for a step and come back, and grow by several tokens."""
    monkeypatch.setattr(
        "hierdraft.drafting.hierarchy.slots.SHORT", 100 * (seed % 3)
    )  # where texts begin to have an index
    chance = random.Random(seed)
    drafter = BatchDrafter(4)
    told = step_number = 0
    live: list[list[int]] = []
    away: list[tuple[int, list[int]]] = []
    for step_number in range(1, 160):
        fresh = []
        for text in live:
            more = chance.choices(range(VOCABULARY), k=chance.randint(1, 4))
            text += more
            fresh.append(len(more))
        while len(live) < 3 or (len(live) < 20 and chance.random() < 0.3):
            live.append(chance.choices(range(VOCABULARY), k=chance.randint(2, 150)))
            fresh.append(1)
            told += 1
        for gone, text in [entry for entry in away if entry[0] < step_number]:
            away.remove((gone, text))
            live.append([*text, 3])
            fresh.append(1)
        order = list(range(len(live)))
        chance.shuffle(order)
        live, fresh = [live[i] for i in order], [fresh[i] for i in order]
        drafts = step(drafter, live, fresh)
        assert all(len(draft) <= 4 and all(0 <= token < VOCABULARY for token in draft) for draft in drafts)
        check_texts(drafter.method.slots, drafter.requests.rows, live, index=step_number % 53 == 0)
        if chance.random() < 0.2:
            live.pop(chance.randrange(len(live)))
        if chance.random() < 0.2 and len(live) > 2:
            away.append((step_number + 1, live.pop()))
    assert drafter.requests.begun == told
    assert len(drafter.requests) <= 30


@pytest.mark.parametrize("alphabet", [1, 4, 300])
def test_an_index_does_not_change_the_drafts(alphabet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts, one of which outgrows what is read without an index."""
    chance = random.Random(alphabet)
    said = [chance.choices(range(alphabet), k=40) for _ in range(30)]
    texts = [list[int]() for _ in range(4)]
    for text, length in zip(texts, (SHORT - 150, 900, 64, 3), strict=True):
        while len(text) < length:
            text += chance.choice(said)[: chance.randint(1, 40)]
    without = BatchDrafter(8)
    with monkeypatch.context() as patched:
        patched.setattr("hierdraft.drafting.hierarchy.slots.SHORT", 0)
        indexed = BatchDrafter(8)
        step(indexed, texts, [1] * 4)
    step(without, texts, [1] * 4)
    bare = set()
    for _ in range(60):
        fresh = [chance.randint(1, 9) for _ in texts]
        for text, more in zip(texts, fresh, strict=True):
            text += chance.choice(said)[:more]
        with monkeypatch.context() as patched:
            patched.setattr("hierdraft.drafting.hierarchy.slots.SHORT", 0)
            expected = step(indexed, texts, fresh)
        assert step(without, texts, fresh) == expected
        for one, other in zip(without.requests.rows, indexed.requests.rows, strict=True):
            both = [drafter.method.slots for drafter in (without, indexed)]
            made = both[0].requests.made[one]
            assert made == both[1].requests.made[other]
            for name in ("prob", "level"):
                arrays = [getattr(of.pool.space, name)[at, :made] for of, at in zip(both, (one, other), strict=True)]
                assert np.array_equal(*arrays)
        slots = without.method.slots
        bare.add(sum(is_bare(slots.holding(slot).own) for slot in without.requests.rows.tolist()))
    assert bare == {4, 3}


def test_two_requests_of_one_text_do_not_share_a_slot() -> None:
    drafter = BatchDrafter(4)
    text = [1, 2, 3, 1, 2]
    assert (
        step(drafter, [text, text], [1, 1])
        == [drafter.method.slots.pool.space.tokens[drafter.requests.rows[0]][:4].tolist()] * 2
    )
    assert len(drafter.requests) == 2
    step(drafter, [[*text, 3], [*text, 9]], [1, 1])
    assert len(drafter.requests) == 2
    assert drafter.requests.begun == 2


def test_rows_without_new_tokens_get_nothing() -> None:
    drafter = BatchDrafter(4)
    drafts = step(drafter, [[1, 2, 1, 2, 1], [5, 6, 5, 6, 5]], [0, 1])
    assert drafts[0] == []
    assert drafts[1][:2] == [6, 5]
    assert len(drafter.requests) == 1


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_nothing_is_drafted_beyond_the_room(room: int) -> None:
    drafter = BatchDrafter(8)
    assert len(step(drafter, [[1, 2] * 20], [1], room)[0]) == room


def test_threads_do_not_change_the_drafts() -> None:
    chance = random.Random(5)
    texts = [chance.choices(range(6), k=chance.randint(5, 200)) for _ in range(40)]
    one, three = BatchDrafter(6), BatchDrafter(6, threads=3)
    for _ in range(5):
        for text in texts:
            text.append(chance.randrange(6))
        assert step(one, texts, [1] * 40) == step(three, texts, [1] * 40)
    three.close()


def test_chains_end_where_nothing_so_unlikely_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.drafting.hierarchy.batch.MANY", 0)
    drafter, chance = BatchDrafter(8, budget=BatchBudget()), random.Random(1)
    text = [chance.randrange(3) for _ in range(200)]
    dear = [0.0, 1.0]  # seconds of a token more, at first and later

    def cost(first: int, last: int) -> NDArray[np.float64]:
        return 1.0 + dear[0] * np.arange(last - first + 1)

    def least_likely() -> float:
        found = []
        for _ in range(100):
            text.append(chance.randrange(3))
            ids, known = table([text])
            drafter.propose(ids, known, np.ones(1, dtype=np.int64), np.full(1, 99), cost)
            slot, slots = drafter.requests.rows[0], drafter.method.slots
            found += slots.pool.space.prob[slot, : slots.requests.made[slot]].tolist()[-1:]
        return float(np.quantile(found[20:], 0.2))  # now and then a few are sent, to see whether that pays

    assert least_likely() < 0.1
    dear.reverse()
    assert least_likely() >= 0.25
    dear.reverse()
    assert least_likely() < 0.1


CANARY = [41, 42, 43, 44]


def serve_a_canary(drafter: BatchDrafter) -> list[int]:
    """One request says the canary and ends; what a later one gets that leads up to it."""
    first = [1, 2, 3, 4, 5, 6]
    for token in [7, *CANARY, *CANARY]:
        first.append(token)
        step(drafter, [first, [9, 9, len(first) % 3]], [1, 1])
    for turn in range(PATIENCE + 2):
        step(drafter, [[11, 12, turn]], [1])
    return step(drafter, [[30, 31, 4, 5, 6, 7]], [1])[0]


def test_strangers_learn_nothing_from_each_other() -> None:
    drafter = BatchDrafter(4, Databases((), Namespaces(None, PackInfo("model", VOCABULARY), StoreOptions("none"))))
    assert not set(serve_a_canary(drafter)) & set(CANARY)
    assert drafter.requests.unseen(drafter.counts.steps - PATIENCE) == []


def test_one_tenant_learns_what_was_said() -> None:
    databases = Databases((), Namespaces(None, PackInfo("model", VOCABULARY), StoreOptions("none")))
    drafter = BatchDrafter(4, databases, "team")
    assert serve_a_canary(drafter)[:4] == CANARY
    assert drafter.counts.proposed[code_of("model")] >= 4


def test_what_was_said_outlives_the_process(tmp_path: Path) -> None:
    def databases() -> Databases:
        return Databases((), Namespaces(tmp_path, PackInfo("model", VOCABULARY), StoreOptions("batch")))

    first = BatchDrafter(4, databases(), "team")
    text = [1, 2, 3, 7]
    for token in CANARY:
        text.append(token)
        step(first, [text], [1])
    first.close()
    second = BatchDrafter(4, databases(), "team")
    assert step(second, [[30, 2, 3, 7]], [1])[0] == CANARY
    second.close()


def test_counts_are_of_what_was_sent_and_taken() -> None:
    drafter = BatchDrafter(3)
    text = [1, 2, 3, 4] * 4
    draft = step(drafter, [text], [1])[0]
    assert draft == [1, 2, 3]
    step(drafter, [[*text, 1, 2, 9]], [3])
    assert drafter.counts.accepted[code_of("context")] == 2
    assert drafter.counts.proposed[code_of("context")] >= 3


# --- the budget ------------------------------------------------------------------------------------------------------

CHAINS = st.lists(st.lists(st.floats(0.01, 1.0), max_size=5), min_size=1, max_size=6)


@given(CHAINS, st.floats(0.0, 0.2), st.floats(0.0, 0.5))
def test_the_best_tokens_of_a_batch_are_sent(steps: list[list[float]], slope: float, drafting: float) -> None:
    """Against every possible number of tokens, and every way to take that many."""
    prob = np.zeros((len(steps), 5), dtype=np.float32)
    for row, chain in zip(prob, steps, strict=True):
        row[: len(chain)] = np.cumprod(chain)
    made = np.array([len(chain) for chain in steps])

    def cost(first: int, last: int) -> NDArray[np.float64]:
        return 1.0 + slope * np.arange(first, last + 1)

    sent = BatchBudget().share(prob, made, cost, drafting)
    assert (sent <= made).all()

    def rate(counts: NDArray[np.int64]) -> float:
        taken = sum(float(row[:n].sum()) for row, n in zip(prob.astype(np.float64), counts, strict=True))
        rows = len(made)
        return (rows + taken) / float(cost(rows + counts.sum(), rows + counts.sum())[0] + drafting)

    best = rate(sent)
    for index in range(len(made)):
        for change in (-1, 1):
            other = sent.copy()
            other[index] += change
            if 0 <= other[index] <= made[index]:
                assert rate(other) <= best * (1 + 1e-6)


def test_what_is_not_kept_is_not_believed() -> None:
    budget = BatchBudget()
    prob, made = np.full((2, 4), 0.6, dtype=np.float32), np.array([4, 4])

    def cost(first: int, last: int) -> NDArray[np.float64]:
        return 10.0 + 1.5 * np.arange(first, last + 1)

    assert budget.share(prob, made, cost, 0.0).sum() == 8
    for _ in range(60):
        budget.learn(0)
        sent = budget.share(prob, made, cost, 0.0)
    assert sent.sum() == 0
    assert budget.trust < 0.5
    tried = 0
    for _ in range(200):
        budget.learn(0)
        tried += bool(budget.share(prob, made, cost, 0.0).any())
    assert 2 <= tried <= 12  # a look now and then, to see whether that has changed


def test_while_costs_are_unknown_as_many_are_sent_as_there_are_rows() -> None:
    made = np.array([2, 0, 1])
    prob = np.array([[0.9, 0.8], [0.7, 0.1]], dtype=np.float32)
    assert BatchBudget().share(prob, np.array([2, 2]), unknown, 0.0).tolist() == [2, 0]
    assert BatchBudget().share(np.full((3, 2), 0.3, dtype=np.float32), made, unknown, 0.0).tolist() == [2, 0, 1]
    assert BatchBudget().share(np.zeros((2, 2), dtype=np.float32), np.zeros(2, int), unknown, 0.0).tolist() == [0, 0]


# --- costs -----------------------------------------------------------------------------------------------------------


def test_steps_that_scored_nothing_say_nothing_about_costs() -> None:
    costs = RunningCosts()
    costs.record(0, 0, 0.1)
    for _ in range(8):
        costs.record(2, 4, 1.0)
        costs.record(0, 0, 5.0)
        costs.record(2, 0, 5.0)
    assert costs(2, 4)[-1] == pytest.approx(1.0)


def test_costs_follow_the_steps() -> None:
    costs = RunningCosts()
    chance = random.Random(1)
    assert costs(4, 6).tolist() == [0.0, 0.0, 0.0]
    for _ in range(300):
        rows = chance.randint(4, 60)
        costs.record(4, rows, (0.02 + 0.001 * rows) * chance.uniform(0.95, 1.05))
    assert costs(10, 50) == pytest.approx(0.02 + 0.001 * np.arange(10, 51), rel=0.1)
    for _ in range(300):
        costs.record(4, 20, 0.08)  # always the same size: the level moves, the slope stays
    now = costs(20, 40)
    assert now[0] == pytest.approx(0.08, rel=0.05)
    assert now[20] - now[0] == pytest.approx(0.02, rel=0.2)


def law_beside_none(curve: Callable[[int, int], float], rows: int, before: Callable[[int, int], float] | None) -> float:
    """Tokens per second of 400 noisy steps under the law, over those without drafts. `before`: what came before."""
    chance = np.random.default_rng(0)
    law, costs = BatchBudget(), RunningCosts()
    for tokens in chance.integers(1, 9, 150 if before else 0):
        costs.record(1, int(tokens), (before or curve)(1, int(tokens)) * chance.lognormal(0, 0.05))
    seconds = plain = 0.0
    emitted = 0
    for _ in range(400):
        each = np.clip(chance.beta(0.8, 0.8, (rows, 1)) * chance.uniform(0.7, 1.1, (rows, 8)), 0.02, 0.98)
        prob = np.cumprod(each, axis=1).astype(np.float32)
        sent = law.share(prob, (prob > 0.05).sum(axis=1), costs, 0.0)
        taken = np.cumprod(chance.random(each.shape) < each, axis=1) * (np.arange(8) < sent[:, None])
        law.learn(int(taken.sum()))
        tokens = rows + int(sent.sum())
        took = curve(rows, tokens) * chance.lognormal(0, 0.05)
        costs.record(rows, tokens, took)
        seconds += took
        emitted += rows + int(taken.sum())
        plain += curve(rows, rows)
    return float(emitted / seconds * plain / (400 * rows))


def flat(_rows: int, tokens: int) -> float:
    """Steps that wait for memory."""
    return 0.03 + 0.0003 * tokens


def steep(_rows: int, tokens: int) -> float:
    """Steps that compute."""
    return 0.008 + 0.0068 * tokens


def stepped(rows: int, tokens: int) -> float:
    """Any draft begins another block of rows."""
    return 0.12 + (0.04 if tokens > rows else 0.0) + 0.003 * (tokens - rows)


@pytest.mark.parametrize("before", [None, flat])
@pytest.mark.parametrize(
    ("curve", "rows", "least"), [(flat, 1, 2.1), (flat, 16, 1.5), (steep, 16, 0.96), (stepped, 16, 0.96)]
)
def test_drafts_are_sent_where_they_pay(
    curve: Callable[[int, int], float], rows: int, least: float, before: Callable[[int, int], float] | None
) -> None:
    assert law_beside_none(curve, rows, before) >= least


def test_one_long_step_hardly_counts() -> None:
    costs = RunningCosts()
    for rows in range(4, 64):
        costs.record(4, rows, 0.01)
    costs.record(4, 30, 60.0)
    assert float(costs(30, 30)[0]) < 0.02
