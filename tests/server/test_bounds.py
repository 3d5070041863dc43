"""What the server refuses, cuts and forgets: one sentence in the API's shape, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import UsageError
from hierdraft.language_model import LanguageModel
from hierdraft.server.app import make_app
from hierdraft.server.failures import ApiError
from hierdraft.server.keys import Keys, Tenant
from hierdraft.server.service import Limits, Service
from tests.server.toy import ChatBytes, Letters, events, served, toy_model

ENDLESS = 60_000


class Slow(Letters):
    """A forward takes as long as it is told, and is counted."""

    wait = 0.01
    forwards = 0

    def forward(self, parts: Any) -> Any:
        time.sleep(self.wait)
        self.forwards += 1
        return super().forward(parts)


def slow_model(**options: Any) -> LanguageModel:
    return LanguageModel(Slow(3, 257, memory=2), ChatBytes(), "toy", **options)


@pytest.fixture(scope="module")
def toy() -> Iterator[tuple[httpx.Client, Service]]:
    with (
        served(toy_model(), limits=Limits(body=20_000)) as (url, service),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client, service


def body(text: str = "abc", **more: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": text}], "max_tokens": 24, **more}


def post(given: dict[str, Any], host: str) -> bytes:
    """A request as it goes over the wire."""
    data = json.dumps(given)
    head = ["POST /v1/chat/completions HTTP/1.1", f"Host: {host}", "Content-Type: application/json",
            f"Content-Length: {len(data)}", "", ""]  # fmt: skip
    return ("\r\n".join(head) + data).encode()


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "model"),
    ("chat/completions", body(functions=[], user="me"), "functions"),
    ("chat/completions", body(user="me"), "user"),
    ("chat/completions", body(max_tokens="many"), "max_tokens"),
    ("chat/completions", body(max_tokens=0), "max_tokens"),
    ("chat/completions", body(max_tokens=True), "max_tokens"),
    ("chat/completions", body(max_tokens=1.5), "max_tokens"),
    ("chat/completions", body(temperature=-1), "temperature"),
    ("chat/completions", body(temperature=3), "temperature"),
    ("chat/completions", body(top_p=0), "top_p"),
    ("chat/completions", body(n=0), "n"),
    ("chat/completions", body(n=9), "n may be at most 8"),
    ("chat/completions", body(n=8, max_tokens=10_000), "n times max_tokens"),
    ("chat/completions", body(stop=["a"] * 17), "stop"),
    ("chat/completions", body(stop="a" * 257), "stop"),
    ("chat/completions", body(stop=[""]), "stop"),
    ("chat/completions", body(messages=[]), "messages"),
    ("chat/completions", body(messages="hello"), "messages"),
    ("chat/completions", body(messages=[{"role": "king", "content": "a"}]), "role"),
    ("chat/completions", body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "content"),
    ("chat/completions", body(messages=[{"role": "user"}]), "content"),
    ("chat/completions", body(top_logprobs=2), "logprobs"),
    ("chat/completions", body(logprobs=True, top_logprobs=21), "top_logprobs"),
    ("chat/completions", body(stream_options={"include_usage": True}), "stream"),
    ("chat/completions", body(stream=True, stream_options={"continuous_usage_stats": True}), "include_usage"),
    ("chat/completions", body(tool_choice="required"), "tools"),
    ("chat/completions", body(tools=[{"type": "function", "function": {}}]), "name"),
    ("chat/completions", body(tools=[{"type": "function", "function": {"name": "a b"}}]), "name"),
    ("chat/completions", body(tools=[{"type": "function", "function": {"name": "a"}}],
                              tool_choice={"type": "function", "function": {"name": "b"}}), "'b'"),
    ("chat/completions", body(tools=[{"type": "function", "function": {
        "name": "a", "parameters": {"type": "array"}}}]), "object"),
    ("chat/completions", body(response_format={"type": "json_schema"}), "json_schema"),
    ("chat/completions", body(response_format={"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "object", "properties": {"a": {"type": "strange"}}}}}), "strange"),
    ("chat/completions", body(logit_bias={"x": 1}), "logit_bias"),
    ("chat/completions", body(logit_bias={"99999": 1}), "99999"),
    ("chat/completions", body(seed=-1), "seed"),
    ("chat/completions", body(max_tokens=3, max_completion_tokens=4), "max_completion_tokens"),
    ("chat/completions", body(hierdraft={"method": "no-such"}), "no-such"),
    ("chat/completions", body(hierdraft={"method": "hd:order=2"}), "method"),
    ("chat/completions", body(hierdraft={"speed": 9}), "speed"),
    ("chat/completions", body(model="other"), "other"),
    ("completions", {"model": "toy", "prompt": ["a", "b"]}, "prompt"),
    ("completions", {"model": "toy", "prompt": [1, 999]}, "999"),
    ("completions", {"model": "toy", "prompt": "a", "best_of": 3}, "best_of"),
    ("completions", {"model": "toy", "prompt": "a", "echo": True}, "echo"),
    ("responses", {"model": "toy", "input": "a", "previous_response_id": "x"}, "previous_response_id"),
    ("responses", {"model": "toy", "input": "a", "store": True}, "store"),
    ("responses", {"model": "toy", "input": "a", "tools": [{"type": "web_search"}]}, "tools"),
    ("responses", {"model": "toy", "input": [
        {"type": "function_call", "call_id": "a", "name": "b", "arguments": "{"}]}, "arguments"),
    ("messages", {"model": "toy", "messages": [{"role": "user", "content": "a"}]}, "max_tokens"),
    ("messages", {"model": "toy", "max_tokens": 3, "thinking": {}, "messages": [
        {"role": "user", "content": "a"}]}, "thinking"),
    ("messages", {"model": "toy", "max_tokens": 3, "messages": [{"role": "system", "content": "a"}]}, "role"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "told"), WRONG)
def test_what_is_wrong_is_named(toy: tuple[httpx.Client, Service], path: str, given: dict[str, Any], told: str) -> None:
    client, service = toy
    response = client.post(f"/v1/{path}", json=given)
    assert response.status_code == (404 if given.get("model") == "other" else 400), response.text
    error = response.json()["error"]
    assert told in error["message"]
    assert error["message"].endswith(".")
    assert error["message"].count("\n") == 0
    assert service.running == {}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 15_000, "application/json", 400),
        (b'{"model": "toy", "messages": NaN}', "application/json", 400),
        (b'{"model": "toy", "temperature": 1e999}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"x" * 20_001, "application/json", 413),
    ],
)
def test_bodies(toy: tuple[httpx.Client, Service], content: bytes, kind: str, status: int) -> None:
    response = toy[0].post("/v1/chat/completions", content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_a_body_without_a_length_is_bounded_too(toy: tuple[httpx.Client, Service]) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    response = toy[0].post("/v1/chat/completions", content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413


def test_what_is_nowhere(toy: tuple[httpx.Client, Service]) -> None:
    assert toy[0].get("/v1/embeddings").json()["error"]["message"] == "There is nothing at GET /v1/embeddings."
    assert toy[0].get("/v1/chat/completions").status_code == 405
    assert toy[0].get("/v1/models/other").status_code == 404


def test_fields_that_are_left_out_on_purpose() -> None:
    with served(toy_model(), dropped=frozenset({"user"})) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=body(user="me")).status_code == 200
        assert client.post("/v1/chat/completions", json=body(metadata={})).status_code == 400


def test_a_prompt_past_the_context() -> None:
    model = LanguageModel(ToyEngine(3, 257, memory=2, max_length=64), ChatBytes(), "toy")
    with served(model) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        response = client.post("/v1/chat/completions", json=body("a" * 100))
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert client.post("/v1/chat/completions", json=body("a", max_tokens=1000)).json()["choices"][0][
            "finish_reason"
        ] in ("length", "stop")


def test_names_and_origins() -> None:
    with (
        served(toy_model(), hosts=frozenset({"127.0.0.1", "box.example"})) as (url, _),
        httpx.Client(base_url=url) as client,
    ):
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "box.example:80"}).status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
        told = client.post("/v1/chat/completions", json=body(), headers={"Origin": "http://evil.example"})
        assert told.status_code == 403
        assert "access-control-allow-origin" not in told.headers
        assert client.post("/v1/chat/completions", json=body(), headers={"Origin": url}).status_code == 200
        assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


KEYS = """
[[key]]
key = "a-key-of-sixteen-or-more"
namespace = "ours"
requests = 2
tokens_per_minute = 30

