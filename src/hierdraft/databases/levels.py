"""The levels: what each one feeds its index, and when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hierdraft.databases.hashchain import Chains, HashChains
from hierdraft.tree import Int32


class ContextLevel:
    """This prompt and what was generated so far, for the life of one request."""

    name = "context"

    def __init__(self, prompt: Sequence[int] | Int32 = (), room: int = 0) -> None:
        """Index `prompt`; `room` is how many more tokens are expected."""
        self._index = HashChains(len(prompt) + room)
        self._index.extend(np.asarray(prompt, dtype=np.int32))

    @property
    def chains(self) -> Chains:
        """The arrays that the growing kernel reads."""
        return self._index.chains

    def extend(self, tokens: Sequence[int] | Int32) -> None:
        """Append committed tokens."""
        self._index.extend(tokens)

    def match(self, tokens: Sequence[int] | Int32) -> dict[int, dict[int, int]]:
        """For each suffix length of `tokens` that occurs: continuation -> count."""
        return self._index.match(tokens)

    def close(self) -> None:
        """Forget the request's text."""
        self._index = HashChains(0)
