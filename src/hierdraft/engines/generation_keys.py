"""Every key of a generation_config.json: what it must be, and what is made of it. A test compares with transformers."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any


def number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(_whole(token) for token in value)


def _biases(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and _tokens(pair[0]) and pair[0] and number(pair[1]) for pair in value
    )


Check = tuple[Callable[[Any], bool], str, Callable[[Any], bool]]
_POSITIVE: Check = (lambda v: number(v) and v > 0, "a number above 0", lambda v: v != 1)
_COUNT: Check = (_count, "a whole number of at least 0", lambda v: v > 0)
_TOKENS: Check = (_tokens, "a list of token ids", bool)
_BOOL: Check = (lambda v: isinstance(v, bool), "true or false", bool)

HONOURED: dict[str, Check] = {
    "sequence_bias": (_biases, "a list of [token ids, number]", bool),
    "encoder_repetition_penalty": _POSITIVE,
    "repetition_penalty": _POSITIVE,
    "no_repeat_ngram_size": _COUNT,
    "encoder_no_repeat_ngram_size": _COUNT,
    "bad_words_ids": (lambda v: isinstance(v, list) and all(map(_tokens, v)), "a list of lists of token ids", bool),
    "min_length": _COUNT,
    "min_new_tokens": _COUNT,
    "forced_bos_token_id": (_count, "a token id", lambda _: True),
    "forced_eos_token_id": (lambda v: _count(v) or _tokens(v), "a token id or a list of them", lambda _: True),
    "remove_invalid_values": _BOOL,
    "exponential_decay_length_penalty": (
        lambda v: isinstance(v, list) and len(v) == 2 and _count(v[0]) and number(v[1]) and v[1] > 0,
        "a whole number and a factor", bool,
    ),
    "suppress_tokens": _TOKENS,
    "begin_suppress_tokens": _TOKENS,
    "renormalize_logits": _BOOL,
    "max_length": (lambda v: _whole(v) and v > 0, "a whole number above 0", lambda _: True),
    "max_new_tokens": (lambda v: _whole(v) and v > 0, "a whole number above 0", lambda _: True),
    "stop_strings": (
        lambda v: bool(v) and isinstance(v, str | list) and all(isinstance(string, str) and string for string in v),
        "a text or a list of texts", bool,
    ),
}  # fmt: skip
"""Key -> (fits, what it must be, changes anything), in the order in which transformers applies them."""

WHEN_SAMPLING = ("top_k", "top_p", "min_p")
"""Taken where a request has a temperature and does not set them itself."""

NOT_WHEN_SAMPLING = ("top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Ignored by greedy answers; a request that samples is refused where the folder wants to sample with them."""

REFUSED: dict[str, Callable[[Any], bool]] = {
    "num_beams": lambda v: v not in (None, 1),
    "num_return_sequences": lambda v: v not in (None, 1),
    "penalty_alpha": lambda v: v not in (None, 0),
    "dola_layers": lambda v: v is not None,
    "guidance_scale": lambda v: v not in (None, 1),
    "constraints": lambda v: v is not None,
    "force_words_ids": lambda v: v is not None,
    "watermarking_config": lambda v: v is not None,
    "token_healing": bool,
    "max_time": lambda v: v is not None,
    "cache_implementation": lambda v: v == "quantized",
}
"""What would change the answer and is not done here."""

WITHOUT_EFFECT = (
    "do_sample", "temperature", "bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id",
    "early_stopping", "length_penalty", "diversity_penalty", "num_beam_groups", "low_memory",  # of beam search
    "use_cache", "cache_config", "max_cache_len", "prefill_chunk_size", "compile_config", "disable_compile",
    "continuous_batching_config", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit",
    "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type", "use_mtp",
    "transformers_version",
)  # fmt: skip
"""What changes no greedy answer, or has a place of its own (`eos_ids`, a request's temperature)."""
