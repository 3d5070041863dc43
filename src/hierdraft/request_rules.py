"""How the tokens of one request are chosen: every rule that its scores go through, in transformers' order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.decoding.loop import Options
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.protocols import Engine
from hierdraft.verify.contracts import Verifier
from hierdraft.verify.greedy import Greedy
from hierdraft.verify.rules import Rule
from hierdraft.verify.sampling import Sampler, Sampling


def make_verifier(
    engine: Engine,
    defaults: GenerationDefaults,
    sampling: Sampling,
    options: Options,
    processors: Sequence[Any],
    prompt_length: int,
) -> Verifier:
    """Greedy where scores are taken as they are, else a `Sampler` of this request's own.

    defaults     what the model's folder says
    options      the request's limit and constraint count
    processors   transformers logits processors, applied after the penalties and before the temperature
    """
    first, last = defaults.first_rules(prompt_length), _processed(engine, defaults.last_processors)
    others = defaults.rules(prompt_length, options.limit, engine.eos_ids, engine.vocab_size)
    others += _processed(engine, processors)
    gain = sampling.gain if not (first or others or last) else None  # what the others make of a difference: unknown
    found = [*first, *sampling.penalties(prompt_length), *others]
    if options.constraint is not None:
        found.append(options.constraint.rule)
    found += [*sampling.filters(), *last]
    return Sampler(engine.values, found, sampling.seed, gain) if found or sampling.draws else Greedy()


def _processed(engine: Engine, processors: Sequence[Any]) -> list[Rule]:
    if not processors:
        return []
    from hierdraft.engines.hf.rules import ProcessorRule

    model = getattr(engine, "model", None)  # other engines hand out rows in the computer's own memory
    return [ProcessorRule(processors, getattr(model, "device", "cpu"))]
