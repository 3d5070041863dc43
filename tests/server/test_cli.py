"""`hierdraft serve`, `hierdraft chat` and `hierdraft bench serve`, as commands."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from rich.console import Console

from hierdraft.cli.partners import Local, Remote
from hierdraft.cli.talk import Chat, lines
from hierdraft.errors import HierdraftError, ServerError, UsageError
from hierdraft.server.keys import Keys
from hierdraft.server.run import listen
from tests.server.toy import free_port, served, toy_model

ROOT = Path(__file__).parents[2]


def command(*words: str, **options: Any) -> Any:
    """A command with the toy model, its output decoded."""
    return subprocess.run(
        [sys.executable, "-m", "tests.server.serving", *words], capture_output=True, text=True, timeout=120, cwd=ROOT,
        check=False, **options,
    )  # fmt: skip


def _heard() -> None:
    """A shell may have started the tests in its background, where Ctrl-C is not heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def serving(*words: str) -> Iterator[tuple[Any, str]]:
    """A running server process, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.serving", "serve", "--port", "0", "--json", *words], text=True, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_heard,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, process.stderr.read() if process.stderr else ""
        yield process, json.loads(told)["url"]
    finally:
        process.kill()
        process.communicate(timeout=30)


def body(**more: Any) -> dict[str, Any]:
    return {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "abc"}],
        "hierdraft": {"method": "none"},
        **more,
    }


def until(url: str, path: str, true: Any) -> None:
    """Wait for a view of a server."""
    with httpx.Client(base_url=url) as client:
        end = time.monotonic() + 30
        while not true(client.get(path)):
            assert time.monotonic() < end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_finishes_and_keeps_what_was_learned(number: signal.Signals) -> None:
    with serving("--drain", "20") as (process, url):
        found: list[Any] = []
        asking = threading.Thread(
            target=lambda: found.append(httpx.post(f"{url}/v1/chat/completions", json=body(max_tokens=400), timeout=60))
        )
        asking.start()
        until(url, "/slots", lambda response: response.json())
        process.send_signal(number)
        asking.join(60)
        assert found[0].status_code == 200
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    kept = [
        path for path in Path(os.environ["HIERDRAFT_DATA_DIR"]).rglob("*") if path.is_file() and path.stat().st_size
    ]
    assert kept


def test_a_second_signal_does_not_wait() -> None:
    with serving("--drain", "600") as (process, url):
        threading.Thread(
            target=lambda: httpx.post(f"{url}/v1/chat/completions", json=body(max_tokens=60_000), timeout=60)
        ).start()
        until(url, "/slots", lambda response: response.json())
        process.terminate()
        until(url, "/ready", lambda response: response.status_code == 503)
        process.terminate()
        assert process.wait(20) == 0


def test_wrong_uses_of_serve(tmp_path: Path) -> None:
    for words, told in (
        (["--host", "0.0.0.0"], "--api-keys"),  # noqa: S104 - that it is refused is what is tested
        (["--api-keys", str(tmp_path / "no.toml")], "cannot be read"),
        (["--host", "no.such.name.example", "--insecure"], "cannot listen"),
        (["--method", "no-such"], "no-such"),
    ):
        done = command("serve", *words)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_chat_with_a_model_and_commands(tmp_path: Path) -> None:
    commands = ["abc", "/temperature 0.9", "/seed 4", '"""d', 'e"""', "/compare", "/again", f"/save {tmp_path}/c.json"]
    said = "\n".join([*commands, "/nonsense", "/seed x", "f\\", "g", ""])
    done = command("chat", "--max-new-tokens", "12", "--no-learn", input=said)
    assert done.returncode == 0, done.stderr
    assert "Plain decoding: the same" in done.stderr
    assert done.stderr.count("tokens, ") == 5
    assert "There is no such command" in done.stderr
    assert "a whole number of at least 0, not 'x'" in done.stderr
    saved = json.loads((tmp_path / "c.json").read_text())
    assert [message["role"] for message in saved] == ["user", "assistant"] * 2
    assert saved[2]["content"] == "d\ne"
    told = command("chat", "--json", "--max-new-tokens", "4", input="abc\n/compare\n")
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert rows[0]["new_tokens"] == rows[1]["new_tokens"] == 4
    assert rows[0]["text"] == rows[1]["text"]
    assert rows[2]["compare"]["identical"] is True
    again = command("chat", "--max-new-tokens", "4", input=f"/load {tmp_path}/c.json\n/load nowhere\n/exit\nnever\n")
    assert "4 messages" in again.stderr
    assert "nowhere" in again.stderr
    assert again.stdout == ""


def test_ctrl_c_ends_the_answer_and_not_the_chat() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.serving", "chat", "--max-new-tokens", "60000"], text=True, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=_heard,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("abc\n")
    process.stdin.flush()
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate("/tokens 3\nabc\n", timeout=60)
    assert process.returncode == 0
    assert "stopped; " in told
    assert "\n3 tokens, " in told


def consoles() -> tuple[Console, Console]:
    return Console(file=io.StringIO(), width=200), Console(file=io.StringIO(), width=200)


def test_a_server_says_what_a_model_says() -> None:
    model = toy_model()
    with served(model) as (url, _):
        found = []
        for partner in (Local(model), Remote(url), Remote(f"{url}/v1/")):
            answers, told = consoles()
            chat = Chat(partner, answers, told, {"method": "hierarchy", "max_new_tokens": 20})
            chat.take("/system Be brief.")
            chat.take("abc")
            chat.take("/compare")
            assert "the same" in told.file.getvalue()  # type: ignore[attr-defined]
            found.append((answers.file.getvalue(), chat.messages, chat.last.new_tokens if chat.last else 0))  # type: ignore[attr-defined]
        assert found[0] == found[1] == found[2]


def test_servers_that_refuse(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="cannot be reached"):
        Remote(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UsageError, match="not the address"):
        Remote("ftp://nowhere")
    file = tmp_path / "keys.toml"
    file.write_text("[[key]]\nkey = 'the-key-of-this-server'\nnamespace = 'a'\n")
    with served(toy_model(), Keys.read(file)) as (url, _):
        with pytest.raises(ServerError, match="No key"):
            Remote(url)
        partner = Remote(url, "the-key-of-this-server")
        chat = Chat(partner, *consoles(), {"method": "no-such-method"})
        with pytest.raises(HierdraftError, match="no-such-method"):
            chat.take("abc")
        assert chat.messages == []  # what was not answered is taken back
        partner.close()


def test_what_failed_is_taken_back(tmp_path: Path) -> None:
    model = toy_model()
    chat = Chat(Local(model), *consoles(), {"method": "hierarchy", "max_new_tokens": 5})
    with pytest.raises(UsageError, match="nothing to answer"):
        chat.take("/again")
    chat.take("abc")
    before = list(chat.messages)
    model.close()
    with pytest.raises(UsageError, match="closed"):
        chat.take("/again")
    assert chat.messages == before
    file = tmp_path / "c.json"
    chat.take(f"/save {file}")
    kept = file.read_text()
    chat.messages.append({"role": "user", "content": "\ud800"})
    chat.take(f"/save {file}")
    assert file.read_text() != kept
    for name in ("a\0b", str(tmp_path)):
        with pytest.raises(HierdraftError):
            chat.take(f"/save {name}")
        with pytest.raises(HierdraftError):
            chat.take(f"/load {name}")


@pytest.mark.parametrize(
    "said", ['{"error": "out"}', '{"error": {"message": "out"}}', "{", "3", '{"choices": [3]}', "null"]
)
def test_servers_that_say_odd_things(said: str) -> None:
    async def odd(scope: Any, receive: Any, send: Any) -> None:
        del receive
        data = b'{"data": [{"id": "odd"}]}' if scope["path"].endswith("/models") else f"data:{said}\n\n".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": data})

    import uvicorn

    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(odd, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        chat = Chat(Remote(f"http://127.0.0.1:{listening.getsockname()[1]}"), *consoles(), {})
        with pytest.raises(ServerError):
            chat.take("abc")
        assert chat.messages == []
        server.should_exit = True
        thread.join(20)


def test_lines() -> None:
    given = iter(['"""one', 'two"""', "three\\", "four", '"""five"""', "six"])

    def ask(_: str) -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    assert list(lines(ask)) == ["one\ntwo", "three\nfour", "five", "six"]


def test_a_load_is_measured(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("abc", "bcd", "cde")))
    with served(toy_model()) as (url, _):
        shared = ["bench", "serve", "--server", url, "--dataset", str(prompts), "--max-new-tokens", "9"]
        done = command(*shared, "--concurrency", "1,3", "--requests", "7", "--json", "--out", str(tmp_path / "o.json"))
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == json.loads((tmp_path / "o.json").read_text())
        assert [run["concurrency"] for run in told["runs"]] == [1, 3]
        for run in told["runs"]:
            assert run["requests"] == 7
            assert run["failed"] == 0
            assert run["tokens"] == 63
            assert run["time_to_first_token_ms"]["p50"] <= run["whole_answer_ms"]["p99"]
        plain = command(*shared, "--method", "none", "--rate", "50", "--json")
        assert json.loads(plain.stdout)["runs"][0]["accepted_length"] == 1.0
        assert "3 in flight" in command(*shared, "--concurrency", "3").stdout
        assert command(*shared, "--concurrency", "0").returncode == 2
        assert command(*shared, "--model", "other").returncode == 18
    assert command("bench", "serve", "--server", f"http://127.0.0.1:{free_port()}").returncode == 18
