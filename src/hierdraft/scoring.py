"""The interfaces of what runs a model: Engine, its sequences, and the records that go in and come out.

Anything that satisfies `Engine` can be plugged in; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import DraftTree, Int32

Array: TypeAlias = Any
"""Logits stay on the engine's own device: a numpy array or a torch tensor."""

Among: TypeAlias = Literal["above", "all", "none"]
"""Which other nodes of a tree a node attends to: those above it, as drafts do, all of them or none."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What an engine can do.

    trees    score trees. If not, chains only, of which everything is kept or nothing: see `EngineSequence.commit`
    scores   show the target's choice and its runner-ups at every scored row, rejected ones too
    layers   how many layers it has, where it shows their hidden states; 0: it does not
    extends  score nodes below others that are not committed: a `Part` without tokens
    partial  run some of its layers by themselves: it is `Layered`
    nodes    how many drafts of one text it scores in a forward; None: any number
    features  numbers that go in beside each token: see `Part`; 0: none, as in any model that is no head of another
    """

    trees: bool = True
    scores: bool = True
    layers: int = 0
    extends: bool = False
    partial: bool = False
    nodes: int | None = None
    features: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """What one sequence has scored in a forward: text that it does not hold yet, and a tree below the last of it.

    sequence  one of the engine's, in no other part of this forward
    tokens    int32[m]: how the text continues. The sequence holds them once the forward is over, or where the engine
              offers no trees and there is a chain, once that is committed as a whole. None, where the engine `extends`
              trees: the tree goes on from the one that was scored last and of which nothing was committed. Its first
              nodes are that tree, which may be empty, and only those after them are rows of this forward
    tree      drafts below the last of `tokens`
    rows      how many of the last `tokens` have logits, 0 to m; at least 1 where there are tokens and a tree
    hidden    layers whose hidden states are wanted at every row: 0 for what goes into the first, k for what comes out
              of number k (the last one's before the model's final norm)
    features  float32[m + n, F]: what goes in beside each of `tokens` and beside each new node, where the engine takes
              that: see `Offers`
    among     which other nodes a node of the tree sees, beside the text; only where the engine takes features
    """

    sequence: EngineSequence
    tokens: Int32
    tree: DraftTree
    rows: int = 1
    hidden: tuple[int, ...] = ()
    features: NDArray[np.float32] | None = None
    among: Among = "above"


@dataclass(frozen=True, slots=True)
class Block:
    """The further rows by which a head says several tokens in one call: a chain below the last token of a text.

    size      how many: it says so many tokens more than one
    among     which other rows of the chain a row sees
    ids       int32[size]: which go in; None: the text's last token, again
    features  float32[size, F]: what goes in beside them; None: what goes in beside that token
    """

    size: int
    among: Among = "above"
    ids: Int32 | None = None
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """How far the rows of a forward are those of plain decoding.

    plain   bool[rows]: scored in the very arithmetic of plain decoding. Row 0 of a tree always is
    margin  by which a choice must lead at the other rows to be the same there
    """

    plain: NDArray[np.bool_]
    margin: float

    def after(self, first: int) -> Doubt | None:
        """Of the rows from number `first` on; None where all of these are plain."""
        plain = self.plain[first:]
        return None if plain.all() else Doubt(plain, self.margin)


@dataclass(slots=True)
class Scored:
    """What a forward found out about one part. It holds until the engine's next forward, of whatever sequences.

    logits  [rows + n, V]: of the last `rows` tokens of the text, then of every node that is new
    doubt   where a row may differ from what plain decoding would score there, None where none does
    hidden  for each layer that was asked for, [m + n, dim]: of every token, then of every node that is new. These are
            nobody else's: they hold for as long as they are kept
    """

    logits: Array
    doubt: Doubt | None = None
    hidden: Mapping[int, Array] = field(default_factory=dict)


class EngineSequence(Protocol):
    """The keys and values of one text in an engine."""

    length: int
    """Tokens of the text that are held: from the first on, without gaps."""

    def commit(self, path: Sequence[int]) -> None:
        """These nodes of the tree that was scored last continue the text, in order; the others are dropped.

        Every forward with tokens drops what was not committed before it. Of the nodes, a part from the first on may be
        held, where the others have to be scored again: see `length`. Where the engine offers no trees, all nodes are
        held with the tokens before them, or, if some were not accepted, neither they nor these tokens are: until then
        the sequence does not hold any of the forward.
        """

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError where there are not so many.

        Where the engine offers no trees, what is held may go back further: see `length`.
        """

    def close(self) -> None:
        """The text is over; a sequence that is used after that raises UsageError. May be called again."""


class Engine(Protocol):
    """Runs the target model for any number of sequences at a time, several of them in one forward."""

    vocab_size: int
    eos_ids: tuple[int, ...]
    max_length: int
    fingerprint: str
    offers: Offers
    exact: bool
    """Whether drafted and plain decoding promise the same ids everywhere (float32, float64), or up to near ties."""

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> EngineSequence:
        """A sequence for a text that begins with `ids`.

        It is empty, unless other texts of the namespace `reuse` began alike: then it holds some of `ids` already.
        Nothing is shared between namespaces: how soon an answer begins would tell what others have asked. None: it
        neither holds anything already nor leaves anything to others.
        """

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Score all parts in one pass, each as if it were alone.

        Raises UsageError for a sequence that is closed or in two parts, and for what the engine does not offer. If it
        raises, no sequence has changed.
        """

    def choices(self, logits: Array) -> Int32:
        """int32[rows]: the highest logit of each row, the lowest id where several are equal."""

    def values(self, logits: Array, row: int) -> NDArray[Any]:
        """A copy of one row of logits in the computer's own memory: float[V], float64 only where the engine's are."""

    def top_ids(self, logits: Array, k: int) -> Int32:
        """int32[rows, k]: the ids of the k highest logits of each row, best first."""

    def cost(self, rows: int, plain: int = 1) -> float:
        """Seconds that a forward of `rows` rows takes, measured on this engine; 0.0 where nothing is known.

        plain  how many of them are no drafts. Infinite for more, where the next forward has to do without drafts
        """

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Told how long a forward of `rows` rows took, `plain` of which were no drafts and none part of a prompt."""


@runtime_checkable
class Layered(Protocol):
    """What an `Engine` may be besides: one whose layers can be run a few at a time.

    Each layer's keys and values reach as far as that layer has been run, beyond what the sequence holds.
    """

    def forward_layers(self, part: Part, first: int, last: int, hidden: Array | None = None) -> Array:
        """Run the layers after number `first` up to number `last` over those rows of the part that they have not had.

        The part is told as a whole each time, its tokens and a tree that may have grown; the sequence must hold text
        already. Layers run in order: none gets further than the one before it. Once the last one has had all rows, the
        sequence holds the tokens, and nodes can be committed. A forward with that part, or with the first of its nodes,
        or with more, may go on from what was begun; with another part it drops it.

        hidden   [T, dim]: what goes into the first of these layers, for each of the T rows that are run; None: for
                 `first` 0 the tokens' own embeddings

        Returns [T, dim], what comes out of layer `last`. Raises UsageError where rows are missing or layers are not
        the model's; then no sequence has changed.
        """

    def head(self, hidden: Array) -> Array:
        """[T, dim] from any layer through the model's final norm and its output layer: logits [T, V]."""
