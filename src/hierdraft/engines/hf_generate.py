"""`model.generate(**inputs, custom_generate=decode())`: tree drafting inside transformers' own generate.

`generate` prepares everything as always (lengths, processors, stopping criteria) and hands over the loop. What cannot
be honoured is refused by name; nothing is ignored.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo
from hierdraft.drafting.budget import AutoBudget, BudgetLaw, make_budget
from hierdraft.engines.hf_rules import ProcessorRule
from hierdraft.engines.loop import Options
from hierdraft.engines.loop import decode as decode_steps
from hierdraft.errors import EngineBusyError, UsageError
from hierdraft.protocols import Drafter, Finish, Step, UsesDatabases
from hierdraft.registry import make_drafter
from hierdraft.tree import Int32
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.sampling import Sampler

if TYPE_CHECKING:
    from hierdraft.engines.hf import HFEngine

_ANY_VOCABULARY = 2**31 - 2

_IGNORABLE = (
    "use_cache",
    "logits_to_keep",
    "attention_mask",
    "position_ids",
    "past_key_values",
    "cache_position",
)


def decode(
    drafter: Drafter | str = "hierarchy",
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

    drafter   a method's name or a `Drafter`; what it learns about drafting is kept between calls
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
    made = make_drafter(drafter) if isinstance(drafter, str) else drafter
    if opened or learn:
        if not isinstance(made, UsesDatabases):
            raise UsageError(f"The method {drafter!r} does not draft from databases: leave out packs and learn.")
        namespaces = Namespaces(None, PackInfo("model", _ANY_VOCABULARY)) if learn else None
        made.attach(Databases(opened, namespaces))
    return CustomGenerate(made, law, streamer, opened, reference)


class CustomGenerate:
    """The callable that `generate` runs instead of its own loop."""

    def __init__(
        self, drafter: Drafter, budget: BudgetLaw, streamer: Any = None, packs: Sequence[Pack] = (),
        reference: Sequence[Sequence[int]] = (),
    ) -> None:  # fmt: skip
        self.drafter = drafter
        self.reference = reference
        self.packs = packs
        self.budget = budget
        self.streamer = streamer
        self._engines: weakref.WeakKeyDictionary[Any, HFEngine] = weakref.WeakKeyDictionary()
        self._busy = threading.Lock()

    def engine(self, model: Any) -> HFEngine:
        """The engine of `model`, made at its first use."""
        from hierdraft.engines.hf import HFEngine

        found = self._engines.get(model)
        if found is None:
            engine = HFEngine(weakref.proxy(model))
            for pack in self.packs:
                pack.require(tokenizer="", vocab_size=engine.vocab_size, name=type(model).__name__)
            found = self._engines[model] = engine
            if isinstance(self.budget, AutoBudget):
                found.measure_costs()
        return found

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        generation_config: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """int64[1, L + new] token ids, or a `GenerateDecoderOnlyOutput` if `return_dict_in_generate` is set.

        Raises UsageError naming what cannot be honoured, EngineBusyError where another thread is inside.
        """
        if not self._busy.acquire(blocking=False):
            raise EngineBusyError("This decode() object is in use: make one for each thread.")
        try:
            return self._run(model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs)
        finally:
            self._busy.release()

    def _run(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList | None,
        stopping_criteria: StoppingCriteriaList | None,
        generation_config: Any,
        model_kwargs: dict[str, Any],
    ) -> Any:
        config = generation_config or model.generation_config
        criteria = stopping_criteria or StoppingCriteriaList()
        engine = self.engine(model)
        _refuse(input_ids, config, model_kwargs)
        streamers = [s for s in (self.streamer, _streamer_of_caller()) if s is not None]
        if self.streamer is not None:
            self.streamer.put(input_ids.cpu())
        rule = _rule(engine, logits_processor, config)
        stop = _Criteria(criteria, input_ids.device, rule)
        prompt = input_ids[0].cpu().numpy()
        limit = _limit(criteria, config, len(prompt))
        if engine.bounded and len(prompt) + limit > engine.max_length:
            raise UsageError(
                f"{len(prompt)} prompt and {limit} new tokens exceed the {engine.max_length} positions of "
                f"{model.__class__.__name__}: lower max_new_tokens."
            )
        sampler = Greedy() if rule is None else Sampler(engine.values, [rule], _seed() if config.do_sample else None)
        options = Options(
            limit, self.budget, sampler, stops=[stop], eos_ids=(), unbounded=True, namespace=engine.fingerprint,
            reference=[np.asarray(ids, dtype=np.int32).ravel() for ids in self.reference],
        )  # fmt: skip
        tokens = _streamed(decode_steps(engine, self.drafter, prompt, options), streamers)
        sequences = torch.cat([input_ids, input_ids.new_tensor([tokens])], dim=1)
        if not config.return_dict_in_generate:
            return sequences
        return GenerateDecoderOnlyOutput(
            sequences=sequences,
            scores=tuple(rule.scores[: len(tokens)]) if rule and config.output_scores else None,
            logits=tuple(rule.raw[: len(tokens)]) if rule and config.output_logits else None,
            past_key_values=engine.cache.as_dynamic(model.config),
        )


def _streamed(steps: Iterator[Step], streamers: Sequence[Any]) -> list[int]:
    """All tokens of a request, each shown to the streamers as it comes."""
    tokens: list[int] = []
    for step in steps:
        tokens += step.tokens
        for one in streamers:
            for token in step.tokens:
                one.put(torch.tensor([token]))
    for one in streamers:
        one.end()
    return tokens


class _Criteria:
    """Transformers' stopping criteria, asked after every token as plain generate does."""

    def __init__(self, criteria: StoppingCriteriaList, device: torch.device, rule: ProcessorRule | None) -> None:
        self._criteria = criteria
        self._device = device
        self._rule = rule

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """`stop` when any criterion says so."""
        ids = torch.tensor(tokens[None].astype(np.int64), device=self._device)
        emitted = len(tokens) - prompt_length
        scores = tuple(self._rule.scores[:emitted]) if self._rule and self._rule.scores else None
        return "stop" if bool(self._criteria(ids, scores).all()) else None


