"""The walk and the cut on hand-worked trees."""

from __future__ import annotations

import numpy as np
import pytest

from hierdraft.tree import DraftTree
from hierdraft.verify.contracts import Verdict
from hierdraft.verify.greedy import walk
from hierdraft.verify.stop import EosStop, FirstOf, LengthStop, cut

#        root
#       /    \
#      5      6
#     / \      \
#    7   7*     8        node 3 is a probe
TREE = DraftTree.build([5, 6, 7, 7, 8], [-1, -1, 0, 0, 1], probe=[False, False, False, True, False])


@pytest.mark.parametrize(
    ("choices", "path", "tokens"),
    [
        ([9, 0, 0, 0, 0, 0], [], [9]),
        ([5, 9, 0, 0, 0, 0], [0], [5, 9]),
        ([5, 7, 0, 4, 0, 0], [0, 2], [5, 7, 4]),
        ([6, 0, 8, 0, 0, 3], [1, 4], [6, 8, 3]),
        ([6, 0, 7, 0, 0, 3], [1], [6, 7]),
    ],
)
def test_walks(choices: list[int], path: list[int], tokens: list[int]) -> None:
    verdict = walk(TREE, choices.__getitem__)
    assert (verdict.path, verdict.tokens, verdict.finish) == (path, tokens, None)


def test_probe_nodes_are_never_entered() -> None:
    tree = DraftTree.build([5, 5], [-1, -1], probe=[True, False])
    assert walk(tree, [5, 1, 2].__getitem__).path == [1]


def test_the_first_of_equal_children_is_taken() -> None:
    tree = DraftTree.build([5, 5, 6], [-1, -1, 1])
    verdict = walk(tree, [5, 6, 6, 6].__getitem__)
    assert verdict.path == [0]
    assert verdict.tokens == [5, 6]


def test_rows_are_asked_for_once_and_in_order() -> None:
    asked: list[int] = []

    def choose(row: int) -> int:
        asked.append(row)
        return [5, 7, 0, 4][row]

    walk(TREE, choose)
    assert asked == [0, 1, 3]


def buffer(*tokens: int) -> np.ndarray:
    return np.array([*tokens, *[0] * 10], dtype=np.int32)


@pytest.mark.parametrize(
    ("limit", "eos", "tokens", "path", "finish"),
    [
        (9, (), [5, 7, 4], [0, 2], None),
        (3, (), [5, 7, 4], [0, 2], "length"),
        (2, (), [5, 7], [0, 2], "length"),
        (1, (), [5], [0], "length"),
        (9, (7,), [5, 7], [0, 2], "eos"),
        (9, (4, 5), [5], [0], "eos"),
        (2, (7,), [5, 7], [0, 2], "eos"),
    ],
)
def test_cut(limit: int, eos: tuple[int, ...], tokens: list[int], path: list[int], finish: str | None) -> None:
    text = buffer(1, 2)
    stop = FirstOf([EosStop(eos), LengthStop(limit)])
    verdict = cut(Verdict([0, 2], [5, 7, 4]), text, 2, 2, stop)
    assert (verdict.tokens, verdict.path, verdict.finish) == (tokens, path, finish)
    assert text[2 : 2 + len(tokens)].tolist() == tokens


class Counting:
    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def check(self, tokens: np.ndarray, prompt_length: int) -> None:
        self.seen.append(tokens.tolist())


def test_every_stop_is_asked_about_every_token_once() -> None:
    one, two = Counting(), Counting()
    cut(Verdict([0, 2], [5, 7, 4]), buffer(1), 1, 1, FirstOf([one, LengthStop(2), two]))
    assert one.seen == two.seen == [[1, 5], [1, 5, 7]]
