"""What the server does with a request, whatever its shape: admit, start, watch, account."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from hierdraft.language_model import LanguageModel
from hierdraft.server.answers import Answer, Words
from hierdraft.server.failures import ApiError
from hierdraft.server.keys import Keys, Tenant
from hierdraft.server.metrics import Metrics
from hierdraft.server.wire import Asked
from hierdraft.text.prompts import encode_messages
from hierdraft.text.tools import CallReader, Convention, by_hand, convention_of, grammar, knows_tools

UNREAD = 64
"""Steps that a client may leave unread before its answer stands still."""

USUAL = 256
"""Tokens that an answer is expected to have where nobody says."""

REFERENCES = 1 << 16
"""Most characters of what an answer may repeat: looking through it holds up everybody for a moment."""

_AWAKE = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request, and of reading and writing.

    body     bytes
    answers  `n`
    tokens   of all its answers together
    seconds  until it is cut
    unread   seconds that a client may leave what was sent to it unread
    slow     seconds for a request to arrive whole
    """

    body: int = 1 << 20
    answers: int = 8
    tokens: int = 1 << 16
    seconds: float = 600.0
    unread: float = 30.0
    slow: float = 30.0


@dataclass(slots=True)
class Running:
    """One request that is being answered."""

    id: str
    tenant: Tenant
    asked: Asked
    answers: list[Answer] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    why: ApiError | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether the model has ended all of its answers, read or not."""
        return all(answer.result.finish is not None for answer in self.answers)

    def shown(self) -> dict[str, Any]:
        """What may be seen of it: no text."""
        results = [answer.result for answer in self.answers]
        return {
            "id": self.id, "answers": self.asked.count, "streamed": self.asked.streamed,
            "seconds": round(time.perf_counter() - self.began, 3),
            "prompt_tokens": results[0].prompt_tokens if results else 0,
            "tokens": sum(len(result.token_ids) for result in results),
        }  # fmt: skip

    def cut(self, why: ApiError) -> None:
        """End what is not over, and what is only about to begin."""
        self.why = self.why or why
        self.stopped.set()
        for answer in self.answers:
            answer.cut(self.why)


class Service:
    """One model and everybody who asks it."""

    def __init__(
        self, model: LanguageModel, name: str, keys: Keys, limits: Limits | None = None,
        defaults: dict[str, Any] | None = None, dropped: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """
        name      what clients call the model
        defaults  options of requests that do not say otherwise
        dropped   fields of requests that are left out before they are read
        """
        self.model, self.name, self.keys = model, name, keys
        self.limits = limits or Limits()
        self.defaults, self.dropped = defaults or {}, dropped
        self.created = int(time.time())
        self.words = Words.of(model.tokenizer)
        self.metrics = Metrics(model, name)
        self.running: dict[str, Running] = {}
        self.draining = False
        self._compiling = asyncio.Semaphore(1)  # of grammars one at a time: they must not hold up everybody
        known = getattr(model.tokenizer, "chat_template", None)
        several = known if isinstance(known, Mapping) else {}
        self._named = "tool_use" if "tool_use" in several else None
        self._template = known if isinstance(known, str) else several.get(self._named or "default")

    def check_model(self, name: str) -> None:
        """Raises ApiError (404) for another model than this one."""
        if name != self.name:
            said = f"There is no model {name!r} here: this server has {self.name!r}."
            raise ApiError(404, said, param="model", code="model_not_found")

    @asynccontextmanager
    async def answering(self, asked: Asked, tenant: Tenant) -> AsyncIterator[Running]:
        """The request's answers run until the block ends; what is not over then is cancelled.

        Raises ApiError and what `LanguageModel.submit` raises.
        """
        self._check(asked)
        expected = asked.count * (asked.options.get("max_new_tokens") or self.defaults.get("max_new_tokens") or USUAL)
        tenant.admit(asked.count, expected)
        running = Running(secrets.token_hex(12), tenant, asked)
        late = ApiError(504, f"The answer took longer than {self.limits.seconds:g} s.", "server_error",
                        code="deadline_exceeded", headers={"x-should-retry": "false"})  # fmt: skip
        clock = asyncio.get_running_loop().call_later(self.limits.seconds, running.cut, late)
        self.running[running.id] = running
        try:
            await self._start(running)
            yield running
        finally:
            clock.cancel()
            for answer in running.answers:
                answer.close()
            del self.running[running.id]
            tenant.ended(asked.count, sum(len(answer.result.token_ids) for answer in running.answers), expected)
            self.metrics.ended(running)

    def _check(self, asked: Asked) -> None:
        if self.draining:
            raise ApiError(503, "The server is shutting down.", "server_error", code="shutting_down",
                           headers={"Retry-After": "5"})  # fmt: skip
        if asked.count > self.limits.answers:
            raise ApiError(400, f"n may be at most {self.limits.answers}, not {asked.count}.", param="n")
        if sum(map(len, asked.options.get("reference", ()))) > REFERENCES:
            raise ApiError(400, f"prediction and hierdraft.reference may have {REFERENCES} characters together.")
        tokens = asked.options.get("max_new_tokens")
        if tokens is not None and tokens * asked.count > self.limits.tokens:
            said = f"n times max_tokens may be at most {self.limits.tokens}, not {tokens * asked.count}."
            raise ApiError(400, said)

    async def _start(self, running: Running) -> None:
        """Begin all answers. Whatever ends this early leaves none behind that was begun."""
        asked = running.asked
        constrained = bool(asked.tools) or "schema" in asked.options
        async with self._compiling if constrained else nullcontext():
            for number in range(asked.count):
                starting = asyncio.ensure_future(asyncio.to_thread(self._answer, asked, running.tenant, number))
                stopped = asyncio.ensure_future(running.stopped.wait())
                try:
                    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stopped.cancel()
                    if not starting.done():
                        starting.add_done_callback(_close_late)
                if running.why is not None:
                    raise running.why
                running.answers.append(starting.result())

    def _answer(self, asked: Asked, tenant: Tenant, number: int) -> Answer:
        """Begin one of the answers. In a thread of its own: texts become ids here, and schemas grammars."""
        options = {**self.defaults, **asked.options}
        if number and options.get("seed") is not None:
            options["seed"] = (options["seed"] + number) % (1 << 63)
        convention = convention_of(self._template)
        prompt = self.prompt(asked, convention)
        if asked.predicted is not None and not number:
            asked.predicted_tokens = self.words.count(asked.predicted)
        if asked.tools:
            lark = grammar(asked.tools, convention, free=not asked.forced, several=asked.several)
            options["constraint"] = self.model.grammars.lark(lark)
        reader = CallReader(convention, [tool.name for tool in asked.tools]) if asked.tools else None
        stream = self.model.submit(
            prompt, chat=asked.chat, namespace=tenant.namespace, logprobs=asked.logprobs, trace=asked.trace,
            unread=UNREAD, **options,
        )  # fmt: skip
        return Answer(stream, reader, tells_tokens=asked.provenance or asked.logprobs is not None)

    def prompt(self, asked: Asked, convention: Convention | None = None) -> Any:
        """What the model is given: ids, or what becomes them. Raises UsageError."""
        if not asked.chat or isinstance(asked.prompt, str):
            return asked.prompt
        if self._template is not None and knows_tools(self._template):
            tools = [tool.as_template() for tool in asked.tools]
            named = self._named if asked.tools else None
            return encode_messages(self.model.tokenizer, asked.prompt, tools=tools, template=named)
        return by_hand(asked.prompt, asked.tools, convention or convention_of(self._template))

    def count(self, asked: Asked) -> int:
        """How many tokens a prompt has. Raises UsageError."""
        return len(self.model.encode(self.prompt(asked), chat=asked.chat))

    async def drain(self, seconds: float) -> None:
        """Admit nobody any more, wait for what runs, and cut what is not over in time."""
        self.draining = True
        until = time.perf_counter() + seconds
        while self.running and time.perf_counter() < until:
            await asyncio.sleep(_AWAKE)
        for running in list(self.running.values()):
            running.cut(ApiError(503, "The server is shutting down.", "server_error", code="shutting_down"))


def _close_late(starting: asyncio.Future[Answer]) -> None:
    """An answer whose client left while it was begun."""
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()


async def unless_gone(work: Awaitable[Any], gone: Callable[[], Awaitable[None]]) -> Any:
    """What `work` gives, unless the client leaves before: then it is cancelled. Raises ClientGoneError."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class ClientGoneError(Exception):
    """Nobody is there to be answered."""
