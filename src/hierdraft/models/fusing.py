"""What goes into a head beside ids: hidden states of its target, fused to one feature a token, and masks of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hierdraft.drafting.heads.text import numbers
from hierdraft.errors import ModelError
from hierdraft.kernels import njit
from hierdraft.models.drafter_files import AMONG
from hierdraft.models.published import HeadParts
from hierdraft.protocols import Array, Block, Reads

FUSING = "fusing.safetensors"
"""In a composed folder: `fc` float32[F, k * H], and the norms before it; `states` int64[k], `eps` float64[1].

Of a block head also `offsets` int64[1], `kind` uint8 (its name), and what goes in beside its masks.
"""

MASKS, BESIDE = "mask_embeddings", "mask_features"

FEW = 32
"""Rows that are multiplied in this thread alone. numpy has threads of its own, which wait for more work by running in
circles, for tens of milliseconds after every product: the target's next forward then takes twice as long.
"""

Float32 = NDArray[np.float32]


def is_fusing(name: str) -> bool:
    """Whether a weight has a part in what goes into a head, before its layers."""
    return name in ("fc", "input_norm", MASKS, BESIDE) or name.startswith("fc_norm.")


def write_fusing(to: Path, parts: HeadParts, eps: float) -> None:
    """Write the file of a head into its composed folder."""
    held = {name: one for name, one in parts.own.items() if is_fusing(name) and name != MASKS}
    more: dict[str, Any] = {"states": np.array(parts.states), "eps": np.array([eps])}
    if parts.offsets > 1:
        more |= {"offsets": np.array([parts.offsets]), "kind": np.frombuffer(parts.kind.encode(), np.uint8)}
    save_file({**more, **held}, to / FUSING)


def reads_of(made: Path, rows: int) -> Reads:
    """What goes into a composed head, which has a table of so many embeddings. Raises ModelError."""
    try:
        held = load_file(made / FUSING)
        kind, offsets = bytes(held["kind"]).decode() if "kind" in held else "", int(held.get("offsets", [1])[0])
        return _reads(tuple(held["states"].tolist()), held, float(held["eps"][0]), _block(kind, offsets, held, rows))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{made / FUSING} is damaged ({error}): delete that folder, and it is made again.") from error


def reads_from(parts: HeadParts, eps: float, rows: int) -> Reads:
    """The same of a head that is not composed. Raises KeyError."""
    return _reads(parts.states, parts.own, eps, _block(parts.kind, parts.offsets, parts.own, rows))


def _block(kind: str, offsets: int, held: Mapping[str, Any], rows: int) -> Block | None:
    """The further rows of a call; masks are the last rows of the table."""
    if offsets == 1:
        return None
    size = offsets - 1
    if AMONG[kind] == "none":
        return Block(size, "none")
    return Block(size, AMONG[kind], np.arange(rows - size, rows, dtype=np.int32), held[BESIDE])


def _reads(states: tuple[int, ...], held: Mapping[str, Float32], eps: float, block: Block | None) -> Reads:
    return Reads(states, _fusing(held, len(states), eps), block)


def _fusing(held: Mapping[str, Float32], count: int, eps: float) -> Callable[[Sequence[Array]], Float32]:
    """What fuses hidden states of `count` layers: each normalised by a norm of its own, or all by one, or as they are.

    Raises KeyError.
    """
    norms = [held[f"fc_norm.{place}"] for place in range(count)] if "fc_norm.0" in held else []
    whole, weights = held.get("input_norm"), np.ascontiguousarray(held["fc"].T, dtype=np.float32)
    product(np.zeros((1, len(weights)), np.float32), weights)  # compiled now, not in a request

    def fuse(states: Sequence[Array]) -> Float32:
        given = [numbers(one) for one in states]
        if norms:
            given = [even(one, norm, eps) for one, norm in zip(given, norms, strict=True)]
        joined = np.concatenate(given, axis=1)
        with np.errstate(all="ignore"):  # weights may be anything; what comes of them is checked like any draft
            return product(joined if whole is None else even(joined, whole, eps), weights)

    return fuse


def product(given: Float32, weights: Float32) -> Float32:
    """[T, N] of rows [T, K] and weights [K, N]."""
    if len(given) > FEW:
        return given @ weights
    found: Float32 = _product(np.ascontiguousarray(given, dtype=np.float32), weights)
    return found


@njit(nogil=True, fastmath={"contract"})
def _product(given: Float32, weights: Float32) -> Float32:
    """See `product`: every weight is read once."""
    found = np.zeros((len(given), weights.shape[1]), dtype=np.float32)
    for place in range(len(weights)):
        for row in range(len(given)):
            scale = given[row, place]
            for column in range(weights.shape[1]):
                found[row, column] += scale * weights[place, column]
    return found


def even(states: Float32, norm: Float32, eps: float) -> Float32:
    """Rows [T, H] as a Llama's norm leaves them."""
    found: Float32 = states / np.sqrt((states * states).mean(axis=1, keepdims=True) + np.float32(eps)) * norm
    return found
