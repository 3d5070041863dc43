"""Whether one key of the server can tell what another one has asked: an attacker with a stop watch.

    python benchmarks/tenants.py

SmolLM2-135M on OpenVINO. For each of many made-up notes, by the toss of a coin, one tenant asks about it; then another
one asks the same, and looks at its own answer: how many events it comes in, how long until the first, how long in all.
The area under the curve says how well each of these tells the notes that were asked about: 0.5 is guessing, 1.0 is
always right. Where the tenants have namespaces of their own it should be guessing; where they share one, it shows that
the attack is a good one. benchmarks/tenants.json is the result.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

from common import machine, write
from hierdraft.bench.metrics import area_under_curve
from serving import MODEL, server

LAYOUTS = {"namespaces of their own": "ab", "one namespace": "aa"}
NAMES = ("Okafor", "Lindqvist", "Moreau", "Tanaka", "Petrov", "Haddad", "Silva", "Novak", "Brandt", "Osei")
TOWNS = ("Bergen", "Porto", "Gdansk", "Leeds", "Lyon", "Graz", "Turku", "Bari", "Cork", "Ghent", "Varna", "Malmo")
WHATS = ("a broken wrist", "a bad cough", "high blood pressure", "a swollen knee", "a rash", "migraine", "back pain")


def note(chance: random.Random) -> str:
    """Something that nobody else would ask about."""
    name, town, what = chance.choice(NAMES), chance.choice(TOWNS), chance.choice(WHATS)
    number, day, dose = chance.randrange(10**6, 10**7), chance.randrange(1, 28), chance.randrange(5, 95)
    return (
        f"Patient {name}, number {number}, from {town}, was seen on the {day}th of March with {what}. The doctor gave "
        f"{dose} mg twice a day for {dose % 9 + 2} weeks and asked for a second visit. Write the letter to the family "
        f"doctor of {name} in {town}."
    )


@contextmanager
def two_keys(folder: Path, namespaces: str, args: argparse.Namespace) -> Iterator[str]:
    """A server with two keys, `the-key-of-tenant-0` and `-1`; what it learns lies in `folder`."""
    folder.mkdir()
    rows = [f"[[key]]\nkey = 'the-key-of-tenant-{n}'\nnamespace = '{own}'\n" for n, own in enumerate(namespaces)]
    (folder / "keys.toml").write_text("".join(rows))
    keys = "--api-keys", str(folder / "keys.toml")
    with server(args.dtype, args.threads, *keys, environment={"HIERDRAFT_DATA_DIR": str(folder)}) as (url, _):
        yield url


def ask(client: httpx.Client, tenant: int, text: str, tokens: int) -> dict[str, float]:
    """What the tenant sees of its own answer; what tells of another one's words is higher."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True,
            "ignore_eos": True}  # fmt: skip
    headers = {"Authorization": f"Bearer the-key-of-tenant-{tenant}"}
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        times = [
            time.perf_counter()
            for line in response.iter_lines()
            if line.startswith("data: {") and '"content": ""' not in line
        ]
    return {"events": -len(times), "first": began - times[0], "whole": began - times[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--notes", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    seen: dict[str, dict[bool, list[dict[str, float]]]] = {layout: {True: [], False: []} for layout in LAYOUTS}
    with tempfile.TemporaryDirectory() as folder:
        for layout, namespaces in LAYOUTS.items():
            chance = random.Random(0)
            with (
                two_keys(Path(folder) / namespaces, namespaces, args) as url,
                httpx.Client(base_url=url, timeout=60) as client,
            ):
                for _ in range(args.notes):
                    text, told = note(chance), chance.random() < 0.5
                    if told:
                        ask(client, 0, text, args.tokens)
                    seen[layout][told].append(ask(client, 1, text, args.tokens))
    found = {
        layout: {
            what: round(area_under_curve([one[what] for one in both[True]], [one[what] for one in both[False]]), 3)
            for what in ("events", "first", "whole")
        } | {"asked": len(both[True]), "not_asked": len(both[False])}
        for layout, both in seen.items()
    }  # fmt: skip
    print(found)
    write("tenants", {"machine": machine(), "settings": vars(args), "layouts": found})


if __name__ == "__main__":
    main()
