"""Several rows of a `generate` call at a time: decoded in shared forwards, then put side by side as `generate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.generation import GenerateDecoderOnlyOutput

from hierdraft.decoding.loop import Options, open_request
from hierdraft.decoding.scheduler import Scheduler, Ticket
from hierdraft.engines.hf.states import StateLayer, join_states
from hierdraft.integrations.generate_rows import Row
from hierdraft.protocols import Method, Part
from hierdraft.tree import DraftTree

if TYPE_CHECKING:
    from hierdraft.engines.hf.cache import TreeCache
    from hierdraft.engines.hf.engine import HFEngine


def decode_rows(engine: HFEngine, method: Method, rows: Sequence[Row], options: Callable[[Row], Options]) -> None:
    """Decode all rows to their ends, as requests that share forwards. Raises what ends any of them."""
    scheduler = Scheduler(engine, most=len(rows))
    tickets = [Ticket(open_request(engine, method, row.prompt, options(row))) for row in rows]
    for ticket in tickets:
        scheduler.add(ticket)
    try:
        while not all(ticket.over for ticket in tickets):
            scheduler.step(lambda _: True)
            _raise_first(tickets)
    finally:
        for ticket in tickets:
            scheduler.end(ticket, None)
    for row, ticket in zip(rows, tickets, strict=True):
        row.tokens = [token for step in ticket.steps for token in step.tokens]


def _raise_first(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        if ticket.error is not None:
            raise ticket.error


def fill(engine: HFEngine, rows: Sequence[Row], length: int, pad: int) -> None:
    """Bring all rows to `length` new tokens, by padding or by cutting, with their scores and caches.

    Plain `generate` runs rows that have ended with padding as their text until all have: what they would show and
    keep is computed here afterwards, where anybody asked for it.
    """
    for row in rows:
        hold_all(engine, row)
        missing = length - len(row.tokens)
        if missing > 0 and row.cache is not None:
            _continue(engine, row, [row.tokens[-1], *[pad] * (missing - 1)])
        row.tokens = (row.tokens + [pad] * missing)[:length]
        if row.cache is not None:
            row.cache.rewind(len(row.prompt) + length - 1)
            hold_all(engine, row)


def hold_all(engine: HFEngine, row: Row) -> None:
    """Score what was left to be scored again, so that a cache that is kept holds all but the last token."""
    if row.cache is None:
        return
    text = np.concatenate([row.prompt, row.tokens])
    if row.cache.length < len(text) - 1:
        _scored(engine, row, text[row.cache.length : -1].tolist(), 0)


def _scored(engine: HFEngine, row: Row, tokens: list[int], rows: int) -> Any:
    sequence = engine.open()
    sequence.cache, sequence.length = row.cache, row.cache.length
    part = Part(sequence, np.array(tokens, dtype=np.int32), DraftTree.empty(), rows)
    return engine.forward([part])[0].logits


def _continue(engine: HFEngine, row: Row, tokens: list[int]) -> None:
    logits = _scored(engine, row, tokens, len(tokens))
    if row.rule is None:
        return
    for kept in (row.rule.scores, row.rule.raw):
        del kept[len(row.tokens) :]  # of drafts after the end
    text = np.concatenate([row.prompt, row.tokens, tokens[1:]]).astype(np.int32)
    first = len(row.prompt) + len(row.tokens)
    for place in range(len(tokens)):
        row.rule(text[: first + place], engine.values(logits, place))


def beside_each_other(rows: Sequence[Row], input_ids: torch.Tensor, config: Any, model_config: Any) -> Any:
    """int64[B, L + new] token ids, or a `GenerateDecoderOnlyOutput`, of rows that are equally long."""
    said = torch.tensor([row.tokens for row in rows], dtype=torch.int64, device=input_ids.device)
    sequences = torch.cat([input_ids, said], dim=1)  # narrower ids become wide, as in plain generate
    if not config.return_dict_in_generate:
        return sequences
    rules = [row.rule for row in rows if row.rule is not None]
    steps = range(said.shape[1])
    return GenerateDecoderOnlyOutput(
        sequences=sequences,
        scores=tuple(torch.cat([one.scores[at] for one in rules]) for at in steps) if config.output_scores else None,
        logits=tuple(torch.cat([one.raw[at] for one in rules]) for at in steps) if config.output_logits else None,
        past_key_values=_as_dynamic([row.cache for row in rows], model_config),
    )


def _as_dynamic(caches: Sequence[TreeCache], config: Any) -> DynamicCache:
    """What all rows keep, as the cache that transformers itself would hold; zeros where there is padding in front."""
    width, made = max(cache.length for cache in caches), DynamicCache(config=config)
    for index, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        if layers[0].is_initialized:
            made.update(*(_aligned(caches, [getattr(one, kind) for one in layers], width) for kind in _KINDS), index)
        if isinstance(layers[0], StateLayer):
            join_states(made.layers[index], layers)
    return made


_KINDS = ("keys", "values")


def _aligned(caches: Sequence[TreeCache], texts: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """[B, heads, width, dim], every text at the end of its row."""
    _, heads, _, dim = texts[0].shape
    aligned = texts[0].new_zeros(len(texts), heads, width, dim)
    for place, (cache, text) in enumerate(zip(caches, texts, strict=True)):
        aligned[place, :, width - cache.length :] = text[0, :, : cache.length]
    return aligned
