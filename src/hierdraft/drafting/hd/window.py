"""The lookahead window: n-grams from the target's own parallel decoding (Jacobi iteration), scored as probe nodes.

Lookahead decoding (Fu et al., arXiv 2402.02057, section 3.2). Row r, column c of the window holds an estimate of the
token 1 + r + c places after the last committed one. Row 0 is a chain; a lower row's token follows the one above it
in its column. Every forward gives the target's choice after each of them: below the last row these complete one
n-gram a column, and become the new last row while the first one leaves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hierdraft.tree import Int32


class LookaheadWindow:
    """`columns` n-grams of `level` tokens at a time, over one request."""

    def __init__(self, columns: int, level: int, prompt: Sequence[int], seed: int = 0) -> None:
        """The first row is drawn from `prompt`; the others come from the target, one a step."""
        self.columns = columns
        self._most = level - 1
        self._random = random.Random(seed)
        self._words = list(prompt)
        self.restart()

    def restart(self) -> None:
        """Begin again with one row: the text has moved on without the window."""
        self._rows = [self._random.choices(self._words, k=self.columns)]

    @property
    def most(self) -> int:
        """Nodes of a window that has all its rows."""
        return self._most * self.columns

    def __len__(self) -> int:
        return len(self._rows) * self.columns

    def nodes(self, first: int) -> tuple[list[int], list[int]]:
        """Tokens and parents of the window's nodes, the first of which will be node `first` of the tree."""
        tokens = [token for row in self._rows for token in row]
        parents = [first + i - 1 if i else -1 for i in range(self.columns)]
        parents += [first + i - self.columns for i in range(self.columns, len(tokens))]
        return tokens, parents

    def advance(self, choices: Int32, committed: int) -> list[list[int]]:
        """Take the target's choices after the window's nodes, in their order; returns the n-grams they complete.

        choices     int32[len(self)]
        committed   how many tokens the step has committed: the window moves on by as many places
        """
        rows = [*self._rows, choices[-self.columns :].tolist()]
        complete = len(self._rows) == self._most
        grams = [list(column) for column in zip(*rows, strict=True)] if complete else []
        if complete:
            rows = rows[1:]
            committed -= 1  # the rows have moved up by one place
        gone = min(committed, self.columns)
        self._rows = [row[gone:] + self._random.choices(self._words, k=gone) for row in rows]
        return grams
