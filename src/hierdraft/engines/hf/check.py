"""Whether a transformers model attends as told: a small tree against plain text, far beyond any window it may have.

A model may hide a window, blocks or chunks that count cache rows instead of positions, and a tree has several rows at
one position. A text long enough to reach past them would cost a long prefill; instead the cache is made up: rows that
no forward computed, in which each forward sees the same. So the check is two forwards of a few rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hierdraft.engines.hf.cache import RowLayer, TreeCache
from hierdraft.engines.hf.inputs import check_inputs
from hierdraft.errors import UnsupportedModelError
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine

_SHORT = 24
_LONGEST = 8192
_BEYOND = 40
_SIBLINGS = 6
_MARGIN = 8
_LOUD = 8.0
_SPAN = re.compile(r"window|chunk|block|span|stride|segment|local|band")
_EXACT, _HALF = 1e-3, 5e-2
_CLEAR = 4.0


def check_attention(engine: HFEngine) -> None:
    """A model that ignores the mask or the positions is refused here, not found out by wrong text."""
    name = engine.architecture
    check_inputs(engine.model, torch.tensor([[1, 2, 3]], device=engine.model.device), {}, engine.new_cache)
    try:
        follows = attends_as_told(engine)
    except Exception as error:  # a model's own code may raise anything
        raise UnsupportedModelError(
            f"{name} cannot be run with an explicit tree mask ({type(error).__name__}: {str(error)[:120]})."
        ) from error
    if not follows:
        raise UnsupportedModelError(
            f"{name} does not follow an explicit attention mask and positions, so drafts cannot be verified; "
            "use its plain generate()."
        )


def attends_as_told(engine: HFEngine) -> bool:
    """Whether the rows of a tree are scored as each row's own text is, beyond the spans that `row_spans` finds."""
    model = engine.model
    if not engine.exact and any(True for module in model.modules() for _ in _bands(module)):
        return False  # counted in rows for certain, and one such layer of many could be taken for rounding
    cache, last, tree = _example(engine)
    length, siblings, below = cache.length, tree.tokens[:_SIBLINGS].tolist(), tree.tokens[_SIBLINGS:].tolist()
    texts = [[last, siblings[0], *below], [last, siblings[-1], *below]]
    with torch.no_grad():
        plain = model(**_as_generate(model, texts, length), past_key_values=cache, use_cache=True).logits
        rows = engine.score(cache, last, tree)
    wanted = torch.cat([plain[0], plain[1, 1:2]])
    found = rows[[0, 1, _SIBLINGS + 1, _SIBLINGS + 2, _SIBLINGS]]
    return alike(engine, found, wanted)


def scores_together(engine: HFEngine) -> bool:
    """Whether a tree and a single token after a shorter text, side by side in one call, are scored as each alone is."""
    cache, last, tree = _example(engine)
    shorter = MadeUpCache(len(engine.windows), max(1, cache.length - _SIBLINGS), [])
    parts = [engine.after(cache, last, tree), engine.after(shorter, last, DraftTree.empty())]
    alone = [engine.score(cache, last, tree), engine.score(shorter, last, DraftTree.empty())]
    try:
        found = [one.logits for one in engine.side_by_side(parts)]
    except Exception:  # noqa: BLE001 - a model's own code may raise anything; alone it has just worked
        return False
    return all(alike(engine, one, other) for one, other in zip(found, alone, strict=True))