def _rule(engine: HFEngine, processors: LogitsProcessorList | None, config: Any) -> ProcessorRule | None:
    """What rows must go through one by one: processors, a draw, or being kept because scores are to be returned."""
    scores, raw = (config.return_dict_in_generate and wanted for wanted in (config.output_scores, config.output_logits))
    if not (processors or config.do_sample or scores or raw):
        return None
    return ProcessorRule(processors or (), engine.model.device, scores=bool(scores), raw=bool(raw))


def _seed() -> int:
    """From torch's own generator, so that `torch.manual_seed` fixes the sample."""
    return int(torch.randint(1 << 62, (1,)))


def _limit(criteria: StoppingCriteriaList, config: Any, prompt: int) -> int:
    """The most new tokens, from the criteria that generate prepared."""
    lengths = [c.max_length for c in criteria if isinstance(c, MaxLengthCriteria)]
    if not lengths and config.max_length is None:
        raise UsageError("generate needs max_new_tokens or max_length to know when to stop.")
    longest: int = min(lengths or [config.max_length])
    return max(1, longest - prompt)


def _refuse(input_ids: torch.Tensor, config: Any, model_kwargs: dict[str, Any]) -> None:
    """Everything that generate accepts and this loop does not honour."""
    reasons = {
        "num_beams > 1": (config.num_beams or 1) > 1,
        "num_return_sequences > 1": (config.num_return_sequences or 1) > 1,
        "a batch of several prompts": input_ids.shape[0] != 1,
        "use_cache=False": config.use_cache is False,
        "output_attentions": config.return_dict_in_generate and config.output_attentions,
        "output_hidden_states": config.return_dict_in_generate and config.output_hidden_states,
        "cache_implementation": config.cache_implementation not in (None, "dynamic"),
        "prefill_chunk_size": config.prefill_chunk_size is not None,
        "a padded attention_mask": _padded(model_kwargs.get("attention_mask")),
        "a past_key_values that already holds text": _holds_text(model_kwargs.get("past_key_values")),
        "custom position_ids": _moved(model_kwargs.get("position_ids")),
    }
    unknown = [k for k, v in model_kwargs.items() if k not in _IGNORABLE and v is not None]
    wrong = [name for name, present in reasons.items() if present] + unknown
    if wrong:
        raise UsageError(f"hierdraft's custom_generate does not support {', '.join(wrong)}.")


def _padded(mask: Any) -> bool:
    return mask is not None and not bool((mask == 1).all())


def _holds_text(cache: Any) -> bool:
    return cache is not None and cache.get_seq_length() > 0


def _moved(positions: Any) -> bool:
    if positions is None:
        return False
    plain = torch.arange(positions.shape[-1], device=positions.device)
    return not bool((positions == plain).all())


def _streamer_of_caller() -> Any:
    """The `streamer` that was passed to `generate`, which does not forward it to a custom callable.

    generate has already put the prompt into it, so ignoring it would leave its reader waiting for ever.
    """
    frame = inspect.currentframe()
    for _ in range(4):
        frame = frame.f_back if frame else None
        if frame is not None and frame.f_code.co_name == "generate" and "streamer" in frame.f_locals:
            return frame.f_locals["streamer"]
    return None
