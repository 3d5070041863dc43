"""One prompt of a `generate` call: its text without padding, and the processors and criteria as it meets them.

Plain `generate` shows processors and criteria all rows at once, padding included, one token at a time. Here each row
goes its own pace, so each is shown alone, padded as plain `generate` pads it, its positions in order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers as t
from transformers import LogitsProcessorList, StoppingCriteriaList

from hierdraft.engines.hf.rules import ProcessorRule
from hierdraft.errors import UsageError
from hierdraft.protocols import Finish, RequestSampling
from hierdraft.tree import Int32


def padding(input_ids: torch.Tensor, mask: torch.Tensor | None) -> list[int]:
    """How many tokens of padding stand in front of each row of int64[B, L], by an attention mask that was checked."""
    if mask is None:
        return [0] * len(input_ids)
    return [int(count) for count in mask.shape[1] - mask.sum(dim=1)]


def unusual_padding(input_ids: torch.Tensor, kwargs: Mapping[str, Any]) -> list[str]:
    """Names what is wrong with the attention mask and positions of several rows; nothing where they pad on the left."""
    mask, where = kwargs.get("attention_mask"), kwargs.get("position_ids")
    if mask is None:
        mask = torch.ones_like(input_ids)
    if mask.shape != input_ids.shape or not bool(((mask == 0) | (mask == 1)).all()):
        return ["an attention_mask that is not one 0 or 1 for each token"]
    if not bool(mask.any(dim=1).all()):
        return ["an attention_mask that hides a whole prompt"]
    if not bool(mask[:, -1].all()):
        return ["padding on the right (set padding_side='left' in the tokenizer)"]
    if bool((mask[:, 1:] < mask[:, :-1]).any()):
        return ["an attention_mask with holes"]
    usual = mask.long().cumsum(dim=1) - 1
    if where is not None and not bool(((where == usual) | (mask == 0)).all()):
        return ["custom position_ids"]
    return []


def kwargs_of(kwargs: Mapping[str, Any], row: int, front: int, shape: torch.Size) -> dict[str, Any]:
    """What `generate` would hand to the model beside one of several rows [B, L] alone, without its padding."""
    if shape[0] == 1:
        return dict(kwargs)
    cut = {
        name: value[..., row : row + 1, front:] if name == "position_ids" else value[row : row + 1, front:]
        for name, value in kwargs.items()
        if isinstance(value, torch.Tensor) and shape in (value.shape, value.shape[-2:])
    }
    return {**kwargs, **cut, "attention_mask": None}


class Row:
    """A prompt of a call, and what its answer is decided with."""

    def __init__(
        self, number: int, ids: torch.Tensor, front: int, processors: LogitsProcessorList | None,
        criteria: StoppingCriteriaList, config: Any, device: torch.device, ends: Ends | None,
    ) -> None:  # fmt: skip
        """ids int64[L], of which the first `front` are padding; `ends`: where all rows end together."""
        row = ids.cpu().numpy()
        self.front, self.prompt = row[:front].astype(np.int32), row[front:]
        self.rule = _rule(processors, config, device, self.front)
        self.stop = Criteria(criteria, ids.device, self.rule, self.front, ends, number)
        self.seed = int(torch.randint(1 << 62, (1,))) if config.do_sample else None
        """From torch's own generator, so that `torch.manual_seed` fixes the sample."""
        self.sampling = _sampling(config, self.seed)
        self.tokens: list[int] = []
        self.cache: Any = None

    def keep(self, sequence: Any) -> None:
        """For `Options.keep`."""
        self.cache = sequence.cache


class Ends:
    """Where rows that know no end-of-sequence id end: all where the last of them does, as in plain `generate`."""

    def __init__(self, rows: int) -> None:
        """`rows`: how many there are."""
        self._rows = rows
        self._first: dict[int, int] = {}

    def note(self, row: int, count: int) -> None:
        """The criteria would end this row after `count` tokens."""
        self._first.setdefault(row, count)

    def over(self, count: int) -> bool:
        """Whether a row of `count` tokens is complete."""
        return len(self._first) == self._rows and count >= self.length

    @property
    def length(self) -> int:
        """How many tokens all rows have in the end."""
        return max(self._first.values())


