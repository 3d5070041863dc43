"""The models that methods draft with: opened beside a target, and how often they were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from hierdraft.protocols import Engine, Method, Opened, Part, Scored, Setup
from hierdraft.tree import DraftTree


class Asked:
    """An engine like another, and `forwards`, how many were made with it."""

    def __init__(self, engine: Engine) -> None:
        """None yet."""
        self._engine = engine
        self.forwards = 0

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """The engine's, counted."""
        self.forwards += 1
        return self._engine.forward(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Drafters:
    """What the methods of one target draft with, loaded where they are attached."""

    def __init__(self, target: Engine) -> None:
        """Nothing is loaded."""
        self._target = target
        self._asked: dict[int, list[Asked]] = {}

    def attach(self, method: Method, setup: Setup) -> None:
        """Attach a method; the models that it opens are counted as its own. Raises what `attach` and `load` raise."""
        asked = self._asked[id(method)] = []
        method.attach(replace(setup, open_engine=partial(self._open, asked)))

    def _open(self, asked: list[Asked], name: str) -> Opened:
        from hierdraft.models.load import open_beside

        opened = open_beside(name, self._target)
        if opened.reads is not None:
            _show(self._target, opened.reads.layers)
        asked.append(Asked(opened.engine))
        return replace(opened, engine=cast(Engine, asked[-1]))

    def since(self, method: Method) -> Callable[[], int | None]:
        """Tells how many forwards a method's models have made since now; None: it has none."""
        asked = self._asked.get(id(method), [])
        before = sum(one.forwards for one in asked)
        return lambda: sum(one.forwards for one in asked) - before if asked else None


def _show(target: Engine, layers: tuple[int, ...]) -> None:
    """Have the target show hidden states once: where a graph is compiled anew for them, no answer waits for that."""
    if max(layers) <= target.offers.layers:  # else the first request is told
        with closing(target.open(reuse=None)) as sequence:
            target.forward([Part(sequence, np.zeros(1, dtype=np.int32), DraftTree.empty(), 1, layers)])


def check_there(name: str, cache_dir: Path) -> None:
    """Raise what `resolve` raises for a model that is not there or damaged, before anything is loaded or converted.

    What a hub has of it is downloaded; a drafter is put together with its target.
    """
    from hierdraft.models import drafters, gguf, heads, hub
    from hierdraft.models.exits import read_exits
    from hierdraft.models.known import NAMED_MODELS
    from hierdraft.models.named import HUB_NAME, folder_of, resolve

    if name in NAMED_MODELS:
        return
    folder = folder_of(name)
    file = gguf.gguf_in(folder)
    if name not in drafters.shipped() and file is not None:
        gguf.check(file)
    elif (head := heads.find_head(name, cache_dir)) is not None:
        if head.exits:
            read_exits(head)
        else:
            heads.composed(head.folder, head.target, cache_dir)
    elif name not in drafters.shipped() and not folder.is_dir() and HUB_NAME.fullmatch(name):
        hub.snapshot(name, download=True)
    else:
        resolve(name, cache_dir, trimmed=True)
