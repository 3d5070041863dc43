"""A load on a server that speaks OpenAI's chat completions: what its clients wait for."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierdraft.errors import ServerError

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, and how fast.

    prompts      one after another, from the start again where more are asked
    requests     how many in all
    concurrency  most in flight at a time; a request begins when another ends
    rate         requests a second, at random times (Poisson), or None: as fast as `concurrency` lets them
    body         fields of every request besides its messages: model, max_tokens, temperature, ...
    warm         requests before those that count
    """

    prompts: Sequence[str]
    requests: int
    concurrency: int
    rate: float | None = None
    body: dict[str, Any] = field(default_factory=dict)
    warm: int = 2
    seed: int = 0


@dataclass(slots=True)
class Answered:
    """One request: when it began and something came, how many tokens, and why it failed, if it did.

    times   seconds of the clock at which pieces came
    """

    began: float
    ended: float = 0.0
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    steps: int | None = None
    failed: str | None = None


async def measure(url: str, key: str | None, plan: Plan, report: Callable[[int, int], None]) -> dict[str, Any]:
    """Ask all, and give percentiles in milliseconds and tokens a second. Raises ServerError where nothing answers."""
    import httpx2 as httpx

    base = f"{url.rstrip('/').removesuffix('/v1')}/v1"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=plan.concurrency)
    async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(600.0), limits=limits) as client:
        for place in range(plan.warm):
            first = await _ask(client, base, plan, place)
            if first.failed is not None:
                raise ServerError(first.failed)
        began = time.perf_counter()
        answers = await _all(client, base, plan, report)
        seconds = time.perf_counter() - began
    return summary(answers, seconds) | {"concurrency": plan.concurrency, "rate": plan.rate}


async def _all(client: Any, base: str, plan: Plan, report: Callable[[int, int], None]) -> list[Answered]:
    free, found = asyncio.Semaphore(plan.concurrency), list[Answered]()

    async def one(place: int) -> None:
        async with free:
            found.append(await _ask(client, base, plan, place))
            report(len(found), plan.requests)

    async with asyncio.TaskGroup() as group:
        async for place in _arrivals(plan):
            group.create_task(one(place))
    return found


async def _arrivals(plan: Plan) -> AsyncIterator[int]:
    """Places of prompts, when they are due."""
    chance = random.Random(plan.seed)
    due = time.perf_counter()
    for place in range(plan.requests):
        yield place
        if plan.rate is not None:
            due += chance.expovariate(plan.rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def _ask(client: Any, base: str, plan: Plan, place: int) -> Answered:
    import httpx2 as httpx

    messages = [{"role": "user", "content": plan.prompts[place % len(plan.prompts)]}]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **plan.body}
    answer = Answered(time.perf_counter())
    try:
        async with client.stream("POST", f"{base}/chat/completions", json=body) as response:
            if response.is_error:
                said = (await response.aread()).decode("utf-8", "replace")
                answer.failed = f"The server answered with {response.status_code}: {said[:300]}"
            else:
                await _read(response, answer)
    except httpx.HTTPError as error:
        answer.failed = f"{base} cannot be reached ({error or type(error).__name__})."
    answer.ended = time.perf_counter()
    return answer


async def _read(response: Any, answer: Answered) -> None:
    whole = False
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        if line.endswith("[DONE]"):
            whole = True
            break
        event = json.loads(line[5:])
        if "error" in event:
            answer.failed = str(event["error"].get("message", event["error"]))
            return
        if any((choice.get("delta") or {}).get("content") for choice in event.get("choices", ())):
            answer.times.append(time.perf_counter())
        if event.get("usage"):
            answer.tokens = event["usage"]["completion_tokens"]
            answer.prompt_tokens = event["usage"]["prompt_tokens"]
        for told in (event.get("metrics") or {}).get("speculative_decoding", ()):
            answer.steps = told["num_drafts"]
    if not whole:
        answer.failed = "The server broke off the answer."


def summary(answers: Sequence[Answered], seconds: float) -> dict[str, Any]:
    """Of requests that took `seconds` together: counts, tokens a second, and percentiles in milliseconds."""
    good = [answer for answer in answers if answer.failed is None]
    tokens = sum(answer.tokens for answer in good)
    steps = sum(answer.steps or 0 for answer in good)
    known = steps and all(answer.steps for answer in good)
    between = [
        (answer.times[-1] - answer.times[0]) / (answer.tokens - 1)
        for answer in good if answer.tokens > 1 and len(answer.times) > 1
    ]  # fmt: skip
    gaps = [after - before for answer in good for before, after in zip(answer.times, answer.times[1:], strict=False)]
    return {
        "requests": len(answers), "failed": len(answers) - len(good),
        "failures": sorted({answer.failed for answer in answers if answer.failed is not None})[:5],
        "seconds": round(seconds, 3), "tokens": tokens, "prompt_tokens": sum(one.prompt_tokens for one in good),
        "tokens_per_second": round(tokens / seconds, 2) if seconds else 0.0,
        "accepted_length": round((tokens - len(good)) / steps, 3) if known else None,
        "time_to_first_token_ms": _percentiles([one.times[0] - one.began for one in good if one.times]),
        "time_per_token_ms": _percentiles(between), "time_between_events_ms": _percentiles(gaps),
        "whole_answer_ms": _percentiles([answer.ended - answer.began for answer in good]),
    }  # fmt: skip


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """In milliseconds; None of nothing."""
    if not seconds:
        return None
    values = np.percentile(np.asarray(seconds) * 1e3, PERCENTILES)
    return {f"p{share}": round(float(value), 3) for share, value in zip(PERCENTILES, values, strict=True)}
