"""Which position every row of a tree forward has, and what it may attend to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierdraft.engines.hf.lean import STACKED
from hierdraft.engines.sequences import mask_among
from hierdraft.protocols import Part
from hierdraft.scoring import Among
from hierdraft.tree import DraftTree


class Masks:
    """The masks of a model's forwards of one text, and the form in which its attention takes them.

    One is good until the next is asked for.
    """

    def __init__(self, model: Any, windows: Sequence[int | None], stack: int) -> None:
        """`windows`: see `layer_windows`; `stack`: how many times its attention takes the rows of a mask."""
        self._dtype, self._device = model.dtype, model.device
        self._windows = windows
        self._stack = stack
        self._zeros = torch.zeros(1, 1, 1, 0)
        self._few, self._many = _Room(self._dtype), _Room(self._dtype)

    def of(self, part: Part, length: int, where: torch.Tensor, done: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """One additive mask, or one per kind of layer where the model mixes full and sliding layers.

        length  tokens that are held
        where   the part's positions, as `positions` gives them
        done    rows of the part that are written already
        """
        tree, text = part.tree, len(part.tokens)
        if text == 1 and len(tree) == 0:
            full = self._open_row(length + 1)
        elif not any(self._windows) and self._device.type == "cpu":
            return self._kept(torch.from_numpy(~seen_rows(tree, text, part.among)[done:]), length)
        else:
            full = full_mask(tree, length, self._dtype, where.device, text, part.among)
        return of_layers(
            self._windows, self.stacked(full[:, :, done:]),
            lambda window: self.stacked(sliding_mask(full, where, length, window)[:, :, done:]),
        )  # fmt: skip

    def _open_row(self, columns: int) -> torch.Tensor:
        """The mask of a single row, which sees everything: a view of zeros that are kept."""
        if self._zeros.shape[-1] < columns:
            self._zeros = torch.zeros(1, 1, 1, 2 * columns, dtype=self._dtype, device=self._device)
        return self._zeros[..., :columns]

    def _kept(self, unseen: torch.Tensor, length: int) -> torch.Tensor:
        """The stacked mask of some rows, in memory that the next forward's mask has too.

        That of many rows is let go of when a text is read and goes on.

        unseen  bool[T, T']: which of the part's rows each of the last T does not see
        """
        few = len(unseen) <= STACKED
        if few:
            self._many.drop()
        times = self._stack if few and len(unseen) > 1 else 1
        mask = (self._few if few else self._many).zeros(times * len(unseen), length, unseen.shape[1])
        mask[0, 0, :, length:].masked_fill_(unseen.repeat(times, 1), float("-inf"))
        return mask

    def stacked(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask [B, 1, T, width] with its rows as many times as the attention takes them."""
        return mask.repeat(1, 1, self._stack, 1) if self._stack > 1 and 1 < mask.shape[2] <= STACKED else mask

    def all_stacked(self, masks: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor | dict[str, torch.Tensor]:
        """The same of each."""
        if isinstance(masks, dict):
            return {kind: self.stacked(mask) for kind, mask in masks.items()}
        return self.stacked(masks)


class _Room:
    """Memory for masks that are zeros but for their last columns, which are all that is written.

    Zeros made anew for every forward would take a good part of a step's time after a long text, and while one is read
    they would grow with its square.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._cells = self._written = torch.empty(0, dtype=dtype)

    def drop(self) -> None:
        """Let go of it."""
        self._cells = self._written = self._cells.new_empty(0)

    def zeros(self, rows: int, length: int, more: int) -> torch.Tensor:
        """[1, 1, rows, length + more], of which the last `more` columns may be written."""
        self._written.zero_()
        cells = rows * (length + more)
        if cells > len(self._cells):
            self._cells = torch.zeros(2 * cells, dtype=self._cells.dtype)
        mask = self._cells[:cells].view(1, 1, rows, length + more)
        self._written = mask[..., length:]
        return mask


def of_layers(
    windows: Sequence[int | None], full: torch.Tensor, sliding: Callable[[int], torch.Tensor]
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The mask that layers with these windows take: `full`, `sliding` of the window, or one per kind of layer."""
    window = min((window for window in windows if window is not None), default=None)
    if window is None:
        return full
    return {"full_attention": full, "sliding_attention": sliding(window)} if None in windows else sliding(window)


def seen_rows(tree: DraftTree, text: int, among: Among = "above") -> NDArray[np.bool_]:
    """bool[text+n, text+n]: a row sees the text up to itself, and of a tree what `Part.among` says."""
    if text == 0:
        return mask_among(tree, among)[1:, 1:]
    seen = np.tri(text + len(tree), dtype=np.bool_)
    seen[text - 1 :, text - 1 :] = mask_among(tree, among)
    return seen


def positions(tree: DraftTree, length: int, device: torch.device, text: int = 1) -> torch.Tensor:
    """int64[1, text+n]: the text's next rows after `length` cached positions, then every node one below its parent."""
    rows = torch.empty(1, text + len(tree), dtype=torch.long)
    rows[0, :text] = torch.arange(length, length + text)
    rows[0, text:] = torch.from_numpy(tree.depths()) + length + text - 1
    return rows.to(device)


def full_mask(
    tree: DraftTree, length: int, dtype: torch.dtype, device: torch.device, text: int = 1, among: Among = "above"
) -> torch.Tensor:
    """[1, 1, text+n, length+text+n], additive: 0 where a row may attend, -inf elsewhere.

    A row sees every cached position and what `seen_rows` says. Without text (0) the tree hangs below the
    last cached position.
    """
    rows = text + len(tree)
    mask = torch.zeros(1, 1, rows, length + rows, dtype=dtype)
    if rows > 1:
        seen = torch.from_numpy(seen_rows(tree, text, among))
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
