"""The layers of a transformers model by themselves: what goes in and comes out, and forwards through some of them.

Every architecture has its own way to embed a text, to mask and to score it, so nothing of that is done again here: the
model's own forward runs, with hooks that read hidden states, put others in their place, pass over layers, and end the
forward after the last that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn


class _Ended(Exception):  # noqa: N818 - not an error: it ends a forward whose result is known
    pass


class Layers:
    """The decoder layers of a model, from 0 on; none where it does not keep them in one list, as all of them do."""

    def __init__(self, model: Any, count: int) -> None:
        """`count`: layers that its cache has."""
        lists = (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
        self._layers: list[nn.Module] = list(next(lists, []))

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The layers."""
        return self._layers

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def showing(self, wanted: Collection[int]) -> Iterator[dict[int, torch.Tensor]]:
        """While it lasts, a forward leaves [B, T, dim] in the dict for each of these: see `Part.hidden`."""
        found: dict[int, torch.Tensor] = {}
        with ExitStack() as hooks:
            for number in wanted:
                self._watch(hooks, number, lambda hidden, number=number: found.__setitem__(number, hidden))  # type: ignore[misc]
            yield found

    def _watch(self, hooks: ExitStack, number: int, tell: Callable[[torch.Tensor], None]) -> None:
        """Tell of what comes out of layer `number`, which is what goes into the next; 0: into the first."""
        if number < len(self):
            handle = self._layers[number].register_forward_pre_hook(
                lambda _, args, kwargs: tell(_given(args, kwargs)), with_kwargs=True
            )
        else:
            handle = self._layers[-1].register_forward_hook(lambda _, __, out: tell(_first(out)))
        hooks.callback(handle.remove)

    def run(
        self, forward: Callable[[], Any], first: int, last: int, hidden: torch.Tensor | None, *, tuples: bool
    ) -> torch.Tensor:
        """[B, T, dim], what comes out of layer `last` where `forward` runs the layers after `first` up to it only.

        hidden   [B, T, dim]: what goes in there; None, for `first` 0: what the model itself makes of the text
        tuples   whether layers return tuples
        """
        found: list[torch.Tensor] = []

        def end(out: torch.Tensor) -> None:
            found.append(out)
            raise _Ended

        with ExitStack() as hooks:
            self._pass_over(hooks, range(first), hidden, tuples)
            self._watch(hooks, last, end)
            with suppress(_Ended):
                forward()
        return found[0]

    def after_all(self, forward: Callable[[], Any], hidden: torch.Tensor, *, tuples: bool) -> Any:
        """What `forward` returns where `hidden` [B, T, dim] comes out of the last layer, and no layer is run."""
        with ExitStack() as hooks:
            self._pass_over(hooks, range(len(self)), hidden, tuples)
            return forward()

    def _pass_over(self, hooks: ExitStack, numbers: range, hidden: torch.Tensor | None, tuples: bool) -> None:
        def instead(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
            out = hidden_states if hidden is None else hidden
            return (out,) if tuples else out

        for number in numbers:
            own = self._layers[number].__dict__
            hooks.callback(own.update if "forward" in own else own.pop, *_again(own))
            own["forward"] = instead

    def return_tuples(self, forward: Callable[[], Any]) -> bool:
        """Whether they do, which is found out by running `forward`."""
        found: list[bool] = []
        handle = self._layers[0].register_forward_hook(lambda _, __, out: found.append(isinstance(out, tuple)))
        try:
            forward()
        finally:
            handle.remove()
        return found[0]


def _again(own: dict[str, Any]) -> tuple[Any, ...]:
    """What gives a layer its own forward back: one that was set on it (as `accelerate` does), or that of its class."""
    return ({"forward": own["forward"]},) if "forward" in own else ("forward",)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The hidden states among what a layer is given."""
    found: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return found


def _first(out: Any) -> torch.Tensor:
    found: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return found
