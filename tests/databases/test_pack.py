"""Packs and journals on disk: what is written is read; what is damaged, foreign or hostile is refused by name."""

from __future__ import annotations

import errno
import json
import random
import resource
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hierdraft.databases import journal
from hierdraft.databases.merge import build_pack, merge_packs
from hierdraft.databases.pack import Pack, PackInfo, join, write_bare, write_pack
from hierdraft.databases.packfile import MAX_HEADER
from hierdraft.databases.suffixarray import END, Index, match
from hierdraft.databases.suffixsort import build
from hierdraft.errors import PackError
from tests.databases.disks import FailingDisk, FastDisk

INFO = PackInfo("model", 50, "f" * 64, model="toy", source="tests", licence="none", builder="tests")
IDENTITY: journal.Identity = {"tokenizer": "f" * 64, "vocab_size": 50}
DOCUMENTS = [np.array([i, (i * 7) % 50, *range(i % 11)], dtype=np.int32) for i in range(40)]


def make_pack(path: Path, documents: list[np.ndarray] = DOCUMENTS, info: PackInfo = INFO) -> Pack:
    return write_pack(path, build(join(documents), info.vocab_size), info, FastDisk())


def test_a_pack_is_what_was_written(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a.safetensors")
    pack.verify()
    assert [ids.tolist() for ids in pack.documents()] == [ids.tolist() for ids in DOCUMENTS]
    assert (pack.info.tokens, pack.info.documents) == (sum(map(len, DOCUMENTS)), len(DOCUMENTS))
    assert replace(pack.info, tokens=0, documents=0, checksums={}) == INFO
    index = build(join(DOCUMENTS), 50)
    for stored, array in zip(pack.index, index, strict=True):
        assert (stored == array).all()
        assert not stored.flags.writeable
    assert match(pack.index, [1, 7]) == match(index, [1, 7])


def test_any_reader_of_the_format_can_open_it(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a.safetensors")
    arrays = load_file(pack.path)
    assert sorted(arrays) == ["starts", "suffixes", "tokens"]
    assert (arrays["tokens"] == pack.index.tokens).all()


def test_the_same_text_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (make_pack(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert first.path.read_bytes() == second.path.read_bytes()


def test_an_empty_pack_is_a_pack(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a.safetensors", [])
    pack.verify()
    assert match(pack.index, [1]) == {}


def test_another_tokenizer_is_refused_with_both_names(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a.safetensors")
    pack.require(tokenizer="f" * 64, vocab_size=64, name="padded")
    pack.require(tokenizer="", vocab_size=50, name="bare ids")
    with pytest.raises(PackError, match=r"made for toy \(tokenizer ffff.*50 ids\), not for other \(tokenizer 0000"):
        pack.require(tokenizer="0" * 64, vocab_size=50, name="other")
    with pytest.raises(PackError, match=r"made for toy .*50 ids\): too many ids for small .*49 ids"):
        pack.require(tokenizer="f" * 64, vocab_size=49, name="small")


def rewrite(pack: Pack, path: Path, change: object) -> Path:
    """The pack with its header changed by `change(header)`."""
    data = pack.path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)  # type: ignore[operator]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


HEADERS = [
    ("format", lambda h: h["__metadata__"].update(format="other-1"), "format is not"),
    ("no metadata", lambda h: h.pop("__metadata__"), "format is not"),
    ("level", lambda h: h["__metadata__"].update(level='"context"'), "level is 'context'"),
    ("vocabulary", lambda h: h["__metadata__"].update(vocab_size="0"), "vocabulary has 0 ids"),
    ("larger vocabulary", lambda h: h["__metadata__"].update(vocab_size="51"), "do not fit together"),
    ("type", lambda h: h["__metadata__"].update(vocab_size='"50"'), "vocab_size is missing or wrong"),
    ("deep", lambda h: h["__metadata__"].update(checksums="[" * 100_000), "usable pack"),
    ("dtype", lambda h: h["tokens"].update(dtype="F32"), "tokens are not int32"),
    ("shape", lambda h: h["tokens"].update(shape=[1, *h["tokens"]["shape"]]), "tokens are not int32"),
    ("name", lambda h: h.update(other=h.pop("tokens")), "holds the arrays"),
    ("overlap", lambda h: h["tokens"].update(data_offsets=h["suffixes"]["data_offsets"]), "usable pack"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS])
def test_a_wrong_header_is_named(tmp_path: Path, change: object, message: str) -> None:
    path = rewrite(make_pack(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", change)
    with pytest.raises(PackError, match=message):
        Pack.open(path)


def test_files_that_are_no_packs(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot be read: No such file"):
        Pack.open(tmp_path / "missing")
    for data in (b"", b"1234", b"\xff" * 64, struct.pack("<Q", MAX_HEADER + 8) + b"{" * (MAX_HEADER + 64)):
        (tmp_path / "b").write_bytes(data)
        with pytest.raises(PackError, match="no safetensors header"):
            Pack.open(tmp_path / "b")


def test_verify_finds_every_flipped_byte(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "a.safetensors")
    data = bytearray(pack.path.read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    for place in range(begin, len(data), 17):
        damaged = data.copy()
        damaged[place] ^= 1 << place % 8
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(PackError, match="is damaged: its"):
            Pack.open(tmp_path / "b").verify()


def test_a_pack_built_in_parts_holds_the_same(tmp_path: Path) -> None:
    """Also from a generator, which is asked for no more than a part at a time; one part is built as ever."""
    told: list[tuple[int, int]] = []
    path = tmp_path / "all.safetensors"
    built = build_pack(path, iter(DOCUMENTS), INFO, lambda *done: told.append(done), part=100)
    built.verify()
    assert sorted(map(bytes, built.documents())) == sorted(map(bytes, DOCUMENTS))
    assert built.info.documents == len(list(built.documents()))
    whole = build(join(DOCUMENTS), 50)
    for query in range(50):
        assert match(built.index, [query, 3]) == match(whole, [query, 3])
    assert told[-1][0] == told[-1][1] > 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    same = make_pack(tmp_path / "same.safetensors", DOCUMENTS)
    alone = build_pack(tmp_path / "one.safetensors", DOCUMENTS, INFO, lambda *_: told.clear())
    assert same.path.read_bytes() == alone.path.read_bytes()
    assert told

    def stopped() -> Iterator[Any]:
        yield from DOCUMENTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_pack(tmp_path / "none.safetensors", stopped(), INFO, lambda *_: None, part=100)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ValueError, match="there is no text"):
        build_pack(path, [], INFO, lambda *_: None)


def test_merging_is_building_together(tmp_path: Path) -> None:
    parts = [DOCUMENTS[:5], DOCUMENTS[5:6], DOCUMENTS[6:30], DOCUMENTS[30:]]
    packs = [make_pack(tmp_path / f"{i}.safetensors", part) for i, part in enumerate(parts)]
    told: list[tuple[int, int]] = []
    merged = merge_packs(packs, tmp_path / "all.safetensors", INFO, lambda done, all_: told.append((done, all_)))
    merged.verify()
    whole = build(join(DOCUMENTS), 50)
    assert sorted(map(bytes, merged.documents())) == sorted(map(bytes, DOCUMENTS))
    for query in range(50):
        for other in range(8):
            assert match(merged.index, [query, other]) == match(whole, [query, other])
    assert told[-1][0] == told[-1][1]
    assert not list(tmp_path.glob(".merge-*"))
    damaged = bytearray(packs[1].path.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(PackError, match="is damaged"):
        merge_packs([packs[0], Pack.open(tmp_path / "damaged")], tmp_path / "x", INFO, lambda *_: None)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_pack_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a.safetensors"
    before = make_pack(path).path.read_bytes()
    index = build(join(DOCUMENTS[:3]), 50)
    number = 0
    while True:
        number += 1
        disk = FailingDisk(number, code)
        try:
            write_pack(path, index, INFO, disk)
        except PackError:
            if disk.count == number:
                assert path.read_bytes() == before or [*tmp_path.iterdir()] == [path]
                Pack.open(path).verify()
            continue
        assert disk.count < number
        break
    assert number > 6
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


MUTANTS = 25_000


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A few bytes flipped, set, cut out, doubled or moved."""
    mutant = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if not mutant:
            break
        place = chance.randrange(len(mutant)) if chance.random() < 0.5 else chance.randrange(min(1200, len(mutant)))
        size = chance.choice((1, 1, 2, 4, 8, 64))
        kind = chance.randrange(6)
        if kind == 0:
            mutant[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            mutant[place : place + size] = bytes(chance.choice((0, 255, 127, 128, 57)) for _ in range(size))
        elif kind == 2:
            del mutant[place : place + size]
        elif kind == 3:
            mutant[place:place] = mutant[place : place + size]
        elif kind == 4:
            del mutant[place:]
        else:
            other = chance.randrange(len(mutant))
            mutant[place : place + size] = mutant[other : other + size]
    return bytes(mutant)


def peak() -> int:
    """Most memory this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("part", range(5))
def test_mutated_packs(tmp_path: Path, part: int) -> None:
    """A typed error or a read that keeps to the vocabulary; never a crash, a hang or a memory bomb."""
    pack = make_pack(tmp_path / "a.safetensors")
    original = pack.path.read_bytes()
    chance = random.Random(part)
    query = np.array([1, 7, 0], dtype=np.int32)
    match(pack.index, query)
    path, before, refused, slowest = tmp_path / "b", peak(), 0, 0.0
    for _ in range(MUTANTS // 5):
        mutant = mutate(original, chance)
        path.write_bytes(mutant)
        started = perf_counter()
        try:
            found = Pack.open(path)
            for counts in match(found.index, query).values():
                assert all(0 <= token < found.info.vocab_size for token in counts)
            found.verify()
            assert [ids.tolist() for ids in found.documents()] == [ids.tolist() for ids in DOCUMENTS]
        except PackError:
            refused += 1
        slowest = max(slowest, perf_counter() - started)
    assert refused > MUTANTS // 10
    assert slowest < 1.0
    assert peak() - before < 2 * len(original) + (64 << 20)


@pytest.mark.parametrize("part", range(5))
def test_mutated_journals(tmp_path: Path, part: int) -> None:
    """Whole records up to the first damaged one, or nothing."""
    path = tmp_path / "1.journal"
    original = journal.header(IDENTITY) + b"".join(journal.encode(ids) for ids in DOCUMENTS)
    chance = random.Random(part)
    said = [ids.tolist() for ids in DOCUMENTS]
    before, whole, slowest = peak(), 0, 0.0
    for _ in range(MUTANTS // 5):
        path.write_bytes(mutate(original, chance))
        started = perf_counter()
        found = journal.replay(path, IDENTITY, 50)
        slowest = max(slowest, perf_counter() - started)
        if found is not None:
            documents = [ids.tolist() for ids in found.documents]
            assert found.length <= path.stat().st_size
            # A record may be doubled or missing as a whole; none is ever another text.
            assert all(ids in said for ids in documents)
            whole += len(documents)
        journal.documents_in(path)
    assert whole > MUTANTS
    assert slowest < 1.0
    assert peak() - before < 2 * len(original) + (64 << 20)


def test_a_journal_of_another_model_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "1.journal"
    path.write_bytes(journal.header(IDENTITY) + journal.encode(DOCUMENTS[3]))
    assert journal.replay(path, {**IDENTITY, "tokenizer": "x"}, 50) is None
    found = journal.replay(path, IDENTITY, 5)
    assert found is not None
    assert found.documents == []  # its ids lie outside that vocabulary
    assert [ids.tolist() for ids in journal.documents_in(path)] == [DOCUMENTS[3].tolist()]


def test_an_index_too_large_for_its_numbers_is_refused() -> None:
    huge = np.broadcast_to(np.int32(1), (2**31,))
    with pytest.raises(ValueError, match="make several"):
        build(huge, 5)
    assert isinstance(build(huge[:3].copy(), 5), Index)


# without an index


def make_bare(path: Path, vocab_size: int = 50) -> Pack:
    return write_bare(path, join(DOCUMENTS), replace(INFO, vocab_size=vocab_size))


@pytest.mark.parametrize("vocab_size", [50, 65_535, 65_536, 200_000])
def test_a_pack_without_an_index_is_the_same_pack(tmp_path: Path, vocab_size: int) -> None:
    bare = make_bare(tmp_path / "a.safetensors", vocab_size)
    whole = make_pack(tmp_path / "b.safetensors", info=replace(INFO, vocab_size=vocab_size))
    bare.verify()
    for ours, theirs in zip(bare.index, whole.index, strict=True):
        assert ours.dtype == theirs.dtype == np.int32
        assert (ours == theirs).all()
    assert [ids.tolist() for ids in bare.documents()] == [ids.tolist() for ids in DOCUMENTS]
    assert replace(bare.info, checksums={}) == replace(whole.info, checksums={})
    assert load_file(bare.path)["tokens"].dtype == (np.uint16 if vocab_size <= 65_535 else np.int32)


def test_ids_at_the_edge_of_sixteen_bits(tmp_path: Path) -> None:
    """The largest id of the largest vocabulary that fits, beside the number that ends a document."""
    tokens = np.array([65_534, 0, END, 65_534, END], dtype=np.int32)
    pack = write_bare(tmp_path / "a.safetensors", tokens, replace(INFO, vocab_size=65_535))
    assert pack.index.tokens.tolist() == tokens.tolist()


def test_an_index_is_kept_and_found_again(tmp_path: Path) -> None:
    bare, kept = make_bare(tmp_path / "a.safetensors"), tmp_path / "cache" / "indexes"
    first = Pack.open(bare.path, kept)
    (file,) = kept.iterdir()
    before = file.stat().st_mtime_ns
    again = Pack.open(bare.path, kept)
    assert file.stat().st_mtime_ns == before
    assert first.path == again.path == bare.path
    assert all((a == b).all() for a, b in zip(again.index, bare.index, strict=True))
    assert not again.index.suffixes.flags.writeable  # mapped, not built


@pytest.mark.parametrize("damage", ["cut", "other pack", "flipped", "empty"])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: str) -> None:
    bare, kept = make_bare(tmp_path / "a.safetensors"), tmp_path / "indexes"
    Pack.open(bare.path, kept)
    (file,) = kept.iterdir()
    data = file.read_bytes()
    other = make_pack(tmp_path / "b.safetensors", DOCUMENTS[:5]).path.read_bytes()
    file.write_bytes({"cut": data[:-9], "other pack": other, "flipped": b"x" + data[1:], "empty": b""}[damage])
    again = Pack.open(bare.path, kept)
    assert all((a == b).all() for a, b in zip(again.index, bare.index, strict=True))
    assert file.read_bytes() == data


def test_an_index_that_cannot_be_kept_is_built_each_time(tmp_path: Path) -> None:
    bare = make_bare(tmp_path / "a.safetensors")
    (tmp_path / "file").write_text("in the way")
    again = Pack.open(bare.path, tmp_path / "file")
    assert all((a == b).all() for a, b in zip(again.index, bare.index, strict=True))


def test_every_flipped_byte_of_a_pack_without_an_index_is_found_when_it_is_opened(tmp_path: Path) -> None:
    data = bytearray(make_bare(tmp_path / "a.safetensors").path.read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    for place in range(begin, len(data)):
        damaged = data.copy()
        damaged[place] ^= 1 << place % 8
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(PackError, match="not what was written"):
            Pack.open(tmp_path / "b")


def test_what_cannot_be_a_pack_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary of 50"):
        write_bare(tmp_path / "a", np.array([50], dtype=np.int32), INFO)
    lying = rewrite(make_bare(tmp_path / "a"), tmp_path / "b", lambda h: h["__metadata__"].update(vocab_size="20"))
    with pytest.raises(PackError, match="outside the vocabulary of 20"):
        Pack.open(lying)
    monkeypatch.setattr("hierdraft.databases.pack.MOST_BARE", 10)
    with pytest.raises(PackError, match="at most 10 tokens"):
        Pack.open(tmp_path / "a")
    with pytest.raises(ValueError, match="at most 10 tokens"):
        make_bare(tmp_path / "c")
