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
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np

from common import ROOT, machine, write

STREAMS, STEP = 64, 0.02
EVENT_TOKENS = 200


def serve() -> None:
    """The process of the server."""
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

    engine = Slow(3, 257, memory=2, eos_ids=(256,))
    with (
        closing(listen("127.0.0.1", 0)) as listening,
        LanguageModel(engine, ChatBytes(), "toy", max_requests=STREAMS) as model,
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
    return {
        "model": "toy",
        "messages": messages,
        "max_tokens": tokens,
        "logit_bias": {"256": -100},
        "stream": True,
        **more,
    }


async def stream(client: httpx.AsyncClient, until: float, added: list[float], counts: dict[str, int]) -> None:
    """Answers one after another until the time is over."""
    given = body(EVENT_TOKENS, hierdraft={"method": "none", "trace": True})
    while time.perf_counter() < until:
        tokens = 0
        async with client.stream("POST", "/v1/chat/completions", json=given) as response:
            async for line in response.aiter_lines():
                now = time.perf_counter()
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        for step in choice.get("hierdraft", {}).get("steps", ()):
                            added.append(now - step["at"])
                            tokens += len(step["tokens"])
        counts["answers"] += 1
        counts["errors"] += tokens != EVENT_TOKENS


async def streams(url: str, pid: int, seconds: float) -> dict[str, Any]:
    added: list[float] = []
    counts = {"answers": 0, "errors": 0}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await asyncio.gather(
            *(stream(client, time.perf_counter() + 10, [], {"answers": 0, "errors": 0}) for _ in range(STREAMS))
        )
        before, until = memory(pid), time.perf_counter() + seconds
        await asyncio.gather(*(stream(client, until, added, counts) for _ in range(STREAMS)))
        after = memory(pid)
    spread = {f"p{share}": round(float(np.percentile(added, share)) * 1e3, 3) for share in (50, 90, 99, 99.9)}
    return {
        "streams": STREAMS, "seconds": seconds, **counts, "tokens": len(added), "added_ms": spread,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    try:
        found = asyncio.run(streams(told["url"], told["pid"], args.seconds))
        print(found, flush=True)
        left = asyncio.run(cycles(told["url"], told["pid"], args.cycles))
        print(left, flush=True)
    finally:
        process.terminate()
        process.wait(60)
    write("server-load", {"machine": machine(), "settings": {"step_ms": STEP * 1e3}, "load": found, "rude": left})


if __name__ == "__main__":
    main()
