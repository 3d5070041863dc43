"""What the shapes of all APIs have in common: strict fields, messages as text, tools, the extensions of hierdraft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hierdraft.text.tools import Tool

STOPS, STOP_LENGTH = 16, 256
"""Most stop strings of a request, and most characters of each."""


class Wire(BaseModel):
    """A part of a request: nothing is converted, and what is not known is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


MANY = 1 << 20
T = TypeVar("T")
Many = Annotated[list[T], Field(max_length=4096, fail_fast=True)]
"""Some of them. What is wrong ends at the first one: a body of errors would take seconds to describe."""

StopText = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]
Stops = StopText | Annotated[list[StopText], Field(max_length=STOPS, fail_fast=True)] | None
Temperature = Annotated[float, Field(ge=0, le=2)] | None
TopP = Annotated[float, Field(gt=0, le=1)] | None
Penalty = Annotated[float, Field(ge=-2, le=2)] | None
Seed = Annotated[int, Field(ge=0, lt=1 << 63)] | None
Bias = dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None
Count = Annotated[int, Field(ge=1, le=1 << 24)] | None


class Extension(Wire):
    """`hierdraft`: how to draft, and what to tell of it.

    method      a drafting method's name, without settings
    budget      `auto` or a number of nodes
    reference   texts that the answer may repeat
    provenance  tell of every piece of text and every token which level drafted it, and what it took
    trace       tell of every step what was drafted and what was accepted
    """

    method: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] | None = None
    budget: Literal["auto"] | Annotated[int, Field(ge=0, le=128)] | None = None
    reference: Annotated[list[str], Field(max_length=16, fail_fast=True)] = Field(default_factory=list)
    provenance: bool = False
    trace: bool = False


@dataclass(slots=True)
class Asked:
    """A request of any API, as the model is asked.

    prompt       messages, a text or token ids
    options      of `LanguageModel.stream`
    chat         whether a text is put into the chat template
    count        answers
    tools        that may be called; `forced`: must be
    several      whether more than one may be called
    logprobs     see `LanguageModel.stream`
    provenance, trace   tell of levels, of steps
    usage        tell of usage at the end of a stream
    usage_always   likewise with every event
    predicted, predicted_tokens   the answer that was predicted, and how many tokens it has
    shown        what the answer repeats of the request
    """

    prompt: Any
    options: dict[str, Any] = field(default_factory=dict)
    chat: bool = True
    count: int = 1
    streamed: bool = False
    tools: list[Tool] = field(default_factory=list)
    forced: bool = False
    several: bool = True
    logprobs: int | None = None
    provenance: bool = False
    trace: bool = False
    usage: bool = False
    usage_always: bool = False
    predicted: str | None = None
    predicted_tokens: int = 0
    shown: dict[str, Any] = field(default_factory=dict)


def given(**options: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


class StreamOptions(Wire):
    """`stream_options`; vLLM's `continuous_usage_stats`: with every event, how many tokens there are so far."""

    include_usage: bool = False
    continuous_usage_stats: bool = False

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.continuous_usage_stats and not self.include_usage:
            raise ValueError("continuous_usage_stats goes with include_usage")
        return self


class Sampled(Wire):
    """What OpenAI's chat completions and completions have in common: how answers are drawn, and how they come."""

    model: str
    temperature: Temperature = None
    top_p: TopP = None
    n: Annotated[int, Field(ge=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Seed = None
    stop: Stops = None
    ignore_eos: bool | None = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    logit_bias: Bias = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    hierdraft: Extension | None = None

    @model_validator(mode="after")
    def _streams(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream")
        return self

    def told(self) -> dict[str, Any]:
        """When what was used is told, as fields of `Asked`."""
        options = self.stream_options or StreamOptions()
        return {"usage": options.include_usage, "usage_always": options.continuous_usage_stats}

    def sampling(self) -> dict[str, Any]:
        """As options of `LanguageModel.stream`."""
        return given(
            temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p,
            repetition_penalty=self.repetition_penalty, presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty, seed=self.seed,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop, ignore_eos=self.ignore_eos,
            logit_bias={int(token): value for token, value in (self.logit_bias or {}).items()} or None,
        )  # fmt: skip


def extended(asked: Asked, extension: Extension | None) -> Asked:
    """With what hierdraft's own field says."""
    if extension is not None:
        asked.options |= given(method=extension.method, budget=extension.budget)
        asked.options["reference"] = [*asked.options.get("reference", ()), *extension.reference]
        asked.provenance, asked.trace = extension.provenance or extension.trace, extension.trace
    return asked


def named(tools: Sequence[Tool], name: str) -> list[Tool]:
    """The one that was named. Raises ValueError."""
    found = [tool for tool in tools if tool.name == name]
    if not found:
        raise ValueError(f"there is no tool {name!r} to choose")
    return found
