"""What a model consists of just now: what was recorded of it holds as long as that stays the same."""

from __future__ import annotations

from typing import Any

import torch


class Anatomy:
    """The modules of a model and where its weights lie; the model itself is not kept alive.

    Looked at before every forward that is replayed: cheap, since everything is known by its dictionaries.
    """

    def __init__(self, model: Any) -> None:
        """As it is now."""
        modules: list[torch.nn.Module] = [*model.modules()]
        self._hooks = [hooks for one in modules for hooks in (one._forward_hooks, one._forward_pre_hooks)]
        self._own = [one.__dict__ for one in modules]
        self._children = [(one._modules, [*one._modules.values()]) for one in modules if one._modules]
        self._tensors: list[tuple[dict[str, Any], str]] = [
            (named, name)
            for one in modules
            for named in (one._parameters, one._buffers)
            for name, tensor in named.items()
            if tensor is not None
        ]
        self._places = self._now()
        self.scattered = any(named[name].device != model.device for named, name in self._tensors)

    def _now(self) -> list[int]:
        """Where the weights lie; -1: nowhere any more."""
        return [-1 if (tensor := named.get(name)) is None else tensor.data_ptr() for named, name in self._tensors]

    def same(self) -> bool:
        """Whether it has the modules that it had, and their weights lie where they lay. They may say something else."""
        return self._now() == self._places and all(
            len(now) == len(before) and all(one is other for one, other in zip(now.values(), before, strict=True))
            for now, before in self._children
        )

    def obstacle(self) -> str:
        """Why a forward may do more than run its kernels, in words; empty: nothing is known to."""
        if self.scattered:
            return "its weights are not all on one device"
        if any(self._hooks) or torch.nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
            return "it has hooks"
        if any("forward" in own for own in self._own):
            return "a module has been given another forward"
        return ""
