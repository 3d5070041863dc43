"""The small real model behind the server: the ids of `hierdraft.load`, and log probabilities of transformers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx2 as httpx
import pytest

import hierdraft
from tests.server.toy import events, served

pytestmark = pytest.mark.model
COUNT = 200 if os.environ.get("PROOFS") else 24

ASKED = [
    "What is the capital of France?", "Write a haiku about the sea.", "Say hello three times.",
    "List the first ten prime numbers.", "Translate to German: the house is red.", "Why is the sky blue?",
]  # fmt: skip


def test_requests_beside_each_other_say_what_they_say_alone() -> None:
    with hierdraft.load("smollm2-135m", dtype="float32", learn=False) as model, served(model) as (url, _):
        given: list[dict[str, Any]] = [
            {"max_tokens": 24} | ({"temperature": 0.8, "seed": number} if number % 3 == 0 else {})
            for number in range(COUNT)
        ]  # fmt: skip
        alone = [
            model.generate(
                [{"role": "user", "content": ASKED[number % len(ASKED)]}], max_new_tokens=24,
                **{name: value for name, value in options.items() if name != "max_tokens"},
            ).token_ids
            for number, options in enumerate(given)
        ]  # fmt: skip

        async def one(client: httpx.AsyncClient, number: int) -> list[int]:
            messages = [{"role": "user", "content": ASKED[number % len(ASKED)]}]
            body = {"model": "toy", "messages": messages, "hierdraft": {"provenance": True}, **given[number]}
            response = await client.post("/v1/chat/completions", json={**body, "stream": number % 2 == 0})
            if number % 2 == 0:
                found = events(response.text.splitlines())[:-1]
                known = [choice["hierdraft"] for event in found for choice in event["choices"] if "hierdraft" in choice]
            else:
                known = [response.json()["choices"][0]["hierdraft"]]
            return [token for part in known for token, _ in part["tokens"]]

        async def every() -> list[list[int]]:
            async with httpx.AsyncClient(base_url=url, timeout=300) as client:
                return await asyncio.gather(*(one(client, number) for number in range(len(given))))

        assert asyncio.run(every()) == alone


def test_log_probabilities_are_transformers_own() -> None:
    import torch

    with hierdraft.load("smollm2-135m", engine="hf", dtype="float32", learn=False) as model, served(model) as (url, _):
        messages = [{"role": "user", "content": ASKED[0]}]
        body = {"model": "toy", "messages": messages, "max_tokens": 12, "logprobs": True, "top_logprobs": 5}
        told = httpx.post(
            f"{url}/v1/chat/completions", json={**body, "hierdraft": {"provenance": True}}, timeout=300
        ).json()
        ids = [token for token, _ in told["choices"][0]["hierdraft"]["tokens"]]
        prompt = model.encode(messages)
        own: Any = model.engine
        with torch.no_grad():
            logits = own.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        laws = torch.log_softmax(logits.double(), -1)
        content = told["choices"][0]["logprobs"]["content"]
        for place, one in enumerate(content):
            assert one["logprob"] == pytest.approx(float(laws[place, ids[place]]), abs=2e-3)
            best = laws[place].topk(5)
            assert [top["logprob"] for top in one["top_logprobs"]] == pytest.approx(best.values.tolist(), abs=2e-3)
        text = b"".join(bytes(one["bytes"]) for one in content).decode()
        assert text == told["choices"][0]["message"]["content"]
