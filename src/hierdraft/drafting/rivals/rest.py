"""REST (He et al., arXiv 2311.08252): retrieval from a datastore of what people write.

The longest suffix of up to 16 tokens that occurs in the datastore, up to 5,000 of its places, ten tokens after each;
the 64 most frequent prefixes of these are the draft tree. The datastore is the `statistics` packs here; without any
there is nothing to draft from.
"""

from __future__ import annotations

from hierdraft.drafting.rivals.datastore import Datastore, frequent_prefixes
from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session
from hierdraft.tree import DraftTree, Int32


class RestMethod(TextMethod):
    """longest: tokens looked for; tokens: drafted after a place; places: looked at; nodes: of the tree."""

    uses_databases = True

    def __init__(self, longest: int = 16, tokens: int = 10, places: int = 5_000, nodes: int = 64) -> None:
        super().__init__()
        self.longest, self.tokens, self.places, self.nodes = longest, tokens, places, nodes

    def open(self, request: Request) -> Session:
        """Open the packs."""
        return _Session(self, request)


class _Session(TextSession):
    def __init__(self, method: RestMethod, request: Request) -> None:
        super().__init__(request)
        sizes = method.longest, method.tokens, method.places
        self._store = Datastore(method.databases, request.namespace, ["statistics"], *sizes)
        self._nodes = method.nodes

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The most frequent prefixes of what followed the longest suffix."""
        _, rows = self._store.find(tokens)
        nodes = min(self._nodes, budget.nodes)
        return frequent_prefixes(rows[:, : budget.depth], nodes, code_of("statistics"))
