"""OpenAI's responses, without state: what is asked, and what is answered, whole and as events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hierdraft.server import told
from hierdraft.server.answers import Answer
from hierdraft.server.chat import Function
from hierdraft.server.service import Running, Service
from hierdraft.server.wire import Asked, Count, Extension, Temperature, TopP, Wire, extended, given, named


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
    content: str | list[InputText]
    id: str | None = None
    status: str | None = None

    def as_turn(self) -> dict[str, Any]:
        """As chat templates know it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


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
        except ValueError as error:
            raise ValueError(f"they are not JSON ({error})") from error
        return given


class InputResult(Wire):
    """What a tool gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str
    id: str | None = None
    status: str | None = None


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
    input: str | Annotated[list[InputMessage | InputCall | InputResult], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count = None
    temperature: Temperature = None
    top_p: TopP = None
    stream: bool | None = None
    store: Literal[False] | None = None
    text: Text | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    include: Annotated[list[str], Field(max_length=0)] | None = None
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
                "tool_choice": self._choice(),
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
                turns.append({"role": "tool", "content": item.output, "tool_call_id": item.call_id})
            else:
                call = {
                    "id": item.call_id, "type": "function",
                    "function": {"name": item.name, "arguments": json.loads(item.arguments)},
                }  # fmt: skip
                if not turns or turns[-1]["role"] != "assistant" or "tool_calls" not in turns[-1]:
                    turns.append({"role": "assistant", "content": "", "tool_calls": []})
                turns[-1]["tool_calls"].append(call)
        return turns


class ResponseSpeaker:
    """One request in the form of responses."""

    def __init__(self, service: Service, running: Running) -> None:
        self.service, self.running, self.asked = service, running, running.asked
        self.answer: Answer = running.answers[0]
        self.output: list[dict[str, Any]] = []
        self._created = int(time.time())
        self._number = 0

    async def whole(self) -> dict[str, Any]:
        """The finished answer."""
        async for _ in self._events():
            pass
        return self._response(self._status())

    async def events(self) -> AsyncIterator[str]:
        """The data of each event; the type is in it."""
        async for kind, says in self._events():
            yield json.dumps({"type": kind, "sequence_number": self._number, **says})
            self._number += 1

    async def _events(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        yield "response.created", {"response": self._response("in_progress")}
        yield "response.in_progress", {"response": self._response("in_progress")}
        async for delta in self.answer.deltas():
            added = told.extension(self.asked, [delta], self.service.words)
            more = {"hierdraft": added} if added else {}
            for spoken in delta.spoken:
                kind = "message" if spoken.kind == "text" else "function_call"
                begins = spoken.kind == "call" or not self.output or self.output[-1]["type"] != kind
                if begins and not (spoken.kind == "text" and not spoken.text.strip() and self.output):
                    for event in [*self._ended(), *self._begun(kind, spoken.text)]:
                        yield event
                if spoken.kind != "call" and self.output and self.output[-1]["type"] == kind:
                    kind, says = self._more(spoken.text)
                    yield kind, says | more
                    more = {}
        for event in self._ended():
            yield event
        status = self._status()
        yield f"response.{status}", {"response": self._response(status)}

    def _begun(self, kind: str, name: str) -> list[tuple[str, dict[str, Any]]]:
        """An item of the output begins."""
        place = len(self.output)
        mark = f"{self.running.id}_{place}"
        if kind == "message":
            item: dict[str, Any] = {"id": f"msg_{mark}", "type": kind, "status": "in_progress", "role": "assistant",
                                    "content": []}  # fmt: skip
        else:
            item = {"id": f"fc_{mark}", "type": kind, "status": "in_progress", "call_id": f"call_{mark}", "name": name,
                    "arguments": ""}  # fmt: skip
        added = ("response.output_item.added", {"output_index": place, "item": dict(item)})
        self.output.append(item)
        if kind != "message":
            return [added]
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item["content"] = [part]
        return [added, ("response.content_part.added", {**self._where(), "content_index": 0, "part": dict(part)})]

    def _more(self, text: str) -> tuple[str, dict[str, Any]]:
        """An item goes on."""
        item = self.output[-1]
        if item["type"] == "message":
            item["content"][0]["text"] += text
            return "response.output_text.delta", {**self._where(), "content_index": 0, "delta": text, "logprobs": []}
        item["arguments"] += text
        return "response.function_call_arguments.delta", {**self._where(), "delta": text}

    def _ended(self) -> list[tuple[str, dict[str, Any]]]:
        """The last item, if there is one, is complete."""
        if not self.output:
            return []
        item, where = self.output[-1], self._where()
        item["status"] = "completed"
        done = ("response.output_item.done", {"output_index": where["output_index"], "item": item})
        if item["type"] != "message":
            whole = {**where, "name": item["name"], "arguments": item["arguments"]}
            return [("response.function_call_arguments.done", whole), done]
        part = item["content"][0]
        return [
            ("response.output_text.done", {**where, "content_index": 0, "text": part["text"], "logprobs": []}),
            ("response.content_part.done", {**where, "content_index": 0, "part": part}),
            done,
        ]

    def _where(self) -> dict[str, Any]:
        return {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}

    def _status(self) -> str:
        return "incomplete" if self.answer.result.finish in ("length", "context") else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        result, options = self.answer.result, self.asked.options
        said = len(result.token_ids)
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = {
            "input_tokens": result.prompt_tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": result.prompt_tokens + said,
        }  # fmt: skip
        tools = [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters,
             "strict": True}
            for tool in self.asked.tools
        ]  # fmt: skip
        return {
            "id": f"resp_{self.running.id}", "object": "response", "created_at": self._created, "status": status,
            "model": self.service.name, "output": self.output, "error": None, "incomplete_details": cut,
            "max_output_tokens": options.get("max_new_tokens"), "metadata": {}, "previous_response_id": None,
            "parallel_tool_calls": self.asked.several, "temperature": options.get("temperature", 0.0),
            "top_p": options.get("top_p", 1.0), "tools": tools, "truncation": "disabled", "store": False,
            **self.asked.shown, "usage": None if status == "in_progress" else usage,
            **(told.metrics(self.asked, [self.answer]) if status != "in_progress" else {}),
        }  # fmt: skip
