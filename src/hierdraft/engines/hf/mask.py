"""Which position every row of a tree forward has, and what it may attend to."""

from __future__ import annotations

import torch

from hierdraft.tree import DraftTree


def positions(tree: DraftTree, length: int, device: torch.device, text: int = 1) -> torch.Tensor:
    """int64[1, text+n]: the text's next rows after `length` cached positions, then every node one below its parent."""
    rows = torch.empty(1, text + len(tree), dtype=torch.long)
    rows[0, :text] = torch.arange(length, length + text)
    rows[0, text:] = torch.from_numpy(tree.depths()) + length + text - 1
    return rows.to(device)


def full_mask(tree: DraftTree, length: int, dtype: torch.dtype, device: torch.device, text: int = 1) -> torch.Tensor:
    """[1, 1, text+n, length+text+n], additive: 0 where a row may attend, -inf elsewhere.

    A row sees every cached position, the text up to itself and its ancestors. Without text (0) the tree hangs below the
    last cached position.
    """
    rows = text + len(tree)
    mask = torch.zeros(1, 1, rows, length + rows, dtype=dtype)
    if rows > 1:
        below = torch.from_numpy(tree.mask())
        seen = torch.ones(rows, rows, dtype=torch.bool).tril_()
        if text:
            seen[text - 1 :, text - 1 :] = below
        else:
            seen = below[1:, 1:]
        mask[0, 0, :, length:].masked_fill_(~seen, float("-inf"))
    return mask.to(device)


def sliding_mask(full: torch.Tensor, where: torch.Tensor, length: int, window: int) -> torch.Tensor:
    """`full` without the positions that lie `window` or more before a row.

    where  int64[1, rows]: the rows' own positions, as `positions` gives them
    """
    if length + full.shape[2] <= window:
        return full
    seen = torch.arange(length, device=where.device)
    column = torch.cat([seen, where[0]])
    too_far = column[None, :] <= where[0][:, None] - window
    return full.masked_fill(too_far[None, None], float("-inf"))
