"""Heads that say several tokens in one call while they are trained: rows of a block below each token of the text.

What goes into these rows is what tells the kinds apart (`models/drafter_files.py`):

    parallel  a mask for each offset, which sees the text and the masks before it: ParallelSpec (arXiv 2410.05589)
    block     the same, and masks see each other: what DiffuSpec's search (arXiv 2510.02358) is run on
    coral     the last token and its feature again, at the place of the token that is asked for, and nothing but the
              text is seen: the re-rotated queries of COrAL (arXiv 2410.09675) before a target that stays as it is
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hierdraft.scoring import Among
from hierdraft.training.eagle import EagleHead, Text
from hierdraft.training.eagle_body import Chains
from hierdraft.training.learned import Learned
from hierdraft.training.precision import filled
from hierdraft.tree import Int32

_SMALL = 0.02


class BlockHead(EagleHead):
    """See `EagleHead`; its `unrolled` steps are taken in one call, the first by the text's own row."""

    def __init__(
        self, config: Mapping[str, Any], embedding: Tensor, output: Tensor, kept: Int32 | None, *, among: Among,
        **more: Any,
    ) -> None:  # fmt: skip
        """`among`: which other rows of its block a row sees; none: it has no masks, the last token stands for them."""
        super().__init__(config, embedding, output, kept, **more)
        self._among: Among = among
        if among != "none":
            for name in ("mask_embeddings", "mask_features"):
                values = _SMALL * torch.randn(self.unrolled - 1, embedding.shape[1])
                self.body.register_parameter(name, nn.Parameter(values))

    def _steps(self, text: Text, learned: Learned) -> Iterator[tuple[Tensor, Tensor]]:
        rows, chains = learned.rows(), text.chains(self)
        count, full = len(rows), filled(rows)
        if not count:
            return
        yield rows, chains.begin(full)[:count]
        kept = torch.ones(count, dtype=torch.bool)
        for step, states in enumerate(self._block(chains, full), 1):
            kept = kept & learned.kept(rows, step)
            if not kept.any():
                return
            yield rows[kept], states[:count][kept]

    def _block(self, chains: Chains, rows: Tensor) -> Tensor:
        """[unrolled - 1, R, H]: what comes out of the blocks below these rows int64[R], where chains have begun."""
        embedded, features, positions = chains.at(rows)
        steps = torch.arange(1, self.unrolled)
        if self._among != "none":
            masks: Any = self.body
            embedded, features = masks.mask_embeddings[:, None], masks.mask_features[:, None]
        shape = (len(steps), len(rows), self.embedding.shape[1])
        return chains.block(embedded.expand(shape), features.expand(shape), positions + steps[:, None], self._among)

    def _chained(self, chains: Chains, where: Tensor, found: Tensor, depth: int, top: int) -> Tensor:
        states = torch.cat([found[None], self._block(chains, where)])[:depth]
        best = self._likeliest(states, top).transpose(0, 1)
        return nn.functional.pad(best, (0, 0, 0, depth - best.shape[1]), value=-1)
