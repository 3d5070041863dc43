"""The transformers engine: any rewindable causal language model, on a CPU or CUDA.

`HFEngine` runs the target; `decode` is the one argument for people who already have a model and call
`model.generate(**inputs, custom_generate=hierdraft.hf.decode())`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierdraft.engines.costs import StepCosts
from hierdraft.engines.hf.cache import GROWTH, TreeCache, layer_windows
from hierdraft.engines.hf.check import attends_as_told
from hierdraft.engines.hf.facts import context_length, drops_out, eos_ids, using_threads, vocabulary
from hierdraft.engines.hf.inputs import check_inputs
from hierdraft.engines.hf.lean import ATTENTION, check_packed
from hierdraft.engines.hf.mask import full_mask, positions, sliding_mask
from hierdraft.engines.measure import measured_costs
from hierdraft.engines.topids import top_ids
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.tree import DraftTree, Int32

_ATTENTIONS = ("sdpa", "eager", ATTENTION)


class HFEngine:
    """An `Engine` over a transformers model. One request at a time; the model itself is never changed.

    `bounded`: nothing can be decoded beyond `max_length`; else the model only was not made for it.
    """

    def __init__(self, model: Any, costs: StepCosts | None = None, threads: int | None = None) -> None:
        """Check the model and, with a tiny tree, that it attends as told.

        threads   torch's threads while the model runs; outside of a forward the process keeps its own number

        Raises UnsupportedModelError, saying why, for a model that cannot be verified against a draft tree.
        """
        self.windows = layer_windows(model)
        check_packed(model)
        if drops_out(model):
            raise UsageError(f"{model.__class__.__name__} is in training mode: call eval() on it first.")
        self.model = model
        self.name, self.architecture = "hf", str(model.__class__.__name__)
        self.dtype, self.device = str(model.dtype).removeprefix("torch."), str(model.device)
        self._attention = model.config._attn_implementation
        if self._attention not in _ATTENTIONS:
            raise UnsupportedModelError(
                f"Attention {self._attention!r} takes no tree mask: load the model with attn_implementation='sdpa'."
            )
        text_config = model.config.get_text_config(decoder=True)
        self.vocab_size = vocabulary(model, text_config)
        self.max_length, self.bounded = context_length(model, text_config)
        self.eos_ids = eos_ids(model)
        self._threads = threads
        self.fingerprint = _fingerprint(model, threads or torch.get_num_threads())
        self.exact = model.dtype in (torch.float32, torch.float64)
        self.costs = costs or StepCosts()
        kv_heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
        self._stack = text_config.num_attention_heads // kv_heads if self._attention == ATTENTION else 1
        self._cache = TreeCache(len(self.windows))
        self._row = torch.empty(self.vocab_size)
        self._zeros = torch.zeros(1, 1, 1, 0)
        self._check_tree_attention()

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        return self._threads or torch.get_num_threads()

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> torch.Tensor:
        """Score the prompt from an empty cache; logits[rows, V] of its last positions."""
        length = len(ids)
        device = self.model.device
        self._cache = TreeCache(len(self.windows))
        with torch.no_grad(), using_threads(self._threads):
            out = self.model(
                input_ids=torch.tensor(np.asarray(ids, dtype=np.int64)[None], device=device),
                position_ids=torch.arange(length, device=device)[None],
                past_key_values=self._cache,
                use_cache=True,
                **({"logits_to_keep": rows} if self.model._supports_logits_to_keep() else {}),
            )
        self._cache.settle(length, GROWTH)
        logits: torch.Tensor = out.logits[0, -rows:]
        return logits

    def forward(self, last: int, tree: DraftTree) -> torch.Tensor:
        """Score `last` and every node in one pass; logits[1+n, V]."""
        return self.run(self.inputs(last, tree))

    def score(self, cache: TreeCache, last: int, tree: DraftTree) -> torch.Tensor:
        """`forward` on a cache other than the request's."""
        self._cache, kept = cache, self._cache
        try:
            return self.forward(last, tree)
        finally:
            self._cache = kept

    def inputs(self, last: int, tree: DraftTree) -> dict[str, Any]:
        """What the model is given to score a tree: ids and positions [1, 1+n], mask and cache."""
        cache, device = self._cache, self.model.device
        cache.reserve(len(tree) + 1)
        ids = torch.tensor([[last, *tree.tokens.tolist()]], device=device)
        where = positions(tree, cache.length, device)
        mask = self._mask(tree, where)
        return {"input_ids": ids, "position_ids": where, "attention_mask": mask, "past_key_values": cache}

    def run(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The model's logits[1+n, V] for `inputs`, whose keys and values are written after the cache's."""
        with torch.no_grad(), using_threads(self._threads):
            out = self.model(**inputs, use_cache=True)
        logits: torch.Tensor = out.logits[0]
        return logits

    def _mask(self, tree: DraftTree, where: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """One additive mask, or one per kind of layer where the model mixes full and sliding layers."""
        full = (
            self._open_row() if len(tree) == 0 else full_mask(tree, self._cache.length, self.model.dtype, where.device)
        )
        window = min((w for w in self.windows if w is not None), default=None)
        if window is None:
            return self._stacked(full)
        sliding = self._stacked(sliding_mask(full, where, self._cache.length, window))
        if None not in self.windows:
            return sliding
        return {"full_attention": self._stacked(full), "sliding_attention": sliding}

    def _open_row(self) -> torch.Tensor:
        """The mask of a single row, which sees everything: a view of zeros that are kept."""
        columns = self._cache.length + 1
        if self._zeros.shape[-1] < columns:
            self._zeros = torch.zeros(1, 1, 1, 2 * columns, dtype=self.model.dtype, device=self.model.device)
        return self._zeros[..., :columns]

    def _stacked(self, mask: torch.Tensor) -> torch.Tensor:
        return mask.repeat(1, 1, self._stack, 1) if self._stack > 1 and mask.shape[2] > 1 else mask

    def commit(self, path: Sequence[int]) -> None:
        """Keep row 0 and the rows of the accepted nodes."""
        self._cache.keep([0, *(node + 1 for node in path)])

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self._cache.rewind(length)

    @property
    def cache(self) -> TreeCache:
        """Keys and values of everything committed but the last token."""
        return self._cache

    def choices(self, logits: torch.Tensor) -> Int32:
        """The highest logit per row, the lowest id among equals; waits for the device."""
        if logits.device.type == "cpu":  # numpy's argmax is several times faster than torch's here
            return np.array([self._wide(row).argmax() for row in logits], dtype=np.int32)
        return logits.argmax(dim=-1).to("cpu", torch.int32).numpy()

    def _wide(self, row: torch.Tensor) -> NDArray[Any]:
        """One row as an array that numpy can search; half-precision rows go through a buffer that stays in cache."""
        if row.dtype in (torch.float32, torch.float64):
            return row.numpy()
        return self._row.copy_(row).numpy()

    def values(self, logits: torch.Tensor, row: int) -> NDArray[Any]:
        """One row, copied; half-precision numbers as float32."""
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits[row].to("cpu", wide, copy=True).numpy()

    def top_ids(self, logits: torch.Tensor, k: int) -> Int32:
        """The ids of the k highest logits per row, best first."""
        if logits.device.type == "cpu":
            return top_ids((self._wide(row) for row in logits), len(logits), k)
        return logits.topk(k, dim=-1).indices.to("cpu", torch.int32).numpy()

    def cost(self, rows: int) -> float:
        """Seconds of a forward of `rows` rows; 0.0 before `measure_costs`."""
        return self.costs(rows)

    def record(self, rows: int, seconds: float) -> None:
        """Follow the running engine's own timings."""
        self.costs.record(rows, seconds)

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`, whose figures are used from now on."""
        self.costs = measured_costs(self, stored, context, device=self.device)
        return self.costs

    def _check_tree_attention(self) -> None:
        """A model that ignores the mask or the positions is refused here, not found out by wrong text."""
        name = self.architecture
        check_inputs(self.model, torch.tensor([[1, 2, 3]], device=self.model.device), {}, len(self.windows))
        try:
            follows = attends_as_told(self)
        except Exception as error:  # a model's own code may raise anything
            raise UnsupportedModelError(
                f"{name} cannot be run with an explicit tree mask ({type(error).__name__}: {str(error)[:120]})."
            ) from error
        if not follows:
            raise UnsupportedModelError(
                f"{name} does not follow an explicit attention mask and positions, so drafts cannot be verified; "
                "use its plain generate()."
            )


def _fingerprint(model: Any, threads: int) -> str:
    """Identifies what a step costs: architecture and sizes, number type, device, threads, kernels."""
    parts = (
        model.config.to_json_string(), str(model.dtype), str(model.device), str(threads),
        torch.__version__, str(any(type(m).__name__ == "PackedLinear" for m in model.modules())),
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
