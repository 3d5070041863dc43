"""OpenAI's completions: a text, or token ids, that the model continues."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hierdraft.server.answers import Answer, Delta, Token
from hierdraft.server.service import Running, Service
from hierdraft.server.speaking import Speaker
from hierdraft.server.wire import (
    MANY,
    Asked,
    Count,
    Sampled,
    extended,
)  # fmt: skip


class CompletionRequest(Sampled):
    """A body of /v1/completions."""

    prompt: str | Annotated[list[int], Field(min_length=1, max_length=MANY, fail_fast=True)]
    max_tokens: Count = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError."""
        asked = Asked(
            self.prompt, self.sampling() | {"max_new_tokens": self.max_tokens or 16},
            chat=False, count=self.n or 1, streamed=bool(self.stream), logprobs=self.logprobs,
            **self.told(),
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
