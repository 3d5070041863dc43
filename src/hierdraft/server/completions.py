"""OpenAI's completions: a text, or token ids, that the model continues."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hierdraft.server.answers import Answer, Delta, Token
from hierdraft.server.chat import StreamOptions
from hierdraft.server.service import Running, Service
from hierdraft.server.speaking import Speaker
from hierdraft.server.wire import (
    MANY,
    Asked,
    Bias,
    Count,
    Extension,
    Penalty,
    Seed,
    Stops,
    Temperature,
    TopP,
    Wire,
    extended,
    given,
)  # fmt: skip


class CompletionRequest(Wire):
    """A body of /v1/completions."""

    model: str
    prompt: str | Annotated[list[int], Field(min_length=1, max_length=MANY, fail_fast=True)]
    max_tokens: Count = None
    temperature: Temperature = None
    top_p: TopP = None
    n: Annotated[int, Field(ge=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Seed = None
    stop: Stops = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    logit_bias: Bias = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    hierdraft: Extension | None = None

    @model_validator(mode="after")
    def _fits(self) -> CompletionRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream")
        return self

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError."""
        bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        asked = Asked(
            self.prompt,
            given(
                max_new_tokens=self.max_tokens or 16, temperature=self.temperature,
                top_p=self.top_p, top_k=self.top_k, min_p=self.min_p,
                repetition_penalty=self.repetition_penalty, seed=self.seed,
                stop=[self.stop] if isinstance(self.stop, str) else self.stop,
                presence_penalty=self.presence_penalty, frequency_penalty=self.frequency_penalty,
                logit_bias=bias or None,
            ),
            chat=False, count=self.n or 1, streamed=bool(self.stream), logprobs=self.logprobs,
            usage=self.stream_options is not None and self.stream_options.include_usage,
        )  # fmt: skip
        return extended(asked, self.hierdraft)


class CompletionSpeaker(Speaker):
    """One request in the form of completions."""

    kind = piece = "text_completion"
    prefix, opens = "cmpl", False

    def __init__(self, service: Service, running: Running) -> None:
        super().__init__(service, running)
        self._places = [0] * len(running.answers)

    def says(self, delta: dict[str, Any]) -> dict[str, Any]:
        """What an event says, where it says it."""
        return {"text": delta.get("content", "")}

    def choice(self, number: int, answer: Answer, deltas: list[Delta]) -> dict[str, Any]:
        """One of the answers, whole."""
        return self.chosen(number, answer, deltas, {"text": "".join(delta.text for delta in deltas)})

    def logprobs(self, number: int, tokens: list[Token]) -> dict[str, Any]:
        """In the older form: lists side by side."""
        text, ends = self.service.words.text, self.service.model.engine.eos_ids
        tokens = [token for token in tokens if token.id not in ends]
        shown, offsets = [text(token.id) for token in tokens], list[int]()
        for piece in shown:
            offsets.append(self._places[number])
            self._places[number] += len(piece)
        likely = [token.likely for token in tokens if token.likely is not None]
        return {
            "tokens": shown, "token_logprobs": [max(one.logprob, -9999.0) for one in likely],
            "top_logprobs": [{text(token): max(logprob, -9999.0) for token, logprob in one.top} for one in likely],
            "text_offset": offsets,
        }  # fmt: skip
