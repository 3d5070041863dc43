"""Anthropic's messages: what is asked, and what is answered, whole and as events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import from_json

from hierdraft.server import told
from hierdraft.server.answers import Answer
from hierdraft.server.failures import ApiError
from hierdraft.server.service import Running, Service
from hierdraft.server.wire import MANY, STOPS, Asked, Extension, Many, StopText, TopP, Wire, extended, given, named
from hierdraft.text.tools import Tool


class TextBlock(Wire):
    """Text."""

    type: Literal["text"]
    text: str


class UseBlock(Wire):
    """A call of a tool in an earlier answer."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ResultBlock(Wire):
    """What a tool gave."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Many[TextBlock] = ""
    is_error: bool | None = None

    def told(self) -> str:
        """What the model reads."""
        return f"{'Error: ' if self.is_error else ''}{_text(self.content)}"


Block = Annotated[TextBlock | UseBlock | ResultBlock, Field(discriminator="type")]


class MessageIn(Wire):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str | Annotated[list[Block], Field(min_length=1, max_length=MANY, fail_fast=True)]

    def as_turns(self) -> list[dict[str, Any]]:
        """As chat templates know it: what tools gave are turns of their own, before the text."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        turns: list[dict[str, Any]] = [
            {"role": "tool", "content": block.told(), "tool_call_id": block.tool_use_id}
            for block in self.content if isinstance(block, ResultBlock)
        ]  # fmt: skip
        text = "".join(block.text for block in self.content if isinstance(block, TextBlock))
        calls = [
            {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.input}}
            for block in self.content if isinstance(block, UseBlock)
        ]  # fmt: skip
        if text or calls:
            turns.append({"role": self.role, "content": text, **({"tool_calls": calls} if calls else {})})
        return turns


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


class ToolIn(Wire):
    """A tool."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str = ""
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class ChoiceIn(Wire):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> ChoiceIn:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("name goes with the type tool, and is needed there")
        return self


class CountRequest(Wire):
    """A body of /v1/messages/count_tokens: what the model would read."""

    model: str
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=MANY, fail_fast=True)]
    system: str | Many[TextBlock] | None = None
    tools: Annotated[list[ToolIn], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: ChoiceIn | None = None

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError and UsageError."""
        choice = self.tool_choice
        tools = [Tool(tool.name, tool.description, tool.input_schema) for tool in self.tools or []]
        for tool in tools:
            tool.check()
        if choice is not None and choice.type in ("any", "tool") and not tools:
            raise ValueError("tool_choice goes with tools")
        if choice is not None and choice.type == "none":
            tools = []
        if choice is not None and choice.name is not None:
            tools = named(tools, choice.name)
        turns = [{"role": "system", "content": _text(self.system)}] if self.system else []
        for message in self.messages:
            turns += message.as_turns()
        return Asked(
            turns, tools=tools, forced=choice is not None and choice.type in ("any", "tool"),
            several=choice is None or not (choice.disable_parallel_tool_use or choice.name),
        )  # fmt: skip


class MessagesRequest(CountRequest):
    """A body of /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1, le=1 << 24)]
    stop_sequences: Annotated[list[StopText], Field(max_length=STOPS, fail_fast=True)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: TopP = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stream: bool | None = None
    hierdraft: Extension | None = None

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError and UsageError."""
        asked = super().as_asked()
        asked.streamed = bool(self.stream)
        asked.options = given(
            max_new_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k,
            stop=self.stop_sequences,
        )  # fmt: skip
        return extended(asked, self.hierdraft)


class MessageSpeaker:
    """One request in Anthropic's form."""

    def __init__(self, service: Service, running: Running) -> None:
        self.service, self.running, self.asked = service, running, running.asked
        self.answer: Answer = running.answers[0]
        self.content: list[dict[str, Any]] = []
        self._known = told.Known(self.asked, service.words)

    async def whole(self) -> dict[str, Any]:
        """The finished answer."""
        async for _ in self.events():
            pass
        for block in self.content:
            if block["type"] == "tool_use":
                block["input"] = from_json(block["input"] or "{}", allow_partial=True)
        found = {**self._head(), "content": self.content, **self._reason(), "usage": self._usage()}
        return found | told.metrics(self.asked, [self.answer]) | self._known.all()

    def failed(self, error: ApiError) -> dict[str, Any]:
        """The last event of an answer that failed on the way."""
        return error.as_anthropic()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What each event says; its type is in it."""
        yield {"type": "message_start", "message": {**self._head(), "content": [], "usage": self._usage()}}
        async for delta in self.answer.deltas():
            self._known.take(delta)
            for spoken in delta.spoken:
                kind = "text" if spoken.kind == "text" else "tool_use"
                begins = spoken.kind == "call" or not self.content or self.content[-1]["type"] != kind
                if begins and kind == "text" and not spoken.text.strip() and self.content:
                    continue
                if begins:
                    if self.content:
                        yield self._block("stop")
                    yield self._begun(kind, spoken.text)
                if spoken.kind != "call":
                    yield self._more(kind, spoken.text) | self._known.new()
        if self.content:
            yield self._block("stop")
        usage = {"output_tokens": self._usage()["output_tokens"]}
        ended = {"type": "message_delta", "delta": self._reason(), "usage": usage}
        yield ended | told.metrics(self.asked, [self.answer]) | self._known.new()
        yield {"type": "message_stop"}

    def _begun(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "text":
            block: dict[str, Any] = {"type": "text", "text": ""}
            shown = dict(block)
        else:
            block = {
                "type": "tool_use",
                "id": f"toolu_{self.running.id}_{len(self.content)}",
                "name": name,
                "input": "",
            }
            shown = {**block, "input": {}}
        self.content.append(block)
        return {**self._block("start"), "content_block": shown}

    def _more(self, kind: str, text: str) -> dict[str, Any]:
        if kind == "text":
            self.content[-1]["text"] += text
            return {**self._block("delta"), "delta": {"type": "text_delta", "text": text}}
        self.content[-1]["input"] += text
        return {**self._block("delta"), "delta": {"type": "input_json_delta", "partial_json": text}}

    def _block(self, what: str) -> dict[str, Any]:
        return {"type": f"content_block_{what}", "index": len(self.content) - 1}

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"msg_{self.running.id}", "type": "message", "role": "assistant", "model": self.service.name,
            "stop_reason": None, "stop_sequence": None,
        }  # fmt: skip

    def _reason(self) -> dict[str, str | None]:
        """Why it ended; a stop string counts where it was asked for."""
        result = self.answer.result
        if result.finish in ("length", "context"):
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if result.finish == "stop" and result.stop_string in self.asked.options.get("stop", ()):
            return {"stop_reason": "stop_sequence", "stop_sequence": result.stop_string}
        return {"stop_reason": "tool_use" if self.answer.called else "end_turn", "stop_sequence": None}

    def _usage(self) -> dict[str, int]:
        result = self.answer.result
        return {"input_tokens": result.prompt_tokens, "output_tokens": len(result.token_ids)}
