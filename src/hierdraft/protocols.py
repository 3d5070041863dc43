"""The interfaces on one page: Drafter, Engine, Verifier, and the records that pass between them.

Anything that satisfies one of these can be plugged in; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from hierdraft.tree import DraftTree, Int32

Array: TypeAlias = Any
"""Logits stay on the engine's own device: a numpy array or a torch tensor."""

Finish = Literal["length", "context", "eos", "stop"]
"""Why a request ended: token limit, context full, an end-of-sequence id, a stop string or criterion."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a drafter is told when a request begins.

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
    probes   how many probe nodes besides: all that the drafter wants, or none
    """

    nodes: int
    depth: int
    probes: int = 128


@dataclass(frozen=True, slots=True)
class Wants:
    """What a drafter asks to see. The engine computes nothing that nobody wants.

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


@dataclass(slots=True)
class Verdict:
    """Accepted nodes in order, the tokens to commit (theirs, then one more), and why the request ends, if it does."""

    path: list[int]
    tokens: list[int]
    finish: Finish | None = None


class Drafter(Protocol):
    """Proposes a draft tree each step. Whatever it does, the output stays the target's.

    `q_kind` says how its tokens were chosen: `one_hot` (looked up: databases, top-k, beams) or `full` (sampled
    from the distributions in its trees' `law`, which the verifier must know).
    """

    q_kind: Literal["one_hot", "full"]
    wants: Wants

    def start(self, request: Request) -> None:
        """A request begins; forget the one before."""
        ...

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A tree below the last of `tokens` (int32[L]: prompt and everything committed). May be empty.

        `tokens` is a view that the loop grows: do not write to it and do not keep it.
        """
        ...

    def observe(self, step: Step) -> None:
        """What became of the proposal; called once for every step, the prefill's first."""
        ...

    def finish(self, tokens: Int32) -> None:
        """The request is over; `tokens` int32[L] is its prompt and all output."""
        ...


@runtime_checkable
class UsesDatabases(Protocol):
    """A drafter that also draws on what the model has said before and on what people write."""

    def attach(self, databases: Any) -> None:
        """Called once, before the first request, with a `hierdraft.databases.levels.Databases`."""
        ...

    def close(self) -> None:
        """Called after the last request: store what was learned about drafting."""
        ...


@runtime_checkable
class TextOnly(Protocol):
    """A drafter that can do without the target's choices and runner-ups at nodes that are not accepted."""

    def text_only(self) -> None:
        """Called before the first request where only the emitted text is known, as in recorded output."""
        ...


class Engine(Protocol):
    """Runs the target model for one request at a time, keeping the keys and values of all but the last token."""

    vocab_size: int
    eos_ids: tuple[int, ...]
    max_length: int
    fingerprint: str
    exact: bool
    """Whether drafted and plain decoding promise the same ids everywhere (float32, float64), or up to near ties."""

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> Array:
        """Start a request: score the prompt int[L]; logits[rows, V] of its last `rows` positions."""
        ...

    def forward(self, last: int, tree: DraftTree) -> Array:
        """Score the last committed token and every node below it in one pass: logits[1+n, V]."""
        ...

    def commit(self, path: Sequence[int]) -> None:
        """Keep the keys and values of the last forward's row 0 and of the nodes in `path`; drop the others."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` committed positions."""
        ...

    def choices(self, logits: Array) -> Int32:
        """int32[rows]: the highest logit of each row, the lowest id where several are equal."""
        ...

    def values(self, logits: Array, row: int) -> NDArray[Any]:
        """A copy of one row of logits in the computer's own memory: float[V], float64 only where the engine's are."""
        ...

    def top_ids(self, logits: Array, k: int) -> Int32:
        """int32[rows, k]: the ids of the k highest logits of each row, best first."""
        ...

    def cost(self, rows: int) -> float:
        """Seconds that a forward of `rows` rows takes, measured on this engine; 0.0 where nothing is known."""
        ...

    def record(self, rows: int, seconds: float) -> None:
        """Told after every step how long its forward of `rows` rows took."""
        ...


class Verifier(Protocol):
    """Decides what is kept of a tree: greedily, or by what is drawn from the processed distributions."""

    def verify(self, logits: Array, tree: DraftTree, tokens: Int32, choices: Int32) -> Verdict:
        """The accepted path and one more token.

        logits   [1+n, V] of the last committed token and of every node
        tokens   int32[L] prompt and everything committed; a view, not to be kept
        choices  int32[1+n] the highest logit of each row
        """
        ...


class Constraint(Protocol):
    """A language that the output must stay in, as a machine that reads tokens and can go back."""

    def ban(self, scores: NDArray[Any]) -> None:
        """Set every token that may not come next to -inf in `scores` float[V]."""
        ...

    def advance(self, token: int) -> bool:
        """Read a token; False, and nothing changes, where it may not come next.

        Raises UsageError, and nothing changes, where that cannot be told: a draft ends there, an answer too.
        """
        ...

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens that were read."""
        ...

    def forced(self) -> list[int]:
        """Tokens that must come next whatever the target thinks, in order; may be empty."""
        ...


class Stop(Protocol):
    """Says after each token whether the request ends there."""

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """`tokens` int32[L] is the prompt and all output up to and including the token in question.

        Called exactly once for every output token, in order.
        """
        ...
