"""Layers that attend from the same input, as EasySpec runs them (Wu et al., arXiv 2502.02493).

There their attention runs at a time, on several devices. Here it runs one after another: what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from hierdraft.errors import UnsupportedModelError

_NORM = "input_layernorm"


@contextmanager
def in_groups(layers: Sequence[nn.Module], size: int, ends: int) -> Iterator[None]:
    """While it lasts, attention in groups of `size` layers reads what went into the first; the rest is as it was.

    ends   how many of the first and of the last layers are left alone

    Raises UnsupportedModelError for layers that have no norm of their own before attention.
    """
    if any(not isinstance(getattr(layer, _NORM, None), nn.Module) for layer in layers):
        raise UnsupportedModelError("The layers of this model have no norm of their own before attention.")
    with ExitStack() as hooks:
        for first in range(ends, len(layers) - ends - 1, size):
            held: list[Any] = []
            handle = layers[first].register_forward_pre_hook(
                lambda _, args, kwargs, held=held: held.__setitem__(
                    slice(None), [args[0] if args else kwargs["hidden_states"]]
                ),
                with_kwargs=True,
            )
            hooks.callback(handle.remove)
            for layer in layers[first + 1 : min(first + size, len(layers) - ends)]:
                norm: Any = getattr(layer, _NORM)
                hooks.callback(norm.register_forward_pre_hook(lambda _, __, held=held: (held[0],)).remove)
        yield
