"""What one key can learn of what another one has said: nothing, where they have namespaces of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from hierdraft.bench.metrics import area_under_curve
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import PackInfo
from hierdraft.engines.toy import ToyEngine
from hierdraft.language_model import LanguageModel
from hierdraft.server.keys import Keys
from tests.server.toy import ChatBytes, Letters, events, served

SECRETS = 40
NOISE = 4
"""Events, and rows, that one answer may have more than another: what comes together is sent together."""


@contextmanager
def two_keys(folder: Path, namespaces: tuple[str, str], engine: ToyEngine) -> Iterator[httpx.Client]:
    """A server that two tenants ask, whose texts go on in their own way behind every prompt."""
    file = folder / "keys.toml"
    rows = zip("ab", namespaces, strict=True)
    file.write_text("".join(f"[[key]]\nkey = 'the-key-of-tenant-{name}'\nnamespace = '{own}'\n" for name, own in rows))
    databases = Databases((), Namespaces(folder / "said", PackInfo("model", 257, "fingerprint", model="toy")))
    model = LanguageModel(engine, ChatBytes(), "toy", databases)
    with served(model, Keys.read(file)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def ask(client: httpx.Client, name: str, text: str, **more: Any) -> httpx.Response:
    messages = [{"role": "user", "content": text}]
    given = {"model": "toy", "messages": messages, "max_tokens": 60, **more}
    return client.post("/v1/chat/completions", json=given, headers={"x-api-key": f"the-key-of-tenant-{name}"})


def test_learned_text_stays_in_its_namespace(tmp_path: Path) -> None:
    """One key teaches a canary; another one is never offered it, while the first is."""
    told = {"hierdraft": {"provenance": True, "trace": True, "budget": 8}}
    with two_keys(tmp_path, ("a", "b"), ToyEngine(4, 257, memory=None)) as client:
        first, again, other = (ask(client, name, "a canary in a mine", **told).json() for name in "aab")
    assert again["metrics"]["speculative_decoding"][0]["by_level"]["model"]["accepted"] > 30
    assert other["metrics"]["speculative_decoding"][0]["by_level"].get("model", {"proposed": 0})["proposed"] == 0
    steps = [len(told["choices"][0]["hierdraft"]["steps"]) for told in (first, again, other)]
    assert steps[1] < steps[0] == steps[2]


class Counted(Letters):
    """Counts the rows of prompts that it reads."""

    read = 0

    def forward(self, parts: Any) -> Any:
        self.read += sum(len(part.tokens) for part in parts)
        return super().forward(parts)


def attacked(folder: Path, namespaces: tuple[str, str]) -> tuple[float, float]:
    """How well the second tenant tells which prompts the first one has sent: by the events that it is sent itself, and
    by what has to be read before the first of them. 0.5 is guessing, 1.0 is always right."""
    chance = random.Random(7)
    secrets = ["".join(chance.choices("abcdefgh ", k=90)) for _ in range(SECRETS)]
    told = set(chance.sample(secrets, SECRETS // 2))
    engine = Counted(4, 257, memory=None)
    counts: dict[bool, list[float]] = {True: [], False: []}
    rows: dict[bool, list[float]] = {True: [], False: []}
    with two_keys(folder, namespaces, engine) as client:
        for secret in secrets:
            if secret in told:
                ask(client, "a", secret, hierdraft={"budget": 8})
            before = engine.read
            answer = ask(client, "b", secret, stream=True, hierdraft={"budget": 8})
            counts[secret in told].append(-len(events(answer.text.splitlines())))
            rows[secret in told].append(before - engine.read)
    return area_under_curve(counts[True], counts[False], NOISE), area_under_curve(rows[True], rows[False], NOISE)


def test_who_counts_events_and_reading_cannot_tell_what_others_have_asked(tmp_path: Path) -> None:
    """Where two keys share a namespace the same attack finds all of it: it is a good one."""
    (tmp_path / "apart").mkdir()
    (tmp_path / "shared").mkdir()
    apart, shared = attacked(tmp_path / "apart", ("a", "b")), attacked(tmp_path / "shared", ("a", "a"))
    assert all(abs(one - 0.5) <= 0.05 for one in apart), apart
    assert min(shared) >= 0.9, shared
