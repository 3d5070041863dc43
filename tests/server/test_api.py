"""What the server says, in every API's shape, whole and as events: the words are those of `hierdraft.load`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from hierdraft.errors import DraftWarning
from hierdraft.language_model import LanguageModel
from hierdraft.server.service import Service
from tests.server.toy import HERMES, LLAMA, SILENT, events, served, toy_model

TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "properties": {"a": {"enum": [1, 22]}, "b": {"enum": ["x", "y z"]}},
        "required": ["a", "b"], "additionalProperties": False,
    }}},
    {"type": "function", "function": {"name": "now", "parameters": {
        "type": "object", "properties": {}, "additionalProperties": False}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> Iterator[tuple[httpx.Client, Service]]:
    with served(toy_model()) as (url, service), httpx.Client(base_url=url, timeout=60) as client:
        yield client, service


def body(text: str = "abc", **more: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": text}], "max_tokens": 24, **more}


def ask(client: httpx.Client, path: str, given: dict[str, Any]) -> Any:
    response = client.post(path, json=given)
    assert response.status_code == 200, response.text
    return response.json() if not given.get("stream") else events(response.text.splitlines())


def joined(found: list[Any], number: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in found[:-1] for choice in event["choices"] if choice["index"] == number
    )  # fmt: skip


def test_chat_says_what_the_model_says(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    alone = service.model.generate([{"role": "user", "content": "abc"}], max_new_tokens=24)
    whole = ask(client, "/v1/chat/completions", body())
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == alone.text
    assert whole["choices"][0]["finish_reason"] == {"length": "length", "eos": "stop"}[str(alone.finish)]
    assert whole["usage"] == {
        "prompt_tokens": alone.prompt_tokens, "completion_tokens": len(alone.token_ids),
        "total_tokens": alone.prompt_tokens + len(alone.token_ids),
    }  # fmt: skip
    found = ask(client, "/v1/chat/completions", body(stream=True, stream_options={"include_usage": True}))
    assert found[-1] == "[DONE]"
    assert joined(found) == alone.text
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert found[-2]["usage"] == whole["usage"]
    assert found[-2]["choices"] == []
    assert all(event["usage"] is None for event in found[:-2])
    assert found[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert len({event["id"] for event in found[:-1]}) == 1


def test_without_usage_nothing_is_said_of_it(toy: tuple[httpx.Client, Service]) -> None:
    found = ask(toy[0], "/v1/chat/completions", body(stream=True))
    assert all("usage" not in event for event in found[:-1])


def test_every_event_tells_the_usage_so_far_where_that_is_asked_for(toy: tuple[httpx.Client, Service]) -> None:
    told = {"include_usage": True, "continuous_usage_stats": True}
    found = ask(toy[0], "/v1/chat/completions", body(stream=True, stream_options=told, ignore_eos=True))
    counts = [event["usage"]["completion_tokens"] for event in found[:-1]]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 24)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_answer_goes_on_behind_its_end_where_that_is_asked_for(toy: tuple[httpx.Client, Service], path: str) -> None:
    asked = body(max_tokens=300, logit_bias={"256": 100.0})
    if path == "/v1/completions":
        asked["prompt"] = asked.pop("messages")[0]["content"]
    assert ask(toy[0], path, asked)["usage"]["completion_tokens"] < 300
    assert ask(toy[0], path, asked | {"ignore_eos": True})["usage"]["completion_tokens"] == 300


def test_several_answers_are_those_of_seeds_that_follow(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    messages = [{"role": "user", "content": "abc"}]
    alone = [service.model.generate(messages, max_new_tokens=24, temperature=1.2, seed=seed).text for seed in (7, 8, 9)]
    given = body(n=3, temperature=1.2, seed=7)
    assert [choice["message"]["content"] for choice in ask(client, "/v1/chat/completions", given)["choices"]] == alone
    found = ask(client, "/v1/chat/completions", {**given, "stream": True})
    assert [joined(found, number) for number in range(3)] == alone


def test_samples_without_a_seed_differ(toy: tuple[httpx.Client, Service]) -> None:
    told = ask(toy[0], "/v1/chat/completions", body(n=8, temperature=2.0))
    assert len({choice["message"]["content"] for choice in told["choices"]}) > 1


def test_options_reach_the_model(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    messages = [{"role": "user", "content": "abc"}]
    plain = service.model.generate(messages, max_new_tokens=40)
    stop = plain.text[5:7]
    told = ask(client, "/v1/chat/completions", body(stop=stop, max_tokens=40))
    assert told["choices"][0]["message"]["content"] == plain.text[: plain.text.index(stop)]
    assert told["choices"][0]["finish_reason"] == "stop"
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"logit_bias": {"65": 100}}, {"logit_bias": {65: 100}}),
        ({"presence_penalty": 1.5, "frequency_penalty": 0.5}, {"presence_penalty": 1.5, "frequency_penalty": 0.5}),
        ({"temperature": 0.7, "top_p": 0.8, "seed": 3}, {"temperature": 0.7, "top_p": 0.8, "seed": 3}),
        ({"response_format": {"type": "json_object"}}, {"schema": {"type": "object"}}),
    ]
    for asked, options in cases:
        alone = service.model.generate(messages, max_new_tokens=24, **options)
        told = ask(client, "/v1/chat/completions", body(**asked))
        assert told["choices"][0]["message"]["content"] == alone.text, asked


def test_a_schema_is_followed(toy: tuple[httpx.Client, Service]) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [4, 5]}}, "required": ["n"], "additionalProperties": False}
    given = body(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    )
    said = ask(toy[0], "/v1/chat/completions", {**given, "max_tokens": 400, "temperature": 1.0, "seed": 1})["choices"][
        0
    ]["message"]["content"]
    assert httpx.Response(200, text=said).json()["n"] in (4, 5)


def test_log_probabilities_are_those_of_the_raw_distribution(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    told = ask(
        client,
        "/v1/chat/completions",
        body(logprobs=True, top_logprobs=3, presence_penalty=1.0, temperature=0.8, seed=2),
    )
    alone = service.model.generate(
        [{"role": "user", "content": "abc"}],
        max_new_tokens=24,
        presence_penalty=1.0,
        temperature=0.8,
        seed=2,
        logprobs=3,
    )
    content = told["choices"][0]["logprobs"]["content"]
    ends = service.model.engine.eos_ids
    ids = [token for token in alone.token_ids if token not in ends]
    assert len(content) == len(ids)
    sequence = service.model.engine.open()
    prompt = service.model.encode([{"role": "user", "content": "abc"}])
    from hierdraft.protocols import Part
    from hierdraft.tree import DraftTree

    tokens = np.asarray([*prompt, *alone.token_ids], dtype=np.int32)
    scored = service.model.engine.forward([Part(sequence, tokens, DraftTree.empty(), len(tokens))])[0]
    for place, one in enumerate(content):
        row = service.model.engine.values(scored.logits, len(prompt) - 1 + place).astype(np.float64)
        laws = row - row.max() - np.log(np.exp(row - row.max()).sum())
        assert one["logprob"] == pytest.approx(laws[ids[place]], abs=1e-9)
        assert one["bytes"] == [ids[place]] or ids[place] >= 256 or len(one["bytes"]) == 1
        best = np.sort(laws)[::-1][:3]
        assert [top["logprob"] for top in one["top_logprobs"]] == pytest.approx(best.tolist(), abs=1e-9)
    found = ask(client, "/v1/chat/completions", body(
        logprobs=True, top_logprobs=3, presence_penalty=1.0, temperature=0.8, seed=2, stream=True))  # fmt: skip
    parts = [part for event in found[:-1] for choice in event["choices"] if choice["logprobs"]
             for part in choice["logprobs"]["content"]]  # fmt: skip
    assert parts == content


def test_completions(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    alone = service.model.generate("abc", chat=False, max_new_tokens=16, logprobs=2)
    told = ask(client, "/v1/completions", {"model": "toy", "prompt": "abc", "logprobs": 2})
    assert told["object"] == "text_completion"
    assert told["choices"][0]["text"] == alone.text
    known = told["choices"][0]["logprobs"]
    assert known["token_logprobs"] == [one.logprob for one in alone.likely][: len(known["tokens"])]
    assert known["text_offset"][0] == 0
    ids = service.model.encode("abc", chat=False)
    assert ask(client, "/v1/completions", {"model": "toy", "prompt": ids})["choices"][0]["text"] == alone.text
    found = ask(client, "/v1/completions", {"model": "toy", "prompt": "abc", "stream": True, "logprobs": 2})
    assert "".join(choice["text"] for event in found[:-1] for choice in event["choices"]) == alone.text
    streamed = [part for event in found[:-1] for choice in event["choices"] if choice["logprobs"]
                for part in choice["logprobs"]["text_offset"]]  # fmt: skip
    assert streamed == known["text_offset"]


def test_responses_whole_and_as_events(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "abc"}]
    alone = service.model.generate(messages, max_new_tokens=24)
    given = {"model": "toy", "input": "abc", "instructions": "Be brief.", "max_output_tokens": 24, "store": False}
    told = ask(client, "/v1/responses", given)
    assert told["output"][0]["content"][0]["text"] == alone.text
    assert told["status"] == {"length": "incomplete", "eos": "completed"}[str(alone.finish)]
    assert told["instructions"] == "Be brief."
    assert told["usage"]["output_tokens"] == len(alone.token_ids)
    assert told["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}
    found = ask(client, "/v1/responses", {**given, "stream": True})
    kinds = [event["type"] for event in found]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        f"response.{told['status']}",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta") == alone.text
    last = found[-1]["response"]
    assert last["output"][0]["content"] == told["output"][0]["content"]


def test_anthropics_messages(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "abc"}]
    alone = service.model.generate(messages, max_new_tokens=24)
    given = {"model": "toy", "max_tokens": 24, "system": "Be brief.", "messages": messages[1:]}
    told = ask(client, "/v1/messages", given)
    assert told["content"] == [{"type": "text", "text": alone.text}]
    assert told["usage"] == {"input_tokens": alone.prompt_tokens, "output_tokens": len(alone.token_ids)}
    assert told["stop_reason"] == {"length": "max_tokens", "eos": "end_turn"}[str(alone.finish)]
    found = ask(client, "/v1/messages", {**given, "stream": True})
    assert found[0]["type"] == "message_start"
    assert found[-1]["type"] == "message_stop"
    deltas = [event["delta"]["text"] for event in found if event["type"] == "content_block_delta"]
    assert "".join(deltas) == alone.text
    del given["max_tokens"]
    assert ask(client, "/v1/messages/count_tokens", given) == {"input_tokens": alone.prompt_tokens}


@pytest.mark.parametrize("template", [HERMES, LLAMA, SILENT])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_tools_that_must_be_called(template: str, choice: Any) -> None:
    with served(toy_model(template=template)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        given = body(
            tools=TOOLS, tool_choice=choice, max_tokens=400, parallel_tool_calls=False, temperature=1.0, seed=4
        )
        told = ask(client, "/v1/chat/completions", given)["choices"][0]
        assert told["finish_reason"] == "tool_calls"
        call = told["message"]["tool_calls"][0]["function"]
        arguments = httpx.Response(200, text=call["arguments"]).json()
        assert call["name"] in ("add", "now") if choice == "required" else call["name"] == "add"
        assert arguments == {} if call["name"] == "now" else arguments["a"] in (1, 22)
        found = ask(client, "/v1/chat/completions", {**given, "stream": True})
        pieces = [
            piece for event in found[:-1] for one in event["choices"] for piece in one["delta"].get("tool_calls", ())
        ]
        assert pieces[0]["function"]["name"] == call["name"]
        assert "".join(piece["function"]["arguments"] for piece in pieces) == call["arguments"]
        responses = {
            "model": "toy", "input": [{"role": "user", "content": "abc"}], "max_output_tokens": 400, "temperature": 1.0,
            "tools": [{"type": "function", **tool["function"]} for tool in TOOLS], "parallel_tool_calls": False,
            "tool_choice": choice if isinstance(choice, str) else {"type": "function", "name": "add"},
        }  # fmt: skip
        item = ask(client, "/v1/responses", responses)["output"][-1]
        assert item["type"] == "function_call"
        assert isinstance(httpx.Response(200, text=item["arguments"]).json(), dict)
        kinds = [event["type"] for event in ask(client, "/v1/responses", {**responses, "stream": True})]
        assert "response.function_call_arguments.done" in kinds
        messages = {
            "model": "toy", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 400, "temperature": 1.0,
            "tools": [
                {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS
            ],
            "tool_choice": {"disable_parallel_tool_use": True}
            | ({"type": "any"} if choice == "required" else {"type": "tool", "name": "add"}),
        }  # fmt: skip
        block = ask(client, "/v1/messages", messages)["content"][-1]
        assert block["type"] == "tool_use"
        assert isinstance(block["input"], dict)


def test_calls_and_results_are_read_again(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    turns = [
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "23"},
    ]  # fmt: skip
    chat = ask(client, "/v1/chat/completions", {**body(), "messages": turns})
    told = ask(client, "/v1/responses", {"model": "toy", "max_output_tokens": 24, "input": [
        {"role": "user", "content": "abc"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "23"},
    ]})  # fmt: skip
    messages = ask(client, "/v1/messages", {"model": "toy", "max_tokens": 24, "messages": [
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "23"}]},
    ]})  # fmt: skip
    said = chat["choices"][0]["message"]["content"]
    assert told["output"][0]["content"][0]["text"] == said
    assert messages["content"][0]["text"] == said
    written = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    alone = service.model.generate([
        turns[0], {"role": "assistant", "content": written},
        {"role": "user", "content": "<tool_response>\n23\n</tool_response>"},
    ], max_new_tokens=24)  # fmt: skip
    assert said == alone.text


def test_a_prediction_is_drafted_from(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    said = service.model.generate([{"role": "user", "content": "fgh"}], max_new_tokens=60).text
    given = body("fgh", max_tokens=60, prediction={"type": "content", "content": said})
    details = ask(client, "/v1/chat/completions", given)["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] >= 0
    tokens = len(service.model.encode(said, chat=False))
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] == tokens


def test_provenance_and_steps(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    alone = service.model.generate([{"role": "user", "content": "abab"}], max_new_tokens=60)
    given = body("abab", max_tokens=60, hierdraft={"provenance": True, "trace": True})
    told = ask(client, "/v1/chat/completions", given)
    known = told["choices"][0]["hierdraft"]
    assert [token for token, _ in known["tokens"]] == alone.token_ids
    assert "".join(text for text, _ in known["pieces"]) == alone.text
    assert sum(len(step["tokens"]) for step in known["steps"]) == len(alone.token_ids)
    for step in known["steps"]:
        assert len(step["nodes"]) == len(step["parents"]) == len(step["levels"]) == len(step["chances"])
        assert [step["nodes"][node] for node in step["accepted"]] == step["tokens"][: len(step["accepted"])]
    metrics = told["metrics"]["speculative_decoding"][0]
    assert metrics["num_drafts"] == len(known["steps"]) - 1
    assert metrics["num_accepted_tokens"] == sum(len(step["accepted"]) for step in known["steps"])
    found = ask(client, "/v1/chat/completions", {**given, "stream": True})
    streamed = [choice["hierdraft"] for event in found[:-1] for choice in event["choices"] if "hierdraft" in choice]
    assert [token for one in streamed for token, _ in one["tokens"]] == alone.token_ids
    assert found[-2]["metrics"]["speculative_decoding"][0]["num_accepted_tokens"] >= 0
    plain = ask(
        client, "/v1/chat/completions", body("abab", max_tokens=60, hierdraft={"method": "none", "provenance": True})
    )
    assert {level for _, level in plain["choices"][0]["hierdraft"]["tokens"]} == {"target"}
    assert "hierdraft" not in ask(client, "/v1/chat/completions", body())["choices"][0]


def test_two_hundred_mixed_requests_say_what_they_say_alone() -> None:
    rng = random.Random(5)
    model = toy_model(seed=5)
    asked = []
    for number in range(200):
        options: dict[str, Any] = {"max_new_tokens": rng.choice([1, 7, 30, 60])}
        if number % 3 == 0:
            options |= {"temperature": rng.choice([0.5, 1.0, 1.5]), "seed": number}
        if number % 7 == 0:
            options |= {"stop": ["ab"]}
        text = "".join(rng.choice("abcdef ") for _ in range(rng.randint(1, 30)))
        asked.append((text, options, model.generate([{"role": "user", "content": text}], **options)))

    async def one(client: httpx.AsyncClient, free: asyncio.Semaphore, place: int) -> None:
        text, options, alone = asked[place]
        fields = {
            "max_tokens": options["max_new_tokens"],
            **{k: v for k, v in options.items() if k != "max_new_tokens"},
        }
        given = body(text, **fields, stream=place % 2 == 0, hierdraft={"provenance": True})
        async with free:
            response = await client.post("/v1/chat/completions", json=given)
        assert response.status_code == 200, response.text
        if given["stream"]:
            found = events(response.text.splitlines())
            known = [
                choice["hierdraft"] for event in found[:-1] for choice in event["choices"] if "hierdraft" in choice
            ]
            ids, said = [token for part in known for token, _ in part["tokens"]], joined(found)
        else:
            choice = response.json()["choices"][0]
            ids, said = [token for token, _ in choice["hierdraft"]["tokens"]], choice["message"]["content"]
        assert ids == alone.token_ids
        assert said == alone.text

    async def everything(url: str) -> None:
        free = asyncio.Semaphore(16)
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            await asyncio.gather(*(one(client, free, place) for place in range(len(asked))))

    with served(model) as (url, service):
        asyncio.run(everything(url))
        assert service.running == {}
        assert model.load == (0, 0)


def test_views(toy: tuple[httpx.Client, Service]) -> None:
    client, _ = toy
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["toy"]
    assert client.get("/v1/models/toy").json()["id"] == "toy"
    assert client.get("/slots").json() == []
    ask(client, "/v1/chat/completions", body("abab", max_tokens=60))
    text = client.get("/metrics").text
    for name in (
        'vllm:spec_decode_num_draft_tokens_total{model_name="toy"}', 'vllm:request_success_total{',
        'hierdraft:accepted_tokens_total{', 'vllm:num_requests_running{model_name="toy"} 0.0',
        'vllm:spec_decode_num_accepted_tokens_per_pos_total{',
    ):  # fmt: skip
        assert name in text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"} <= set(paths)


def test_a_method_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model: LanguageModel = toy_model()

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setattr(type(model._method("hierarchy")), "open", fails)
    with served(model) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        with pytest.warns(DraftWarning, match="out of order"):
            told = ask(client, "/v1/chat/completions", body(hierdraft={"provenance": True}))
        assert "out of order" in told["metrics"]["speculative_decoding"][0]["draft_error"]
        assert 'hierdraft:draft_failures_total{model_name="toy"} 1.0' in client.get("/metrics").text


def test_a_call_that_is_cut_is_not_called_complete() -> None:
    with served(toy_model(template=HERMES)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        for most in (16, 20, 24):
            tools = [{"type": "function", **TOOLS[0]["function"]}]
            given = {
                "model": "toy",
                "input": "abc",
                "tools": tools,
                "tool_choice": "required",
                "max_output_tokens": most,
            }
            told = ask(client, "/v1/responses", given)
            assert told["status"] == "incomplete"
            assert [item["status"] for item in told["output"]] == ["incomplete"] * len(told["output"])
            messages = {
                "model": "toy", "max_tokens": 62 + most, "messages": [{"role": "user", "content": "abc"}],
                "tools": [{"name": "add", "input_schema": TOOLS[0]["function"]["parameters"]}],
                "tool_choice": {"type": "any"},
            }  # fmt: skip
            told = ask(client, "/v1/messages", messages)
            assert told["stop_reason"] == "max_tokens" or told["content"][-1]["input"]["b"] in ("x", "y z")
        stopped = body(tools=TOOLS[:1], tool_choice="required", max_tokens=400, stop='"a"')
        assert ask(client, "/v1/chat/completions", stopped)["choices"][0]["finish_reason"] == "stop"


def test_which_stop_string_it_was(toy: tuple[httpx.Client, Service]) -> None:
    client, service = toy
    text = service.model.generate([{"role": "user", "content": "abc"}], max_new_tokens=40).text
    given = {
        "model": "toy", "max_tokens": 40, "messages": [{"role": "user", "content": "abc"}],
        "stop_sequences": ["no such text", text[6:9]],
    }  # fmt: skip
    told = ask(client, "/v1/messages", given)
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", text[6:9])
    found = ask(client, "/v1/messages", {**given, "stream": True})
    assert found[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": text[6:9]}


@pytest.mark.parametrize("streamed", [False, True])
def test_provenance_in_the_other_apis(toy: tuple[httpx.Client, Service], streamed: bool) -> None:
    client, service = toy
    ids = service.model.generate([{"role": "user", "content": "abc"}], max_new_tokens=40).token_ids
    more = {"stream": streamed, "hierdraft": {"provenance": True, "trace": True}}
    for path, given in (
        ("responses", {"model": "toy", "input": "abc", "max_output_tokens": 40}),
        ("messages", {"model": "toy", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 40}),
    ):
        told = ask(client, f"/v1/{path}", given | more)
        known = [event["hierdraft"] for event in told if "hierdraft" in event] if streamed else [told["hierdraft"]]
        assert [token for part in known for token, _ in part["tokens"]] == ids
        assert sum(len(step["tokens"]) for part in known for step in part["steps"]) == len(ids)


def test_fields_that_are_null_were_not_given(toy: tuple[httpx.Client, Service]) -> None:
    given = body(functions=None, user=None, tools=None, stop=None, messages=[
        {"role": "user", "content": "abc", "name": None, "tool_calls": None}])  # fmt: skip
    assert ask(toy[0], "/v1/chat/completions", given)["choices"][0]["message"]["content"]
