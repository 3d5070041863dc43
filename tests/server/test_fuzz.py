"""Requests that nobody would make: never an answer of the kind 5xx, never silence, and the next one is answered."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings

from hierdraft.server.service import Limits
from tests.server.toy import HERMES, served, toy_model

COUNT = 20_000 if os.environ.get("PROOFS") else 400
PATHS = ("chat/completions", "completions", "responses", "messages", "messages/count_tokens")
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**64, -(2**63), 0.0, 0.5, 1e308, -1e-308, "", "a", "toy",
    "\ud83d", "\x00", "user", "system", "assistant", "tool", "auto", "none", "required", "abc" * 300, [], {}, [[]],
    [{}], ["a"], [1, 2], {"a": 1}, {"type": "text", "text": "x"}, [{"type": "text", "text": "x"}],
    {"role": "user", "content": "a"}, {"type": "json_object"}, [{"role": "user", "content": "a"}],
    [{"role": "assistant", "content": "a"}], {"type": "function", "function": {"name": "f"}},
    [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"$ref": "#"}}}}}],
    {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/$defs/x"}}}, {"include_usage": True},
    {"provenance": True, "trace": True}, {"method": "none"}, {"method": "suffix", "budget": 128},
    {"1": 100, "2": -100}, {"type": "content", "content": "abc"}, [{"name": "f", "input_schema": {}}],
    {"type": "any"}, {"type": "tool", "name": "f"},
]  # fmt: skip
FIELDS = (
    "model", "messages", "prompt", "input", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "temperature", "top_p", "top_k", "n", "seed", "stop", "stop_sequences", "presence_penalty", "frequency_penalty",
    "logit_bias", "logprobs", "top_logprobs", "stream", "stream_options", "response_format", "tools", "tool_choice",
    "parallel_tool_calls", "prediction", "hierdraft", "instructions", "system", "text", "store", "echo", "strange",
)  # fmt: skip
RIGHT: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "toy", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3},
    "completions": {"model": "toy", "prompt": "a", "max_tokens": 3},
    "responses": {"model": "toy", "input": "a", "max_output_tokens": 3},
    "messages": {"model": "toy", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3},
    "messages/count_tokens": {"model": "toy", "messages": [{"role": "user", "content": "a"}]},
}


def damaged(rng: random.Random, value: Any) -> Any:
    """A value with a part of it replaced, taken out or put in."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice([*value])
        return (
            {**value, key: damaged(rng, value[key])}
            if rng.random() < 0.8
            else {k: v for k, v in value.items() if k != key}
        )
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], damaged(rng, value[place]), *value[place + 1 :]]
    return rng.choice(VALUES)


def test_damaged_bodies_are_answered() -> None:
    rng = random.Random(7)
    answered: dict[int, int] = {}
    with served(toy_model(template=HERMES), limits=Limits(tokens=400, seconds=20.0)) as (url, service):
        with httpx.Client(base_url=url, timeout=60) as client:
            for _ in range(COUNT):
                path = rng.choice(PATHS)
                given = dict(RIGHT[path])
                for _ in range(rng.randint(0, 3)):
                    given[rng.choice(FIELDS)] = rng.choice(VALUES)
                if rng.random() < 0.4:
                    given = damaged(rng, given)
                content = json.dumps(given).encode()
                if rng.random() < 0.1:
                    place = rng.randrange(len(content))
                    content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
                response = client.post(f"/v1/{path}", content=content, headers={"Content-Type": "application/json"})
                assert response.status_code < 500, (path, content, response.text)
                if response.status_code >= 400:
                    assert response.json()["error"]["message"], (path, content)
                answered[response.status_code] = answered.get(response.status_code, 0) + 1
            assert answered[200] > COUNT // 20
            assert answered[400] > COUNT // 20
        assert service.running == {}


def test_the_description_is_kept() -> None:
    """schemathesis makes requests from our OpenAPI document, and compares the answers with it."""
    schemathesis = pytest.importorskip("schemathesis")
    with served(toy_model(template=HERMES), limits=Limits(tokens=64, seconds=20.0)) as (url, service):
        schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json").json())
        schema.config.update(base_url=url)
        checks = [
            schemathesis.checks.not_a_server_error, schemathesis.checks.status_code_conformance,
            schemathesis.checks.content_type_conformance, schemathesis.checks.response_schema_conformance,
        ]  # fmt: skip

        for operation in schema.get_all_operations():
            strategy = operation.ok().as_strategy()

            @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
            def one(case: Any) -> None:
                case.call_and_validate(checks=checks, timeout=60)

            given(case=strategy)(one)()
        assert service.running == {}