[[key]]
sha256 = "{}"
namespace = "theirs"
"""


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    import hashlib

    file = tmp_path / "keys.toml"
    file.write_text(KEYS.format(hashlib.sha256(b"another-key-that-is-hashed").hexdigest()))
    return Keys.read(file)


def test_keys(keys: Keys) -> None:
    with served(slow_model(), keys) as (url, service), httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/slots"):
            assert client.get(path).status_code == 401
        assert client.post("/v1/chat/completions", json=body()).status_code == 401
        wrong = {"Authorization": "Bearer a-key-of-sixteen-or-mor"}
        assert client.post("/v1/chat/completions", json=body(), headers=wrong).status_code == 401
        ours = {"Authorization": "Bearer a-key-of-sixteen-or-more"}
        theirs = {"x-api-key": "another-key-that-is-hashed"}
        assert client.get("/v1/models", headers=ours).status_code == 200
        assert client.get("/v1/models", headers=theirs).status_code == 200
        told = client.post("/v1/chat/completions", json=body(n=3), headers=ours)
        assert told.status_code == 400
        assert "at most 2 with this key" in told.text
        with client.stream(
            "POST", "/v1/chat/completions", json=body("nobody's", stream=True, max_tokens=ENDLESS), headers=theirs
        ) as one:
            lines = one.iter_lines()
            next(lines)
            assert client.get("/slots", headers=ours).json() == []
            assert len(client.get("/slots", headers=theirs).json()) == 1
            assert "nobody" not in client.get("/slots", headers=theirs).text
        assert client.post("/v1/chat/completions", json=body(max_tokens=40), headers=ours).status_code == 200
        told = client.post("/v1/chat/completions", json=body(), headers=ours)
        assert told.status_code == 429
        assert 0 < int(told.headers["retry-after"]) <= 60
        anthropic = client.post("/v1/messages", json={}, headers={})
        assert anthropic.json()["error"]["type"] == "authentication_error"
        assert until(lambda: service.running == {})


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no keys"), ("[[key]]\nnamespace='a'", "either key or sha256"),
     ("[[key]]\nkey='short'\nnamespace='a'", "key"),
     ("nonsense", "read"), ("[[key]]\nkey='long-enough-to-be-one'\nnamespace='a'\nspeed=3", "speed")],
)  # fmt: skip
def test_key_files(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(UsageError, match=told):
        Keys.read(tmp_path / "keys.toml")
    with pytest.raises(UsageError):
        Keys.read(tmp_path / "missing.toml")


def test_tokens_come_back_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("hierdraft.server.keys.monotonic", lambda: clock[0])
    tenant = Tenant("a", tokens_per_minute=10)
    tenant.admit(1, 5)
    with pytest.raises(ApiError, match="again in 1 s"):  # what runs may say more than there is
        Tenant("a", tokens_per_minute=10, _expected=12).admit(1, 5)
    tenant.ended(1, 1, 5)
    clock[0] += 40
    tenant.admit(1, 50)
    tenant.ended(1, 12, 50)
    clock[0] += 10
    with pytest.raises(ApiError, match="again in 50 s") as refused:  # not when the first of them is forgotten
        tenant.admit(1, 5)
    assert refused.value.headers == {"Retry-After": "50"}
    clock[0] += 51
    tenant.admit(1, 5)


def test_the_queue_has_a_bound() -> None:
    model = slow_model(max_requests=1, queue=1)
    endless = body(stream=True, max_tokens=ENDLESS, hierdraft={"method": "none"})  # for minutes, drafted for seconds
    with served(model) as (url, service), httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/chat/completions", json=endless) as one:
            lines = one.iter_lines()
            next(lines)
            waiting = threading.Thread(target=lambda: client.post("/v1/chat/completions", json=body(max_tokens=1)))
            waiting.start()
            assert until(lambda: model.load.waiting == 1)
            told = client.post("/v1/chat/completions", json=body())
            assert told.status_code == 429
            assert told.headers["retry-after"]
            assert told.json()["error"]["code"] == "queue_full"
        waiting.join(30)
        assert until(lambda: service.running == {})


@pytest.mark.parametrize(
    ("path", "given"),
    [("chat/completions", {"n": 2}), ("completions", {"messages": None, "prompt": "abc"}),
     ("responses", {"messages": None, "input": "abc", "max_tokens": None, "max_output_tokens": 8}), ("messages", {}),
     ("chat/completions", {"max_tokens": ENDLESS}), ("messages", {"max_tokens": ENDLESS})],
)  # fmt: skip
def test_who_has_the_last_event_may_ask_again(path: str, given: dict[str, Any]) -> None:
    """A client's next request comes with the last event of its first one, before the connection has ended."""

    async def asked(service: Service) -> tuple[bytes, list[dict[str, Any]]]:
        content = json.dumps(body(stream=True, max_tokens=8) | given).encode()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": f"/v1/{path}", "raw_path": b"", "root_path": "", "query_string": b"", "server": ("127.0.0.1", 80),
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        parts = [{"type": "http.request", "body": content, "more_body": False}]
        sent, running = list[bytes](), list[dict[str, Any]]()

        async def receive() -> dict[str, Any]:
            if not parts:
                await asyncio.sleep(60)
            return parts.pop()

        async def send(message: Any) -> None:
            if message.get("body"):
                sent.append(message["body"])
                running.append(dict(service.running))

        await make_app(service)(scope, receive, send)
        return sent[-1], running

    service = Service(slow_model(), "toy", Keys.none("default"), Limits(seconds=1.0))
    last, running = asyncio.run(asked(service))
    assert running[0]
    assert running[-1] == {}
    ends = (b"[DONE]", b"message_stop", b"response.", b"deadline_exceeded", b"timeout_error")
    assert any(end in last for end in ends)


