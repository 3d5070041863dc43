"""OpenAI's chat completions: what is asked, and what is answered, whole and in pieces."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hierdraft.server.wire import (
    MANY,
    Asked,
    Count,
    Many,
    Sampled,
    Wire,
    extended,
    given,
    named,
)  # fmt: skip
from hierdraft.text.tools import Tool


class TextPart(Wire):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Function(Wire):
    """What a tool is called, and what it takes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None

    def as_tool(self) -> Tool:
        """As the model is told."""
        tool = Tool(self.name, self.description, self.parameters)
        tool.check()
        return tool


class FunctionTool(Wire):
    """A tool: functions are the only ones."""

    type: Literal["function"]
    function: Function


class Called(Wire):
    """A function as an earlier answer called it; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCall(Wire):
    """A call in an earlier answer."""

    id: str
    type: Literal["function"] = "function"
    function: Called


class Message(Wire):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Many[TextPart] | None = None
    name: str | None = None
    tool_calls: Many[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: None = None

    @model_validator(mode="after")
    def _has_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs a content or, of the assistant, tool_calls")
        return self

    def as_turn(self) -> dict[str, Any]:
        """As chat templates know it."""
        parts = self.content if isinstance(self.content, list) else []
        text = "".join(part.text for part in parts) if parts else self.content or ""
        turn: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_calls:
            turn["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.function.name,
                                                                 "arguments": _object(call.function.arguments)}}
                for call in self.tool_calls
            ]  # fmt: skip
        return turn | given(name=self.name, tool_call_id=self.tool_call_id)


def _object(text: str) -> Any:
    """What the text says, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class JsonSchema(Wire):
    """A schema with a name."""

    name: str
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _fits(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema, and is needed there")
        return self

    @property
    def schema_of(self) -> dict[str, Any] | None:
        """The schema that the answer must follow."""
        if self.type == "text":
            return None
        return {"type": "object"} if self.json_schema is None else self.json_schema.json_schema or {}


class Prediction(Wire):
    """`prediction`: what the answer is expected to say."""

    type: Literal["content"]
    content: str | Many[TextPart]

    @property
    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class NamedFunction(Wire):
    """The name of a function."""

    name: str


class NamedChoice(Wire):
    """`tool_choice` of one tool."""

    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Sampled):
    """A body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MANY, fail_fast=True)]
    max_tokens: Count = None
    max_completion_tokens: Count = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None
    store: Literal[False] | None = None

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice goes with tools")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("give max_completion_tokens or max_tokens, not both")
        return self

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError and UsageError."""
        schema = self.response_format.schema_of if self.response_format is not None else None
        tools = [tool.function.as_tool() for tool in self.tools or [] if self.tool_choice != "none"]
        if isinstance(self.tool_choice, NamedChoice):
            tools = named(tools, self.tool_choice.function.name)
        forced = isinstance(self.tool_choice, NamedChoice) or self.tool_choice == "required"
        if schema is not None and tools:
            raise ValueError("response_format and tools cannot be had together here")
        options = self.sampling() | given(max_new_tokens=self.max_completion_tokens or self.max_tokens, schema=schema)
        asked = Asked(
            [message.as_turn() for message in self.messages], options,
            count=self.n or 1, streamed=bool(self.stream), tools=tools, forced=forced,
            several=self.parallel_tool_calls is not False and not isinstance(self.tool_choice, NamedChoice),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.told(),
        )  # fmt: skip
        if self.prediction is not None:
            asked.predicted = self.prediction.text
            asked.options["reference"] = [asked.predicted] if asked.predicted else []
        return extended(asked, self.hierdraft)
