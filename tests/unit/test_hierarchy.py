"""Growing a tree best-first, against a slow obvious twin; what the drafter learns from a request and forgets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.databases.hashchain import LOOK_BACK, ORDERS, HashChains
from hierdraft.databases.recycled import TOP, make_successors, note_successors
from hierdraft.databases.suffixarray import END, LONGEST, Index, follow_all, shelve
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.hierarchy.cells import BUCKETS, CELLS
from hierdraft.drafting.hierarchy.evidence import TOKENS, Weights, initial_weights
from hierdraft.drafting.hierarchy.grow import LAZY, Sources, grow, make_space
from hierdraft.drafting.hierarchy.lookups import OCCURRENCES
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.hierarchy.opinions import CHOICES, Opinions, put_opinions
from hierdraft.errors import UsageError
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Step
from hierdraft.tree import DraftTree
from tests.unit.twin_hierarchy import FURTHER, Texts, probabilities, shelve_texts

MODEL, STATISTICS = (code_of(name) for name in ("model", "statistics"))
Candidates = Callable[[list[int], float], dict[int, float]]


def random_weights(seed: int) -> Weights:
    """Weights that differ everywhere."""
    rng = np.random.default_rng(seed)
    shapes = {name: array.shape for name, array in initial_weights().items()}
    drawn = {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    drawn["look"] = rng.uniform(0, 0.6, shapes["look"]).astype(np.float32)
    evidence = rng.uniform(0, 6, CELLS).astype(np.float32)
    return Weights(evidence, **drawn, token=rng.uniform(-0.5, 0.5, TOKENS + 1).astype(np.float32))


def check_order(tree: DraftTree, candidates: Candidates, nodes: int, depth: int, least: float) -> None:
    """Replays the growth: what is best comes next, be it a node or the expansion of a node, at LAZY of its own.

    Equals may come in any order; the one that the tree continued with is taken.
    """
    paths = [[int(tree.tokens[i]) for i in tree.path(node)] for node in range(len(tree))]
    ready: dict[tuple[int, ...], float] = {}
    unexpanded: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 1.0)}

    def expand(key: float, upcoming: list[list[int]]) -> None:
        tied = [path for path, (found, _) in unexpanded.items() if found >= key * (1 - 1e-5)]
        parents = [tuple(path[:-1]) for path in upcoming]
        chosen = min(tied, key=lambda path: parents.index(path) if path in parents else len(parents))
        _, reach = unexpanded.pop(chosen)
        for token, p in candidates(list(chosen), reach).items():
            if reach * p >= least * (1 - 1e-5):
                ready[(*chosen, token)] = reach * p

    for node, path in enumerate(paths):
        while True:
            best = max(ready.values(), default=0.0)
            key = max((found for found, _ in unexpanded.values()), default=0.0)
            mine = ready.get(tuple(path), 0.0)
            if mine >= max(best, key) * (1 - 1e-5):
                break
            assert key >= best * (1 - 1e-5), f"node {node} has {mine}, but {best} was there"
            expand(key, paths[node:])
        assert tree.prob[node] == pytest.approx(ready.pop(tuple(path)), rel=1e-4)
        if len(path) < depth and mine * LAZY >= least:
            unexpanded[tuple(path)] = (mine * LAZY, float(tree.prob[node]))
    if len(tree) < nodes:
        while unexpanded:
            expand(max(found for found, _ in unexpanded.values()), [])
        assert all(p < least * (1 + 1e-4) for p in ready.values())


def chains(text: list[int]) -> HashChains:
    made = HashChains()
    made.extend(np.array(text, dtype=np.int32))
    return made


def sources(texts: Texts) -> tuple[Sources, list[Index]]:
    """What `grow` reads; the indexes must be kept as long."""
    indexes = [build(np.array(tokens, dtype=np.int32), 4) for tokens, _ in texts.packs]
    shelf = shelve(indexes, [level for _, level in texts.packs])
    low, high = np.zeros((2, 2, len(texts.packs), LONGEST + 1), dtype=np.int32)
    text = np.array(texts.context, dtype=np.int32)
    for shorter in (0, 1):
        follow_all(shelf, low[shorter], high[shorter], text[: len(text) - shorter][-LONGEST:].copy())
    successors = make_successors()
    for (previous, token), (ids, confirmed) in texts.successors.items():
        for _ in range(1 + confirmed):
            only = np.array([[*ids]], dtype=np.int32)
            single, last = make_successors(), np.array([[previous, token]], dtype=np.int32)
            note_successors(single, last, np.zeros(1, dtype=np.int64), *np.zeros((2, 0), dtype=np.int32), only)
            slots = np.flatnonzero(single.keys >= 0)
            wanted = [s for s in slots if (single.keys[s] >> 32) == previous + 1]
            for slot in wanted:
                successors.confirmed[slot] = successors.keys[slot] == single.keys[slot]
                successors.keys[slot], successors.ids[slot] = single.keys[slot], single.ids[slot]
    further = [chains(texts.recent).chains, chains(texts.further).chains]
    made = Sources(
        chains(texts.reference).chains, texts.expected, chains(texts.context).chains, len(text), successors,
        shelve_texts(further, [MODEL, FURTHER]), shelf, low, high,
    )  # fmt: skip
    return made, (indexes, further)


TEXT = st.lists(st.integers(0, 3), min_size=1, max_size=80)
PACK = st.lists(st.integers(END, 3), max_size=150)
IDS = st.lists(st.integers(0, 9), min_size=TOP, max_size=TOP, unique=True)
SUCCESSORS = st.dictionaries(
    st.tuples(st.integers(-1, 3), st.integers(0, 3)), st.tuples(IDS, st.booleans()), max_size=8
)


THOUGHTS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, BUCKETS - 1)), max_size=CHOICES, unique_by=lambda one: one[0]
)
OPINIONS = st.dictionaries(st.lists(st.integers(0, 4), max_size=4).map(tuple), THOUGHTS, max_size=12)


def scored_by(opinions: dict[tuple[int, ...], list[tuple[int, int]]], space: Opinions) -> None:
    """Puts opinions about paths into a space: where a path is a node's, it and all above it were scored."""
    if not opinions:
        return
    paths = sorted({path[:n] for path in opinions for n in range(1, len(path) + 1)}, key=len)
    number = {(): -1} | {path: node for node, path in enumerate(paths)}
    ids = np.full((len(paths) + 1, CHOICES), -1, dtype=np.int32)
    buckets = np.zeros((len(paths) + 1, CHOICES), dtype=np.uint8)
    for path, thoughts in opinions.items():
        for rank, (token, bucket) in enumerate(thoughts):
            ids[number[path] + 1, rank], buckets[number[path] + 1, rank] = token, bucket
    tree = DraftTree.build([path[-1] for path in paths], [number[path[:-1]] for path in paths])
    half = len(paths) // 2 + 1  # some rows first, the others in a further round
    put_opinions(space, tree.prefix(half - 1), 0, ids[:half], buckets[:half])
    put_opinions(space, tree, half, ids[half:], buckets[half:])


