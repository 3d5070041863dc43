"""OpenAI's responses as they are answered: whole, or as events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from hierdraft.server import told
from hierdraft.server.answers import Answer
from hierdraft.server.failures import ApiError
from hierdraft.server.service import Running, Service


class ResponseSpeaker:
    """One request in the form of responses."""

    def __init__(self, service: Service, running: Running) -> None:
        self.service, self.running, self.asked = service, running, running.asked
        self.answer: Answer = running.answers[0]
        self.output: list[dict[str, Any]] = []
        self._created = int(time.time())
        self._number = 0
        self._known = told.Known(self.asked, service.words)

    async def whole(self) -> dict[str, Any]:
        """The finished answer."""
        async for _ in self._events():
            pass
        return self._response(self._status()) | self._known.all()

    def failed(self, error: ApiError) -> dict[str, Any]:
        """The last event of an answer that failed on the way."""
        response = {**self._response("failed"), "error": {"code": "server_error", "message": error.message}}
        return {"type": "response.failed", "sequence_number": self._number, "response": response}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What each event says; its type is in it."""
        async for kind, says in self._events():
            yield {"type": kind, "sequence_number": self._number, **says}
            self._number += 1

    async def _events(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        yield "response.created", {"response": self._response("in_progress")}
        yield "response.in_progress", {"response": self._response("in_progress")}
        async for delta in self.answer.deltas():
            self._known.take(delta)
            for spoken in delta.spoken:
                kind = "message" if spoken.kind == "text" else "function_call"
                begins = spoken.kind == "call" or not self.output or self.output[-1]["type"] != kind
                if begins and not (spoken.kind == "text" and not spoken.text.strip() and self.output):
                    for event in [*self._ended("completed"), *self._begun(kind, spoken.text)]:
                        yield event
                if spoken.kind != "call" and self.output and self.output[-1]["type"] == kind:
                    kind, says = self._more(spoken.text)
                    yield kind, says | self._known.new()
        status = self._status()
        for event in self._ended(status):
            yield event
        yield f"response.{status}", {"response": self._response(status), **self._known.new()}

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

    def _ended(self, status: str) -> list[tuple[str, dict[str, Any]]]:
        """There is no more of the last item, if there is one."""
        if not self.output:
            return []
        item, where = self.output[-1], self._where()
        item["status"] = status
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
        cut = self.answer.result.finish in ("length", "context") or self.answer.within
        return "incomplete" if cut else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        result, options = self.answer.result, self.asked.options
        said = len(result.token_ids)
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = {
            "input_tokens": result.prompt_tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": result.prompt_tokens + said,
        }  # fmt: skip
        defaults = self.service.defaults
        return {
            "id": f"resp_{self.running.id}", "object": "response", "created_at": self._created, "status": status,
            "model": self.service.name, "output": self.output, "error": None, "incomplete_details": cut,
            "max_output_tokens": options.get("max_new_tokens"), "previous_response_id": None,
            "temperature": options.get("temperature", defaults.get("temperature")), "top_p": options.get("top_p"),
            "truncation": "disabled", "store": False,
            **self.asked.shown, "usage": None if status == "in_progress" else usage,
            **(told.metrics(self.asked, [self.answer]) if status != "in_progress" else {}),
        }  # fmt: skip
