"""The growing database: what it keeps, what it lets go, who may write; crashes, kills and failing disks."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from hierdraft.databases import compaction, writer
from hierdraft.databases.catalog import CURRENT
from hierdraft.databases.disk import Disk
from hierdraft.databases.pack import PackInfo, split
from hierdraft.databases.store import ModelStore, StoreOptions
from hierdraft.errors import DraftWarning, StoreError
from tests.databases.disks import FailingDisk, FastDisk, RecordingDisk, crash

INFO = PackInfo("model", 1000, "fingerprint", model="toy")
SMALL = StoreOptions("always", compact_at=60)


def document(number: int) -> list[int]:
    """A document that says its number."""
    return [number % 1000, number // 1000, *range(number % 7)]


def documents_of(store: ModelStore) -> list[list[int]]:
    """Everything a request would draft from, oldest first."""
    with store._guard:  # a compaction may end at any moment
        packs, recent, older = store.snapshot()
        texts = [*(pack.index.tokens for pack in packs), store._older.tokens, store._recent.tokens]
        assert len(recent.tokens) >= len(store._recent)
        assert len(older.tokens) >= len(store._older)
    return [ids.tolist() for text in texts for ids in split(text)]


def fill(store: ModelStore, numbers: range) -> list[list[int]]:
    for number in numbers:
        store.append(document(number))
        store.wait()
    return [document(number) for number in numbers]


def test_what_was_said_is_there_at_once_and_after_reopening(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    said = fill(store, range(100))
    assert documents_of(store) == said
    packs = len(store.snapshot().packs)
    assert 1 <= packs <= 4
    assert len(store) == sum(len(ids) + 1 for ids in said)
    store.close()
    store.append([1, 2, 3])  # a closed store takes nothing
    again = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert documents_of(again) == said
    again.compact()
    assert len(again.snapshot().recent.tokens) < 60
    assert documents_of(again) == said
    for pack in again.snapshot().packs:
        pack.verify()
    again.close()
    assert {path.suffix for path in tmp_path.iterdir()} <= {"", ".journal", ".safetensors"}


def test_in_memory_keeps_the_newest(tmp_path: Path) -> None:
    for folder, durability in ((None, "batch"), (tmp_path, "none")):
        store = ModelStore(folder, INFO, StoreOptions(durability, compact_at=60))
        said = fill(store, range(200))
        kept = documents_of(store)
        assert kept == said[len(said) - len(kept) :]
        assert 60 <= len(store) <= 130
        assert not store.writes
        store.close()
    assert not list(tmp_path.iterdir())


def test_least_recently_useful_goes_first(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, StoreOptions("always", compact_at=50, most_tokens=200), FastDisk())
    numbers = iter(range(10_000))
    first = document(next(numbers))
    store.append(first)
    while len(store) < 1_000 and next(numbers) < 400:
        store.append([7, 8, 9, 10, 11, 12, 13])
        store.wait()
        for pack in store.snapshot().packs:
            starts = np.flatnonzero(pack.index.tokens == first[0])
            store.touch(pack, [int(start) for start in starts if pack.index.tokens[start + 1] == first[1]])
    assert len(store) <= 200 + 60
    assert first in documents_of(store)  # the oldest of all, but useful
    store.close()
    assert json.loads((tmp_path / CURRENT).read_bytes().split(b" ", 1)[1])["used"]
    again = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert again._used == store._used
    again.close()


def test_one_writes_and_others_read(tmp_path: Path) -> None:
    first = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    said = fill(first, range(10))
    second = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert first.writes
    assert not second.writes
    assert documents_of(second) == said
    said += fill(first, range(10, 90))
    second.append([500])  # seen here only
    second.refresh()
    assert [ids for ids in documents_of(second) if ids != [500]] == said
    first.close()
    third = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert third.writes
    assert documents_of(third) == said
    third.close()
    second.close()


def test_another_tokenizer_reads_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    fill(store, range(50))
    store.close()
    with pytest.warns(DraftWarning, match=r"made for toy \(tokenizer fingerprint, 1000 ids\), not for other"):
        other = ModelStore(tmp_path, PackInfo("model", 1000, "another", model="other"), SMALL, FastDisk())
    assert documents_of(other) == []
    other.append([1, 2])
    other.close()


def test_damage_costs_only_what_is_damaged(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    said = fill(store, range(60))
    store.close()
    pack = sorted(tmp_path.glob("*.safetensors"))[0]
    lost = len(list(store.snapshot().packs[0].documents()))
    pack.write_bytes(b"nonsense")
    (tmp_path / CURRENT).write_bytes(b"00000000 {}")
    with pytest.warns(DraftWarning, match="is not a usable pack"):
        again = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert sorted(documents_of(again)) == sorted(said[lost:])
    assert pack.with_name(pack.name + ".corrupt").exists()
    again.close()


def test_batches_reach_the_device_within_a_second(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, StoreOptions("batch"))
    assert store._writer is not None
    for number in range(5):
        store.append(document(number))
        sleep(0.05)
    started = monotonic()
    while store._writer._journal is not None and store._writer._journal.unsynced:
        assert monotonic() - started < 1.0
        sleep(0.01)
    store.close()
    assert writer.BATCH_SECONDS < 1.0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.filterwarnings("ignore::hierdraft.errors.DraftWarning")
def test_any_operation_may_fail(tmp_path: Path, code: int, lasting: bool) -> None:
    """For every n: the n-th operation (and, if lasting, every later one) fails. What `append` took is never lost."""
    number = 0
    while True:
        number += 1
        disk = FailingDisk(number, code, lasting)
        folder = tmp_path / str(number)
        taken: list[list[int]] = []
        refused: list[list[int]] = []
        try:
            store = ModelStore(folder, INFO, SMALL, disk)
        except StoreError:
            assert number < 20
            store = None
        if store is not None:
            for i in range(45):
                try:
                    store.append(document(i))
                    taken.append(document(i))
                except StoreError:
                    refused.append(document(i))
                store.wait()
            assert documents_of(store) == [document(i) for i in range(45)]
            with suppress(StoreError):
                store.close()
        again = ModelStore(folder, INFO, SMALL, FastDisk())
        found = documents_of(again)
        assert [ids for ids in found if ids not in refused] == taken
        again.append([999])
        assert [999] in documents_of(again)
        again.close()
        if store is not None and disk.count < number:
            assert not refused
            break
    assert number > 60


STATES = 2_000


@pytest.mark.parametrize("part", range(4))
def test_every_crash_state_can_be_read(tmp_path: Path, part: int) -> None:
    """Power fails after any operation, with everything unsynced lost, torn or reordered."""
    folder = tmp_path / "recorded"
    disk = RecordingDisk(folder)
    store = ModelStore(folder, INFO, StoreOptions("always", compact_at=40 + 15 * part, most_tokens=400), disk)
    for number in range(70):
        store.append(document(number))
        store.wait()
        disk.note(number)
    store.close()
    chance = random.Random(part)
    everything = [document(number) for number in range(70)]
    for state in range(STATES // 4):
        prefix = disk.log[: state % len(disk.log) + 1]
        files = crash(prefix, None if state < len(disk.log) and state % 3 == 0 else chance)
        replayed = tmp_path / "replayed"
        replayed.mkdir()
        for path, data in files.items():
            (replayed / path.name).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = ModelStore(replayed, INFO, SMALL, FastDisk())
        found = documents_of(again)
        acknowledged = max((about + 1 for what, about in prefix if what == "note"), default=0)
        assert found == everything[: len(found)] or len(found) < acknowledged  # the limit lets old ones go
        assert all(ids in everything for ids in found)
        if acknowledged and sum(len(ids) + 1 for ids in everything[:acknowledged]) < 300:
            assert found[:acknowledged] == everything[:acknowledged]
        again.append([999])
        again.close()
        last = ModelStore(replayed, INFO, SMALL, FastDisk())
        assert documents_of(last)[-1] == [999]
        last.close()
        for path in replayed.iterdir():
            path.unlink()
        replayed.rmdir()


KILLS = 100


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    """A real process is killed at random moments; everything it had acknowledged is there, whole and in order."""
    script = Path(__file__).with_name("killed_writer.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store"), str(KILLS)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] == KILLS
    assert report["documents"] > KILLS
    assert report["packs"] >= 1


def test_the_real_disk_does_all_this_too(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, INFO, SMALL, Disk())
    said = fill(store, range(30))
    store.close()
    again = ModelStore(tmp_path, INFO, SMALL)
    assert documents_of(again) == said
    again.close()


def test_a_closed_store_stays_closed(tmp_path: Path) -> None:
    threads = threading.active_count()
    store = ModelStore(tmp_path, INFO, StoreOptions("batch", compact_at=60), FastDisk())
    said = fill(store, range(10))
    store.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for number in range(100):
        store.append(document(number))
    store.compact()
    store.refresh()
    store.sync()
    store.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert documents_of(store) == said
    ends = monotonic() + 20
    while threading.active_count() > threads and monotonic() < ends:
        sleep(0.01)
    assert threading.active_count() <= threads


def test_no_thread_can_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the interpreter ends: every document is put on the device by itself, the journal is packed later."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store = ModelStore(tmp_path, INFO, StoreOptions("batch", compact_at=60), FastDisk())
    said = fill(store, range(40))
    assert store._writer is not None
    assert store._writer._journal is not None
    assert store._writer._journal.unsynced == 0
    assert documents_of(store) == said
    assert not store.snapshot().packs
    monkeypatch.undo()
    store.compact()
    assert store.snapshot().packs
    assert documents_of(store) == said
    store.close()


def test_documents_are_useful_while_a_pack_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted in one thread does not disturb the compaction in another, and is there after it."""
    store = ModelStore(tmp_path, INFO, StoreOptions("always", compact_at=1 << 20), FastDisk())
    fill(store, range(400))
    store.compact()
    (first,) = store.snapshot().packs
    places = iter(range(1 << 30))
    store.touch(first, [next(places) for _ in range(100)])
    real = compaction.Merged

    def merged(*parts: Any) -> compaction.Merged:
        store.touch(first, [next(places)])
        return real(*parts)

    class Watched(dict[int, int]):
        """Another thread comes in between."""

        def items(self) -> Any:
            for pair in super().items():
                store.touch(first, [next(places)])
                yield pair

    monkeypatch.setattr(compaction, "Merged", merged)
    store._used = {name: Watched(stamps) for name, stamps in store._used.items()}
    for _ in range(3):
        fill(store, range(400, 700))
        store.compact()
    assert len(store.snapshot().packs) <= 2
    newest = store.snapshot().packs[-1]
    store.touch(newest, [0])
    used = store._used
    store.close()
    again = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    assert again._used == used
    assert 0 in used[newest.path.name]
    again.close()


def test_a_reader_keeps_its_own_answers(tmp_path: Path) -> None:
    """Whatever the writer does, what this process has learned stays until it closes, the newest of it."""
    first = ModelStore(tmp_path, INFO, SMALL, FastDisk())
    said = fill(first, range(10))
    second = ModelStore(tmp_path, INFO, StoreOptions("always", compact_at=400), FastDisk())
    own = [[500, 501, 502], [600, 601]]
    second.append(own[0])
    said += fill(first, range(10, 90))  # several packs
    second.refresh()
    second.append(own[1])
    said += fill(first, range(90, 95))
    second.refresh()
    found = documents_of(second)
    assert [ids for ids in found if ids in own] == own
    assert [ids for ids in found if ids not in own] == said
    for number in range(400):
        second.append([700, number])
    found = documents_of(second)
    assert [ids for ids in found if ids[0] != 700] == said  # nothing of the writer's is lost
    kept = [ids for ids in found if ids[0] == 700]
    assert kept == [[700, number] for number in range(400)][-len(kept) :]
    assert 200 <= 3 * len(kept) <= 400
    second.append([800] * 900)
    second.append([801])
    assert documents_of(second)[-2:] == [[800] * 900, [801]]
    first.close()
    second.close()
