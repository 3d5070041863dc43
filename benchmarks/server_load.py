"""What the server adds to a token, and what rude clients leave behind, with a toy model.

    python benchmarks/server_load.py                # five minutes of 64 streams, and 2,000 rude cycles
    python benchmarks/server_load.py --seconds 30 --cycles 200

The server runs in a process of its own over a toy model whose forward takes 20 ms; clients are here. Every step says
when it was over, by the clock that both processes share; what the server adds is the time from then until its event is
read.
benchmarks/server-load.json is the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np

from common import ROOT, machine, write

STEP = 0.02
_AT = re.compile(rb'"at": ?([0-9.]+)')
ANSWER = 200
"""Tokens."""


def serve(most: int) -> None:
    """The process of the server; `most` requests share a forward."""
    sys.path.insert(0, str(ROOT))
    from contextlib import closing

    from tests.server.toy import ChatBytes, Letters

    from hierdraft.server.keys import Keys
    from hierdraft.server.run import Server, listen
    from hierdraft.server.run import serve as run
    from hierdraft.server.service import Limits, Service

    class Slow(Letters):
        """Its forward takes as long as one on a small machine, in a library that lets other threads work."""

        def forward(self, parts: Any) -> Any:
            until = time.perf_counter() + STEP
            scored = super().forward(parts)
            time.sleep(max(0.0, until - time.perf_counter()))
            return scored

    from hierdraft.language_model import LanguageModel

    engine = Slow(3, 257, memory=2)
    with (
        closing(listen("127.0.0.1", 0)) as listening,
        LanguageModel(engine, ChatBytes(), "toy", max_requests=most) as model,
    ):
        model.warm_up()
        service = Service(model, "toy", Keys.none("default"), Limits(slow=2.0, unread=2.0))
        told = {"url": f"http://127.0.0.1:{listening.getsockname()[1]}", "pid": os.getpid()}
        run(Server(service, ready=lambda: print(json.dumps(told), flush=True)), listening)


def memory(pid: int) -> float:
    """MB of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def body(tokens: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "abcabc"}]
    return {"model": "toy", "messages": messages, "max_tokens": tokens, "stream": True, **more}


class Reader(asyncio.Protocol):
    """One connection with one answer after another until the time is over. What comes is not parsed but looked through
    for the times of steps: this process has the same two cores as the server."""

    def __init__(self, port: int, share: float, until: float, over: asyncio.Future[int]) -> None:
        """
        share  of the first answer that is asked for, so that not all begin and end together
        over   gets the number of answers
        """
        self._port, self._until, self._over = port, until, over
        self._asked = max(1, int(ANSWER * share))
        self.added: list[float] = []
        self.wanted = self._answers = 0

    def _ask(self) -> None:
        data = json.dumps(body(self._asked, hierdraft={"method": "none", "trace": True})).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json"
        self._transport.write(f"{head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        self.wanted += self._asked
        self._asked = ANSWER

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.added += [now - float(at) for at in _AT.findall(data)]
        if b"data: [DONE]" not in data:
            return
        self._answers += 1
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._over.set_result(self._answers)


async def reading(port: int, count: int, seconds: float) -> tuple[list[float], int, int]:
    """Seconds that each token took to arrive; how many tokens were asked for; answers."""
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    over = [loop.create_future() for _ in range(count)]
    readers = [Reader(port, (number + 1) / count, until, one) for number, one in enumerate(over)]
    for reader in readers:
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)
    answers = await asyncio.gather(*over)
    wanted = sum(reader.wanted for reader in readers)
    return [added for reader in readers for added in reader.added], wanted, sum(answers)


async def streams(url: str, pid: int, count: int, seconds: float) -> dict[str, Any]:
    port = int(url.rpartition(":")[2])
    await reading(port, count, 10)
    before = memory(pid)
    began = time.perf_counter()
    added, wanted, answers = await reading(port, count, seconds)
    took = time.perf_counter() - began
    after = memory(pid)
    spread = {f"p{share}": round(float(np.percentile(added, share)) * 1e3, 3) for share in (50, 90, 99, 99.9)}
    return {
        "streams": count, "seconds": seconds, "answers": answers, "tokens": len(added),
        "missing": wanted - len(added), "tokens_per_second": round(len(added) / took), "added_ms": spread,
        "memory_mb": [round(before, 1), round(after, 1)], "growth": round(after / before - 1.0, 4),
    }  # fmt: skip


async def rude(url: str, number: int) -> None:
    """Half a request, a reset, a reader that stops, or one that leaves."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body(60_000, stream=number % 2 == 0, hierdraft={"method": "none"}))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    sent = f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode()
    writer.write(sent[: len(sent) // 2] if number % 5 == 0 else sent)
    await writer.drain()
    try:
        if number % 3 == 0:
            await asyncio.wait_for(reader.read(300), 0.1)
        elif number % 7 == 0:
            await asyncio.sleep(0.3)
    except TimeoutError:
        pass
    if number % 4 == 0:
        writer.transport.abort()
    else:
        writer.close()


async def cycles(url: str, pid: int, count: int) -> dict[str, Any]:
    folder = Path(f"/proc/{pid}/fd")
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await client.post("/v1/chat/completions", json=body(5))
        before, began = len(list(folder.iterdir())), time.perf_counter()
        for start in range(0, count, 40):
            await asyncio.gather(*(rude(url, number) for number in range(start, min(count, start + 40))))
        flooded, slots = time.perf_counter(), [None]
        while slots and time.perf_counter() < flooded + 30:
            slots = (await client.get("/slots")).json()
        cleared = time.perf_counter() - flooded
        await asyncio.sleep(3)
        lines = (await client.get("/metrics")).text.splitlines()
        running = [
            line for line in lines if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
        ]
        answered = (await client.post("/v1/chat/completions", json=body(5))).status_code
    return {
        "cycles": count, "seconds": round(flooded - began, 1), "requests_left": len(slots),
        "cleared_after_s": round(cleared, 2),
        "in_scheduler": running, "descriptors": [before, len(list(folder.iterdir()))], "answers_after": answered,
    }  # fmt: skip


@contextmanager
def server(most: int) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address, and the number of the process."""
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(most)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    try:
        yield told["url"], told["pid"]
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    found = []
    for count, most in ((1, 16), (16, 16), (64, 16), (64, 64)):
        with server(most) as (url, pid):
            seconds = args.seconds if most == count == 64 else args.seconds / 10
            found.append({"in_flight": most} | asyncio.run(streams(url, pid, count, seconds)))
            print(found[-1], flush=True)
            if len(found) == 4:
                left = asyncio.run(cycles(url, pid, args.cycles))
    print(left, flush=True)
    write("server-load", {"machine": machine(), "settings": {"step_ms": STEP * 1e3}, "load": found, "rude": left})


if __name__ == "__main__":
    main()
