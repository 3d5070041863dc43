"""Clients that people have: their own packages, against a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hierdraft.server.service import Service
from tests.server.toy import HERMES, served, toy_model

TOOL = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"a": {"enum": [1, 22]}}, "required": ["a"], "additionalProperties": False,
}}}  # fmt: skip
ASKED: list[Any] = [{"role": "user", "content": "abc"}]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Service]]:
    with served(toy_model(template=HERMES)) as found:
        yield found


def alone(service: Service, **options: Any) -> Any:
    return service.model.generate(ASKED, **{"max_new_tokens": 24, **options})


@pytest.fixture(scope="module")
def openai(server: tuple[str, Service]) -> Iterator[Any]:
    client = pytest.importorskip("openai").OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0)
    yield client
    client.close()


def test_openai_chat(server: tuple[str, Service], openai: Any) -> None:
    text = alone(server[1]).text
    told = openai.chat.completions.create(model="toy", messages=ASKED, max_tokens=24)
    assert told.choices[0].message.content == text
    stream = openai.chat.completions.create(
        model="toy", messages=ASKED, max_tokens=24, stream=True, stream_options={"include_usage": True}
    )
    found = list(stream)
    assert "".join(choice.delta.content or "" for event in found for choice in event.choices) == text
    assert found[-1].usage.completion_tokens == len(alone(server[1]).token_ids)
    assert [model.id for model in openai.models.list()] == ["toy"]


def test_openai_errors(openai: Any) -> None:
    import openai as package

    with pytest.raises(package.NotFoundError, match="other"):
        openai.chat.completions.create(model="other", messages=ASKED)
    with pytest.raises(package.BadRequestError, match="Not supported here: user"):
        openai.chat.completions.create(model="toy", messages=ASKED, user="me")


def test_openai_tools_and_parsed_answers(openai: Any) -> None:
    from pydantic import BaseModel

    told = openai.chat.completions.create(
        model="toy", messages=ASKED, max_tokens=300, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    call = told.choices[0].message.tool_calls[0].function
    assert call.name == "add"
    assert json.loads(call.arguments)["a"] in (1, 22)
    with openai.chat.completions.stream(
        model="toy", messages=ASKED, max_tokens=300, tools=[{**TOOL, "function": {**TOOL["function"], "strict": True}}],  # type: ignore[dict-item]
        tool_choice="required", parallel_tool_calls=False,
    ) as stream:  # fmt: skip
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.arguments

    class Size(BaseModel):
        wide: bool

    parsed = openai.chat.completions.parse(
        model="toy", messages=ASKED, max_tokens=600, response_format=Size, temperature=1.0, seed=2
    )
    assert isinstance(parsed.choices[0].message.parsed, Size)


def test_openai_responses(server: tuple[str, Service], openai: Any) -> None:
    text = alone(server[1]).text
    told = openai.responses.create(model="toy", input="abc", max_output_tokens=24, store=False)
    assert told.output_text == text
    assert told.usage.output_tokens_details.reasoning_tokens == 0
    with openai.responses.stream(model="toy", input="abc", max_output_tokens=24) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == text
    tool = {"type": "function", **TOOL["function"], "strict": True}  # type: ignore[dict-item]
    told = openai.responses.create(
        model="toy", input="abc", max_output_tokens=300, tools=[tool], tool_choice="required",
        parallel_tool_calls=False,
    )  # fmt: skip
    assert told.output[-1].type == "function_call"
    assert json.loads(told.output[-1].arguments)["a"] in (1, 22)


def test_openai_completions_and_log_probabilities(openai: Any) -> None:
    told = openai.completions.create(model="toy", prompt="abc", max_tokens=5, logprobs=1)
    assert len(told.choices[0].logprobs.tokens) == told.usage.completion_tokens
    chat = openai.chat.completions.create(model="toy", messages=ASKED, max_tokens=5, logprobs=True, top_logprobs=2)
    assert all(len(token.top_logprobs) == 2 for token in chat.choices[0].logprobs.content)


def test_openai_prediction_and_extension(server: tuple[str, Service], openai: Any) -> None:
    text = alone(server[1], max_new_tokens=60).text
    told = openai.chat.completions.create(
        model="toy", messages=ASKED, max_tokens=60, prediction={"type": "content", "content": text},
        extra_body={"hierdraft": {"provenance": True}},
    )  # fmt: skip
    details = told.usage.completion_tokens_details
    assert details.accepted_prediction_tokens + details.rejected_prediction_tokens > 0
    assert told.choices[0].hierdraft["tokens"]


def test_anthropic(server: tuple[str, Service]) -> None:
    client = pytest.importorskip("anthropic").Anthropic(base_url=server[0], api_key="none", max_retries=0)
    text = alone(server[1]).text
    told = client.messages.create(model="toy", max_tokens=24, messages=ASKED)
    assert told.content[0].text == text
    with client.messages.stream(model="toy", max_tokens=24, messages=ASKED) as stream:
        assert "".join(stream.text_stream) == text
        assert stream.get_final_message().usage.output_tokens == told.usage.output_tokens
    tool = {"name": "add", "input_schema": TOOL["function"]["parameters"]}  # type: ignore[index]
    told = client.messages.create(
        model="toy",
        max_tokens=300,
        messages=ASKED,
        tools=[tool],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert told.stop_reason == "tool_use"
    assert told.content[-1].input["a"] in (1, 22)
    assert client.messages.count_tokens(model="toy", messages=ASKED).input_tokens == alone(server[1]).prompt_tokens
    client.close()


def test_litellm(server: tuple[str, Service]) -> None:
    """In a process of its own: it changes much of what it is imported into."""
    pytest.importorskip("litellm")
    script = (
        "import litellm, sys\n"
        "asked = dict(model='openai/toy', api_base=sys.argv[1] + '/v1', api_key='none', max_tokens=24,\n"
        "             messages=[{'role': 'user', 'content': 'abc'}])\n"
        "whole = litellm.completion(**asked).choices[0].message.content\n"
        "pieces = [piece.choices[0].delta.content or '' for piece in litellm.completion(**asked, stream=True)]\n"
        "assert ''.join(pieces) == whole\n"
        "sys.stdout.buffer.write(whole.encode())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, server[0]], capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.decode() == alone(server[1]).text


def test_llm(server: tuple[str, Service], tmp_path: Path) -> None:
    pytest.importorskip("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: toy-here\n  model_name: toy\n  api_base: {server[0]}/v1\n", encoding="utf-8"
    )
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none", "PYTHONIOENCODING": "utf-8"}
    for more in ([], ["--no-stream"]):
        done = subprocess.run(
            [sys.executable, "-m", "llm", "-m", "toy-here", "abc", "-o", "max_tokens", "24", *more],
            capture_output=True, timeout=240, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        assert done.stdout.decode().rstrip("\n") == alone(server[1]).text.rstrip("\n")
