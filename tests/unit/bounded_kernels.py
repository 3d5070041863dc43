"""Drafts and learns with all levels there is room for, in a process in which numba checks every index."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numba import njit

from hierdraft.databases.hashchain import ORDERS, HashChains
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo, write_pack
from hierdraft.databases.recycled import TOP, make_successors, note_successors
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixarray import END, LONGEST, follow_all, shelve
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.hierarchy.batch import BatchDrafter
from hierdraft.drafting.hierarchy.calibration import Calibration
from hierdraft.drafting.hierarchy.cells import CELLS, PER_LOOK, SKIP, SOURCES
from hierdraft.drafting.hierarchy.evidence import AGES, LOOKS, RANKS, conclude, make_evidence, note, teach
from hierdraft.drafting.hierarchy.grow import Sources, grow, make_space
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.levels import ROOM
from hierdraft.protocols import Budget, Request, Setup, Step
from tests.unit.twin_hierarchy import shelve_texts

LAST = ROOM - 1
"""The code of the last level that there is room for."""


@njit
def note_all(evidence, weights, cells, rank):  # type: ignore[no-untyped-def]
    evidence.held[0] = 0
    for cell in cells:
        note(evidence, weights, 0, 7, cell, rank)
    evidence.age[0, 0] = AGES - 1
    conclude(evidence, weights, 0)


def weigh() -> None:
    """One candidate that every source knows, by its last cell, and each source alone."""
    calibration, evidence = Calibration(), make_evidence(1)
    weights = calibration.weights("a")
    evidence.none[0] = (ORDERS + 1) ** 2 - 1
    last = np.arange(1, SOURCES + 1) * ORDERS * PER_LOOK - 1
    assert last[-1] == CELLS - 1
    assert len(last) <= LOOKS
    for cells in (last, last[::-1].copy(), *(last[source : source + 1] for source in range(SOURCES))):
        note_all(evidence, weights, cells, RANKS - 1)
        assert evidence.looks[0, 0, 0] == RANKS * cells[0] + RANKS - 1
        teach(evidence, weights, calibration.tried, calibration.accepted, 0, 7)
    assert (np.flatnonzero(calibration.tried != calibration.tried[0]) == last).all()


def draft() -> None:
    """Trees from every source, what the target chose being learned at all their rows."""
    text = np.array([1, 2, 3, 1, 2, 4] * 12 + [1, 2], dtype=np.int32)
    other = np.array([5, 6, 3, 1, 2, 7, 8, END] * 12, dtype=np.int32)
    made = HashChains()
    made.extend(text)
    levels = list(range(SKIP))
    indexes = [build(other if level == LAST else text, 9) for level in levels]
    low, high = np.zeros((2, 2, len(levels), LONGEST + 1), dtype=np.int32)
    shelf = shelve(indexes, levels)
    for shorter in (0, 1):
        follow_all(shelf, low[shorter], high[shorter], text[: len(text) - shorter][-LONGEST:].copy())
    table = make_successors()
    last, nodes = np.array([[-1, 1]], dtype=np.int32), (np.array([2], dtype=np.int32), np.array([-1], dtype=np.int32))
    note_successors(table, last, np.array([1]), *nodes, np.array([range(TOP)] * 2, dtype=np.int32))
    texts = shelve_texts([made.chains, made.chains], [LAST, LAST])
    sources = Sources(made.chains, 5, made.chains, len(text), table, texts, shelf, low, high)
    calibration, space, found = Calibration(), make_space(32, len(levels)), 0
    weights = calibration.weights("a")
    for _ in range(3):
        n = grow(sources, text[-ORDERS:].copy(), weights, space, 32, 16, 1e-4)
        for row, choice in enumerate([3, *space.tokens[:n].tolist()]):
            teach(space.evidence, weights, calibration.tried, calibration.accepted, row, choice)
        found += int((space.level[:n] == LAST).sum())
    assert found > 0, "the last level has drafted nothing"


def serve() -> None:
    """Requests of every kind at a time, over steps that grow the pool, as trees and as chains."""
    text = np.array([1, 2, 3, 1, 2, 4, 5] * 40, dtype=np.int32)
    folder = Path(sys.argv[2])
    pack = write_pack(folder / "pack.safetensors", build(np.append(text, np.int32(END)), 9), PackInfo("model", 9))
    stores = Namespaces(None, PackInfo("model", 9), StoreOptions("none"))
    method = HierarchyMethod(threads=2)
    method.attach(Setup(Databases([pack], stores)))
    lengths = [1, 3, 20, 33]
    sessions = [method.open(Request(text[:n].copy(), 99, f"n{n % 2}", [text[n:], text[:9]])) for n in lengths]
    for nodes in (1, 4, 64, 80, 200):
        trees = method.propose_all(
            [(one, text[:n], Budget(nodes, 40)) for one, n in zip(sessions, lengths, strict=True)]
        )
        for place, (one, tree) in enumerate(zip(sessions, trees, strict=True)):
            ids = np.tile(np.arange(TOP, dtype=np.int32), (len(tree) + 1, 1))
            one.observe(Step(text[lengths[place] :][:3].tolist(), tree, [], np.zeros(len(tree) + 1, np.int32), ids))
            lengths[place] += 3
    for one, n in zip(sessions, lengths, strict=True):
        one.finish(text[:n])
    for rows in (2, 60):
        drafter = BatchDrafter(8, Databases([pack]), threads=2)
        table = np.array([text] * rows)
        for length in range(20, 200, 3):
            known = np.full(rows, length)
            drafter.propose(table, known, np.full(rows, 3), np.full(rows, 9), lambda a, b: np.zeros(b - a + 1))
        drafter.close()
    method.close()


if __name__ == "__main__":
    {"weigh": weigh, "draft": draft, "serve": serve}[sys.argv[1]]()
