"""Which position every row of a tree forward has, and what it may attend to."""

from __future__ import annotations

import torch

from hierdraft.tree import DraftTree


def positions(tree: DraftTree, length: int, device: torch.device) -> torch.Tensor:
    """int64[1, 1+n]: row 0 stands at `length` (the number of cached positions), every node one below its parent."""
    rows = torch.empty(1, len(tree) + 1, dtype=torch.long)
    rows[0, 0] = length
    rows[0, 1:] = torch.from_numpy(tree.depths()) + length
    return rows.to(device)


def full_mask(tree: DraftTree, length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[1, 1, 1+n, length+1+n], additive: 0 where a row may attend, -inf elsewhere.

    A row sees every cached position, itself and its ancestors.
    """
    rows = len(tree) + 1
    mask = torch.zeros(1, 1, rows, length + rows, dtype=dtype)
    if rows > 1:
        mask[0, 0, :, length:].masked_fill_(torch.from_numpy(~tree.mask()), float("-inf"))
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