def test_a_deadline_cuts() -> None:
    with served(slow_model(), limits=Limits(seconds=0.5)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        told = client.post("/v1/chat/completions", json=body(max_tokens=ENDLESS))
        assert told.status_code == 504
        found = events(
            client.post("/v1/chat/completions", json=body(max_tokens=ENDLESS, stream=True)).text.splitlines()
        )
        assert found[-1]["error"]["code"] == "deadline_exceeded"
        assert client.post("/v1/chat/completions", json=body(max_tokens=3)).status_code == 200


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_who_leaves_is_not_decoded_for(streamed: bool, count: int) -> None:
    model = slow_model()
    engine: Any = model.engine
    engine.wait = 0.1
    with served(model) as (url, service):
        host, port = url.removeprefix("http://").split(":")
        sent = post(body(stream=streamed, max_tokens=ENDLESS // count, n=count), host)
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(sent)
            assert until(lambda: engine.forwards > 3)
        left = engine.forwards
        assert until(lambda: model.load == (0, 0) and not service.running)
        assert engine.forwards <= left + 2  # the step that was made when it left, and the one it was noticed in


def test_who_does_not_read_stands_still_and_is_left_alone() -> None:
    model = toy_model(seed=8)
    with served(model, limits=Limits(unread=1.0, tokens=1 << 20)) as (url, service):
        host, port = url.removeprefix("http://").split(":")
        given = body(stream=True, max_tokens=1 << 19, hierdraft={"method": "none"}, logit_bias={"256": -100})
        sent = post(given, host)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        with raw:
            raw.sendall(sent)
            assert until(lambda: bool(service.running))
            with httpx.Client(base_url=url, timeout=60) as client:
                assert client.post("/v1/chat/completions", json=body()).status_code == 200
            assert until(lambda: not service.running, 20)
        assert until(lambda: model.load == (0, 0))


def test_half_a_request_is_not_waited_for() -> None:
    with served(toy_model(), limits=Limits(slow=0.5)) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        for sent, answer in (
            (b"", b""), (b"POST /v1/chat/comp", b""),
            (b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
             b"Content-Length: 100\r\n\r\n{", b"408"),
        ):  # fmt: skip
            with socket.create_connection((host, int(port)), timeout=10) as raw:
                raw.sendall(sent)
                got = raw.recv(1000)
                assert answer in got


def test_shutting_down_finishes_what_runs() -> None:
    model = slow_model()
    found: list[Any] = []
    with served(model, drain=20.0) as (url, service):
        thread = threading.Thread(
            target=lambda: found.append(httpx.post(f"{url}/v1/chat/completions", json=body(max_tokens=60), timeout=60))
        )
        thread.start()
        assert until(lambda: bool(service.running))
        service.draining = True
        told = httpx.post(f"{url}/v1/chat/completions", json=body())
        assert told.status_code == 503
        assert told.headers["retry-after"]
        assert httpx.get(f"{url}/ready").status_code == 503
        assert httpx.get(f"{url}/health").status_code == 200
    thread.join(30)
    assert found[0].status_code == 200
    assert found[0].json()["usage"]["completion_tokens"] > 0


def test_shutting_down_cuts_what_does_not_end() -> None:
    model = slow_model()
    found: list[Any] = []
    with served(model, drain=0.3) as (url, service):
        thread = threading.Thread(
            target=lambda: found.append(
                httpx.post(f"{url}/v1/chat/completions", json=body(max_tokens=ENDLESS), timeout=60)
            )
        )
        thread.start()
        assert until(lambda: bool(service.running))
    thread.join(30)
    assert found[0].status_code == 503


def test_many_rude_clients_leave_nothing_behind() -> None:
    model = slow_model()
    engine: Any = model.engine
    engine.wait = 0.001
    with served(model, limits=Limits(slow=1.0, unread=1.0)) as (url, service):
        host, port = url.removeprefix("http://").split(":")
        httpx.post(f"{url}/v1/chat/completions", json=body(), timeout=30)
        before = len(os.listdir("/proc/self/fd")), threading.active_count()

        async def rude(number: int) -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            sent = post(body(stream=number % 2 == 0, max_tokens=ENDLESS), host)
            writer.write(sent[: len(sent) // 2] if number % 5 == 0 else sent)
            await writer.drain()
            if number % 3 == 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(200), 0.2)
            if number % 4 == 0:
                writer.transport.abort()
            else:
                writer.close()

        async def flood() -> None:
            for start in range(0, 200, 20):
                await asyncio.gather(*(rude(start + number) for number in range(20)))

        asyncio.run(flood())
        assert until(lambda: not service.running and model.load == (0, 0), 20)
        assert until(lambda: len(os.listdir("/proc/self/fd")) <= before[0] + 2, 20)
        assert httpx.post(f"{url}/v1/chat/completions", json=body(), timeout=30).status_code == 200
        assert threading.active_count() <= before[1] + 8  # the pool that starts answers


def test_a_body_of_errors_is_refused_at_its_first() -> None:
    zeros = ",".join(["0"] * 300_000)
    bodies = {
        "messages": '{"model": "toy", "max_tokens": 1, "messages": [{"role": "user", "content": [%s]}]}',
        "responses": '{"model": "toy", "input": [%s]}', "chat/completions": '{"model": "toy", "messages": [%s]}',
        "completions": '{"model": "toy", "prompt": [%s]}',
    }  # fmt: skip
    with served(toy_model()) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        for path, given in bodies.items():
            content = (given % ('"x",' * 90_000 + "1" if path == "completions" else zeros)).encode()
            began = time.monotonic()
            response = client.post(f"/v1/{path}", content=content, headers={"Content-Type": "application/json"})
            assert response.status_code == 400
            assert time.monotonic() - began < 5.0
            assert len(response.text) < 500


@pytest.mark.parametrize("streamed", [True, False])
def test_a_deadline_cuts_what_only_begins(streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = slow_model()
    with served(model, limits=Limits(seconds=0.3), drain=0.3) as (url, service):
        real = service._answer
        monkeypatch.setattr(service, "_answer", lambda *given: (time.sleep(1.0), real(*given))[1])
        began = time.monotonic()
        told = httpx.post(f"{url}/v1/chat/completions", json=body(max_tokens=ENDLESS, stream=streamed), timeout=60)
        assert told.status_code == 504
        assert told.headers["x-should-retry"] == "false"
        assert time.monotonic() - began < 0.95
        assert until(lambda: model.load == (0, 0) and not service.running)


def test_the_connection_of_who_does_not_read_is_given_back() -> None:
    with served(toy_model(seed=8), limits=Limits(unread=1.0, tokens=1 << 20), drain=1.0) as (url, service):
        host, port = url.removeprefix("http://").split(":")
        httpx.post(f"{url}/v1/chat/completions", json=body(), timeout=60)
        given = body(stream=True, max_tokens=1 << 19, logprobs=True, top_logprobs=20, logit_bias={"256": -100})
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        before = len(os.listdir("/proc/self/fd"))
        raw.sendall(post(given, host))
        assert until(lambda: bool(service.running))
        assert until(lambda: not service.running and len(os.listdir("/proc/self/fd")) < before + 1, 25)
        raw.close()


def test_tokens_a_minute_bound_what_runs_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("[[key]]\nkey = 'the-key-of-this-server'\nnamespace = 'a'\ntokens_per_minute = 30\n")
    headers = {"x-api-key": "the-key-of-this-server"}

    async def ask(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
            told = await asyncio.gather(
                *(client.post("/v1/chat/completions", json=body(max_tokens=300)) for _ in range(8))
            )
        return sorted(response.status_code for response in told)

    with served(slow_model(), Keys.read(file)) as (url, _):
        assert asyncio.run(ask(url)) == [200, *[429] * 7]


@pytest.mark.parametrize("head", ["Host: [", "Host: x\r\nOrigin: http://["])
def test_names_that_are_none(toy: tuple[httpx.Client, Service], head: str) -> None:
    host, port = str(toy[0].base_url).removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"GET /health HTTP/1.1\r\n{head}\r\n\r\n".encode())
        assert b"403" in raw.recv(100)


@pytest.mark.parametrize(
    "given",
    [
        '{"model": "toy", "input": "a", "text": {"format": {"type": "json_schema", "schema": {"description": NaN}}}}',
        '{"model": "toy", "input": "a\\ud800"}',
        '{"model": "toy", "input": [{"type": "function_call", "call_id": "a", "name": "b", "arguments": "%s"}]}'
        % ("[" * 9_000),
    ],
)  # fmt: skip
def test_what_json_does_not_have(toy: tuple[httpx.Client, Service], given: str) -> None:
    response = toy[0].post("/v1/responses", content=given.encode(), headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_anthropics_errors_are_in_its_own_shape(toy: tuple[httpx.Client, Service]) -> None:
    client, _ = toy
    right = {"model": "other", "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]}
    for response, status, kind in (
        (client.post("/v1/messages", json=right), 404, "not_found_error"),
        (client.get("/v1/messages"), 405, "invalid_request_error"),
        (client.post("/v1/messages", content=b"x" * 30_000), 413, "request_too_large"),
        (client.post("/v1/messages", json=right, headers={"Origin": "http://evil.example"}), 403, "permission_error"),
    ):
        assert response.status_code == status
        assert response.json()["type"] == "error"
        assert response.json()["error"]["type"] == kind


def test_references_are_bounded(toy: tuple[httpx.Client, Service]) -> None:
    with served(toy_model()) as (url, _):
        given = body(hierdraft={"reference": ["a" * 60_000]}, prediction={"type": "content", "content": "b" * 6000})
        told = httpx.post(f"{url}/v1/chat/completions", json=given, timeout=60)
        assert told.status_code == 400
        assert "65536 characters" in told.text
