"""Which drafted tokens are kept: the walk along the target's own choices, whether they are the best or were drawn.

At each row the target takes one token. If a child of that row drafted it, the walk continues there; if not, the token
is emitted as the bonus token and the walk ends. Nothing about the draft enters the choice, so the tokens are those
of plain decoding whatever was drafted.
"""

from __future__ import annotations

from collections.abc import Callable

from hierdraft.protocols import Array, Doubt
from hierdraft.tree import DraftTree, Int32
from hierdraft.verify.contracts import Verdict


def walk(tree: DraftTree, choose: Callable[[int], int | None]) -> Verdict:
    """Follow the target's choices from row 0 through `tree`; `choose` gives its token at a row.

    None where that cannot be told for certain: the walk ends there, without another token.

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
        if token is None:
            return Verdict(path, tokens)
        tokens.append(token)
        child = child_of.get((node, token))
        if child is None:
            return Verdict(path, tokens)
        path.append(child)
        node = child


class Greedy:
    """Greedy decoding: the target's token is the highest logit, the lowest id among equals."""

    def verify(
        self,
        logits: Array,
        tree: DraftTree,
        tokens: Int32,  # noqa: ARG002
        choices: Int32,
        doubt: Doubt | None = None,
    ) -> Verdict:
        """The walk along the highest logits. Exact for any tree."""
        best: list[int] = choices.tolist()
        if doubt is None:
            return walk(tree, best.__getitem__)

        def choose(row: int) -> int | None:
            return best[row] if doubt.plain[row] or leads(logits[row], doubt.margin) else None

        return walk(tree, choose)


def leads(scores: Array, margin: float) -> bool:
    """Whether the highest of some scores [V] is more than `margin` above all others."""
    return int((scores >= scores.max() - margin).sum()) == 1
