"""A model, its tokenizer and an engine, with `generate`, `stream` and `submit`."""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

from hierdraft.arguments import check_options, processor_list, sampling_of, stop_strings, token_limit
from hierdraft.databases.levels import Databases
from hierdraft.decoding.front import Front, Load, Steps
from hierdraft.decoding.loop import Options, check_prompt, open_request
from hierdraft.decoding.scheduler import MOST, WAITING, Scheduler
from hierdraft.drafting.budget import BudgetLaw, make_budget
from hierdraft.drafting.single import as_method
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.errors import DraftWarning, HierdraftError, MissingDependencyError, UsageError
from hierdraft.models.beside import Drafters
from hierdraft.progress import counting
from hierdraft.protocols import Engine, Method, Setup
from hierdraft.registry import make_method
from hierdraft.request_rules import set_rules
from hierdraft.stream import Generation, Stream
from hierdraft.text import Prompt, StopStrings, are_prompts, encode_prompt, encode_references, prompt_ids
from hierdraft.tree import Int32
from hierdraft.verify.constraint import Follower
from hierdraft.verify.contracts import Constraint

if TYPE_CHECKING:
    from hierdraft.text.grammars import Grammars


class LanguageModel:
    """A target model ready to decode; a context manager that closes itself.

    Any number of threads may use it, and any number of requests run at a time: those that are waited for share every
    forward, and no answer depends on the others. A model that is dropped, or not closed when the interpreter ends,
    closes itself.
    """

    def __init__(
        self, engine: Engine, tokenizer: Any, name: str, databases: Databases | None = None,
        defaults: GenerationDefaults | None = None, max_requests: int = MOST, queue: int = WAITING,
    ) -> None:  # fmt: skip
        """`defaults`: what holds where a request does not say otherwise; None: nothing. The rest: see `Scheduler`."""
        self.engine, self.tokenizer, self.name = engine, tokenizer, name
        self.databases = databases or Databases()
        self.defaults = defaults or GenerationDefaults()
        self._front = Front(Scheduler(engine, max_requests, queue))
        self._methods, self._attaching, self._drafters = dict[str | int, Method](), Lock(), Drafters(engine)
        self._laws: dict[str, BudgetLaw] = {}
        self._grammars: Grammars | None = None
        self._at_end = weakref.finalize(self, _close_quietly, self._front, self._methods, self.databases)

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = getattr(self.engine, "name", type(self.engine).__name__)
        more = [str(getattr(self.engine, key)) for key in ("dtype", "device") if hasattr(self.engine, key)]
        return f"<LanguageModel {self.name!r}: {', '.join([kind, *more])}{', closed' if self._front.closed else ''}>"

    def encode(self, prompt: Prompt, history: Sequence[tuple[str, str]] = (), *, chat: bool | str = True) -> list[int]:
        """Token ids of a prompt, a text after earlier turns (asked, answered), as `generate` would make them."""
        if history:
            return encode_prompt(self.tokenizer, prompt, history, chat=chat)
        return [int(token) for token in prompt_ids(self.tokenizer, prompt, chat=chat)]

    @overload
    def generate(self, prompt: str, **options: Any) -> Generation: ...

    @overload
    def generate(self, prompt: list[str], **options: Any) -> list[Generation]: ...

    @overload
    def generate(self, prompt: Any, **options: Any) -> Any: ...

    def generate(self, prompt: Prompt | list[Prompt], **options: Any) -> Generation | list[Generation]:
        """The whole answer; takes what `stream` takes, and raises what it raises.

        A list of prompts (texts, lists of messages, lists of ids) is answered many at a time, in its order, with a
        progress bar where stderr is a terminal; an error ends all of them.
        """
        if are_prompts(prompt):
            return self._answers(prompt, options)
        with self.stream(prompt, **options) as stream:
            return stream.wait()

    def _answers(self, prompts: Sequence[Prompt], options: dict[str, Any]) -> list[Generation]:
        found: list[Generation] = []
        running: deque[Stream] = deque()
        with counting("answering") as report, ExitStack() as ends:
            for prompt in prompts:
                if len(running) >= WAITING:
                    found.append(running.popleft().wait())
                    report(len(found), len(prompts))
                running.append(ends.enter_context(self.submit(prompt, **options)))
            for stream in running:
                found.append(stream.wait())
                report(len(found), len(prompts))
        return found

    def submit(self, prompt: Prompt, **options: Any) -> Stream:
        """Start a request that runs in the background, beside others; takes what `stream` takes.

        What it returns gives the pieces to loops and `async` loops; `wait` and `wait_async` give the whole answer, and
        `close` cancels it. Raises what `stream` raises, and QueueFullError where as many requests wait as may.
        """
        return self.stream(prompt, background=True, **options)

    def stream(
        self,
        prompt: Prompt,
        *,
        method: str | Method = "hierarchy",
        max_new_tokens: int | None = None,
        budget: int | str = "auto",
        stop: str | Sequence[str] | None = (),
        chat: bool | str = True,
        ignore_eos: bool = False,
        namespace: str = "default",
        reference: str | Sequence[str | Sequence[int]] | None = (),
        schema: str | Path | Mapping[str, Any] | None = None,
        lenient: bool = False,
        schema_folders: Sequence[Path | str] = (),
        constraint: Constraint | None = None,
        processors: Sequence[Any] | None = (),
        logprobs: int | None = None,
        trace: bool = False,
        background: bool = False,
        unread: int | None = None,
        **sampling: Any,
    ) -> Stream:
        """Start a request; its pieces as they come are those of plain decoding, with the same seed if drawn.

        prompt          text; chat messages, each {"role": ..., "content": ...}; or token ids: a list, an array or
                        tensor of shape [L] or [1, L], or what a tokenizer returns
        method          a drafting method's name (`none`: plain decoding) or a `Method`, attached and closed alike
        max_new_tokens  None: as the model's folder says, else 256
        budget          `auto`: chosen every step from measured costs; or a number of nodes
        stop            strings that end the answer
        chat            put a text prompt into the model's chat template, where it has one; of several, the one so named
        ignore_eos      continue after an end-of-sequence id (for measuring)
        namespace       what is learned in one namespace is drafted from in no other
        reference       texts or token ids that the answer may repeat: a prediction of it, or documents it draws on
        schema          a JSON schema that the answer must follow: an object, text or a Path (extra `structured`)
        lenient, schema_folders   check at its end what cannot be kept of it; where files lie that it may refer to
        constraint      any other language that the answer must stay in; made for this request
        processors      transformers logits processors, applied after the penalties and before the temperature
        sampling        temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty,
                        logit_bias, banned, seed: see `hierdraft.verify.sampling.Sampling`
        logprobs        tell of every token, in `result.likely`, its log probability, and the likeliest in its place
        trace           keep every step with its tree in `result.trace`
        background      as with `submit`; it stands still while so many steps are `unread`, None: never

        Raises UsageError, ContextLengthError where the prompt fills the context; the first piece QueueFullError.
        """
        self._front.check_open()
        check_options(
            method=method, budget=budget, chat=chat, ignore_eos=ignore_eos, namespace=namespace, schema=schema,
            lenient=lenient, schema_folders=schema_folders, constraint=constraint, logprobs=logprobs, trace=trace,
            background=background, unread=unread,
        )  # fmt: skip
        stopper = self._stopper(stop)
        chosen = sampling_of(self.defaults.sampling(sampling), self.engine.vocab_size)
        ids, limit = self._checked(prompt_ids(self.tokenizer, prompt, chat=chat), max_new_tokens)
        options = Options(
            limit, self._law(method, budget), stops=[stopper] if stopper else [], eos_ids=() if ignore_eos else None,
            namespace=namespace, reference=encode_references(self.tokenizer, reference, self.engine.vocab_size),
            constraint=self._follower(schema, constraint, lenient, schema_folders, len(ids), ends=not ignore_eos),
            logprobs=logprobs)  # fmt: skip
        given = processor_list(processors)
        set_rules(self.engine, self.defaults, chosen, options, given, len(ids))
        stream = self._stream(ids, method, options, stopper, chosen.seed, background=background, unread=unread)
        stream.result.trace = [] if trace else None
        return stream

    def _stopper(self, stop: str | Sequence[str] | None) -> StopStrings | None:
        """What ends an answer at a text, the caller's or those of the model's folder. Raises UsageError."""
        strings = (*stop_strings(stop), *self.defaults.stop_strings)
        return StopStrings(self.tokenizer, strings) if strings else None

    def _checked(self, given: Any, max_new_tokens: int | None) -> tuple[Int32, int]:
        """A prompt's ids, and how many may follow. Raises UsageError and ContextLengthError."""
        limit = token_limit(self.defaults.limit(len(given), 256) if max_new_tokens is None else max_new_tokens)
        return check_prompt(self.engine, given, limit), limit

    def _stream(
        self, ids: Any, method: str | Method, options: Options, stop: StopStrings | None, seed: int | None, *,
        background: bool, unread: int | None,
    ) -> Stream:  # fmt: skip
        """The stream of a request whose options were checked; what it says is learned."""
        options.learn = self.databases.learn
        look = getattr(options.constraint.machine, "look", None) if options.constraint is not None else None
        made = self._method(method)
        request = open_request(self.engine, made, ids, options)
        steps = Steps(self._front, request, background=background, unread=unread)
        stream = Stream(steps, self.tokenizer, stop, self, look, self._drafters.since(made))
        stream.result.prompt_tokens, stream.result.seed = len(ids), seed
        return stream

    def _follower(
        self,
        schema: str | Path | Mapping[str, Any] | None,
        constraint: Constraint | None,
        lenient: bool,
        folders: Sequence[Path | str],
        prompt_length: int,
        *,
        ends: bool,
    ) -> Follower | None:
        """What keeps the answer in its schema or constraint, if it has one. Raises UsageError."""
        if schema is None and (lenient or folders):
            raise UsageError("lenient and schema_folders go with a schema: give one.")
        if schema is not None and constraint is not None:
            raise UsageError("Give either a schema or a constraint.")
        if (schema is not None or constraint is not None) and not ends:
            raise UsageError("A constrained answer ends where its grammar ends: leave out ignore_eos.")
        if schema is not None:
            constraint = self.grammars.json(schema, lenient=lenient, folders=[Path(folder) for folder in folders])
        return Follower(constraint, prompt_length) if constraint is not None else None

    @property
    def grammars(self) -> Grammars:
        """What compiles constraints for this model: schemas, expressions, grammars. Raises MissingDependencyError."""
        if self._grammars is None:
            from hierdraft.text.grammars import Grammars

            self._grammars = Grammars(self.tokenizer, self.engine.vocab_size, self.engine.eos_ids)
        return self._grammars

    def warm_up(self, method: str = "hierarchy") -> None:
        """Decode a little that nobody keeps, so that the first request does not wait for what is made only once."""
        ids = check_prompt(self.engine, self.encode("Hello"), 24)
        for constrained in (False, True):
            options = Options(24, self._law(method))
            with suppress(MissingDependencyError, UsageError):  # then nothing can be constrained
                options.constraint = Follower(self.grammars.regex("[a-z ]*"), len(ids)) if constrained else None
            for _ in Steps(self._front, open_request(self.engine, self._method(method), ids, options)):
                pass

    @property
    def load(self) -> Load:
        """How many requests are in flight, and how many wait."""
        return self._front.load

    def _law(self, method: str | Method, budget: int | str = "auto") -> BudgetLaw:
        """A fixed budget, or a method's own law: how far its promises can be trusted says nothing about another's."""
        if budget != "auto":
            return make_budget(budget if isinstance(budget, str) else int(budget))
        return self._laws.setdefault(method if isinstance(method, str) else type(method).__name__, make_budget("auto"))

    def _method(self, method: str | Method) -> Method:
        """Methods live as long as the model, so that what they learn serves the next request. Raises UsageError."""
        key = method if isinstance(method, str) else id(method)
        with self._attaching:
            if key not in self._methods:
                made = as_method(make_method(method) if isinstance(method, str) else method)
                told = self.databases, self.engine.offers, self.engine.vocab_size, self.databases.tokenizer
                self._drafters.attach(made, Setup(*told, target=self.engine))
                self._methods[key] = made
            return self._methods[key]

    def close(self) -> None:
        """End the request that runs, keep what was learned on the device, and take no other. Raises StoreError."""
        if self._at_end.detach() is not None:
            costs = getattr(self.engine, "costs", None)
            if isinstance(costs, LearnedCosts):
                costs.keep()
            _close(self._front, self._methods, self.databases)


def _close(front: Front, methods: dict[str | int, Method], databases: Databases) -> None:
    front.close(UsageError("The model was closed before this answer ended."))
    while methods:
        methods.popitem()[1].close()
    databases.close()


def _close_quietly(front: Front, methods: dict[str | int, Method], databases: Databases) -> None:
    try:
        _close(front, methods, databases)
    except HierdraftError as error:
        warnings.warn(f"The model was not closed, and now cannot be: {error}", DraftWarning, stacklevel=2)
