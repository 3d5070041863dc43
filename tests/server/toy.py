"""A server over a toy model, in a thread, with a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

from hierdraft.engines.toy import ToyEngine
from hierdraft.language_model import LanguageModel
from hierdraft.server.keys import Keys
from hierdraft.server.run import Server, listen
from hierdraft.server.service import Service
from tests.unit.byte_tokenizer import Bytes

HERMES = "{{ tools }} <tool_call> {{ messages }}"
LLAMA = '{{ tools }} {"name": f, "parameters": x} ipython {{ messages }}'
SILENT = "{{ messages }}"


class ChatBytes(Bytes):
    """With a chat template, whose text is not read: turns are written one after another."""

    def __init__(self, template: str | Mapping[str, str] = SILENT) -> None:
        super().__init__()
        self.chat_template = template  # type: ignore[assignment]

    def apply_chat_template(self, turns: list[dict[str, Any]], **options: Any) -> Any:
        told = [json.dumps(tool) for tool in options.get("tools") or ()]
        said = [f"{turn['role']}:{turn.get('content') or ''}{turn.get('tool_calls', '')}" for turn in turns]
        text = "\n".join([*told, *said])
        return text if options.get("tokenize") is False else [256, *self(text)["input_ids"]]


class Letters(ToyEngine):
    """Says letters, as far as it may choose."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._logits[:, _OTHERS] -= 50.0


_OTHERS = sorted(set(range(257)) - set(Bytes()("abcdefgh")["input_ids"]))


def toy_model(seed: int = 3, template: Any = SILENT, **options: Any) -> LanguageModel:
    """Its answers repeat themselves, so that there is something to draft from."""
    return LanguageModel(Letters(seed, 257, memory=2, eos_ids=(256,)), ChatBytes(template), "toy", **options)


@cache
def compiled() -> None:
    """Have the kernels compiled, by a model of its own: that may take longer than a client waits."""
    with toy_model() as model:
        model.warm_up()


@contextmanager
def served(model: LanguageModel, keys: Keys | None = None, **options: Any) -> Iterator[tuple[str, Service]]:
    """A running server: its address and its service. `options`: of `Service` and `Server`."""
    chosen = {name: options.pop(name) for name in ("hosts", "drain") if name in options}
    compiled()
    service = Service(model, "toy", keys or Keys.none("default"), **options)
    began = threading.Event()
    server = Server(service, ready=began.set, **chosen)
    with closing(listen("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        assert began.wait(20)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", service
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def events(lines: Sequence[str]) -> list[Any]:
    """The data of events; the last of OpenAI's stays a text."""
    data = [line[6:] for line in lines if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
