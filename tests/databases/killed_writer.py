"""Run by test_store.py: fork a writer, kill it at a random moment, check what it left; again and again.

Usage: killed_writer.py FOLDER KILLS. Prints a JSON report; any loss or damage is an exception. Every
twentieth writer lives until it has put a pack in place, however slow the machine is.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from hierdraft.databases.pack import PackInfo, split
from hierdraft.databases.store import ModelStore, StoreOptions

INFO = PackInfo("model", 1000, "fingerprint", model="toy")
OPTIONS = StoreOptions("batch", compact_at=3_000, most_tokens=1 << 25)


def document(number: int) -> list[int]:
    """Says its number, with a tail of varying length."""
    return [number % 1000, number // 1000 % 1000, number // 1_000_000, *range(number % 40)]


def write(folder: Path, start: int, pipe: int) -> None:
    """Append documents for ever, acknowledging each."""
    store = ModelStore(folder, INFO, OPTIONS)
    number = start
    while True:
        store.append(document(number))
        number += 1
        os.write(pipe, number.to_bytes(8, "little"))


def read(folder: Path) -> tuple[list[list[int]], int]:
    """Every document on disk, and the number of packs, each of which is verified."""
    store = ModelStore(folder, INFO, OPTIONS)
    packs = store.snapshot().packs
    for pack in packs:
        pack.verify()
    texts = [*(pack.index.tokens for pack in packs), store._older.tokens, store._recent.tokens]
    found = [ids.tolist() for text in texts for ids in split(text)]
    store.close()
    return found, len(packs)


def warm_up(folder: Path) -> None:
    """Import and compile here what the children need, so that their time goes into writing."""
    store = ModelStore(folder, INFO, OPTIONS)
    store.append(document(1))
    store.compact()
    store.close()


def live(folder: Path, reader: int, chance: random.Random, until_pack: bool) -> bytes:
    """Let the writer work for a while; what it acknowledged meanwhile."""
    acknowledged = os.read(reader, 8)
    if len(acknowledged) < 8:
        raise RuntimeError("the writer ended by itself")
    current = folder / "CURRENT"
    before = current.read_bytes() if current.exists() else b""
    now = before
    while until_pack and (now == before or b"pack-" not in now):
        time.sleep(0.001)  # the writer waits too, once the pipe is full
        now = current.read_bytes() if current.exists() else b""
    time.sleep(chance.uniform(0.0, 0.015))
    return acknowledged


def main() -> None:
    """The loop."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(0)
    written = 0
    packs = 0
    warm_up(folder.with_name("warm"))
    for number in range(kills):
        reader, pipe = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                write(folder, written, pipe)
            finally:
                os._exit(1)
        os.close(pipe)
        acknowledged = live(folder, reader, chance, number % 20 == 19)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while chunk := os.read(reader, 1 << 16):
            acknowledged += chunk
        os.close(reader)
        last = int.from_bytes(acknowledged[-8:], "little")
        found, packs = read(folder)
        if len(found) < last or found != [document(number) for number in range(len(found))]:
            raise RuntimeError(f"{last} documents were acknowledged, {len(found)} found")
        written = len(found)
    sys.stdout.write(json.dumps({"kills": kills, "documents": written, "packs": packs}) + "\n")


if __name__ == "__main__":
    main()
