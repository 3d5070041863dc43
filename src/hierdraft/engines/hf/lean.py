"""A lean forward on a CPU: weights packed once for the matrix kernels, attention without copies.

torch hands a linear layer's weight to oneDNN or MKL in its plain layout on every call; for 1 to 64 rows most of the
time goes into re-arranging it. Packed once, the same product takes a half to a third of the time, and every row's
result no longer depends on how many rows are computed with it.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from hierdraft.errors import UsageError

ATTENTION = "hierdraft_grouped_sdpa"
_ROWS_HINT = 8

STACKED = 128
"""Most rows that are stacked. Of more the mask, which has to be as many times as long, takes more memory and time than
stacking saves: behind a long text most of what attention takes."""


class PackedLinear(nn.Module):
    """A linear layer whose weight is held in oneDNN's own blocked layout. Inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        """Pack the weight of `linear`, which is left as it is."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().contiguous()
        self.dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
        self.bias = linear.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., in_features] -> [..., out_features]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")
        return out

    def extra_repr(self) -> str:
        """Shown when the model is printed."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch packs weights of `dtype` on this CPU."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def make_lean(model: Any) -> bool:
    """Prepare a model in place for CPU decoding; returns whether anything changed.

    Replaces every `nn.Linear` by a `PackedLinear` and, where the model uses torch's fused attention, switches it to a
    variant that reads grouped key/value heads in place. The model can no longer be trained or saved afterwards.
    """
    weights = {p.dtype for p in model.parameters()}
    if model.device.type != "cpu" or len(weights) != 1 or not can_pack(next(iter(weights))):
        return False
    _pack_children(model)
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, grouped_attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)
    return True


def check_packed(model: Any) -> None:
    """Raises UsageError where a model was cast or moved after `make_lean`: packed weights stay what they were."""
    here = next((m for m in model.modules() if isinstance(m, PackedLinear)), None)
    if here is not None and (model.device.type != "cpu" or here.dtype != model.dtype):
        raise UsageError(
            f"{model.__class__.__name__} was packed by make_lean in {str(here.dtype).removeprefix('torch.')}, so it "
            "cannot be cast or moved: load it again in the number type you want."
        )


def _pack_children(module: nn.Module) -> None:
    plain = _weights_read(module.__class__)
    for name, child in module.named_children():
        if type(child) is nn.Linear and name in plain:
            continue
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            _pack_children(child)


def _weights_read(kind: type[nn.Module]) -> frozenset[str]:
    """Names of the children whose weights the forward of such a module reads by itself: they have to stay there."""
    try:
        source = inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(re.findall(r"self\.(\w+)\.weight\b", source))


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,  # noqa: ARG001 - inference only
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention, the query heads of one key/value head stacked as rows, if there are few.

    query [1, heads, T, dim]; key, value [1, kv_heads, S, dim]; attention_mask additive or bool, [1, 1, T, S] or
    already stacked [1, 1, T * heads / kv_heads, S]. Returns [1, T, heads, dim], as transformers expects.
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError("this attention has no logit soft-capping and no sinks: load the model with eager attention")
    heads, rows = query.shape[1], query.shape[2]
    group = heads // key.shape[1]
    if rows > STACKED or (attention_mask is None and rows > 1):
        out = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=attention_mask is None and getattr(module, "is_causal", True),
            scale=scaling,
            enable_gqa=group > 1,
        )
        return out.transpose(1, 2), None
    if attention_mask is not None and group > 1 and attention_mask.shape[2] == rows > 1:
        attention_mask = attention_mask.repeat(1, 1, group, 1)  # a mask of one row serves the whole group as it is
    stacked = query.reshape(query.shape[0], key.shape[1], group * rows, query.shape[3])
    out = functional.scaled_dot_product_attention(stacked, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(query.shape[0], heads, rows, value.shape[3]).transpose(1, 2), None
