"""The interfaces on one page: Method and Session, Engine, and the records that pass between them.

Anything that satisfies one of these can be plugged in; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hierdraft.tree import DraftTree, Int32

Array: TypeAlias = Any
"""Logits stay on the engine's own device: a numpy array or a torch tensor."""

Finish = Literal["length", "context", "eos", "stop"]
"""Why a request ended: token limit, context full, an end-of-sequence id, a stop string or criterion."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What an engine can do.

    scores  show the target's choice and its runner-ups at every scored row, rejected ones too
    """

    scores: bool = True


@dataclass(frozen=True, slots=True)
class Setup:
    """What a method is told before its first request.

    databases    a `hierdraft.databases.levels.Databases`: what the model has said before, and what people write
    offers       what the target's engine can show
    vocab_size   ids that the target has, None where one method serves several targets
    tokenizer    fingerprint of its tokenizer, empty where that is not known
    open_engine  loads another model by name, for methods that draft with one; None: there is no way to
    """

    databases: Any
    offers: Offers = Offers()
    vocab_size: int | None = None
    tokenizer: str = ""
    open_engine: Callable[[str], Engine] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a method is told when a request begins.

    prompt      int32[L], L >= 1
    limit       most new tokens that can still be emitted
    namespace   nothing learned in one namespace is drafted from in another
    reference   token sequences that the caller expects to see again
    vocab_size  ids that the model has, None where that is not known
    """

    prompt: Int32
    limit: int
    namespace: str = "default"
    reference: Sequence[Int32] = ()
    vocab_size: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds for one proposal.

    nodes    how many
    depth    how deep below the last committed token
    probes   how many probe nodes besides: all that the method wants, or none
    """

    nodes: int
    depth: int
    probes: int = 128


@dataclass(frozen=True, slots=True)
class Wants:
    """What a method asks to see. The engine computes nothing that nobody wants.

    top_k        runner-up ids per scored row, best first (0: none)
    prompt_rows  how many of the last prompt positions to score as well (1: only the last, which is always scored)
    probes       most probe nodes that it has scored in a step, where that pays
    """

    top_k: int = 0
    prompt_rows: int = 1
    probes: int = 0


@dataclass(slots=True)
class Step:
    """One target forward, start to end: what every adaptive method learns from.

    tokens      committed by this step, in order, the bonus token last (unless the request was cut before it)
    tree        what was scored (empty in the prefill step and in plain decoding)
    path        nodes of `tree` that were accepted
    choices     int32[rows] the target's own choice at every scored row, rejected ones too; row 0 is the last
                token committed before this step, row i + 1 is node i
    runner_up   int32[rows, top_k] best ids per row, best first, or None if nobody asked
    finish      why the request ended with this step, or None
    prefill     True for the step that scored the prompt; its rows are the last `rows` prompt positions
    seconds     time spent in `draft`, `forward` and the `rest` (verify, cut, commit)
    """

    tokens: list[int]
    tree: DraftTree
    path: list[int]
    choices: Int32
    runner_up: Int32 | None = None
    finish: Finish | None = None
    prefill: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """How many of the committed tokens were drafted."""
        return len(self.path)

    @property
    def levels(self) -> list[int]:
        """Provenance code of every committed token."""
        drafted = [int(self.tree.level[node]) for node in self.path]
        return drafted + [255] * (len(self.tokens) - len(drafted))


class Session(Protocol):
    """What a method does for one request. Whatever that is, the output stays the target's."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A tree below the last of `tokens` (int32[L]: prompt and everything committed). May be empty.

        `tokens` is a view that the loop grows: do not write to it and do not keep it.
        """

    def observe(self, step: Step) -> None:
        """What became of the proposal; called once for every step, the prefill's first."""

    def finish(self, tokens: Int32) -> None:
        """The request is over; `tokens` int32[L] is its prompt and all output. Let go of its text."""


@runtime_checkable
class Method(Protocol):
    """A way to draft: lives as long as the model, and serves any number of requests at a time, each with a session.

    `q_kind` says how its tokens were chosen: `one_hot` (looked up: databases, top-k, beams) or `full` (sampled
    from the distributions in its trees' `law`, which the verifier must know). `wants` is read when a request begins.
    """

    @property
    def q_kind(self) -> Literal["one_hot", "full"]: ...

    @property
    def wants(self) -> Wants: ...

    def attach(self, setup: Setup) -> None:
        """Called once, before the first request. Raises UsageError for a target that the method cannot do with."""

    def open(self, request: Request) -> Session:
        """A request begins. Nothing of one namespace may be drafted from in another."""

    def close(self) -> None:
        """Called after the last request: store what was learned about drafting."""


@runtime_checkable
class ProposesTogether(Protocol):
    """What a `Method` may be besides: one that drafts faster for several of its sessions than for each in turn."""

    def propose_all(self, asks: Sequence[tuple[Any, Int32, Budget]]) -> list[DraftTree]:
        """For each of its sessions, none of them twice, what `Session.propose` returns for the tokens and the budget.

        If it raises, each session is asked by itself.
        """
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What one sequence has scored in a forward: text that it does not hold yet, and a tree below the last of it.

    sequence  one of the engine's, in no other part of this forward
    tokens    int32[m], m >= 1: how the text continues. The sequence holds them once the forward is over
    tree      drafts below the last of `tokens`
    rows      how many of the last `tokens` have logits, 0 to m; at least 1 where there is a tree
    """

    sequence: EngineSequence
    tokens: Int32
    tree: DraftTree
    rows: int = 1


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

    logits  [rows + n, V]: of the last `rows` tokens of the text, then of every node
    doubt   where a row may differ from what plain decoding would score there, None where none does
    """

    logits: Array
    doubt: Doubt | None = None


class EngineSequence(Protocol):
    """The keys and values of one text in an engine."""

    length: int
    """Tokens of the text that are held: from the first on, without gaps."""

    def commit(self, path: Sequence[int]) -> None:
        """These nodes of the tree that was scored last continue the text, in order; the others are dropped.

        Every forward drops what was not committed before it. Of the nodes, a part from the first on may be held, where
        the others have to be scored again: see `length`.
        """

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError where there are not so many."""

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

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: bool = True) -> EngineSequence:
        """A sequence for a text that begins with `ids`.

        It is empty, unless other texts began alike and `reuse` is set: then it holds some of `ids` already.
        """

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Score all parts in one pass, each as if it were alone.

        Raises UsageError for a sequence that is closed or in two parts. If it raises, no sequence has changed.
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
