"""OpenAI's responses, without state: what is asked."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from hierdraft.server.chat import Function
from hierdraft.server.wire import MANY, Asked, Count, Extension, Many, Temperature, TopP, Wire, extended, given, named


class InputText(Wire):
    """Text of a message; an earlier answer's is `output_text`."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Wire):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Many[InputText]
    id: str | None = None
    status: str | None = None

    def as_turn(self) -> dict[str, Any]:
        """As chat templates know it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": _text(self.content)}


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class InputCall(Wire):
    """A call of a tool in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None

    @field_validator("arguments")
    @classmethod
    def _are_json(cls, given: str) -> str:
        try:
            json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"they are not JSON ({error})") from error
        return given


class InputResult(Wire):
    """What a tool gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Many[InputText]
    id: str | None = None
    status: str | None = None


def _kind(given: Any) -> str:
    """Which of the items it is; one that does not say is a message."""
    return str(given.get("type") or "message") if isinstance(given, dict) else str(getattr(given, "type", ""))


Item = Annotated[
    Annotated[InputMessage, Tag("message")] | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputResult, Tag("function_call_output")],
    Discriminator(_kind),
]  # fmt: skip


class FunctionTool(Function):
    """A tool, in one object."""

    type: Literal["function"]


class Format(Wire):
    """`text.format`."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> Format:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("schema goes with the type json_schema, and is needed there")
        return self

    @property
    def schema_of(self) -> dict[str, Any] | None:
        """The schema that the answer must follow."""
        return None if self.type == "text" else self.json_schema or {"type": "object"}


class Text(Wire):
    """`text`."""

    format: Format | None = None


class Chosen(Wire):
    """`tool_choice` of one tool."""

    type: Literal["function"]
    name: str


_PLAIN = {"format": {"type": "text"}}


class ResponsesRequest(Wire):
    """A body of /v1/responses."""

    model: str
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MANY, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: Count = None
    temperature: Temperature = None
    top_p: TopP = None
    stream: bool | None = None
    store: Literal[False] | None = None
    text: Text | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    metadata: dict[str, str] | None = None
    background: Literal[False] | None = None
    hierdraft: Extension | None = None

    def as_asked(self) -> Asked:
        """As the model is asked. Raises ValueError and UsageError."""
        tools = [tool.as_tool() for tool in self.tools or [] if self.tool_choice != "none"]
        if isinstance(self.tool_choice, Chosen):
            tools = named(tools, self.tool_choice.name)
        schema = self.text.format.schema_of if self.text is not None and self.text.format is not None else None
        if schema is not None and tools:
            raise ValueError("text.format and tools cannot be had together here")
        turns = [{"role": "system", "content": self.instructions}] if self.instructions else []
        options = given(
            max_new_tokens=self.max_output_tokens, temperature=self.temperature, top_p=self.top_p, schema=schema
        )
        asked = Asked(
            [*turns, *self._turns()], options, streamed=bool(self.stream), tools=tools,
            forced=isinstance(self.tool_choice, Chosen) or self.tool_choice == "required",
            several=self.parallel_tool_calls is not False and not isinstance(self.tool_choice, Chosen),
            shown={
                "instructions": self.instructions,
                "text": (self.text or Text()).model_dump(by_alias=True, exclude_none=True) or _PLAIN,
                "tool_choice": self._choice(), "metadata": self.metadata or {},
                "tools": [tool.model_dump() for tool in self.tools or []],
                "parallel_tool_calls": self.parallel_tool_calls is not False,
            },
        )  # fmt: skip
        return extended(asked, self.hierdraft)

    def _choice(self) -> Any:
        return self.tool_choice.model_dump() if isinstance(self.tool_choice, Chosen) else self.tool_choice or "auto"

    def _turns(self) -> list[dict[str, Any]]:
        """Messages; calls that follow one another are one turn of the assistant."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        turns: list[dict[str, Any]] = []
        for item in self.input:
            if isinstance(item, InputMessage):
                turns.append(item.as_turn())
            elif isinstance(item, InputResult):
                turns.append({"role": "tool", "content": _text(item.output), "tool_call_id": item.call_id})
            else:
                call = {
                    "id": item.call_id, "type": "function",
                    "function": {"name": item.name, "arguments": json.loads(item.arguments)},
                }  # fmt: skip
                if not turns or turns[-1]["role"] != "assistant":
                    turns.append({"role": "assistant", "content": ""})
                turns[-1].setdefault("tool_calls", []).append(call)
        return turns
