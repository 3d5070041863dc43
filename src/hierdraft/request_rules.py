"""How the tokens of one request are chosen: every rule that its scores go through, in transformers' order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.decoding.loop import Options
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.protocols import Engine, RequestSampling
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.rules import Rule
from hierdraft.verify.sampling import Sampler, Sampling


def set_rules(
    engine: Engine,
    defaults: GenerationDefaults,
    sampling: Sampling,
    options: Options,
    processors: Sequence[Any],
    prompt_length: int,
) -> None:
    """Set the verifier of a request, and what its drafter is told of it.

    That is `Greedy` where scores are taken as they are, else a `Sampler` of this request's own.

    defaults     what the model's folder says
    options      the request's, of which the limit and constraint count
    processors   transformers logits processors, applied after the penalties and before the temperature
    """
    first, last = defaults.first_rules(prompt_length), _processed(engine, defaults.last_processors)
    own = defaults.rules(prompt_length, options.limit, engine.eos_ids, engine.vocab_size)
    theirs = _processed(engine, processors)
    gain = None  # what others make of a difference of logits is not known
    if not (first or own or theirs or last):
        gain = sampling.gain
    before = [*first, *sampling.penalties(prompt_length), *own]
    after = [options.constraint.rule] if options.constraint is not None else []
    found = [*before, *theirs, *after, *sampling.filters(), *last]
    options.verifier = Sampler(engine.values, found, sampling.seed, gain) if found or sampling.draws else Greedy()
    options.sampling = RequestSampling(
        sampling.draws, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.seed or 0,
        (*before, *after),
    )  # fmt: skip


def _processed(engine: Engine, processors: Sequence[Any]) -> list[Rule]:
    if not processors:
        return []
    from hierdraft.engines.hf.rules import ProcessorRule

    model = getattr(engine, "model", None)  # other engines hand out rows in the computer's own memory
    return [ProcessorRule(processors, getattr(model, "device", "cpu"))]
