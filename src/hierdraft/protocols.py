"""The interfaces on one page: Method and Session, and the records that pass to and from them. `scoring.py` has Engine.

Anything that satisfies one of these can be plugged in; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hierdraft.scoring import Array, Block, Doubt, Engine, EngineSequence, Layered, Offers, Part, Scored
from hierdraft.tree import DraftTree, Int32

__all__ = [
    "Array",
    "Block",
    "Budget",
    "Doubt",
    "Engine",
    "EngineSequence",
    "Finish",
    "Layered",
    "Likely",
    "Method",
    "Offers",
    "Opened",
    "Part",
    "ProposesTogether",
    "Reads",
    "Request",
    "RequestSampling",
    "Scored",
    "Scores",
    "Session",
    "Setup",
    "Step",
    "Wants",
]

Scores = NDArray[Any]
"""float[V]: a row of logits, or what became of it."""

Finish = Literal["length", "context", "eos", "stop"]
"""Why a request ended: token limit, context full, an end-of-sequence id, a stop string or criterion."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a method is told before its first request.

    databases    a `hierdraft.databases.levels.Databases`: what the model has said before, and what people write
    offers       what the target's engine can show
    vocab_size   ids that the target has, None where one method serves several targets
    tokenizer    fingerprint of its tokenizer, empty where that is not known
    open_engine  loads another model by name, for methods that draft with one, which close it; None: there is no way to
    target       the target's engine, for methods that run some of its layers; None: it is not shown
    """

    databases: Any
    offers: Offers = field(default_factory=Offers)
    vocab_size: int | None = None
    tokenizer: str = ""
    open_engine: Callable[[str], Opened] | None = None
    target: Engine | None = None


@dataclass(frozen=True, slots=True)
class Reads:
    """What a head reads of its target.

    layers  whose hidden states, as `Part.hidden` names them
    fuse    those of T tokens, [T, dim] of each of the layers -> float32[T, F]: what goes in beside each token that
            comes after one of these
    block   how it says several tokens in one call; None: it is asked for one after another
    """

    layers: tuple[int, ...]
    fuse: Callable[[Sequence[Array]], NDArray[np.float32]]
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """Another model's engine.

    tokenizer  fingerprint of its tokenizer, empty where that is not known
    close      to be called when it is not needed any more
    ids        int32[K], the ids that the columns of its logits are of, where it has no others; None: all, in order
    reads      what it reads of its target, where it is a head; None: it is a model of its own
    exits      where it is no model, but exits of the target, whose engine `engine` is then: `early_exit.Exits`
    """

    engine: Engine
    tokenizer: str = ""
    close: Callable[[], None] = lambda: None
    ids: Int32 | None = None
    reads: Reads | None = None
    exits: Any = None


@dataclass(frozen=True, slots=True)
class RequestSampling:
    """How a request's tokens are chosen, for methods that shape a law of their own alike. The defaults are greedy.

    draws               whether tokens are drawn; if not, the highest score is taken, and of what follows only `rules`
                        matters
    temperature, top_k, top_p, min_p   in this order, after the rules; top_k 0: all
    seed                of the sample
    rules               (prefix int32[L], scores float[V], which may be changed) -> scores: penalties, bans, grammar.
                        They may be asked about any continuation of the text, in any order, and may raise for it.
                        Transformers' processors are not among them: they may keep a state that follows the text
    """

    draws: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    rules: Sequence[Callable[[Int32, Scores], Scores]] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a method is told when a request begins.

    prompt      int32[L], L >= 1
    limit       most new tokens that can still be emitted
    namespace   nothing learned in one namespace is drafted from in another
    reference   token sequences that the caller expects to see again
    vocab_size  ids that the model has, None where that is not known
    sampling    how its tokens are chosen, None where that is not known: as the model's highest scores
    sequence    its text in the target's engine, of which a method may only run layers; None: it is not shown
    """

    prompt: Int32
    limit: int
    namespace: str = "default"
    reference: Sequence[Int32] = ()
    vocab_size: int | None = None
    sampling: RequestSampling | None = None
    sequence: EngineSequence | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds for one proposal.

    nodes    how many
    depth    how deep below the last committed token
    probes   how many probe nodes besides: all that the method wants, or none
    cost     seconds of the target's forward with so many rows of this request, beside whatever it has of others, for
             methods that choose what to draft by it; 0.0 where that is not known. None: all nodes are wanted
    """

    nodes: int
    depth: int
    probes: int = 128
    cost: Callable[[int], float] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Wants:
    """What a method asks to see. The engine computes nothing that nobody wants.

    top_k        runner-up ids per scored row, best first (0: none)
    prompt_rows  how many of the last prompt positions to score as well (1: only the last, which is always scored)
    probes       most probe nodes that it has scored in a step, where that pays
    hidden       layers whose hidden states it reads at every row, the prompt's too; see `Part`
    """

    top_k: int = 0
    prompt_rows: int = 1
    probes: int = 0
    hidden: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Likely:
    """How likely the target found a token, by its own distribution: log probabilities, natural.

    logprob  of the token
    top      (id, log probability) of the likeliest ones in its place, best first
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


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
    hidden      of each layer that was asked for, on the engine's device, [1+n, dim] of the last token committed before
                this step and of every node; in the prefill step the prompt, in as many pieces as it was read in
    likely      of every committed token, where that was asked for
    at          when it was over, `time.perf_counter`
    """

    tokens: list[int]
    tree: DraftTree
    path: list[int]
    choices: Int32
    runner_up: Int32 | None = None
    finish: Finish | None = None
    prefill: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    hidden: Mapping[int, Sequence[Array]] = field(default_factory=dict)
    likely: list[Likely] = field(default_factory=list)
    at: float = 0.0

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
    """What a method does for one request. Whatever that is, the output stays the target's.

    It may have `once`, a property: seconds of the last proposal that will not be spent again, such as reading the
    prompt. They are not counted in what drafting costs.
    """

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

    `q_kind` says how its tokens were chosen: `one_hot` (looked up: databases, top-k, beams) or `full` (some or all may
    be sampled from the distributions in its trees' `laws`, which the verifier must know). `wants` is read when a
    request begins.
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
