"""Every argument of transformers' `generate`: honoured, without a meaning here, or refused by name.

`generate` turns most arguments into logits processors and stopping criteria, which the loop runs. The tables name all
the others too, so that a test finds what a newer transformers adds, and a call that uses it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, MaxLengthCriteria, StoppingCriteriaList
from transformers.generation.configuration_utils import GenerationMode

from hierdraft.engines.hf.inputs import unusual_inputs
from hierdraft.errors import UsageError
from hierdraft.integrations.generate_rows import unusual_padding

HONOURED = frozenset({
    "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time", "stop_strings", "do_sample",
    "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "renormalize_logits", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "sequence_bias",
    "token_healing", "guidance_scale", "watermarking_config", "output_scores", "output_logits",
    "return_dict_in_generate", "pad_token_id", "bos_token_id", "eos_token_id",
})  # fmt: skip
"""Fields of `GenerationConfig` that have the effect they have in plain decoding."""

MEANINGLESS = frozenset({
    "early_stopping", "length_penalty", "diversity_penalty", "num_beam_groups", "decoder_start_token_id",
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
    "assistant_ensemble_weight", "assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size",
    "speculation_type", "low_memory", "cache_config", "max_cache_len", "compile_config", "disable_compile",
    "continuous_batching_config", "transformers_version", "_from_model_config",
})  # fmt: skip
"""Fields that change nothing in plain greedy decoding or sampling: they belong to beams, to an assistant, to another
cache, all of which are refused, or to how `generate` itself runs."""

MODES = (
    "num_beams", "penalty_alpha", "dola_layers", "use_mtp", "prompt_lookup_num_tokens", "assistant_early_exit",
    "constraints", "force_words_ids",
)  # fmt: skip
"""Fields that ask for another way of decoding; refused where they do."""

REFUSED: Mapping[str, Callable[[GenerationConfig], Any]] = {
    "num_return_sequences": lambda config: (config.num_return_sequences or 1) > 1,
    "use_cache": lambda config: config.use_cache is False,
    "output_attentions": lambda config: config.return_dict_in_generate and config.output_attentions,
    "output_hidden_states": lambda config: config.return_dict_in_generate and config.output_hidden_states,
    "cache_implementation": lambda config: config.cache_implementation not in (None, "dynamic"),
    "prefill_chunk_size": lambda config: config.prefill_chunk_size is not None,
    "is_assistant": lambda config: config.is_assistant,
}
"""Fields that are refused, and when."""

PARAMETERS: Mapping[str, str] = {
    "inputs": "honoured", "generation_config": "honoured", "logits_processor": "honoured",
    "stopping_criteria": "honoured", "prefix_allowed_tokens_fn": "honoured", "streamer": "honoured",
    "negative_prompt_ids": "honoured", "negative_prompt_attention_mask": "honoured", "custom_generate": "honoured",
    "tokenizer": "honoured", "kwargs": "honoured", "synced_gpus": "refused", "assistant_model": "refused",
    "assistant_tokenizer": "meaningless", "trust_remote_code": "meaningless",
}  # fmt: skip
"""The parameters of `generate` itself, and those it takes out of its keywords."""

STREAMER = "a streamer for several prompts"

_PLAIN_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def refuse(model: Any, input_ids: torch.Tensor, config: GenerationConfig, kwargs: Mapping[str, Any]) -> None:
    """Raises UsageError naming everything that `generate` was asked for and this loop does not honour."""
    wrong = _fields(config)
    if input_ids.shape[0] > 1:
        wrong += unusual_padding(input_ids, kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("attention_mask", "position_ids")}
    if kwargs.get("assistant_model") is not None:
        wrong.append("assistant_model")
    if kwargs.get("synced_gpus") or _shares_its_weights(model):
        wrong.append("synced_gpus")
    _raise(wrong + unusual_inputs(model, kwargs))


def refuse_early(model: Any, variables: Mapping[str, Any]) -> None:
    """Raises UsageError for what a streamer takes badly, before `generate` shows it the prompt.

    variables   of a `generate` that has just begun
    """
    inputs = variables["kwargs"].get("input_ids", variables.get("inputs"))
    config, _ = model._prepare_generation_config(variables["generation_config"], **variables["kwargs"])
    several = isinstance(inputs, torch.Tensor) and inputs.ndim > 1 and inputs.shape[0] != 1
    _raise(_fields(config) + [STREAMER] * several)


def refuse_streamers(streamers: Sequence[Any], input_ids: torch.Tensor) -> None:
    """Raises UsageError where several prompts are to be streamed, as transformers' own streamers do."""
    if streamers and input_ids.shape[0] != 1:
        _raise([STREAMER])


def _raise(wrong: Sequence[str]) -> None:
    if wrong:
        raise UsageError(f"hierdraft's custom_generate does not support {', '.join(wrong)}.")


def most_new_tokens(criteria: StoppingCriteriaList, config: GenerationConfig, prompt: int) -> int:
    """The most new tokens, from the criteria that generate prepared. Raises UsageError where there is no limit."""
    lengths = [c.max_length for c in criteria if isinstance(c, MaxLengthCriteria)]
    if not lengths and config.max_length is None:
        raise UsageError("generate needs max_new_tokens or max_length to know when to stop.")
    longest: int = min(lengths or [config.max_length])
    return max(1, longest - prompt)


def _fields(config: GenerationConfig) -> list[str]:
    return [*_modes(config), *(name for name, asked in REFUSED.items() if asked(config)), *_unknown(config)]


def _modes(config: GenerationConfig) -> list[str]:
    """What asks for anything but greedy decoding or sampling, as generate itself decides it."""
    mode = config.get_generation_mode()
    if mode in _PLAIN_MODES:
        return []
    asked = {"num_beams": config.num_beams not in (None, 1)}
    named = [name for name in MODES if asked.get(name, getattr(config, name, None) not in (None, False))]
    return named or [f"the generation mode {mode.value}"]


def _unknown(config: GenerationConfig) -> list[str]:
    """Fields of a newer transformers that are set."""
    known = {*HONOURED, *MEANINGLESS, *MODES, *REFUSED}
    plain = vars(GenerationConfig())
    return [name for name, value in plain.items() if name not in known and getattr(config, name, value) != value]


def _shares_its_weights(model: Any) -> bool:
    """Whether other processes must run every forward too, so that none may end before the others."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return False
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
    from transformers.integrations.fsdp import is_fsdp_managed_module

    return bool(is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model))