class Criteria:
    """Transformers' stopping criteria, asked after every token as plain generate does."""

    def __init__(
        self, criteria: StoppingCriteriaList, device: torch.device, rule: ProcessorRule | None, front: Int32,
        ends: Ends | None, row: int,
    ) -> None:  # fmt: skip
        """`front`: the padding that they are shown before the text."""
        self._criteria = criteria
        self._device = device
        self._rule = rule
        self._front = front
        self._ends = ends
        self._row = row

    def check(self, tokens: Int32, prompt_length: int) -> Finish | None:
        """`stop` when any criterion says so. Raises UsageError for one that answers for several rows."""
        ids = torch.from_numpy(np.concatenate([self._front, tokens])[None].astype(np.int64)).to(self._device)
        emitted = len(tokens) - prompt_length
        scores = tuple(self._rule.scores[:emitted]) if self._rule and self._rule.scores else None
        done = self._criteria(ids, scores)
        if done.numel() != 1:
            raise UsageError("A stopping criterion answered for several prompts where it was asked about one.")
        if self._ends is None:
            return "stop" if bool(done) else None
        if bool(done):
            self._ends.note(self._row, emitted)
        return "stop" if self._ends.over(emitted) else None


def _rule(
    processors: LogitsProcessorList | None, config: Any, device: torch.device, front: Int32
) -> ProcessorRule | None:
    """What rows must go through one by one: processors, a draw, or being kept because scores are to be returned."""
    scores, raw = (config.return_dict_in_generate and wanted for wanted in (config.output_scores, config.output_logits))
    if not (processors or config.do_sample or scores or raw):
        return None
    return ProcessorRule(processors or (), device, scores=bool(scores), raw=bool(raw), front=front)


def _sampling(config: Any, seed: int | None) -> RequestSampling:
    """What a drafter is told; the filters that it does not know only make its law less alike."""
    given = {name: getattr(config, name, None) for name in ("temperature", "top_k", "top_p", "min_p")}
    told = {name: value for name, value in given.items() if value is not None}
    return RequestSampling(draws=seed is not None, seed=seed or 0, **told)


def each_its_own(given: Sequence[Any], rows: int) -> list[list[Any]]:
    """Processors or criteria for each of several rows.

    Transformers' own are shared, or cut to the row where they know all rows. Anybody else's may keep a state: the first
    row has the object itself, the others copies of it as it is now.
    """
    return [[_for_row(one, row) if rows > 1 else one for one in given] for row in range(rows)]


def _for_row(one: Any, row: int) -> Any:
    cut = next((cut for kind, cut in _CUT.items() if isinstance(one, kind)), None)
    theirs = type(one).__module__.startswith("transformers.")
    if cut is not None:
        made = copy.copy(one) if theirs else _copied(one)
        cut(made, row)
        return made
    return one if row == 0 or theirs else _copied(one)


def _copied(one: Any) -> Any:
    """A copy with a state of its own; what it calls, and what cannot be copied (events, files), is shared."""
    made = copy.copy(one)
    if made is one:  # a function
        return one
    for name, value in [*getattr(made, "__dict__", {}).items()]:
        if callable(value) or isinstance(value, t.PreTrainedTokenizerBase):
            continue
        try:
            setattr(made, name, copy.deepcopy(value))
        except Exception:  # noqa: BLE001, S112 - locks and handles say it in many ways; they are there to be shared
            continue
    return made


def _cut_allowed(one: Any, row: int) -> None:
    function = one._prefix_allowed_tokens_fn
    one._prefix_allowed_tokens_fn = lambda _, ids: function(row, ids)


def _cut_penalty(one: Any, row: int) -> None:
    if isinstance(one.prompt_ignore_length, torch.Tensor):
        one.prompt_ignore_length = one.prompt_ignore_length[row : row + 1]


def _cut_encoder_ids(one: Any, row: int) -> None:
    one.encoder_input_ids = one.encoder_input_ids[row : row + 1]


def _cut_ngrams(one: Any, row: int) -> None:
    one.batch_size, one.generated_ngrams = 1, [one.generated_ngrams[row]]


def _cut_guidance(one: Any, row: int) -> None:
    one.unconditional_context = {
        name: value[row : row + 1] if isinstance(value, torch.Tensor) else value
        for name, value in one.unconditional_context.items()
    }


def _cut_nothing(_: Any, row: int) -> None:
    """Its state begins with the first token: a copy is enough."""


_CUT: Mapping[type, Callable[[Any, int], None]] = {
    t.PrefixConstrainedLogitsProcessor: _cut_allowed,
    t.RepetitionPenaltyLogitsProcessor: _cut_penalty,
    t.EncoderRepetitionPenaltyLogitsProcessor: _cut_encoder_ids,
    t.EncoderNoRepeatNGramLogitsProcessor: _cut_ngrams,
    t.UnbatchedClassifierFreeGuidanceLogitsProcessor: _cut_guidance,
    t.SynthIDTextWatermarkLogitsProcessor: _cut_nothing,
}
"""Transformers' processors that know all rows or keep a state, and how a copy becomes one row's."""