def layers_return_tuples(engine: HFEngine) -> bool:
    """Whether a model's layers do.

    Raises UnsupportedModelError where they do not add up to the model: where what one gives is not all that goes into
    the next, or what follows the last is not the norm and the output layer.
    """
    cache, last, tree = _example(engine)
    layers, part = engine.layers, engine.after(cache, last, tree)

    def forward() -> torch.Tensor:
        return engine.run(engine.inputs(part))

    count = len(layers)
    middle = max(1, count // 2)
    try:
        tuples = layers.return_tuples(forward)
        with layers.showing((middle, count)) as shown:
            logits = forward()
        ids = torch.zeros(1, logits.shape[1], dtype=torch.long, device=logits.device)
        scored = layers.after_all(lambda: engine.run({"input_ids": ids}), shown[count], tuples=tuples)
        halves = [
            layers.run(forward, 0, middle, None, tuples=tuples),
            layers.run(forward, middle, count, shown[middle], tuples=tuples) if middle < count else shown[count],
        ]
        right = alike(engine, scored, logits) and all(
            alike(engine, half, shown[number]) for half, number in zip(halves, (middle, count), strict=True)
        )
    except Exception as error:  # a model's own code may raise anything
        reason = f"({type(error).__name__}: {str(error)[:120]})"
        raise UnsupportedModelError(f"{engine.architecture} does not show its hidden states {reason}.") from error
    if not right:
        raise UnsupportedModelError(
            f"The layers of {engine.architecture} by themselves are not the model: its hidden states cannot be used."
        )
    return tuples


def _example(engine: HFEngine) -> tuple[MadeUpCache, int, DraftTree]:
    """A made-up text as long as the check needs, its next token, and siblings below it, two with children."""
    spans = row_spans(engine.model, engine.windows)
    room = engine.max_length - _SIBLINGS - 2
    length = max(1, min(_SHORT if not spans else max(spans) + _BEYOND, room))
    last, *rest = (engine.vocab_size * part // 11 for part in range(1, 11))
    tree = DraftTree.build(rest[: _SIBLINGS + 2], [-1] * _SIBLINGS + [0, _SIBLINGS])
    return MadeUpCache(len(engine.windows), length, spans), last, tree


def alike(engine: HFEngine, found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two computations of the same logits differ by no more than rounding."""
    found, wanted = found.double(), wanted.double()
    error = (found - wanted).square().mean().sqrt()
    return bool(error <= (_EXACT if engine.exact else _HALF) * wanted.square().mean().sqrt())


def agree(engine: HFEngine, found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> bool:
    """Whether logits [rows, V] of two computations are alike, and choose alike where one of them leads clearly.

    Rows that are no numbers in `wanted` are left out.
    """
    ours, theirs = torch.cat([*found]).double(), torch.cat([*wanted]).double()
    sound = theirs.isfinite().all(dim=-1)
    ours, theirs = ours[sound], theirs[sound]
    best = theirs.topk(2, dim=-1).values
    allowed = _CLEAR * (_EXACT if engine.exact else _HALF) * theirs.square().mean().sqrt()
    clear = best[:, 0] - best[:, 1] > allowed
    same = ours.argmax(dim=-1) == theirs.argmax(dim=-1)
    return alike(engine, ours, theirs) and bool(same[clear].all())


def _as_generate(model: Any, texts: list[list[int]], length: int) -> dict[str, torch.Tensor]:
    """Ids [batch, L] after `length` others, and positions where the model takes some, as `generate` gives them."""
    ids = torch.tensor(texts, device=model.device)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {"input_ids": ids}
    where = torch.arange(length, length + ids.shape[1], device=model.device)
    return {"input_ids": ids, "position_ids": where.expand_as(ids)}


def row_spans(model: Any, windows: list[int | None]) -> list[int]:
    """How far back its layers may look, in rows: all numbers that a window, block or chunk could be made of.

    From the cache, from what its configuration and modules call by such a name, and from square masks kept in modules.
    Up to `_LONGEST`: windows beyond are left to what the cache says.
    """
    found = {window for window in windows if window}
    found |= set(_named(model.config.get_text_config(decoder=True).to_dict()))
    for module in model.modules():
        found |= set(_named({k: v for k, v in vars(module).items() if isinstance(v, int)}))
        found |= set(_bands(module))
    return sorted(span for span in found if 1 < span <= _LONGEST)


def _named(values: dict[str, Any]) -> Iterator[int]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _named(value)
        elif isinstance(value, int) and not isinstance(value, bool) and _SPAN.search(name):
            yield value


def _bands(module: torch.nn.Module) -> Iterator[int]:
    """Of the masks a module keeps, how many columns the last row sees where that is not all of them."""
    for mask in module.buffers(recurse=False):
        if mask.ndim >= 2 and mask.shape[-1] == mask.shape[-2] > 1 and mask.dtype in (torch.bool, torch.uint8):
            seen = int(mask.reshape(-1, mask.shape[-1])[-1].count_nonzero())
            if seen < mask.shape[-1]:
                yield seen


class MadeUpCache(TreeCache):
    """A cache of `length` rows that no forward computed; nothing is ever written to it.

    Every row has the key of the first row that is ever scored, so that all are seen alike, and a value of its own,
    louder around the borders of `spans`, so that a row which is seen or not seen changes the result.
    """

    def __init__(self, layers: int, length: int, spans: list[int]) -> None:
        """`layers`: attention layers of the model."""
        super().__init__(0)
        self.length = length
        self._loudness = torch.full((length, 1), length**0.5)
        for span in spans:
            border = length - span
            self._loudness[max(0, border - _MARGIN) : max(0, border + 3 * _MARGIN)] *= _LOUD
        self._values: dict[Any, torch.Tensor] = {}
        self.layers = [_MadeUpLayer(self) for _ in range(layers)]

    def reserve(self, rows: int) -> None:
        """Always fits."""

    def values(self, like: torch.Tensor) -> torch.Tensor:
        """[1, heads, length, width], of the size and kind of `like`; one for all layers, so it takes little memory."""
        _, heads, _, width = like.shape
        kind = heads, width, like.dtype, like.device
        if kind not in self._values:
            made = torch.randn(1, heads, self.length, width, generator=torch.Generator().manual_seed(heads * width))
            self._values[kind] = (made * self._loudness).to(like.device, like.dtype)
        return self._values[kind]


class _MadeUpLayer(RowLayer):
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The made-up rows and the new ones after them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states[:1, :, :1], value_states.std())
        batch, length = key_states.shape[0], self._owner.length
        keys = self.keys.expand(batch, -1, length, -1)
        values = (self._owner.values(value_states) * self.values).expand(batch, -1, -1, -1)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
