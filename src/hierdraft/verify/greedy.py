"""Which drafted tokens are kept: the walk along the target's own choices, whether they are the best or were drawn.

At each row the target takes one token. If a child of that row drafted it, the walk continues there; if not, the token
is emitted as the bonus token and the walk ends. Nothing about the draft enters the choice, so the tokens are those
of plain decoding whatever was drafted.
"""

from __future__ import annotations

from collections.abc import Callable

from hierdraft.protocols import Array, Verdict
from hierdraft.tree import DraftTree, Int32


def walk(tree: DraftTree, choose: Callable[[int], int]) -> Verdict:
    """Follow the target's choices from row 0 through `tree`; `choose` gives its token at a row.

    It is asked at most once for each row, parents first, and only for rows whose whole prefix is the target's own
    text: row 0, then the rows of the accepted nodes.

    Where several children of one node hold the same token the first is taken: their rows are equal. Probe nodes are
    never entered.
    """
    child_of: dict[tuple[int, int], int] = {}
    for node, (parent, token, probe) in enumerate(
        zip(tree.parents.tolist(), tree.tokens.tolist(), tree.probe.tolist(), strict=True)
    ):
        if not probe:
            child_of.setdefault((parent, token), node)
    path: list[int] = []
    tokens: list[int] = []
    node = -1
    while True:
        token = choose(node + 1)
        tokens.append(token)
        child = child_of.get((node, token))
        if child is None:
            return Verdict(path, tokens)
        path.append(child)
        node = child


class Greedy:
    """Greedy decoding: the target's token is the highest logit, the lowest id among equals."""

    def verify(self, logits: Array, tree: DraftTree, tokens: Int32, choices: Int32) -> Verdict:  # noqa: ARG002
        """The walk along the highest logits. Exact for any tree."""
        best: list[int] = choices.tolist()
        return walk(tree, best.__getitem__)
