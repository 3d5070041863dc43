"""What the sequences of all engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierdraft.errors import UsageError
from hierdraft.protocols import Array, Offers, Part
from hierdraft.scoring import Among
from hierdraft.tree import DraftTree, Int32

if TYPE_CHECKING:
    from hierdraft.protocols import Engine

_NOTHING = DraftTree.empty()


class OneSequence(ABC):
    """A sequence that can be scored by itself. An engine's own adds what it holds."""

    def __init__(self, engine: Engine) -> None:
        """An empty one."""
        self.owner = engine
        self.length = 0
        self.closed = False

    @abstractmethod
    def commit(self, path: Sequence[int]) -> None:
        """See `EngineSequence`."""

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> Array:
        """Continue the text with `ids`; logits[rows, V] of the last `rows` of them."""
        tokens = np.asarray(ids, dtype=np.int32)
        return self.owner.forward([Part(self, tokens, DraftTree.empty(), rows)])[0].logits

    def extend(self, tree: DraftTree) -> Array:
        """Score the nodes of `tree` after those that were scored last, its beginning; logits[n, V] of the new."""
        return self.owner.forward([Part(self, np.empty(0, dtype=np.int32), tree, 0)])[0].logits

    def forward(self, last: int, tree: DraftTree) -> Array:
        """Continue the text with `last`, and score every node below it; logits[1+n, V]."""
        return self.owner.forward([Part(self, np.array([last], dtype=np.int32), tree)])[0].logits

    def rewind(self, length: int) -> None:
        """See `EngineSequence`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind from {self.length} to {length} positions")
        self.length = length

    def close(self) -> None:
        """See `EngineSequence`."""
        self.closed = True


class GrowingSequence(OneSequence):
    """A sequence whose rows after the text stay until the next forward with tokens.

    tree    what was scored last and not committed: the next part without tokens goes on from it
    begun   the part of which some layers have had rows, and others not
    """

    def __init__(self, engine: Engine) -> None:
        """An empty one."""
        super().__init__(engine)
        self.tree = _NOTHING
        self.begun: Part | None = None


class LayeredSequence(GrowingSequence):
    """One whose rows go through layers at a time.

    come   of the part that was begun, what came out of layers [T, dim], of all rows that these have had
    """

    def __init__(self, engine: Engine) -> None:
        """An empty one."""
        super().__init__(engine)
        self.come: dict[int, Array] = {}

    @abstractmethod
    def written(self) -> list[int]:
        """How many rows after the text each layer has had."""

    @abstractmethod
    def drop_rows(self) -> None:
        """Those rows do not count any more."""

    def drop(self) -> None:
        """Forget what was written and not committed."""
        self.drop_rows()
        self.tree, self.begun, self.come = _NOTHING, None, {}

    def check_commit(self, path: Sequence[int]) -> None:
        """Raises UsageError where there is something to commit that not all layers have had."""
        if path and self.begun is not None:
            raise UsageError("The rows of this sequence have not been through all layers: nothing can be committed.")

    def goes_on(self, part: Part) -> int:
        """After which layer all rows of the begun part ended, where `part` goes on from them or from the first of them.

        0: nothing was begun, or another part, or rows have been through different numbers of layers.
        """
        begun = self.begun
        if begun is None or not np.array_equal(part.tokens, begun.tokens):
            return 0
        if not (_begins_with(part.tree, begun.tree) or _begins_with(begun.tree, part.tree)):
            return 0
        written = self.written()
        last = sum(rows > 0 for rows in written)
        alike = written == [written[0]] * last + [0] * (len(written) - last)
        shown = all(layer > last or layer in self.come for layer in {last, *part.hidden})
        return last if alike and last < len(written) and shown else 0

    def rows_done(self, part: Part, first: int, last: int, given: int | None) -> int:
        """How many of the part's rows the layers after `first` up to `last` have had, all of them alike.

        given   for how many rows there are hidden states, None: there are none

        Raises UsageError where that is not so, where the layers before them have not had all, and for another part
        than was begun.
        """
        layers, rows = self.owner.offers.layers, len(part.tokens) + len(part.tree)
        if not 0 <= first < last <= layers or self.length == 0 or len(part.tokens) == 0:
            raise UsageError(
                f"Layers after {first} up to {last} of {layers} cannot be run by themselves here: that takes tokens "
                "after a text that is held."
            )
        if self.begun is None:
            self.drop()
        elif not _goes_on(part, self.begun):
            raise UsageError("This part does not go on from the one that was begun in some of the layers.")
        written = self.written()
        done = written[first]
        if any(count != done for count in written[first:last]) or (first and written[first - 1] != rows):
            raise UsageError(f"Layers after {first} up to {last} cannot be run: not all have had the same rows.")
        if rows == done or given != (rows - done if first else None):
            raise UsageError(
                f"Layers after {first} up to {last} have {rows - done} rows to run, and {given or 0} are given."
            )
        return done


def _goes_on(part: Part, before: Part) -> bool:
    return np.array_equal(part.tokens, before.tokens) and _begins_with(part.tree, before.tree)


def _begins_with(tree: DraftTree, before: DraftTree) -> bool:
    count = len(before)
    return np.array_equal(tree.tokens[:count], before.tokens) and np.array_equal(tree.parents[:count], before.parents)


def check_parts(engine: Engine, parts: Sequence[Part]) -> None:
    """What holds of every forward.

    Raises UsageError for a sequence that is closed, another engine's or in two parts, and for what the engine does not
    offer; ValueError for a malformed part.
    """
    seen: set[int] = set()
    for part in parts:
        sequence = part.sequence
        if not isinstance(sequence, OneSequence) or sequence.owner is not engine:
            raise UsageError("This sequence belongs to another engine.")
        if sequence.closed:
            raise UsageError("This sequence is closed: open another.")
        if id(sequence) in seen:
            raise UsageError("A sequence can be in one part of a forward only.")
        seen.add(id(sequence))
        if len(part.tokens) == 0:
            _check_extension(engine, part, sequence)
        elif not min(1, len(part.tree)) <= part.rows <= len(part.tokens):
            raise ValueError(
                f"{part.rows} rows cannot be scored of {len(part.tokens)} tokens and {len(part.tree)} nodes"
            )
        if not engine.offers.trees and not part.tree.is_chain:
            raise UsageError("This engine scores chains only: a tree must have one branch.")
        _check_features(engine, part)
        if part.hidden and not 0 <= min(part.hidden) <= max(part.hidden) <= engine.offers.layers:
            raise UsageError(f"This engine {shown(engine.offers)}, not those of {list(part.hidden)}.")


def _check_features(engine: Engine, part: Part) -> None:
    width, features = engine.offers.features, part.features
    if width == 0:
        if features is not None:
            raise UsageError("This engine runs a whole model: it takes no features.")
        if part.among != "above":
            raise UsageError("This engine runs a whole model: nodes of a tree see what is above them.")
    elif part.among != "above" and (len(part.tokens) == 0 or not part.tree.is_chain):
        raise UsageError("Nodes that see all others, or none, must be a chain below tokens of the same part.")
    elif features is None or features.shape != (new_rows(part), width) or features.dtype != np.float32:
        given = "none are given" if features is None else f"given are {features.dtype}{list(features.shape)}"
        raise UsageError(f"This engine takes features float32{[new_rows(part), width]} here, and {given}.")


def shown(offers: Offers) -> str:
    """Which hidden states an engine shows, in words."""
    return f"shows the hidden states of layers 0 to {offers.layers}" if offers.layers else "shows no hidden states"


def known_rows(part: Part) -> int:
    """Rows that the part tells of and its sequence has already: those of the tree that it goes on from."""
    sequence = part.sequence
    return len(sequence.tree) if len(part.tokens) == 0 and isinstance(sequence, GrowingSequence) else 0


def new_rows(part: Part) -> int:
    """Rows of the part that its sequence does not have yet."""
    return len(part.tokens) + len(part.tree) - known_rows(part)


def _check_extension(engine: Engine, part: Part, sequence: OneSequence) -> None:
    """A part without tokens: its tree begins with the sequence's."""
    if not engine.offers.extends or not isinstance(sequence, GrowingSequence):
        raise UsageError("This engine scores no nodes below others that are not committed: a part must have tokens.")
    before = sequence.tree
    if sequence.begun is not None or sequence.length == 0:
        raise UsageError("There is no text whose rows have been through all layers: a part must have tokens.")
    if part.rows or len(part.tree) <= len(before) or not _begins_with(part.tree, before):
        raise ValueError(
            f"a tree of {len(part.tree)} nodes does not go on from the {len(before)} that were scored last"
        )


def mask_among(tree: DraftTree, among: Among) -> NDArray[np.bool_]:
    """`DraftTree.mask`, for nodes that see all others, or none, instead of those above them."""
    mask = tree.mask()
    if among != "above":
        mask[1:, 1:] = np.eye(len(tree), dtype=np.bool_) | (among == "all")
    return mask