@given(
    TEXT, PACK, st.integers(-1, 60), PACK, PACK, st.lists(PACK, max_size=2), SUCCESSORS, OPINIONS,
    st.integers(0, 20), st.integers(1, 6), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_tree_is_that_of_a_slow_twin(
    context: list[int], reference: list[int], expected: int, recent: list[int], further: list[int],
    packs: list[list[int]],
    successors: dict[tuple[int, int], tuple[list[int], bool]],
    opinions: dict[tuple[int, ...], list[tuple[int, int]]], nodes: int, depth: int, seed: int,
) -> None:  # fmt: skip
    levelled = list(zip(packs, (MODEL, STATISTICS), strict=False))
    place = min(expected, len(reference) - 1)
    texts = Texts(context, reference, place, recent, further, levelled, successors, opinions)
    check_against_twin(texts, nodes, depth, seed)


PATTERN = st.lists(st.integers(0, 3), min_size=2, max_size=9)


@settings(max_examples=25)
@given(PATTERN, st.integers(1, 60), st.lists(PATTERN, max_size=4), st.integers(10, 40), st.integers(0, 2**32 - 1))
def test_text_that_repeats_itself_is_followed_deep_into_a_pack(
    pattern: list[int], told: int, more: list[list[int]], depth: int, seed: int
) -> None:
    """Suffixes grow longer than LONGEST down the tree, up to DEEPEST, and beyond it are looked up anew."""
    pack = [END]
    for words in (pattern, *more):
        pack += words * 6 + [END] + (words + pattern) * 2 + [END]
    packs = [(pack, MODEL), ((pattern * 60)[:200], STATISTICS)]
    check_against_twin(Texts((pattern * 60)[:told], packs=packs), depth + 5, depth, seed)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), TEXT, st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_a_text_that_repeats_itself_is_looked_at_as_far_back_as_the_bound(
    pattern: list[int], before: list[int], more: int, seed: int
) -> None:
    context = before + (pattern * LOOK_BACK * OCCURRENCES)[: LOOK_BACK * OCCURRENCES - 20 + more] + pattern
    check_against_twin(Texts(context), 6, 3, seed)


