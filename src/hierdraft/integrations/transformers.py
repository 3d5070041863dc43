"""`model.generate(**inputs, custom_generate=decode())`: tree drafting inside transformers' own generate.

`generate` prepares everything as always (lengths, processors, stopping criteria) and hands over the loop. What cannot
be honoured is refused by name; nothing is ignored.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo
from hierdraft.decoding.loop import Options
from hierdraft.decoding.loop import decode as decode_steps
from hierdraft.drafting.budget import AutoBudget, BudgetLaw, make_budget
from hierdraft.drafting.single import as_method
from hierdraft.engines.hf.facts import made_for
from hierdraft.engines.hf.inputs import check_inputs
from hierdraft.engines.learned_costs import LearnedCosts
from hierdraft.errors import EngineBusyError, UsageError
from hierdraft.integrations.generate_arguments import most_new_tokens, refuse, refuse_early, refuse_streamers
from hierdraft.integrations.generate_batch import beside_each_other, decode_rows, fill, hold_all
from hierdraft.integrations.generate_caller import given_to_generate, keep_tokenizer
from hierdraft.integrations.generate_rows import Ends, Row, each_its_own, kwargs_of, padding
from hierdraft.protocols import Method, Opened, Setup, Step
from hierdraft.registry import make_method
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.sampling import Sampler

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine

_ANY_VOCABULARY = 2**31 - 2


def decode(
    drafter: Method | str = "hierarchy",
    *,
    budget: int | str = "auto",
    streamer: Any = None,
    packs: Sequence[Path | str] = (),
    learn: bool = False,
    reference: Sequence[Sequence[int]] = (),
) -> CustomGenerate:
    """What to pass as `custom_generate`: decoding with drafts, the same ids as without.

    Greedy, the ids are those of plain `generate`. With `do_sample=True` they are drawn from the same distribution and
    are, after the same `torch.manual_seed`, those of `decode("none")`; transformers spends its random numbers
    differently.

    drafter   a method's name or a `Method`; what it learns about drafting is kept between calls
    budget    `auto`, or how many nodes are drafted per step
    streamer  a transformers streamer; one passed to `generate` itself works as well
    packs     databases to draft from; they must have been made with the model's tokenizer, which is not seen here
    learn     draft from earlier answers too; they are kept in memory, as long as the returned object
    reference token ids of texts that every answer may repeat; set the returned object's `reference` to change them

    Raises UsageError for an unknown method or budget, PackError for a pack that cannot be used. Keep the returned
    object and pass it again: it holds the engine of each model it has met.
    """
    law = make_budget(budget)
    opened = [Pack.open(path) for path in packs]
    made = as_method(make_method(drafter) if isinstance(drafter, str) else drafter)
    if (opened or learn) and not getattr(made, "uses_databases", True):
        raise UsageError(f"The method {drafter!r} does not draft from databases: leave out packs and learn.")
    databases = Databases(opened, Namespaces(None, PackInfo("model", _ANY_VOCABULARY)) if learn else None)
    made.attach(Setup(databases, open_engine=_open_engine))
    arguments = {"budget": budget, "streamer": streamer, "packs": tuple(packs), "learn": learn}
    return CustomGenerate(made, databases, law, streamer, reference, (drafter, arguments))


class CustomGenerate:
    """The callable that `generate` runs instead of its own loop.

    A copy, or what is unpickled, is a new object made with the same arguments: engines and what was learned stay
    with the one that was copied.
    """

    def __init__(
        self, method: Method, databases: Databases, budget: BudgetLaw, streamer: Any,
        reference: Sequence[Sequence[int]], made_from: tuple[Method | str, dict[str, Any]],
    ) -> None:  # fmt: skip
        self.method = method
        self.reference = reference
        self.databases = databases
        self.budget = budget
        self.streamer = streamer
        self._made_from = made_from
        self._engines: weakref.WeakKeyDictionary[Any, tuple[Any, HFEngine]] = weakref.WeakKeyDictionary()
        self._busy = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        drafter, arguments = self._made_from
        return _made_again, (drafter, {**arguments, "reference": self.reference, "streamer": self.streamer})

    def __copy__(self) -> CustomGenerate:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> CustomGenerate:
        make, (drafter, arguments) = self.__reduce__()
        made: CustomGenerate = make(copy.deepcopy(drafter, memo), arguments)
        return made

    @property
    def __signature__(self) -> inspect.Signature:
        """Of the call. `generate` asks for it when it has just begun."""
        caller = given_to_generate() if keep_tokenizer() else {}
        if caller.get("streamer") is not None:
            with _ended([caller["streamer"]], only_on_errors=True):
                refuse_early(caller["self"], caller)
        return inspect.signature(self.__call__)

    def engine(self, model: Any) -> HFEngine:
        """The engine of `model`, made at its first use and again whenever the model has changed."""
        from hierdraft.engines.hf.engine import HFEngine

        made, found = self._engines.get(model, (None, None))
        now = made_for(model)
        if found is None or made != now:
            self._engines.pop(model, None)
            found = HFEngine(weakref.proxy(model))
            for pack in self.databases.packs:
                pack.require(tokenizer="", vocab_size=found.vocab_size, name=type(model).__name__)
            if isinstance(self.budget, AutoBudget):
                found.costs = LearnedCosts.begin(found.device, _costs_file(found))
            self._engines[model] = now, found
        return found

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        generation_config: Any = None,
        tokenizer: Any = None,  # noqa: ARG002 - generate has made a stopping criterion of it
        **model_kwargs: Any,
    ) -> Any:
        """int64[B, L + new] token ids, or a `GenerateDecoderOnlyOutput` if `return_dict_in_generate` is set.

        Each row is that of its prompt alone, padded as `generate` pads it.

        Raises UsageError naming what cannot be honoured, UnsupportedModelError for a model that cannot be verified
        against drafts, EngineBusyError where another thread is inside. Streamers end whatever happens.
        """
        caller = given_to_generate()
        streamers = [caller["streamer"]] if caller.get("streamer") is not None else []
        with _ended(streamers):
            if not self._busy.acquire(blocking=False):
                raise EngineBusyError("This decode() object is in use: make one for each thread.")
            try:
                kwargs = model_kwargs | {name: caller.get(name) for name in ("assistant_model", "synced_gpus")}
                own = [self.streamer] if self.streamer is not None else []
                with _ended(own):
                    config = generation_config or model.generation_config
                    engine = self.engine(model)
                    refuse(model, input_ids, config, kwargs)
                    refuse_streamers([*own, *streamers], input_ids)
                    fronts = padding(input_ids, model_kwargs.get("attention_mask"))
                    for row, front in enumerate(fronts):
                        alone = kwargs_of(model_kwargs, row, front, input_ids.shape)
                        check_inputs(model, input_ids[row : row + 1, front:], alone, engine.new_cache)
                    for streamer in own:
                        streamer.put(input_ids.cpu())
                    rules = logits_processor, stopping_criteria or StoppingCriteriaList()
                    return self._run(engine, input_ids, fronts, *rules, config, [*own, *streamers])
            finally:
                self._busy.release()

    def _run(
        self, engine: HFEngine, input_ids: torch.Tensor, fronts: Sequence[int],
        logits_processor: LogitsProcessorList | None, criteria: StoppingCriteriaList, config: Any,
        streamers: Sequence[Any],
    ) -> Any:  # fmt: skip
        limit = most_new_tokens(criteria, config, input_ids.shape[1])
        longest = input_ids.shape[1] - min(fronts)
        if engine.bounded and longest + limit > engine.max_length:
            raise UsageError(
                f"{longest} prompt and {limit} new tokens exceed the {engine.max_length} positions of "
                f"{engine.architecture}: lower max_new_tokens."
            )
        padded = any(hasattr(one, "eos_token_id") for one in criteria)  # as generate tells whether rows may end early
        ends = None if padded or len(fronts) == 1 else Ends(len(fronts))
        processors = each_its_own(logits_processor or (), len(fronts))
        stops = each_its_own(criteria, len(fronts))
        rows = [
            Row(
                place, input_ids[place], front, LogitsProcessorList(processors[place]),
                StoppingCriteriaList(stops[place]), config, engine.model.device, ends,
            )
            for place, front in enumerate(fronts)
        ]  # fmt: skip

        def options(row: Row) -> Options:
            return self._options(engine, row, limit, keep=bool(config.return_dict_in_generate))

        if len(rows) == 1:
            steps = decode_steps(engine, self.method, rows[0].prompt, options(rows[0]))
            rows[0].tokens = _streamed(steps, streamers)
            hold_all(engine, rows[0])
        else:
            decode_rows(engine, self.method, rows, options)
            length = max(len(row.tokens) for row in rows) if ends is None else ends.length
            fill(engine, rows, length, _pad(config))
        if isinstance(engine.costs, LearnedCosts):
            engine.costs.keep()
        return beside_each_other(rows, input_ids, config, engine.model.config)

    def _options(self, engine: HFEngine, row: Row, limit: int, *, keep: bool) -> Options:
        verifier = Greedy() if row.rule is None else Sampler(engine.values, [row.rule], row.seed)
        return Options(
            limit, self.budget, verifier, sampling=row.sampling, stops=[row.stop], eos_ids=(), unbounded=True,
            namespace=engine.fingerprint,
            reference=[np.asarray(ids, dtype=np.int32).ravel() for ids in self.reference],
            learn=self.databases.learn, keep=row.keep if keep else None,
        )  # fmt: skip


def _pad(config: Any) -> int:
    """What fills rows that ended early; there are none where generate has not chosen an id for it."""
    return int(config._pad_token_tensor) if config._pad_token_tensor is not None else 0


def _costs_file(engine: HFEngine) -> Path:
    """Where the next process finds what steps of this model cost here."""
    from hierdraft.settings import load_settings

    return load_settings().cache_dir / "costs" / f"{engine.fingerprint}.learned.json"


def _open_engine(name: str) -> Opened:
    """Another model, for a method that drafts with one."""
    from hierdraft.models.load import open_beside

    return open_beside(name)


def _made_again(drafter: Method | str, arguments: Mapping[str, Any]) -> CustomGenerate:
    return decode(drafter, **arguments)


@contextlib.contextmanager
def _ended(streamers: Sequence[Any], *, only_on_errors: bool = False) -> Iterator[None]:
    """Streamers end once, whether or not all goes well: nobody waits for what does not come."""
    try:
        yield
    except BaseException:  # whatever it is, it is raised again below
        for one in streamers:
            with contextlib.suppress(Exception):  # the error that is on its way says more
                one.end()
        raise
    if not only_on_errors:
        for one in streamers:
            one.end()


def _streamed(steps: Iterator[Step], streamers: Sequence[Any]) -> list[int]:
    """All tokens of a request, each shown to the streamers as it comes."""
    tokens: list[int] = []
    for step in steps:
        tokens += step.tokens
        for one in streamers:
            for token in step.tokens:
                one.put(torch.tensor([token]))
    return tokens
