"""What a model does to a text before its forward sees it: whatever is more than the usual cannot be decoded here.

transformers calls `prepare_inputs_for_generation` before every forward. A model class, or an adapter, may have its own,
which puts virtual tokens in front of a text, appends a mask token or keeps a state. The loop runs forwards by itself;
here the model's own method is asked what it would do with a prompt and with the token after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sized
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from hierdraft.engines.hf.cache import TreeCache
from hierdraft.engines.hf.states import held_text
from hierdraft.errors import UnsupportedModelError

_PREPARES = ("prepare_inputs_for_generation", "_update_model_kwargs_for_generation")
_LOOPS = ("_sample", "_prefill")
_CACHES = ("past_key_values", "cache_params")
_OURS = frozenset({
    "use_cache", "logits_to_keep", "attention_mask", "position_ids", "past_key_values", "cache_params",
    "cache_position", "return_dict", "output_attentions", "output_hidden_states", "next_sequence_length",
    "is_first_iteration",
})  # fmt: skip


def check_inputs(model: Any, ids: torch.Tensor, kwargs: Mapping[str, Any], new_cache: Callable[[], TreeCache]) -> None:
    """Raises UnsupportedModelError, naming what it adds, for a model that changes what a forward is given.

    ids        int64[1, L], a prompt
    kwargs     what `generate` would hand to the model with it
    new_cache  makes an empty one
    """
    name = model.__class__.__name__
    own = [method for method in _LOOPS if _is_own(model, method)]
    if own:
        raise UnsupportedModelError(f"{name} decodes in a way of its own ({own[0]}); use its plain generate().")
    if not any(_is_own(model, method) for method in _PREPARES):
        return
    try:
        added = _added(model, ids, dict(kwargs), new_cache)
    except Exception as error:  # a model's own code may raise anything
        raise UnsupportedModelError(
            f"{name} prepares its inputs in a way of its own ({type(error).__name__}: {str(error)[:120]}); "
            "use its plain generate()."
        ) from error
    if added:
        raise UnsupportedModelError(
            f"{name} is given more than the text ({', '.join(dict.fromkeys(added))}), as with virtual tokens of an "
            "adapter, so drafts cannot be verified; use its plain generate()."
        )


def cache_name(model: Any) -> str:
    """What its forward calls the cache."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in _CACHES if name in names), _CACHES[0])


def _is_own(model: Any, method: str) -> bool:
    """Whether the model has another method than transformers' own, in its class or by itself."""
    return getattr(getattr(model, method, None), "__func__", None) is not getattr(GenerationMixin, method)


def _added(model: Any, ids: torch.Tensor, kwargs: dict[str, Any], new_cache: Callable[[], TreeCache]) -> list[str]:
    name = cache_name(model)
    kwargs |= {"use_cache": True, name: DynamicCache(config=model.config)}
    inputs = model.prepare_inputs_for_generation(ids, is_first_iteration=True, **kwargs)
    added = _differences(model, inputs, ids, 0)
    if added:
        return added
    cache = new_cache()
    cache.length = ids.shape[1]
    output = CausalLMOutputWithPast(past_key_values=cache)
    kwargs = model._update_model_kwargs_for_generation(output, kwargs, is_encoder_decoder=False)
    kwargs.pop("past_key_values", None)
    kwargs[name] = cache
    longer = torch.cat([ids, ids[:, -1:]], dim=1)
    inputs = model.prepare_inputs_for_generation(longer, next_sequence_length=1, **kwargs)
    return _differences(model, inputs, longer[:, -1:], ids.shape[1])


def _differences(model: Any, inputs: Mapping[str, Any], ids: torch.Tensor, position: int) -> list[str]:
    """Names of the inputs that are not what the loop gives."""
    given = inputs.get("input_ids")
    other = [] if given is not None and given.tolist() == ids.tolist() else ["other input_ids"]
    return other + unusual_inputs(model, {k: v for k, v in inputs.items() if k != "input_ids"}, position)


def unusual_inputs(model: Any, inputs: Mapping[str, Any], position: int = 0) -> list[str]:
    """Names those inputs of a forward that are not what a text from `position` on has in any case."""
    wrong = []
    if _padded(inputs.get("attention_mask")):
        wrong.append("a padded attention_mask")
    if _moved(inputs.get("position_ids"), position):
        wrong.append("custom position_ids")
    caches = {name: inputs[name] for name in _CACHES if inputs.get(name) is not None}
    wrong += [f"a {name} that already holds text" for name, cache in caches.items() if held_text(cache) != position]
    seen = {*_OURS, "assistant_model", "synced_gpus"}
    return wrong + [name for name, value in inputs.items() if name not in seen and not _empty(model, name, value)]


def _empty(model: Any, name: str, value: Any) -> bool:
    """Whether an input says nothing: not given, of no length, or the types of a text in a model for pictures."""
    if value is None:
        return True
    if isinstance(value, torch.Tensor):
        text = name == "mm_token_type_ids" or (name == "token_type_ids" and _sees(model))
        return value.numel() == 0 or (text and not bool(value.any()))
    return isinstance(value, Sized) and len(value) == 0


def _sees(model: Any) -> bool:
    """Whether it takes pictures or sounds beside text."""
    return getattr(model, "input_modalities", "text") not in ("text", ["text"], ("text",))


def _padded(mask: Any) -> bool:
    return isinstance(mask, torch.Tensor) and mask.ndim <= 2 and not bool((mask == 1).all())


def _moved(positions: Any, first: int) -> bool:
    if positions is None:
        return False
    plain = torch.arange(first, first + positions.shape[-1], device=positions.device)
    return not bool((positions == plain).all())
