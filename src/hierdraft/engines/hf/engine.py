"""The transformers engine: any rewindable causal language model, on a CPU or CUDA.

`HFEngine` runs the target; `decode` is the one argument for people who already have a model and call
`model.generate(**inputs, custom_generate=hierdraft.hf.decode())`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierdraft.engines.costs import SIZES, StepCosts
from hierdraft.engines.hf.begun import finished_part, run_layers
from hierdraft.engines.hf.cache import GROWTH, TreeCache, layer_windows
from hierdraft.engines.hf.chains import OFFERS, Chains, StateSequence
from hierdraft.engines.hf.check import check_attention, layers_return_tuples, scores_together
from hierdraft.engines.hf.facts import (
    FEATURES,
    context_length,
    drops_out,
    eos_ids,
    fingerprint,
    using_threads,
    vocabulary,
)
from hierdraft.engines.hf.graphs import ROWS, Begin, CudaCapture, Graphs
from hierdraft.engines.hf.layers import Layers
from hierdraft.engines.hf.lean import ATTENTION, check_packed
from hierdraft.engines.hf.logits import ReadsLogits
from hierdraft.engines.hf.mask import Masks, positions
from hierdraft.engines.hf.pairs import in_groups
from hierdraft.engines.hf.sequence import HFSequence, as_before_if_it_fails
from hierdraft.engines.hf.slots import Slots
from hierdraft.engines.hf.together import Inputs, calls, price_on
from hierdraft.engines.measure import measured_costs
from hierdraft.engines.sequences import check_parts, known_rows
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.protocols import Offers, Part, Scored
from hierdraft.tree import DraftTree, Int32

_ATTENTIONS = ("sdpa", "eager", ATTENTION)


class HFEngine(ReadsLogits):
    """An `Engine` over a transformers model; the model itself is never changed.

    `bounded`: nothing can be decoded beyond `max_length`; else the model only was not made for it.
    """

    _partly = False  # whether the last forward finished what was begun

    def __init__(
        self, model: Any, costs: StepCosts | None = None, threads: int | None = None, *, graphs: bool | Begin = True,
    ) -> None:  # fmt: skip
        """Check the model and, with a tiny tree, that it attends as told.

        threads   torch's threads while the model runs; outside of a forward the process keeps its own number
        graphs    on CUDA, capture forwards of a few sizes and replay them; or by what they are captured, on any device

        Raises UnsupportedModelError, saying why, for a model that cannot be verified against a draft tree.
        """
        self.chains = Chains.of(model)
        self.windows: list[int | None] = layer_windows(model) if self.chains is None else self.chains.windows
        check_packed(model)
        if drops_out(model):
            raise UsageError(f"{model.__class__.__name__} is in training mode: call eval() on it first.")
        self.model = model
        self.name, self.source, self.architecture = "hf", "", str(model.__class__.__name__)
        self.dtype, self.device = str(model.dtype).removeprefix("torch."), str(model.device)
        self._attention = model.config._attn_implementation
        if self.chains is None and self._attention not in _ATTENTIONS:
            raise UnsupportedModelError(
                f"Attention {self._attention!r} takes no tree mask: load the model with attn_implementation='sdpa'."
            )
        text_config = model.config.get_text_config(decoder=True)
        super().__init__(vocabulary(model, text_config))
        self.max_length, self.bounded = context_length(model, text_config)
        self.eos_ids = eos_ids(model)
        self._threads = threads
        begin = _begin(model, graphs) if self.chains is None else None
        self.graphs = Graphs(model, self.windows, begin) if begin is not None else None
        self.fingerprint = fingerprint(model, threads or torch.get_num_threads(), graphs=self.graphs is not None)
        self.layers = Layers(model, len(self.windows))
        self.offers = self._offers() if self.chains is None else OFFERS
        self.exact = model.dtype in (torch.float32, torch.float64)
        self.costs = costs or StepCosts()
        stack = _group(text_config) if self._attention == ATTENTION and self.chains is None else 1
        self._masks = Masks(model, self.windows, stack)
        self._scores_together: bool | None = None if self.chains is None else False
        self._tuples: bool | None = None
        if self.chains is None:
            check_attention(self)
        else:
            self.chains.check(self)

    def _offers(self) -> Offers:
        features = getattr(self.model, FEATURES, 0)
        return Offers(layers=len(self.layers), extends=True, partial=len(self.layers) > 0, features=features)

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        return self._threads or torch.get_num_threads()

    @property
    def slots(self) -> Slots | None:
        """Where texts lie, None: each by itself."""
        return None if self.graphs is None or self.graphs.off else self.graphs.slots

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> HFSequence:  # noqa: ARG002
        """An empty sequence: what texts have in common is scored again."""
        return HFSequence(self) if self.chains is None else StateSequence(self)

    def new_cache(self) -> TreeCache:
        """An empty one."""
        return TreeCache(len(self.windows), self.slots) if self.chains is None else self.chains.cache()

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Score the parts in one call of the model, or in several where padding all to one length would cost more."""
        check_parts(self, parts)
        if any(part.hidden for part in parts):
            self.check_layers()
        finished = {
            place: found for place, part in enumerate(parts) if (found := finished_part(self, part)) is not None
        }
        self._partly = len(finished) > 0
        rest = iter(self._forward([part for place, part in enumerate(parts) if place not in finished]))
        return [finished[place] if place in finished else next(rest) for place in range(len(parts))]

    def _forward(self, parts: Sequence[Part]) -> list[Scored]:
        """The same of parts of which nothing was begun."""
        sequences: list[HFSequence] = [part.sequence for part in parts]  # type: ignore[misc]
        for part, sequence in zip(parts, sequences, strict=True):
            if len(part.tokens) or sequence.begun is not None:
                sequence.drop()
        with as_before_if_it_fails(sequences):
            found = self._scored(parts)
            for sequence in sequences:
                sequence.cache.settle(GROWTH)
        for part, sequence in zip(parts, sequences, strict=True):
            sequence.hold(part)
        return found

    def _scored(self, parts: Sequence[Part]) -> list[Scored]:
        """What each part is told; the new rows are written, and no sequence holds them yet."""
        found = self.graphs.scored(self, parts) if self.graphs is not None else {}
        rest = [place for place in range(len(parts)) if place not in found]
        found.update(zip(rest, self.eager([parts[place] for place in rest]), strict=True))
        return [found[place] for place in range(len(parts))]

    def eager(self, parts: Sequence[Part]) -> list[Scored]:
        """The same by calls of the model, whatever was captured of it."""
        if len(parts) < 2 or not self.shares_calls():
            return [self._alone(part) for part in parts]
        found: dict[int, Scored] = {}
        for places in calls(parts, price_on(self.device)):
            chosen = [parts[place] for place in places]
            made = [self._alone(chosen[0])] if len(chosen) == 1 else self.side_by_side(chosen)
            found.update(zip(places, made, strict=True))
        return [found[place] for place in range(len(parts))]

    def shares_calls(self) -> bool:
        """Whether the model scores several sequences in a call as it scores each alone; tried once, when it matters."""
        if self._scores_together is None:
            self._scores_together = scores_together(self)
        return self._scores_together

    def _alone(self, part: Part) -> Scored:
        if self.chains is not None:
            return self.chains.score(self, part)
        with self.layers.showing(part.hidden) as hidden:
            logits = self.run(self.inputs(part, known_rows(part)))[0]
        wanted = part.rows + len(part.tree) - known_rows(part)
        return Scored(logits[len(logits) - wanted :], hidden={number: rows[0] for number, rows in hidden.items()})

    def side_by_side(self, parts: Sequence[Part]) -> list[Scored]:
        """What each part is told, of one call of the model."""
        inputs = Inputs(parts, self.windows, self.model.dtype, self.model.device)
        given, kept = inputs.given(), inputs.scored()
        if "attention_mask" in given:
            given["attention_mask"] = self._masks.all_stacked(given["attention_mask"])
        with self.layers.showing({number for part in parts for number in part.hidden}) as hidden:
            if len(kept) < inputs.rows and self.model._supports_logits_to_keep():
                logits = self.run({**given, "logits_to_keep": kept.to(self.model.device)})
            else:
                logits, kept = self.run(given), torch.arange(inputs.rows)
        return inputs.split(logits, kept, hidden)

    def forward_layers(self, part: Part, first: int, last: int, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """See `Layered`."""
        check_parts(self, [part])
        return run_layers(self, part, first, last, hidden)

    def forward_in_groups(self, parts: Sequence[Part], size: int, ends: int) -> list[Scored]:
        """A forward in which layers attend from the same input in groups: see `in_groups`."""
        with in_groups(self.layers.modules, size, ends):
            return self.forward(parts)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Layered`."""
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=self.model.device)
        tuples = self.check_layers()
        found: torch.Tensor = self.layers.after_all(
            lambda: self.run({"input_ids": ids})[0], hidden[None], tuples=tuples
        )
        return found

    def check_layers(self) -> bool:
        """Whether its layers return tuples, found out once.

        Raises UnsupportedModelError where they cannot be run by themselves.
        """
        if self.chains is not None:
            raise UnsupportedModelError(
                f"{self.architecture} keeps recurrent states: its layers do not run by themselves."
            )
        if self._tuples is None:
            self._tuples = layers_return_tuples(self)
        return self._tuples

    def score(self, cache: TreeCache, last: int, tree: DraftTree) -> torch.Tensor:
        """logits[1+n, V] of `last` and of every node, after a cache that is left as it is."""
        logits: torch.Tensor = self._alone(self.after(cache, last, tree)).logits
        return logits

    def after(self, cache: TreeCache, last: int, tree: DraftTree) -> Part:
        """`last` and a tree, as a part of a sequence that has this cache."""
        sequence = HFSequence(self)
        sequence.cache, sequence.length = cache, cache.length
        return Part(sequence, np.array([last], dtype=np.int32), tree)

    def inputs(self, part: Part, done: int = 0) -> dict[str, Any]:
        """What the model is given to score a part: ids and positions [1, m+n-done], mask and cache.

        done   rows of the part that are written already
        """
        cache, device = part.sequence.cache, self.model.device  # type: ignore[attr-defined]
        text, tree = len(part.tokens), part.tree
        ids = torch.tensor([[*part.tokens.tolist(), *tree.tokens.tolist()][done:]], device=device)
        where = positions(tree, cache.length, device, text)
        inputs = {"input_ids": ids, "position_ids": where[:, done:], "past_key_values": cache}
        if part.features is not None:
            inputs["features"] = torch.from_numpy(part.features)[None].to(device)
        cache.reserve(text + len(tree))
        if cache.length or len(tree):
            inputs["attention_mask"] = self._masks.of(part, cache.length, where, done)
        if text > 1 and self.model._supports_logits_to_keep():
            inputs["logits_to_keep"] = max(1, part.rows + len(tree))
        return inputs

    def run(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The model's logits[B, rows, V] for `inputs`, whose keys and values are written after the cache's."""
        with torch.no_grad(), using_threads(self._threads):
            logits: torch.Tensor = self.model(**inputs, use_cache=True).logits
        return logits

    def cost(self, rows: int, plain: int = 1) -> float:
        """Seconds of a forward of `rows` rows; 0.0 before `measure_costs`. Infinite for drafts that save no call."""
        if rows > plain and self.chains is not None and not self.chains.together:
            return math.inf
        return self.costs(self._padded(rows), self._padded(plain))

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Follow the running engine's own timings; not of a forward of which a part was begun before."""
        if not self._partly and (self.graphs is None or not self.graphs.fresh):
            self.costs.record(self._padded(rows), seconds, self._padded(plain))

    def _padded(self, rows: int) -> int:
        return rows if self.graphs is None else self.graphs.padded(rows)

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`, whose figures are used from now on."""
        sizes: tuple[int, ...] = SIZES if self.graphs is None else ROWS
        if self.chains is not None and not self.chains.together:
            sizes = SIZES[:2]  # one row after another
        self.costs = measured_costs(self, stored, context, sizes, device=self.device)
        return self.costs


def _begin(model: Any, graphs: bool | Begin) -> Begin | None:
    """What forwards are captured by, None: by nothing."""
    if isinstance(graphs, bool):
        return CudaCapture if graphs and model.device.type == "cuda" else None
    return graphs


def _group(text_config: Any) -> int:
    """Query heads of one key/value head."""
    heads: int = text_config.num_attention_heads
    return heads // (getattr(text_config, "num_key_value_heads", None) or heads)
