"""Servers of others on this machine, for benchmarks/serving_rivals.py; each prints its address as JSON when it answers.

    python benchmarks/rival_servers.py llama FILE.gguf [--lookup ngram-cache] [--lookup ngram-simple:3:5]
    python benchmarks/rival_servers.py genai FOLDER [--lookup 5]

`llama` is llama.cpp's own server (from the package xllamacpp, which may live in an environment of its own: nothing of
hierdraft is imported here); behind a kind of lookup may stand how many tokens it looks for and how many it drafts.
GenAI has no server that can be installed with pip: `genai` puts the least around its continuous batching that an OpenAI
client needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any


def llama(path: str, threads: int, slots: int, lookup: str | None) -> None:
    """llama.cpp's server with its own settings but for threads, slots, their context and how it drafts."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = path, {"rival"}
    params.n_parallel, params.n_ctx = slots, slots * 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.port, params.verbosity = 0, 0
    if lookup is not None:
        name, *sizes = lookup.replace("-", "_").split(":")
        kind = f"COMMON_SPECULATIVE_TYPE_{name.upper()}"
        params.speculative.types = [getattr(xllamacpp.common_speculative_type, kind)]
        if sizes:
            own = getattr(params.speculative, name)
            own.size_n, own.size_m = map(int, sizes)
    server = xllamacpp.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()


class GenAI:
    """Continuous batching in a thread; whoever asks gets ids as they come."""

    def __init__(self, folder: str, threads: int, lookup: int) -> None:
        import openvino_genai
        from transformers import AutoTokenizer

        self._genai = openvino_genai
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        options = {"INFERENCE_NUM_THREADS": threads} | ({"prompt_lookup": True} if lookup else {})
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", options)
        self._lookup, self._number = lookup, 0
        self._asked: deque[tuple[list[int], int, Any]] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    async def answer(self, ids: list[int], most: int) -> AsyncIterator[list[int]]:
        """Its ids, as they come."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[list[int] | None]()
        with self._changed:
            self._asked.append((ids, most, lambda new: loop.call_soon_threadsafe(queue.put_nowait, new)))
            self._changed.notify()
        while (new := await queue.get()) is not None:
            yield new

    def _add(self, ids: list[int], most: int) -> Any:
        import numpy as np
        import openvino

        eos = self.tokenizer.eos_token_id
        config = self._genai.GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=eos)
        config.stop_token_ids = {eos}
        if self._lookup:
            config.num_assistant_tokens, config.max_ngram_size = self._lookup, 3
        self._number += 1
        return self._pipeline.add_request(self._number, openvino.Tensor(np.array([ids], dtype=np.int64)), config)

    def _work(self) -> None:
        flying: list[tuple[Any, Any]] = []
        while True:
            with self._changed:
                while not self._asked and not flying:
                    self._changed.wait()
                asked = list(self._asked)
                self._asked.clear()
            flying += [(self._add(ids, most), tell) for ids, most, tell in asked]
            self._pipeline.step()
            for handle, tell in list(flying):
                while handle.can_read():
                    for part in handle.read().values():
                        tell(list(part.generated_ids))
                if handle.get_status() != self._genai.GenerationStatus.RUNNING:
                    flying.remove((handle, tell))
                    tell(None)


def genai(folder: str, threads: int, lookup: int) -> None:
    """Streams chat completions; nothing else."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    model = GenAI(folder, threads, lookup)

    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        ids = model.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=False)

        async def events() -> AsyncIterator[str]:
            count = 0
            async for new in model.answer(ids, body["max_tokens"]):
                count += len(new)
                choice = {"index": 0, "delta": {"content": model.tokenizer.decode(new)}, "finish_reason": None}
                yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            usage = {"prompt_tokens": len(ids), "completion_tokens": count, "total_tokens": len(ids) + count}
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("llama", "genai"))
    parser.add_argument("path")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--lookup")
    args = parser.parse_args()
    if args.kind == "llama":
        llama(args.path, args.threads, args.slots, args.lookup)
    else:
        genai(args.path, args.threads, int(args.lookup or 0))


if __name__ == "__main__":
    main()
