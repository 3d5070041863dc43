"""Chat completions and completions as they are answered: whole, or as events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from hierdraft.protocols import Likely
from hierdraft.server import told
from hierdraft.server.answers import Answer, Delta, Token
from hierdraft.server.failures import ApiError
from hierdraft.server.service import Running, Service

_FINISH = {"eos": "stop", "stop": "stop", "length": "length", "context": "length"}


class Speaker:
    """One request in OpenAI's chat form."""

    kind, piece = "chat.completion", "chat.completion.chunk"
    prefix, opens = "chatcmpl", True

    def __init__(self, service: Service, running: Running) -> None:
        self.service, self.running = service, running
        self.asked = running.asked
        self.head: dict[str, Any] = {
            "id": f"{self.prefix}-{running.id}", "created": int(time.time()), "model": service.name,
            "system_fingerprint": f"hd_{service.model.engine.fingerprint[:12]}",
        }  # fmt: skip

    async def whole(self) -> dict[str, Any]:
        """The finished answer."""
        answers = self.running.answers
        collected = await asyncio.gather(*(_collected(answer) for answer in answers))
        choices = [
            self.choice(number, answer, deltas)
            for number, (answer, deltas) in enumerate(zip(answers, collected, strict=True))
        ]
        found = {**self.head, "object": self.kind, "choices": choices, "usage": self.usage()}
        return found | told.metrics(self.asked, answers)

    def failed(self, error: ApiError) -> dict[str, Any]:
        """The last event of an answer that failed on the way."""
        return error.as_openai()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What each event says."""
        answers = self.running.answers
        for number in range(len(answers) if self.opens else 0):
            yield self._event(number, {"role": "assistant", "content": ""})
        async for number, delta in _merged(answers):
            for event in self._pieces(number, delta):
                yield event
        for number, answer in enumerate(answers):
            yield self._event(number, {}, finish=self.finish(answer))
        if self.asked.usage or self.asked.provenance:
            last = {**self.head, "object": self.piece, "choices": []} | told.metrics(self.asked, answers)
            yield last | ({"usage": self.usage()} if self.asked.usage else {})

    def _pieces(self, number: int, delta: Delta) -> list[dict[str, Any]]:
        """Events of what has come; what is known of its tokens stands in the first."""
        found, more = [], self._known(number, delta)
        for spoken in delta.spoken:
            if spoken.kind == "text":
                says: dict[str, Any] = {"content": spoken.text}
            else:
                says = {"tool_calls": [self._call_piece(number, spoken.kind, spoken.text, spoken.number)]}
            found.append(self._event(number, says, more))
            more = {}
        if more:
            found.append(self._event(number, {}, more))
        return found

    def _known(self, number: int, delta: Delta) -> dict[str, Any]:
        added = told.extension(self.asked, [delta], self.service.words)
        return {
            **(
                {"logprobs": self.logprobs(number, delta.tokens)}
                if self.asked.logprobs is not None and delta.tokens
                else {}
            ),
            **({"hierdraft": added} if added else {}),
        }

    def _call_piece(self, number: int, kind: str, text: str, call: int) -> dict[str, Any]:
        if kind == "call":
            function = {"name": text, "arguments": ""}
            return {"index": call, "id": self._call_id(number, call), "type": "function", "function": function}
        return {"index": call, "function": {"arguments": text}}

    def _call_id(self, number: int, call: int) -> str:
        return f"call_{self.running.id}_{number}_{call}"

    def _event(
        self, number: int, says: dict[str, Any], more: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": number, **self.says(says), "logprobs": None, "finish_reason": finish, **(more or {})}
        usage = {"usage": self.usage() if self.asked.usage_always else None} if self.asked.usage else {}
        return {**self.head, "object": self.piece, "choices": [choice], **usage}

    def says(self, delta: dict[str, Any]) -> dict[str, Any]:
        """What an event says, where it says it."""
        return {"delta": delta}

    def choice(self, number: int, answer: Answer, deltas: list[Delta]) -> dict[str, Any]:
        """One of the answers, whole."""
        text, calls = "".join(delta.text for delta in deltas), list[dict[str, Any]]()
        for spoken in (spoken for delta in deltas for spoken in delta.spoken):
            if spoken.kind == "call":
                function = {"name": spoken.text, "arguments": ""}
                calls.append({"id": self._call_id(number, spoken.number), "type": "function", "function": function})
            elif spoken.kind == "arguments":
                calls[spoken.number]["function"]["arguments"] += spoken.text
        message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text.strip() else text}
        message["refusal"] = None
        if calls:
            message["tool_calls"] = calls
        return self.chosen(number, answer, deltas, {"message": message})

    def chosen(self, number: int, answer: Answer, deltas: list[Delta], says: dict[str, Any]) -> dict[str, Any]:
        """A choice, with what is known of its tokens."""
        tokens = [token for delta in deltas for token in delta.tokens]
        logprobs = self.logprobs(number, tokens) if self.asked.logprobs is not None else None
        found = {"index": number, **says, "logprobs": logprobs, "finish_reason": self.finish(answer)}
        added = told.extension(self.asked, deltas, self.service.words)
        return found | ({"hierdraft": added} if added else {})

    def finish(self, answer: Answer) -> str:
        """Why it ended."""
        if answer.called and answer.result.finish in ("eos", "stop"):
            return "tool_calls"
        return _FINISH.get(answer.result.finish or "", "stop")

    def logprobs(self, number: int, tokens: list[Token]) -> dict[str, Any]:  # noqa: ARG002 - others need it
        """Of these tokens of an answer, without the one that ended it."""
        ends = self.service.model.engine.eos_ids
        found = [
            self._logprob(token.id, token.likely)
            for token in tokens
            if token.likely is not None and token.id not in ends
        ]
        return {"content": found, "refusal": None}

    def _logprob(self, token: int, likely: Likely) -> dict[str, Any]:
        tops = [self._one_logprob(*one) for one in likely.top]
        return {**self._one_logprob(token, likely.logprob), "top_logprobs": tops}

    def _one_logprob(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self.service.words.raw(token)
        return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(raw)}

    def usage(self) -> dict[str, Any]:
        """Tokens of the prompt and of all answers."""
        results = [answer.result for answer in self.running.answers]
        prompt, said = results[0].prompt_tokens, sum(len(result.token_ids) for result in results)
        details = told.prediction(self.asked, results)
        return {
            "prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said,
            **({"completion_tokens_details": details} if details else {}),
        }  # fmt: skip


async def _collected(answer: Answer) -> list[Delta]:
    return [delta async for delta in answer.deltas()]


async def _merged(answers: list[Answer]) -> AsyncIterator[tuple[int, Delta]]:
    """The pieces of several answers as they come, with the number of the answer each belongs to."""
    if len(answers) == 1:
        async for delta in answers[0].deltas():
            yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue(maxsize=len(answers))

    async def pump(number: int, answer: Answer) -> None:
        try:
            async for delta in answer.deltas():
                await queue.put((number, delta))
            await queue.put((number, None))
        except Exception as error:  # noqa: BLE001 - whatever ended it is raised where the pieces are read
            await queue.put((number, error))

    tasks = [asyncio.create_task(pump(number, answer)) for number, answer in enumerate(answers)]
    try:
        left = len(tasks)
        while left:
            place, came = await queue.get()
            if isinstance(came, Exception):
                raise came
            if came is None:
                left -= 1
            else:
                yield place, came
    finally:
        for task in tasks:
            task.cancel()
