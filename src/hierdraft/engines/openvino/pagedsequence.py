"""One text whose keys and values lie in blocks of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.branches import Grown
from hierdraft.engines.sequences import GrowingSequence
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.openvino.paged import Pool
    from hierdraft.protocols import Engine

_NOTHING = DraftTree.empty()


class PagedSequence(GrowingSequence):
    """One text.

    ids        its tokens, as far as they are held
    table      the blocks that they lie in, in order
    keys       of the first of these, what they are known by; the others are not full or were not remembered yet
    namespace  whose texts share its blocks; None: nobody's
    plain      whether only rows are kept that are plain decoding's to the last bit
    grown      how the tree lies that was scored last
    """

    def __init__(
        self, engine: Engine, pool: Pool, ids: list[int], table: list[int], keys: list[bytes], namespace: str | None
    ) -> None:
        """One that holds `ids` already, in blocks of others."""
        super().__init__(engine)
        self.plain, self.namespace = pool.plain, namespace
        self.ids, self.table, self.keys = ids, table, keys
        self.length = len(ids)
        self.grown = Grown.of(None)
        self._pool = pool

    def commit(self, path: Sequence[int]) -> None:
        """Keep the rows of these nodes; where all must be plain decoding's, those that lie where it puts them."""
        if path:
            offsets = self.grown.offsets[list(path)]
            if self.plain:
                offsets = offsets[offsets == np.arange(len(offsets))]
            self._pool.move(self, offsets.tolist())
            self.ids += self.grown.tokens[list(path)[: len(offsets)]].tolist()
            self.length = len(self.ids)
        self.hold(_NOTHING, Grown.of(None))

    def hold(self, tree: DraftTree, grown: Grown) -> None:
        """What was scored last, and how it lies."""
        self.tree, self.grown = tree, grown

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        super().rewind(length)
        del self.ids[length:]
        self.hold(_NOTHING, Grown.of(None))
        self._pool.shorten(self)

    def close(self) -> None:
        """Give the blocks back; what fills one whole serves texts that begin alike."""
        if not self.closed:
            self._pool.free(self)
        super().close()

    def cached(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Keys and values of every layer, float32[1, heads, length, dim]."""
        return self._pool.cached(self)