def check_against_twin(texts: Texts, nodes: int, depth: int, seed: int) -> None:
    """Grows a tree with random weights, and compares it with the twin's candidates."""
    weights = random_weights(seed)
    read, kept = sources(texts)
    context, packs = texts.context, texts.packs
    space = make_space(max(80, nodes), len(packs))
    scored_by(texts.opinions, space.opinions)
    n = grow(read, np.array(context[-ORDERS:], dtype=np.int32), weights, space, nodes, depth, 0.001)
    tree = DraftTree.build(
        space.tokens[:n].copy(),
        space.parents[:n].copy(),
        prob=space.prob[:n].copy(),
        level=space.level[:n].copy(),
    )
    tree.check(10)
    check_order(tree, lambda path, reach: probabilities(texts, path, reach, weights), nodes, depth, 0.001)
    assert len({(int(p), int(t)) for p, t in zip(tree.parents, tree.tokens, strict=True)}) == n
    assert (tree.depths() <= depth).all()
    assert len(kept[0]) == len(packs)


def test_a_request_forgets_the_text_of_the_one_before() -> None:
    method = HierarchyMethod()
    text = np.array([1, 2, 3, 4, 1, 2], dtype=np.int32)
    session = method.open(Request(text, 10))
    assert session.propose(text, Budget(8, 8)).tokens[0] == 3
    session.observe(Step([3], DraftTree.empty(), [], np.array([3], dtype=np.int32)))
    session.finish(text)
    other = np.array([9, 8, 1, 2], dtype=np.int32)
    session = method.open(Request(other, 10))
    assert len(session.propose(other, Budget(8, 8))) == 0


def test_probabilities_become_honest() -> None:
    """On text where a repeated pair is continued as before only every other time, 0.5 is learned."""
    rng = np.random.default_rng(1)
    method = HierarchyMethod(calibration="none")
    text = np.array([1], dtype=np.int32)
    session = method.open(Request(text, 4000))
    said, expected = [], []
    for i in range(3000):
        tree = session.propose(text, Budget(4, 1))
        truth = int(rng.integers(0, 2)) + 2 * (i % 2)
        if len(tree) and i > 1000:
            said.append(float(tree.prob[0]))
            expected.append(float(tree.tokens[0] == truth))
        choices = np.full(len(tree) + 1, truth, dtype=np.int32)
        session.observe(Step([truth], tree, [], choices))
        text = np.append(text, np.int32(truth))
    assert abs(np.mean(said) - np.mean(expected)) < 0.1  # the best of several noisy estimates leans high


@pytest.mark.parametrize("nodes", [1, 64, 100, 128])
def test_as_many_nodes_as_asked_for(nodes: int) -> None:
    method = HierarchyMethod(least=0.0)
    text = np.array([1, 2, 3, 4, 5, 6, 7] * 40, dtype=np.int32)
    session = method.open(Request(text, 300))
    assert len(session.propose(text, Budget(nodes, 300))) == nodes


def test_only_the_levels_that_were_named() -> None:
    text = np.array([1, 2, 3, 1, 2, 3, 1], dtype=np.int32)
    none = HierarchyMethod(levels=("model", "statistics"))
    assert len(none.open(Request(text, 4)).propose(text, Budget(8, 8))) == 0
    assert none.wants.top_k == 0
    with pytest.raises(UsageError, match="The levels are"):
        HierarchyMethod(levels=("past",))
