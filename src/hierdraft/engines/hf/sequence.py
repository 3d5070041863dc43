"""One text of the transformers engine, in a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hierdraft.engines.hf.cache import TreeCache
from hierdraft.engines.sequences import LayeredSequence
from hierdraft.protocols import Part

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine


class HFSequence(LayeredSequence):
    """One text."""

    def __init__(self, engine: HFEngine) -> None:
        """An empty one."""
        super().__init__(engine)
        self.cache = engine.new_cache()

    def begin(self) -> None:
        """A forward is about to write."""

    def hold(self, part: Part) -> None:
        """All rows of the part are written: its tokens are held, its tree can be committed or go on."""
        self.cache.hold(len(part.tokens))
        self.length, self.tree, self.begun = self.cache.length, part.tree, None

    def written(self) -> list[int]:
        """How many rows after the text each layer has had."""
        return self.cache.written()

    def shorten(self, part: Part) -> None:
        """Of what was begun only the first rows count, those of `part`."""
        rows = len(part.tokens) + len(part.tree)
        self.cache.count([min(rows, written) for written in self.written()])
        self.come = {layer: states[:rows] for layer, states in self.come.items()}
        self.begun = part

    def drop_rows(self) -> None:
        """Those rows do not count any more."""
        self.cache.drop()

    def commit(self, path: Sequence[int]) -> None:
        """Keep the rows of these nodes. Raises UsageError where not all layers have had them."""
        self.check_commit(path)
        self.cache.keep(path)
        self.length = self.cache.length
        self.drop()

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.cache.rewind(length)
        self.length = length
        self.drop()

    def close(self) -> None:
        """Give the memory back."""
        super().close()
        self.cache = TreeCache(0)


@contextmanager
def as_before_if_it_fails(sequences: Sequence[HFSequence]) -> Iterator[None]:
    """Whatever a forward raises, its sequences hold what they held."""
    for sequence in sequences:
        sequence.begin()
    before = [sequence.written() for sequence in sequences]
    try:
        yield
    except BaseException:  # whatever it was, no sequence has changed
        for sequence, written in zip(sequences, before, strict=True):
            sequence.cache.count(written)
            sequence.cache.drop_unsettled()
        raise
